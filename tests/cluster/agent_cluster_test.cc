// Kernels over several agents: executing, failing over, moving, with time in the test's hand.
#include "tests/support/agent_cluster.h"

#include <gtest/gtest.h>

namespace nbos::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

int host_of(const cluster::KernelStatus& status) { return std::stoi(status.host.value.substr(5)); }

class AgentClusterTest : public ::testing::Test {
protected:
    void SetUp() override {
        kernel_ = cluster_.create_kernel({1, 2, 3});
        ASSERT_TRUE(cluster_.run_until([this] { return ready(); }));
    }

    bool ready() const {
        const auto leader = cluster_.leader(kernel_);
        return leader && leader->state == cluster::ExecutionState::kIdle;
    }
    int leader() const { return host_of(*cluster_.leader(kernel_)); }
    int other_than(int host) const { return host % 3 + 1; }

    void kill_all_but(int host) {
        for (int other = 1; other <= 3; ++other) {
            if (other != host) {
                cluster_.kill(other);
            }
        }
    }

    // Sends a cell to `host` and waits until it has ended.
    bool run(int host, const std::string& id, const std::string& code) {
        cluster_.execute(host, kernel_, id, code);
        return cluster_.run_until([&] { return cluster_.ended(id) != nullptr; });
    }

    AgentCluster cluster_{4};
    KernelId kernel_;
};

TEST_F(AgentClusterTest, ACellIsExecutedOnceAndItsEffectIsOnEveryReplica) {
    ASSERT_TRUE(run(leader(), "a", "set x 1"));
    EXPECT_EQ(cluster_.ended("a")->ending, replica::Ending::kResult);
    EXPECT_EQ(cluster_.times_started("a"), 1);
    cluster_.run_for(milliseconds(200));
    for (int host = 1; host <= 3; ++host) {
        EXPECT_EQ(cluster_.interpreters(host).value(kernel_, "x"), "1") << "host " << host;
    }
}

TEST_F(AgentClusterTest, ARepeatedMessageIsAnsweredAgainAndNotExecutedAgain) {
    ASSERT_TRUE(run(leader(), "a", "set x 1"));
    cluster_.execute(leader(), kernel_, "a", "set x 1");
    cluster_.execute(other_than(leader()), kernel_, "a", "set x 1");
    cluster_.run_for(seconds(5));
    EXPECT_EQ(cluster_.times_started("a"), 1);
    EXPECT_GE(cluster_.times_ended("a"), 2);
}

TEST_F(AgentClusterTest, AnotherReplicaTakesOverWhenAskedTo) {
    const int first = leader();
    ASSERT_TRUE(run(first, "a", "set x 1"));
    const int second = other_than(first);
    ASSERT_TRUE(run(second, "b", "get x"));
    EXPECT_EQ(cluster_.printed("b"), "1");
    EXPECT_EQ(leader(), second);
}

TEST_F(AgentClusterTest, AfterAHostDiesTheNextCellHasEveryVariable) {
    const int first = leader();
    ASSERT_TRUE(run(first, "a", "set x 1"));
    cluster_.kill(first);
    ASSERT_TRUE(run(other_than(first), "b", "get x"));
    EXPECT_EQ(cluster_.printed("b"), "1");
}

