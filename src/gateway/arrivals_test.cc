// Clients that may come from another gateway: what they are told, and what the hosts are told of
// it.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::milliseconds;

class Arrivals : public testing::RunningKernel {
protected:
    void SetUp() override {
        RunningKernel::SetUp();
        tell("h1", cluster::ConnectedGateways{HostId{"h1"}, {"gateway-1", "gateway-2"}});
    }
    // Whoever waits for the hosts' word: there is no news of what runs, and then of what has ended.
    void let_in() {
        for (int i = 0; i < 2; ++i) {
            for (const auto& [host, recall] : link_.take<cluster::Recall>()) {
                tell(host, cluster::Reply{.request = recall.request});
            }
        }
    }
};

TEST_F(Arrivals, AnEndThatIsRecalledTwiceIsToldOnce) {
    auto client = connect(group_.kernel, "s1");
    auto ended = end_of(group_, "s1", "m1");
    ended.recalled_by = "s1";
    tell("h1", ended);
    tell("h1", ended);
    let_in();
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

// Its gateway took a dead connection for one that listens: the hosts believe that it heard the end.
TEST_F(Arrivals, WhatIsAskedAgainOnArrivalIsAnsweredWhateverTheHostsBelieve) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    tell("h1", end_of(group_, "s1", "m1"));
    for (const auto& [host, recall] : link_.take<cluster::Recall>()) {
        tell(host,
             cluster::CatchUp{.kernel = id_of(group_), .session = "s1", .done = {{"s1", "m1"}}});
        tell(host, cluster::Reply{.request = recall.request});
    }
    for (const auto& [host, recall] : link_.take<cluster::Recall>()) {
        tell(host, cluster::Reply{.request = recall.request});
    }
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

// Its old gateway took it for one that listens, and said so of what it asked for here.
TEST_F(Arrivals, WhatWasAskedForOnArrivalIsToldFromItsBusyOn) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    auto ended = end_of(group_, "s1", "m1");
    ended.recalled_by = "s1";
    ended.outputs = {stream("o1", "s1", "m1", "all of it")};
    ended.heard = {{"s1", "o1"}};
    tell("h1", ended);
    let_in();
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < m1", HasSubstr("iopub stream all of it < m1"),
                            "shell execute_reply ok < m1", "iopub status idle < m1"));
}

// The hosts had no connection just then.
TEST_F(Arrivals, WhatThisGatewayHasToldASessionItKnowsWithoutTheHosts) {
    auto client = connect(group_.kernel, "s1");
    let_in();
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    output(group_, "h1", stream("o1", "s1", "m1", "heard"));
    client.take();
    client.drop();
    output(group_, "h1", stream("o2", "s1", "m1", "missed"));
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o1", "s1", "m1", "heard"), stream("o2", "s1", "m1", "missed")};
    tell("h1", ended);
    auto back = connect(group_.kernel, "s1");
    ended.recalled_by = "s1";
    tell("h1", ended);
    let_in();
    EXPECT_THAT(back.take(), ElementsAre(HasSubstr("iopub stream missed < m1"),
                                         "shell execute_reply ok < m1", "iopub status idle < m1"));
}

TEST_F(Arrivals, AnEndThatIsAskedForAgainIsToldToThoseWhoHaveNotHeardIt) {
    auto client = connect(group_.kernel, "s1");
    auto other = connect(group_.kernel, "s2");
    let_in();
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o1", "s1", "m1", "once")};
    tell("h1", ended);
    client.take();
    other.take();
    client.execute("m1");
    tell("h1", ended);
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < m1", HasSubstr("iopub stream once < m1"),
                            "shell execute_reply ok < m1", "iopub status idle < m1"));
    EXPECT_THAT(other.take(), ElementsAre());
    tell("h1", ended);  // the leader says it, too
    EXPECT_THAT(client.take(), ElementsAre());
}

TEST_F(Arrivals, HostsAreToldOfAnEndThatWasKeptForASessionOnItsArrival) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    tell("h1", end_of(group_, "s1", "m1"));
    link_.take<cluster::Heard>();
    let_in();
    EXPECT_THAT(client.take(), Contains("shell execute_reply ok < m1"));
    const auto marks = link_.take<cluster::Heard>();
    ASSERT_FALSE(marks.empty());
    EXPECT_EQ("m1", marks[0].second.msg_id);
    EXPECT_TRUE(marks[0].second.done);
}

