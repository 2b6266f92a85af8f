// Would the platform simulator and its checker find a bug? Each is planted in turn, at the edges of
// the real objects, and a random seed must find it for what it is.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <set>

#include "tests/cluster/platform_sim.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

struct PlantedBug {
    const char* name;
    PlantedInPlatform which;
    std::set<std::string> reported_as;
};

void PrintTo(const PlantedBug& bug, std::ostream* out) { *out << bug.name; }

PlatformOptions with(PlantedInPlatform planted, std::uint64_t seed) {
    auto options = PlatformOptions::draw(seed);
    options.host.planted = planted;
    options.chaos_ms = std::min(options.chaos_ms, 20'000);
    if (planted ==
        PlantedInPlatform::kReplyBeforeCommit) {  // it shows only if the executor dies in between
        options.faults.kill_agent = 1500;
        options.host.interpreters.socket_us_max = 500'000;
    }
    const bool of_moves = planted >= PlantedInPlatform::kHeardForgotten &&
                          planted <= PlantedInPlatform::kOutputsToldAgain;
    if (of_moves) {  // and nothing breaks that excuses it
        options.gateways = 2;
        options.faults = {.kill_gateway = 5000, .drop_client = 3000, .move_client = 1500};
        options.host.interpreters.cell_ms_max = 1000;
    }
    auto& interpreters = options.host.interpreters;
    if (planted >= PlantedInPlatform::kSurvivorRepeatsNothing) {  // an agent dies in mid-cell
        options.faults.kill_agent = 1500;
        options.agent_down_ms_max = 3000;
        options.client.asks = 0.3;
        interpreters.cell_ms_max = 1000;
        interpreters.question_ms_max = 2000;
        interpreters.hello_ms_max = 40;
    }
    interpreters.forgets_spent_counts = planted == PlantedInPlatform::kCountRepeated;
    interpreters.standby_skips_deltas = planted == PlantedInPlatform::kStandbySkipsDeltas;
    interpreters.repeats_nothing = planted == PlantedInPlatform::kSurvivorRepeatsNothing;
    interpreters.forgets_its_cell = planted == PlantedInPlatform::kSurvivorForgetsItsCell;
    interpreters.obeys_void_frames = planted == PlantedInPlatform::kVoidFramesObeyed;
    interpreters.obeys_gone_agents = planted == PlantedInPlatform::kGoneAgentObeyed;
    return options;
}

class PlantedInThePlatform : public ::testing::TestWithParam<PlantedBug> {};

TEST_P(PlantedInThePlatform, IsFoundByARandomSeed) {
    const auto& bug = GetParam();
    const auto range = seeds({1, 1000});
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        PlatformSim sim(with(bug.which, seed));
        for (const auto& broken : sim.run()) {
            if (bug.reported_as.contains(broken.rule)) {
                std::cout << "seed " << seed << ": " << broken.str() << '\n';
                return;
            }
        }
    }
    FAIL() << bug.name << " was not found for what it is in " << range.count << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    Platform, PlantedInThePlatform,
    ::testing::Values(
        PlantedBug{"ReplyBeforeCommit",
                   PlantedInPlatform::kReplyBeforeCommit,
                   {"durability", "exactly once"}},
        PlantedBug{"RetryNotRecognised", PlantedInPlatform::kRetryNotRecognised, {"exactly once"}},
        PlantedBug{"StaleOutputsShown", PlantedInPlatform::kStaleOutputsShown, {"answers"}},
        PlantedBug{"QueuedCellForgotten", PlantedInPlatform::kQueuedCellForgotten, {"liveness"}},
        PlantedBug{"CountRepeated", PlantedInPlatform::kCountRepeated, {"counts"}},
        PlantedBug{"SyncNotAwaited", PlantedInPlatform::kSyncNotAwaited, {"durability"}},
        PlantedBug{"StandbySkipsDeltas", PlantedInPlatform::kStandbySkipsDeltas, {"durability"}},
        PlantedBug{"HeardForgotten", PlantedInPlatform::kHeardForgotten, {"answers"}},
        PlantedBug{"EndsToldAgain", PlantedInPlatform::kEndsToldAgain, {"answers"}},
        PlantedBug{"OutputsToldAgain", PlantedInPlatform::kOutputsToldAgain, {"answers"}},
        PlantedBug{
            "SurvivorRepeatsNothing", PlantedInPlatform::kSurvivorRepeatsNothing, {"liveness"}},
        PlantedBug{
            "SurvivorForgetsItsCell", PlantedInPlatform::kSurvivorForgetsItsCell, {"exactly once"}},
        PlantedBug{"VoidFramesObeyed", PlantedInPlatform::kVoidFramesObeyed, {"exactly once"}},
        PlantedBug{"GoneAgentObeyed", PlantedInPlatform::kGoneAgentObeyed, {"exactly once"}}),
    [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace nbos::testing
