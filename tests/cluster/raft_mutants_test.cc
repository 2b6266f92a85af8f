// Would the simulator find a bug? Each of the ten of consensus.md section 10, and some that
// quiescence invites, is planted in turn, and a random seed must find it. A bug that is not found
// is a hole in the simulator.
#include <gtest/gtest.h>

#include <set>

#include "raft/mutants.h"
#include "tests/cluster/raft_sim.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

constexpr std::uint64_t kSeedsMax = 4000;

struct Planted {
    const char* name;
    bool raft::Mutants::* which;
    std::set<std::string> reported_as;  // one of these must be, whatever else is
    bool check_change_rules = true;
};

void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

std::optional<Violation> run(const raft::Mutants& mutants, std::uint64_t seed, bool change_rules) {
    RaftSim sim(SimConfig::draw(seed), nullptr, [&](raft::Node& node) { node.plant(mutants); });
    sim.invariants().check_change_rules = change_rules;
    return sim.run();
}

class PlantedBug : public ::testing::TestWithParam<Planted> {};

TEST_P(PlantedBug, IsFoundByARandomSeed) {
    const auto& planted = GetParam();
    raft::Mutants mutants;
    mutants.*planted.which = true;
    const auto range = seeds({1, kSeedsMax});
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        const auto violation = run(mutants, seed, planted.check_change_rules);
        if (!violation) {
            continue;
        }
        std::cout << "after " << seed - range.first + 1 << " seeds: " << violation->str() << '\n';
        if (planted.reported_as.contains(violation->invariant)) {
            return;
        }
    }
    FAIL() << planted.name << " was not found for what it is in " << range.count << " seeds";
}

const char* const kMachine = "state machine safety";
const char* const kComplete = "leader completeness";
const char* const kChain = "configuration chain";
const char* const kOverlap = "quorum overlap";
const char* const kVote = "term and vote monotonic";
const char* const kElection = "election safety";
const char* const kDurable = "durable acknowledgement";
const char* const kPrefix = "snapshot = prefix of the committed log";
const char* const kLiveness = "liveness";

INSTANTIATE_TEST_SUITE_P(
    Raft, PlantedBug,
    ::testing::Values(
        Planted{"OldTermCommitByCounting", &raft::Mutants::commit_old_term, {kMachine, kComplete}},
        Planted{"ChangeBeforeOwnTermCommit",
                &raft::Mutants::change_before_own_commit,
                {kChain, kOverlap, kComplete}},
        Planted{"ChangeBeforeOwnTermCommitByItsEffect",
                &raft::Mutants::change_before_own_commit,
                {kOverlap, kComplete},
                false},
        Planted{"ConfigurationNotedAtBatchFront", &raft::Mutants::config_at_batch_front, {kChain}},
        Planted{"VoteForgottenOnRestart", &raft::Mutants::forget_vote, {kVote, kElection}},
        Planted{
            "AcknowledgementBeforeFsync", &raft::Mutants::ack_before_fsync, {kDurable, kComplete}},
        Planted{
            "StaleAppendTruncates", &raft::Mutants::stale_append_truncates, {kDurable, kComplete}},
        Planted{"AppendOverTheSnapshot", &raft::Mutants::append_over_snapshot, {kPrefix, kMachine}},
        Planted{"CommitBeyondTheMatch", &raft::Mutants::commit_beyond_match, {kMachine}},
        Planted{"ConfigurationNotFromTheSnapshot",
                &raft::Mutants::config_not_from_snapshot,
                {kChain, kOverlap, kLiveness}},
        Planted{"LearnerInTheQuorum", &raft::Mutants::learner_in_quorum, {kComplete}}),
    [](const auto& param) { return param.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Quiescence, PlantedBug,
    ::testing::Values(
        Planted{"QuietWhenUnequal", &raft::Mutants::quiet_when_unequal, {kQuietInvariant}},
        Planted{"AsleepThroughProposals",
                &raft::Mutants::asleep_through_proposals,
                {kQuietInvariant, kLiveness}},
        Planted{"AsleepThroughRebirths",
                &raft::Mutants::asleep_through_rebirths,
                {kQuietInvariant, kLiveness}},
        Planted{"AsleepThroughLosses", &raft::Mutants::asleep_through_losses, {kLiveness}}),
    [](const auto& param) { return param.param.name; });

TEST(NoPlantedBug, IsFoundWhenAllAreOff) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        const auto violation = run({}, seed, true);
        EXPECT_FALSE(violation) << violation->str();
    }
}

}  // namespace
}  // namespace nbos::testing