TEST_F(AgentClusterTest, ACellWhoseHostDiesIsLostOnceAndSaysWhy) {
    const int first = leader();
    ASSERT_TRUE(run(first, "a", "set x 1"));
    cluster_.execute(first, kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    cluster_.kill(first);
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    EXPECT_NE(cluster_.ended("b")->reason.find("host-" + std::to_string(first)), std::string::npos);
    ASSERT_TRUE(run(leader(), "c", "get x"));
    EXPECT_EQ(cluster_.printed("c"), "1");
}

TEST_F(AgentClusterTest, AnInterpreterThatNeverAnswersLosesItsCellAndIsMadeAnew) {
    const int host = leader();
    ASSERT_TRUE(run(host, "a", "set x 1"));
    cluster_.execute(host, kernel_, "b", "mute");
    cluster_.run_for(seconds(15));
    EXPECT_EQ(cluster_.ended("b"), nullptr);
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    EXPECT_EQ(cluster_.times_ended("b"), 1);
    ASSERT_TRUE(run(host, "c", "get x"));
    EXPECT_EQ(cluster_.printed("c"), "1");
}

TEST_F(AgentClusterTest, OfACellThatDoesNotRunHereNoReplyAndNoStatusIsPassedOn) {
    ASSERT_TRUE(run(leader(), "a", "set x 1"));
    const auto said = cluster_.messages_about("a");
    EXPECT_GT(said, 0) << "its outputs";
    for (int host = 1; host <= 3; ++host) {
        cluster_.interpreters(host).drop_request(
            R"({"msg_id": "a", "msg_type": "execute_request", "session": "client"})");
    }
    cluster_.run_for(seconds(1));
    EXPECT_EQ(cluster_.messages_about("a"), said);
}

TEST_F(AgentClusterTest, ALargeResultIsWrittenOnceNotOncePerPart) {
    ASSERT_TRUE(run(leader(), "a", "set x " + std::string(60U << 20U, 'v')));
    cluster_.run_for(seconds(1));
    for (int host = 1; host <= 3; ++host) {
        EXPECT_LE(cluster_.disk(host).snapshots(), 2U) << "host " << host;
    }
    ASSERT_TRUE(run(other_than(leader()), "b", "set y 1"));
}

TEST_F(AgentClusterTest, ASilentExecutorKeepsItsCellForTheGrace) {
    const int first = leader();
    cluster_.execute(first, kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    cluster_.kill(first, /*proven=*/false);
    cluster_.run_for(seconds(25));
    EXPECT_EQ(cluster_.ended("b"), nullptr);
    cluster_.run_for(seconds(10));
    ASSERT_NE(cluster_.ended("b"), nullptr);
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
}

TEST_F(AgentClusterTest, AnInterpreterThatCrashesInACellLosesThatCellOnly) {
    const int host = leader();
    ASSERT_TRUE(run(host, "a", "set x 1"));
    cluster_.execute(host, kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    cluster_.interpreters(host).crash_all();
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    ASSERT_TRUE(run(host, "c", "get x"));
    EXPECT_EQ(cluster_.printed("c"), "1");
}

// What a cell did outside the kernel cannot be undone: whoever finds its own claim in the log after
// a restart must assume that user code had begun (rules 5 and 10 of consensus.md section 9).
TEST_F(AgentClusterTest, ARestartedExecutorNeverRunsItsCellAgain) {
    const int first = leader();
    cluster_.execute(first, kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    cluster_.kill(first, /*proven=*/false);
    cluster_.start(first);
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    EXPECT_EQ(cluster_.times_started("b"), 1);
}

TEST_F(AgentClusterTest, APowerLossInMidCellRunsItNotAgain) {
    cluster_.execute(leader(), kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    cluster_.run_for(milliseconds(200));
    for (int host = 1; host <= 3; ++host) {
        cluster_.kill(host);
    }
    for (int host = 1; host <= 3; ++host) {
        cluster_.start(host);
    }
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_EQ(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    EXPECT_EQ(cluster_.times_started("b"), 1);
}

TEST_F(AgentClusterTest, AllHostsAtOnceComeBackWithEverything) {
    ASSERT_TRUE(run(leader(), "a", "set x 1"));
    cluster_.run_for(milliseconds(200));
    for (int host = 1; host <= 3; ++host) {
        cluster_.kill(host);
    }
    for (int host = 1; host <= 3; ++host) {
        cluster_.start(host);
    }
    ASSERT_TRUE(cluster_.run_until([this] { return ready(); }));
    ASSERT_TRUE(run(leader(), "b", "get x"));
    EXPECT_EQ(cluster_.printed("b"), "1");
}

TEST_F(AgentClusterTest, ALostReplicaIsReplacedOnTheSpareHost) {
    const int first = leader();
    ASSERT_TRUE(run(first, "a", "set x 1"));
    const auto lost = cluster_.leader(kernel_)->replica;
    cluster_.kill(first);
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.leader(kernel_).has_value(); }));
    cluster_.change_members(kernel_, 4, lost);
    ASSERT_TRUE(cluster_.run_until([&] {
        const auto now = cluster_.leader(kernel_);
        return now && now->settled && !now->membership.is_member(lost) &&
               now->membership.voters.size() == 3;
    }));
    ASSERT_TRUE(run(4, "b", "get x"));
    EXPECT_EQ(cluster_.printed("b"), "1");
    EXPECT_EQ(leader(), 4);
}

TEST_F(AgentClusterTest, AReplicaIsNotTakenOutUnderItsRunningCell) {
    const int first = leader();
    cluster_.execute(first, kernel_, "b", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("b") == 1; }));
    const auto leaving = cluster_.leader(kernel_)->replica;
    cluster_.change_members(kernel_, 4, leaving);
    cluster_.run_for(seconds(10));
    EXPECT_EQ(cluster_.ended("b"), nullptr);
    cluster_.send(first, cluster::Interrupt{cluster_.next_request(), kernel_});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("b") != nullptr; }));
    EXPECT_NE(cluster_.ended("b")->ending, replica::Ending::kExecutorLost);
    ASSERT_TRUE(cluster_.run_until([&] {
        const auto now = cluster_.leader(kernel_);
        return now && now->settled && !now->membership.is_member(leaving) &&
               now->membership.voters.size() == 3;
    }));
}

