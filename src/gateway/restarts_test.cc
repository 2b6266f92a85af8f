// What clients are told of cells that a restart of their kernel has cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Restarts = testing::RunningKernel;

std::vector<std::string> speakers(const std::vector<jupyter::Message>& messages) {
    std::vector<std::string> sessions;
    for (const auto& message : messages) {
        sessions.push_back(jupyter::string_field(message.header, "session"));
    }
    return sessions;
}

// Front ends drop what comes from an incarnation that they have left, and count per incarnation.
TEST_F(Restarts, ACellOfTheTimeBeforeIsAnsweredInTheSessionThatItRanIn) {
    group_.incarnation = 1;
    group_.session = "the-next-session";
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.take();
    output(group_, "h2",
           said("iopub", "execute_input", "i1", "s1", "m1", R"({"execution_count": 6})"));
    auto end = end_of(group_, "s1", "m1");
    end.reply.reset();
    end.ending = replica::Ending::kReset;
    tell("h2", end);
    ASSERT_THAT(client.socket->messages, Not(IsEmpty()));
    EXPECT_THAT(speakers(client.socket->messages), Each("kernel-session"));
}

// The end of a held cell may be what the new incarnation has waited for: then others end with it.
TEST_F(Restarts, AHeldEndAndTheEndOfThePatienceInOneTick) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    client.execute("m2");
    client.execute("m3");
    started(group_, "h2", "s1", "m1");
    tell("h1", end_of(group_, "s1", "m1"));  // by the leader: the executor's own word is waited for
    group_.incarnation = 1;
    group_.session = "next";
    report(group_);
    client.take();
    advance(milliseconds(1900));
    clock_.advance(milliseconds(200));
    gateway_->tick();
    const auto heard = client.take();
    EXPECT_THAT(heard, Contains("shell execute_reply ok < m1").Times(1));
    EXPECT_THAT(heard, Contains(HasSubstr("execute_reply error KernelRestarted < m2")).Times(1));
    EXPECT_THAT(heard, Contains(HasSubstr("execute_reply error KernelRestarted < m3")).Times(1));
}

TEST_F(Restarts, WhatWasAskedUnderAFailedRestartOfAFailedKernelIsAnswered) {
    auto client = connect(group_.kernel, "s1");
    for (auto& replica : group_.replicas) {
        replica.interpreter = "failed: no python";
    }
    report(group_);
    client.take();
    const auto answer = rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, restarts.size());
    client.execute("m1");
    client.send("shell", "kernel_info_request", "k1");
    tell("h1", cluster::Reply{.request = restarts[0].second.request,
                              .ok = false,
                              .code = Errc::kTimeout,
                              .what = "no"});
    EXPECT_NE(0, answer->status);
    report(group_);
    advance(milliseconds(60000));
    const auto heard = client.take();
    EXPECT_THAT(heard, Contains(HasSubstr("execute_reply error KernelFailed < m1")));
    EXPECT_THAT(heard, Contains(HasSubstr("kernel_info_reply")));
}

TEST_F(Restarts, ASecondRestartDoesNotForgetThatACellMayHaveBegun) {
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 old"));
    rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    group_.incarnation = 1;
    group_.session = "a";
    report(group_);
    group_.incarnation = 2;
    group_.session = "b";
    report(group_);
    advance(milliseconds(2500));
    EXPECT_THAT(client.take(), Contains("shell execute_reply error KernelRestarted < old"));
}

TEST_F(Restarts, CommsOfTheNewIncarnationStayOpenWhenTheOldCellsEnd) {
    for (auto& replica : group_.replicas) {
        replica.process = "p0";
    }
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    group_.incarnation = 1;
    group_.session = "next";
    for (auto& replica : group_.replicas) {
        replica.process = "p1";
    }
    report(group_);
    started(group_, "h1", "s2", "new", 9);  // through another gateway
    output(group_, "h1",
           said("iopub", "comm_open", "c1", "s2", "new",
                R"({"comm_id": "X", "target_name": "t", "data": {}})"),
           9);
    advance(milliseconds(2500));
    EXPECT_THAT(client.take(), Not(Contains(HasSubstr("comm_close"))));
}

TEST_F(Restarts, AFailureWhileTheOldCellsEndIsTold) {
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    group_.incarnation = 1;
    group_.session = "next";
    for (auto& replica : group_.replicas) {
        replica.interpreter = "failed: no python";
    }
    report(group_);
    client.execute("new");
    advance(milliseconds(60000));
    EXPECT_THAT(client.take(), Contains(HasSubstr("execute_reply error KernelFailed < new")));
}

TEST_F(Restarts, HostsAreAskedHowOldCellsEndThoughTheAnswerToTheRestartIsSlow) {
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    cells_sent();
    rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    group_.incarnation = 1;
    group_.session = "a";
    report(group_);
    advance(milliseconds(500));
    EXPECT_THAT(cells_sent(), ElementsAre("h1 old"));
}

TEST_F(Restarts, AnotherRestartThatFollowedOursGivesTheSession) {
    auto client = connect(group_.kernel, "s1");
    rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, restarts.size());
    group_.incarnation = 2;
    group_.session = "theirs";
    report(group_);
    tell("h1", cluster::Reply{.request = restarts[0].second.request});
    client.execute("m1");
    client.take();
    started(group_, "h1", "s1", "m1", 9);
    ASSERT_FALSE(client.socket->messages.empty());
    EXPECT_EQ("theirs", speakers(client.socket->messages)[0]);
}

TEST_F(Restarts, ACellAskedUnderARestartBeforeTheFirstReportRunsAfterIt) {
    restart_gateway();
    all_up();
    auto client = connect(group_.kernel, "s1");
    rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    client.execute("new");
    report(group_);
    advance(milliseconds(200));
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_FALSE(restarts.empty());
    link_.sent.clear();
    group_.incarnation = 1;
    group_.session = "a";
    report(group_);
    tell("h1", cluster::Reply{.request = restarts[0].second.request});
    advance(milliseconds(2500));
    const auto sent = link_.take<cluster::ClientMessage>();
    ASSERT_FALSE(sent.empty());
    EXPECT_EQ(1U, sent.back().second.incarnation);
}

// Another's restart came before ours, and the leader's word of ours comes behind the answer.
TEST_F(Restarts, ACellAskedUnderARestartThatAFollowerAnswersRunsAfterIt) {
    auto client = connect(group_.kernel, "s1");
    rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, restarts.size());
    group_.incarnation = 1;
    group_.session = "theirs";
    report(group_);
    client.execute("new");
    group_.incarnation = 2;
    group_.session = restarts[0].second.session;
    tell("h2", status_of(group_, group_.replicas[1]));
    tell("h2", cluster::Reply{.request = restarts[0].second.request});
    report(group_);
    advance(milliseconds(2500));
    const auto sent = link_.take<cluster::ClientMessage>();
    ASSERT_FALSE(sent.empty());
    EXPECT_EQ(2U, sent.back().second.incarnation);
}

}  // namespace
}  // namespace nbos::gateway
