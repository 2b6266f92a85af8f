// The races that consensus.md section 9 names, each staged on Raft nodes with no other fault.
#include <gtest/gtest.h>

#include <memory>

#include "tests/cluster/cell_sim.h"
#include "tests/cluster/cell_sim_raft_log.h"

namespace nbos::testing {
namespace {

using replica::Ending;

constexpr Ticks kLong = 60;       // a cell
constexpr Ticks kForEver = 3000;  // longer than any timeout

class CellRaceTest : public ::testing::Test {
protected:
    void stage(CellFaults faults = {}, int voters = 3) {
        SimConfig config;
        config.seed = 7;
        config.voters = voters;
        config.propose_every_ms = 0;
        auto log = std::make_unique<RaftLog>(config);
        log_ = log.get();
        sim_ = std::make_unique<CellSim>(
            CellSimOptions{
                .seed = 7, .faults = faults, .cell_ticks_min = kLong, .cell_ticks_max = 1},
            std::move(log));
    }
    // Submits a cell and waits until user code runs; its executor.
    ReplicaId begin_cell() {
        sim_->gateway().submit();
        EXPECT_TRUE(sim_->run_until([this] { return sim_->executor().value != 0; }));
        return sim_->executor();
    }
    bool all_answered() {
        return sim_->run_until([this] { return sim_->gateway().waiting().empty(); });
    }
    ReplicaId other_than(ReplicaId id) const { return ReplicaId{id.value % 3 + 1}; }
    void lead(ReplicaId id) {
        ASSERT_TRUE(sim_->run_until([&] {
            log_->transfer(id);
            return log_->leads(id) && log_->caught_up(id);
        }));
    }
    std::uint64_t ended(Ending ending) const { return sim_->checker().count(ending); }
    void finish() {
        const auto violation = sim_->finish();
        EXPECT_FALSE(violation) << *violation << '\n' << sim_->describe();
    }

    RaftLog* log_ = nullptr;
    std::unique_ptr<CellSim> sim_;
};

TEST_F(CellRaceTest, ClaimCommittedByALeaderThatDies) {
    stage();
    const auto executor = begin_cell();
    ASSERT_TRUE(log_->leads(executor));
    log_->crash(executor);
    ASSERT_TRUE(all_answered());  // the others end the cell without it
    EXPECT_EQ(ended(Ending::kExecutorLost), 1U);
    sim_->gateway().submit();
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kResult), 1U);
    finish();
}

TEST_F(CellRaceTest, ClaimCommittedByALeaderThatRestartsAtOnce) {
    stage();
    const auto executor = begin_cell();
    log_->crash(executor);
    log_->restart(executor);
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kExecutorLost), 1U);  // never begun again
    finish();
}

TEST_F(CellRaceTest, ResultThroughANewLeader) {
    stage();
    const auto executor = begin_cell();
    const auto next = other_than(executor);
    lead(next);
    ASSERT_TRUE(sim_->driver(executor)->running());  // the term is not the epoch
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kResult), 1U);
    EXPECT_TRUE(log_->leads(next));
    EXPECT_EQ(sim_->driver(next)->machine().last_executor(), executor);
    finish();
}

TEST_F(CellRaceTest, ExecutorRemovedInMidCell) {
    stage();
    const auto executor = begin_cell();
    const auto next = other_than(executor);
    lead(next);
    ASSERT_TRUE(sim_->run_until([&] {
        log_->replace(executor);
        return !log_->membership(next).is_member(executor);
    }));
    ASSERT_TRUE(sim_->driver(executor)->running());  // nobody has told it
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kExecutorLost), 1U);
    sim_->gateway().submit();
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kResult), 1U);
    finish();
}