TEST_F(AgentClusterTest, CellsQueueInOrderAndAnErrorAbortsTheRest) {
    const int host = leader();
    cluster_.execute(host, kernel_, "a", "set x 1");
    cluster_.execute(host, kernel_, "b", "get missing");
    cluster_.execute(host, kernel_, "c", "set x 2");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("c") != nullptr; }));
    EXPECT_EQ(cluster_.ended("a")->ending, replica::Ending::kResult);
    EXPECT_EQ(cluster_.ended("c")->ending, replica::Ending::kAborted);
    ASSERT_TRUE(run(host, "d", "get x"));
    EXPECT_EQ(cluster_.printed("d"), "1");
}

TEST_F(AgentClusterTest, InterruptEndsTheRunningCell) {
    const int host = leader();
    cluster_.execute(host, kernel_, "a", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("a") == 1; }));
    cluster_.send(host, cluster::Interrupt{cluster_.next_request(), kernel_});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("a") != nullptr; }));
    EXPECT_EQ(cluster_.printed("a"), "interrupted");
}

TEST_F(AgentClusterTest, AnInterruptIsForTheReplicaThatRunsTheCell) {
    const int host = leader();
    cluster_.execute(host, kernel_, "a", "hang");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("a") == 1; }));
    const auto elsewhere = cluster_.next_request();
    cluster_.send(other_than(host), cluster::Interrupt{elsewhere, kernel_});
    ASSERT_NE(cluster_.reply(elsewhere), nullptr);
    EXPECT_EQ(cluster_.reply(elsewhere)->code, Errc::kNotLeader);
    // Nor is it lost while the others do not know yet that the executor is gone for good.
    cluster_.kill(host, false);
    cluster_.execute(other_than(host), kernel_, "b", "set x 1");
    cluster_.run_for(seconds(3));
    const auto too_early = cluster_.next_request();
    cluster_.send(other_than(host), cluster::Interrupt{too_early, kernel_});
    ASSERT_NE(cluster_.reply(too_early), nullptr);
    EXPECT_EQ(cluster_.reply(too_early)->code, Errc::kNotLeader);
    EXPECT_EQ(cluster_.ended("b"), nullptr);
}

