// Would the histories of clients show a bug? Each is planted in turn, in the core or in the
// application, and the checker alone must find it: the invariants that know how the core does what
// it promises to clients are off.
#include <gtest/gtest.h>

#include <iostream>
#include <optional>
#include <string>

#include "raft/mutants.h"
#include "tests/cluster/raft_sim.h"
#include "tests/cluster/register_clients.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

constexpr std::uint64_t kSeedsMax = 2000;

struct Planted {
    const char* name;
    bool raft::Mutants::* in_core = nullptr;
    RegisterFault in_application = RegisterFault::kNone;
};

void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

std::optional<Violation> run(const Planted& planted, std::uint64_t seed) {
    raft::Mutants mutants;
    if (planted.in_core != nullptr) {
        mutants.*planted.in_core = true;
    }
    RegisterClients clients(seed, planted.in_application);
    RaftSim sim(register_config(seed), &clients, [&](raft::Node& node) { node.plant(mutants); });
    sim.invariants().check_promises_to_clients = false;
    return sim.run();
}

class BugSeenByClients : public ::testing::TestWithParam<Planted> {};

TEST_P(BugSeenByClients, IsFoundByARandomSeed) {
    const auto range = seeds({1, kSeedsMax});
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        const auto violation = run(GetParam(), seed);
        if (!violation || violation->invariant != "linearizability") {
            continue;  // an invariant of the core's may be sooner
        }
        std::cout << "after " << seed - range.first + 1 << " seeds: " << violation->str() << '\n';
        return;
    }
    FAIL() << GetParam().name << " was not found in " << range.count << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    Raft, BugSeenByClients,
    ::testing::Values(
        Planted{"ReadUnconfirmed", &raft::Mutants::read_unconfirmed},
        Planted{"ReadBeforeOwnTermCommit", &raft::Mutants::read_before_own_commit},
        Planted{"CopiesOfAProposalCount", &raft::Mutants::copies_count},
        Planted{"RepeatedRequestTakesEffect", nullptr, RegisterFault::kRepeatsTakeEffect},
        Planted{"ReadDoesNotWaitForItsIndex", nullptr, RegisterFault::kReadWithoutWaiting},
        Planted{"ReadWithoutReadIndex", nullptr, RegisterFault::kReadWithoutAsking},
        Planted{"AnswerBeforeCommit", nullptr, RegisterFault::kAnswerBeforeCommit},
        Planted{"SnapshotForgetsSessions", nullptr, RegisterFault::kSnapshotForgetsSessions}),
    [](const auto& param) { return param.param.name; });

TEST(NoBugSeenByClients, WhenNoneIsPlanted) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        const auto violation = run({"Nothing"}, seed);
        EXPECT_FALSE(violation) << violation->str();
    }
}

}  // namespace
}  // namespace nbos::testing
