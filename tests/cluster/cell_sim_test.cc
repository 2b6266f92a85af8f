// Random runs of the cell protocol, on the naive log and on Raft. NBOS_SEEDS=first:count replays or
// extends; a failure prints its seed.
#include "tests/cluster/cell_sim.h"

#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "tests/cluster/cell_sim_naive_log.h"
#include "tests/cluster/cell_sim_raft_log.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

std::unique_ptr<Consensus> naive(std::uint64_t seed) {
    Rng rng(seed);
    const std::size_t replicas = rng.chance(0.1) ? 1 : rng.chance(0.8) ? 3 : 5;
    return std::make_unique<NaiveLog>(replicas, rng.next());
}

// Shorter than on the naive log: Raft's own invariants are checked after each of its steps.
CellSimOptions on_raft(std::uint64_t seed) {
    auto options = swarm(seed);
    options.chaos_ticks = 300;
    options.healing_ticks_max = 2000;
    options.cells = 4 + options.cells / 4;
    options.cell_ticks_max = 1 + options.cell_ticks_max / 4;
    options.compact_every /= 2;
    return options;
}

std::unique_ptr<Consensus> on_nodes(std::uint64_t seed) {
    return std::make_unique<RaftLog>(raft_config(seed));
}

struct Totals {
    std::uint64_t checks = 0;
    std::uint64_t by_result = 0;
    std::uint64_t lost = 0;
    std::uint64_t ended = 0;
    std::uint64_t voids = 0;

    void add(const CellChecker& checker) {
        checks += checker.checks();
        by_result += checker.count(replica::Ending::kResult);
        lost += checker.count(replica::Ending::kExecutorLost);
        ended += checker.cells_ended();
        voids += checker.voids();
    }
    // The runs must meet what they are for.
    void expect_substance(std::uint64_t seeds) const {
        std::cout << seeds << " seeds: " << checks << " checks, " << ended << " cells ended, "
                  << by_result << " of them by a result and " << lost << " lost; " << voids
                  << " void entries\n";
        EXPECT_GT(by_result, 0U);
        if (seeds >= 100) {
            EXPECT_GT(lost, seeds / 8);
            EXPECT_GT(ended - by_result - lost, seeds / 8);
            EXPECT_GT(voids, seeds / 2);
        }
    }
};

std::optional<std::string> failure_of(CellSim& sim, std::uint64_t seed) {
    const auto violation = sim.run();
    if (!violation) {
        return std::nullopt;
    }
    return "seed " + std::to_string(seed) + " at tick " + std::to_string(sim.now()) + ": " +
           *violation + '\n' + sim.describe() + "replay with NBOS_SEEDS=" + std::to_string(seed) +
           ":1";
}

TEST(CellSim, OnANaiveLogEveryRuleHolds) {
    const auto range = seeds({1, 1000});
    Totals totals;
    for (auto seed = range.first; seed < range.first + range.count; ++seed) {
        CellSim sim(swarm(seed), naive(seed));
        const auto failure = failure_of(sim, seed);
        ASSERT_FALSE(failure) << *failure;
        totals.add(sim.checker());
    }
    totals.expect_substance(range.count);
}

TEST(CellSim, OnRaftEveryRuleHolds) {
    const auto range = seeds({1, 2000});
    Totals totals;
    for (auto seed = range.first; seed < range.first + range.count; ++seed) {
        CellSim sim(on_raft(seed), on_nodes(seed));
        const auto failure = failure_of(sim, seed);
        ASSERT_FALSE(failure) << *failure;
        totals.add(sim.checker());
    }
    totals.expect_substance(range.count);
}

// Every planted fault must be found within a budget of seeds, on the naive log where a seed is
// cheap. A fault that is not found is a hole in the simulator.
struct PlantedFault {
    const char* name;
    Planted planted;
    const char* violates;  // the start of what must be reported
};

class CellSimPlanted : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(CellSimPlanted, IsFound) {
    constexpr std::uint64_t kBudget = 500;
    std::string other;
    for (std::uint64_t seed = 1; seed <= kBudget; ++seed) {
        auto options = swarm(seed);
        options.planted = GetParam().planted;
        CellSim sim(options, naive(seed));
        const auto violation = sim.run();
        if (violation && violation->find(GetParam().violates) != std::string::npos) {
            std::cout << "found by seed " << seed << ": " << *violation << '\n';
            return;
        }
        other = violation ? *violation : other;
    }
    FAIL() << "not found in " << kBudget << " seeds; last other violation: " << other;
}

INSTANTIATE_TEST_SUITE_P(
    All, CellSimPlanted,
    ::testing::Values(
        PlantedFault{"StartBeforeClaimApplies", Planted::kStartBeforeClaimApplies, "rule 10"},
        PlantedFault{"AnswerBeforeResultApplies", Planted::kAnswerBeforeResultApplies, "rule 8"},
        PlantedFault{"ResultOfOldEpochCounts", Planted::kResultOfOldEpochCounts, "rule 4"},
        PlantedFault{"TimeoutIsLoss", Planted::kTimeoutIsLoss, "rule 8"},
        PlantedFault{"ClaimWithOldState", Planted::kClaimWithOldState, "rule 10"},
        PlantedFault{"SnapshotForgetsClaim", Planted::kSnapshotForgetsClaim, "rule 12"},
        PlantedFault{"ApplyTornDelta", Planted::kApplyTornDelta, "rule 7"},
        PlantedFault{"ClaimBeforeCaughtUp", Planted::kClaimBeforeCaughtUp, "rule 1"},
        PlantedFault{"YieldAfterRestart", Planted::kYieldAfterRestart, "rule 5"},
        PlantedFault{"NoDeduplication", Planted::kNoDeduplication, "rule 5"},
        PlantedFault{"OutputsWithoutFence", Planted::kOutputsWithoutFence, "gateway"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace nbos::testing