TEST_F(AgentClusterTest, OnlyTheCellsThatAreMeantAreInterrupted) {
    const int host = leader();
    cluster_.execute(host, kernel_, "a", "hang");
    cluster_.execute(host, kernel_, "b", "set x 1");
    cluster_.execute(host, kernel_, "c", "set x 2");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("a") == 1; }));
    const auto waiting = cluster_.next_request();
    const cluster::CellId b{"client", "b"};
    const cluster::CellId late{"client", "late"};
    cluster_.send(host, cluster::Interrupt{waiting, kernel_, {b, late}});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.reply(waiting) != nullptr; }));
    EXPECT_TRUE(cluster_.reply(waiting)->ok);
    EXPECT_EQ(cluster_.ended("a"), nullptr);
    // Nobody waits for it any more: signalled once, and answered when it has ended.
    const auto leaving = cluster_.next_request();
    const cluster::CellId a{"client", "a"};
    cluster_.send(host, cluster::Interrupt{leaving, kernel_, {a}, true});
    ASSERT_NE(cluster_.reply(leaving), nullptr);
    EXPECT_EQ(cluster_.reply(leaving)->code, Errc::kNotLeader);
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("a") != nullptr; }));
    const auto again = cluster_.next_request();
    cluster_.send(host, cluster::Interrupt{again, kernel_, {a}, true});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.reply(again) != nullptr; }));
    EXPECT_TRUE(cluster_.reply(again)->ok);
    cluster_.execute(host, kernel_, "late", "set x 3");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_ended("late") == 2; }));
    for (const auto* id : {"b", "late"}) {
        EXPECT_EQ(cluster_.times_started(id), 0) << id;
        EXPECT_NE(cluster_.ended(id)->ending, replica::Ending::kResult) << id;
    }
}

TEST_F(AgentClusterTest, WhatWaitsBehindACellThatNobodyWaitsForNeverRuns) {
    const int host = leader();
    cluster_.execute(host, kernel_, "a", "hang on");  // ends well when it is interrupted
    cluster_.execute(host, kernel_, "b", "set x 1");
    cluster_.execute(host, kernel_, "c", "set x 2");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.times_started("a") == 1; }));
    cluster_.send(host, cluster::Interrupt{cluster_.next_request(),
                                           kernel_,
                                           {{"client", "a"}, {"client", "b"}, {"client", "c"}},
                                           true});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("c") != nullptr; }));
    for (const auto* id : {"b", "c"}) {
        EXPECT_EQ(cluster_.times_started(id), 0) << id;
        EXPECT_EQ(cluster_.ended(id)->ending, replica::Ending::kCancelled) << id;
    }
}

TEST_F(AgentClusterTest, WithoutAMajorityAnInterruptIsNotConfirmed) {
    const int host = leader();
    kill_all_but(host);
    cluster_.execute(host, kernel_, "a", "set x 1");
    cluster_.run_for(seconds(5));
    const auto request = cluster_.next_request();
    cluster_.send(host, cluster::Interrupt{request, kernel_});
    ASSERT_NE(cluster_.reply(request), nullptr);
    EXPECT_EQ(cluster_.reply(request)->code, Errc::kNotLeader);
    // It was refused, and is not done later.
    cluster_.start(other_than(host));
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("a") != nullptr; }));
    EXPECT_EQ(cluster_.ended("a")->ending, replica::Ending::kResult);
}

TEST_F(AgentClusterTest, RestartForgetsTheStateAndAnswersWhenItCanServe) {
    const int host = leader();
    ASSERT_TRUE(run(host, "a", "set x 1"));
    const auto request = cluster_.next_request();
    cluster_.send(host, cluster::Restart{request, kernel_, "session-2"});
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.reply(request) != nullptr; }));
    EXPECT_TRUE(cluster_.reply(request)->ok);
    ASSERT_TRUE(run(host, "b", "get x"));
    EXPECT_EQ(cluster_.printed("b"), "no x");
    EXPECT_EQ(cluster_.leader(kernel_)->options.session, "session-2");
}

TEST_F(AgentClusterTest, AKernelThatIsNotHereIsRefusedClearly) {
    const auto request = cluster_.next_request();
    cluster_.send(4, cluster::Interrupt{request, kernel_});
    ASSERT_NE(cluster_.reply(request), nullptr);
    EXPECT_EQ(cluster_.reply(request)->code, Errc::kNotFound);
}

TEST_F(AgentClusterTest, AMinorityExecutesNothing) {
    const int host = leader();
    kill_all_but(host);
    cluster_.execute(host, kernel_, "a", "set x 1");
    cluster_.run_for(seconds(60));
    EXPECT_EQ(cluster_.times_started("a"), 0);
    cluster_.start(other_than(host));
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.ended("a") != nullptr; }));
    EXPECT_EQ(cluster_.times_started("a"), 1);
}

}  // namespace
}  // namespace nbos::testing