// Whoever asked for it is here now, and has its reply to get, whatever others have heard elsewhere.
TEST_F(Arrivals, WhatOneSessionHasHeardIsNoEndForTheOneThatAsked) {
    auto asker = connect(group_.kernel, "s2");
    let_in();
    started(group_, "h1", "s2", "m1");
    connect(group_.kernel, "s1");
    tell("h2", cluster::CatchUp{.kernel = id_of(group_), .session = "s1", .done = {{"s2", "m1"}}});
    asker.take();
    tell("h1", end_of(group_, "s2", "m1"));
    EXPECT_THAT(asker.take(), ElementsAre("shell execute_reply ok < m1", "iopub status idle < m1"));
}

// It asked there, and gets its answer there: one that waits here would be its second.
TEST_F(Arrivals, AnAnswerIsNotKeptForASessionThatMayBeAtAnotherGateway) {
    auto client = connect(group_.kernel, "s1");
    let_in();
    client.drop();
    spoken(group_, "h1", said("shell", "complete_reply", "r", "s1", "q1", R"({"status": "ok"})"));
    auto back = connect(group_.kernel, "s1");
    let_in();
    EXPECT_THAT(back.take(), ::testing::IsEmpty());
    spoken(group_, "h1", said("shell", "complete_reply", "r", "s1", "q2", R"({"status": "ok"})"));
    EXPECT_THAT(back.take(), ElementsAre("shell complete_reply ok < q2"));
}

// Nobody tells its end any more: whoever asked for it has heard it through the other gateway.
TEST_F(Arrivals, ACellOfAnotherGatewayThatEndedUnseenDoesNotRunForEver) {
    auto other = connect(group_.kernel, "");
    started(group_, "h1", "s1", "m1");
    EXPECT_THAT(other.take(), ElementsAre("iopub status busy < m1"));
    link_.take<cluster::Recall>();
    advance(milliseconds(6000));
    const auto recalls = link_.take<cluster::Recall>();
    ASSERT_LE(1U, recalls.size());
    EXPECT_TRUE(recalls[0].second.running);
    tell(recalls[0].first,
         cluster::CatchUp{.kernel = id_of(group_), .session = "s1", .done = {{"s1", "m1"}}});
    EXPECT_THAT(other.take(), ElementsAre("iopub status idle < m1"));
    EXPECT_THAT(rest("GET", "/api/kernels/" + group_.kernel).body, HasSubstr("\"idle\""));
}

// More outputs than marks in a tick, and the socket took all of them before it dropped.
TEST_F(Arrivals, AllThatASocketTookIsHeardThoughTheHostsWereNotToldYet) {
    auto client = connect(group_.kernel, "s1");
    let_in();
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    std::vector<jupyter::Message> all;
    for (int i = 0; i < 40; ++i) {
        all.push_back(stream("o" + std::to_string(i), "s1", "m1", "x" + std::to_string(i)));
        output(group_, "h1", all.back());
    }
    EXPECT_EQ(41U, client.take().size());
    std::string last;
    for (const auto& [host, mark] : link_.take<cluster::Heard>()) {
        last = mark.output;
    }
    client.drop();
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = all;
    tell("h1", ended);
    auto back = connect(group_.kernel, "s1");
    ended.recalled_by = "s1";
    ended.heard = {{"s1", last}};
    tell("h1", ended);
    let_in();
    EXPECT_THAT(back.take(), ElementsAre("shell execute_reply ok < m1", "iopub status idle < m1"));
}

TEST_F(Arrivals, HowFarASessionHeardIsKnownAfterASecondAbsence) {
    auto client = connect(group_.kernel, "s1");
    let_in();
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    output(group_, "h1", stream("o1", "s1", "m1", "heard"));
    client.take();
    client.drop();
    auto again = connect(group_.kernel, "s1");
    let_in();
    again.take();
    again.drop();
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o1", "s1", "m1", "heard")};
    tell("h1", ended);
    auto back = connect(group_.kernel, "s1");
    ended.recalled_by = "s1";
    tell("h1", ended);
    let_in();
    EXPECT_THAT(back.take(), ElementsAre("shell execute_reply ok < m1", "iopub status idle < m1"));
}

}  // namespace
}  // namespace nbos::gateway