TEST_F(CellRaceTest, ExecutorPausedForLongerThanAnyTimeoutThenResumed) {
    stage();
    const auto executor = begin_cell();
    log_->pause(executor, kForEver);
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kExecutorLost), 1U);
    sim_->gateway().submit();
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kResult), 1U);
    const auto sequence = sim_->driver(other_than(executor))->machine().sequence();
    const auto voids = sim_->checker().voids();
    ASSERT_TRUE(sim_->run_until([&] { return !log_->paused(executor); }, 2 * kForEver));
    // It wakes up in the middle of its cell, ends it, and is told that this counts for nothing.
    ASSERT_TRUE(
        sim_->run_until([&] { return sim_->driver(executor)->machine().sequence() == sequence; }));
    for (int i = 0; i < 200; ++i) {
        sim_->tick();
    }
    EXPECT_FALSE(sim_->driver(executor)->running());
    EXPECT_EQ(ended(Ending::kResult), 1U);
    EXPECT_GE(sim_->checker().voids(), voids);
    finish();
}

TEST_F(CellRaceTest, CrashInTheShadowStep) {
    stage();
    begin_cell();
    ReplicaId standby;
    ASSERT_TRUE(sim_->run_until([&] {
        for (std::uint64_t id = 1; id <= 3; ++id) {
            if (sim_->driver(ReplicaId{id})->interpreter().in_shadow_step()) {
                standby = ReplicaId{id};
            }
        }
        return standby.value != 0;
    }));
    sim_->driver(standby)->crash_interpreter(true);
    EXPECT_FALSE(sim_->driver(standby)->interpreter().ready());
    lead(standby);
    EXPECT_EQ(begin_cell(), standby);  // the checker compares the state that it begins on
    ASSERT_TRUE(all_answered());
    EXPECT_EQ(ended(Ending::kResult), 2U);
    finish();
}

TEST_F(CellRaceTest, ClaimRaceDuringAJointChange) {
    stage({.race = 1.0}, 5);  // everybody claims all the time
    std::uint64_t joint_stages = 0;
    for (int round = 0; round < 12; ++round) {
        sim_->gateway().submit();
        sim_->gateway().submit();
        sim_->run_until([&] {
            const auto leader = log_->sim().leader();
            if (leader.value != 0) {
                log_->sim().change_members(leader);
                joint_stages += log_->membership(leader).joint() ? 1U : 0U;
            }
            return sim_->gateway().waiting().empty();
        });
    }
    EXPECT_GT(joint_stages, 0U);
    EXPECT_GT(sim_->checker().voids(), 0U);  // the claims that lost
    EXPECT_EQ(ended(Ending::kResult) + ended(Ending::kExecutorLost), 24U);
    finish();
}

TEST_F(CellRaceTest, SnapshotInstalledWithAClaimStanding) {
    stage();
    ASSERT_TRUE(sim_->run_until([this] { return sim_->leader().value != 0; }));
    const auto behind = other_than(sim_->leader());
    log_->cut(behind, kForEver);
    const auto executor = begin_cell();
    ASSERT_NE(executor, behind);
    auto& raft = log_->sim();
    // Entries go by until the one that `behind` needs next has been compacted away.
    ASSERT_TRUE(sim_->run_until(
        [&] {
            sim_->gateway().submit();
            raft.compact(executor);
            return raft.node(executor)->first_index().value >
                   raft.node(behind)->last_index().value + 1;
        },
        kLong / 2));
    ASSERT_TRUE(sim_->driver(executor)->running());
    const auto installed_from = raft.node(behind)->snapshot_index();
    sim_->heal();
    ASSERT_TRUE(
        sim_->run_until([&] { return raft.node(behind)->snapshot_index() != installed_from; }));
    const auto& claim = sim_->driver(behind)->machine().standing();
    ASSERT_TRUE(claim);
    EXPECT_EQ(claim->replica, executor);
    EXPECT_EQ(claim->fence, sim_->driver(executor)->machine().standing()->fence);
    ASSERT_TRUE(sim_->run_until([&] { return ended(Ending::kResult) >= 1; }));
    finish();
}

}  // namespace
}  // namespace nbos::testing
