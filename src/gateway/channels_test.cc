// Scripts of agents' messages against a gateway, and what clients hear of them.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::milliseconds;
using ::testing::Not;
using ::testing::SizeIs;

using Channels = testing::RunningKernel;

TEST_F(Channels, ACellIsBusyThenOutputsThenReplyThenIdle) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
    started(group_, "h1", "s1", "m1");
    output(group_, "h1", stream("o1", "s1", "m1", "hi"));
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "iopub stream hi < m1"));
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_THAT(client.take(),
                ElementsAre("shell execute_reply ok < m1", "iopub status idle < m1"));
}

TEST_F(Channels, IopubGoesToAllAndARepliesOnlyToTheAsker) {
    auto asker = connect(group_.kernel, "s1");
    auto other = connect(group_.kernel, "s2", true);
    asker.execute("m1");
    started(group_, "h1", "s1", "m1");
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_THAT(other.take(), ElementsAre("iopub status busy < m1", "iopub status idle < m1"));
    EXPECT_THAT(asker.take(), ElementsAre("iopub status busy < m1", "shell execute_reply ok < m1",
                                          "iopub status idle < m1"));
}

TEST_F(Channels, TheExecutorAndTheLeaderBothSayTheEndAndItIsToldOnce) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_EQ(3U, client.take().size());
    tell("h2", end_of(group_, "s1", "m1"));
    output(group_, "h1",
           said("iopub", "status", "x", "s1", "m1", R"({"execution_state": "idle"})"));
    EXPECT_THAT(client.take(), IsEmpty());
}

TEST_F(Channels, ACellIsSentAgainWhenItsHostIsLostAndWhenItComesBack) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
    lose("h1", HostState::kDown);
    EXPECT_THAT(cells_sent(), ElementsAre("h2 m1"));
    lose("h2", HostState::kDown);
    lose("h3", HostState::kDown);
    cells_sent();
    up("h1");
    report(group_);
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
    advance(milliseconds(6'000));  // not started: perhaps it was lost inside
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
    tell("h1", end_of(group_, "s1", "m1"));
    advance(milliseconds(20'000));
    EXPECT_THAT(cells_sent(), IsEmpty());
}

// "Run all" while the owner changes; found by platform_sim_test.
TEST_F(Channels, ACellThatGoesElsewhereTakesThoseBeforeItAlong) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    client.execute("m2");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1", "h1 m2"));
    group_.leader = group_.executor = 2;  // h1 is connected to us, and perhaps not to the others
    group_.term = 2;
    report(group_);
    client.execute("m3");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 m2", "h2 m3"));
    client.execute("m4");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 m4"));
}

TEST_F(Channels, OutputsOfTheTailAreShownOnceAndStaleOnesNever) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1", 7);
    output(group_, "h1", stream("o1", "s1", "m1", "one"), 7);
    output(group_, "h1", stream("o1", "s1", "m1", "one"), 7);
    output(group_, "h2", stream("o9", "s1", "m1", "stale"), 6);
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o1", "s1", "m1", "one"), stream("o2", "s1", "m1", "two")};
    tell("h1", ended);
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "iopub stream one < m1",
                                           "iopub stream two < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

TEST_F(Channels, ALostExecutorIsAnErrorThatSaysWhatWasKept) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    auto ended = end_of(group_, "s1", "m1");
    ended.reply.reset();
    ended.ending = replica::Ending::kExecutorLost;
    ended.reason = "host h1 is gone";
    tell("h2", ended);
    EXPECT_THAT(client.socket->messages[1].content, HasSubstr("host h1 is gone"));
    EXPECT_THAT(client.socket->messages[1].content, HasSubstr("All variables are kept"));
    EXPECT_THAT(
        client.take(),
        ElementsAre("iopub status busy < m1", "iopub error ExecutorLost < m1",
                    "shell execute_reply error ExecutorLost < m1", "iopub status idle < m1"));
    // Its executor lives, and has not heard of it yet (found by platform_sim_test). What a
    // thread prints after its cell has no fence, and is shown.
    output(group_, "h1", stream("o1", "s1", "m1", "stale"));
    spoken(group_, "h1", stream("o2", "s1", "m1", "late"));
    EXPECT_THAT(client.take(), ElementsAre("iopub stream late < m1"));
}

TEST_F(Channels, CellsThatNeverRanAreAborted) {
    auto client = connect(group_.kernel, "s1");
    for (const auto ending : {replica::Ending::kCancelled, replica::Ending::kAborted}) {
        const auto id = "m" + std::to_string(static_cast<int>(ending));
        client.execute(id);
        auto ended = end_of(group_, "s1", id);
        ended.reply.reset();
        ended.ending = ending;
        tell("h1", ended);
        EXPECT_THAT(client.take(),
                    ElementsAre("iopub status busy < " + id, "shell execute_reply aborted < " + id,
                                "iopub status idle < " + id));
    }
}

TEST_F(Channels, ARestartEndsTheCellThatRanWithAnErrorOfItsOwn) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    client.execute("m2");
    started(group_, "h1", "s1", "m1");
    client.take();
    for (const auto& [id, ending] :
         {std::pair{"m1", replica::Ending::kReset}, std::pair{"m2", replica::Ending::kCancelled}}) {
        auto ended = end_of(group_, "s1", id);
        ended.reply.reset();
        ended.ending = ending;
        tell("h1", ended);
    }
    EXPECT_THAT(client.take(),
                ElementsAre("iopub error KernelRestarted < m1",
                            "shell execute_reply error KernelRestarted < m1",
                            "iopub status idle < m1", "iopub status busy < m2",
                            "shell execute_reply aborted < m2", "iopub status idle < m2"));
}

TEST_F(Channels, WhatIsMissedIsReplayedToTheSameSessionOnly) {
    auto first = connect(group_.kernel, "s1");
    first.execute("m1");
    started(group_, "h1", "s1", "m1");
    first.drop();
    output(group_, "h1", stream("o1", "s1", "m1", "while away"));
    tell("h1", end_of(group_, "s1", "m1"));
    auto stranger = connect(group_.kernel, "s2");
    EXPECT_THAT(stranger.take(), IsEmpty());
    auto again = connect(group_.kernel, "s1");
    EXPECT_THAT(again.take(), ElementsAre("iopub stream while away < m1",
                                          "shell execute_reply ok < m1", "iopub status idle < m1"));
    auto third = connect(group_.kernel, "s1");
    EXPECT_THAT(third.take(), IsEmpty());
}

TEST_F(Channels, WhatIsMissedIsReplayedToWhoeverSpeaksForTheSession) {
    auto first = connect(group_.kernel, "s1");
    first.execute("m1");
    started(group_, "h1", "s1", "m1");
    first.drop();
    tell("h1", end_of(group_, "s1", "m1"));
    auto relay = connect(group_.kernel, "r&sessions=s0,s1");
    EXPECT_THAT(relay.take(), ElementsAre("shell execute_reply ok < m1", "iopub status idle < m1"));
    relay.session = "s2";
    relay.execute("m2");
    started(group_, "h1", "s2", "m2");
    relay.drop();
    tell("h1", end_of(group_, "s2", "m2"));
    auto again = connect(group_.kernel, "r2");
    EXPECT_THAT(again.take(), IsEmpty());
    again.session = "s2";
    again.send("shell", "comm_msg", "m3", "{}");  // a message of a session also names it
    EXPECT_THAT(again.take(), ElementsAre("shell execute_reply ok < m2", "iopub status idle < m2"));
}

TEST_F(Channels, AReplayTellsHowMuchIsMissing) {
    auto first = connect(group_.kernel, "s1");
    first.execute("m1");
    started(group_, "h1", "s1", "m1");
    first.drop();
    for (int i = 0; i < 5; ++i) {
        output(group_, "h1",
               stream("o" + std::to_string(i), "s1", "m1", std::string(3U << 20U, 'a')));
    }
    auto again = connect(group_.kernel, "s1");
    ASSERT_FALSE(again.socket->messages.empty());
    EXPECT_THAT(again.socket->messages[0].content, HasSubstr("3 messages of this kernel"));
    EXPECT_EQ(3U, again.socket->messages.size());
}

TEST_F(Channels, KernelInfoIsAnsweredByTheKernelOnceThenFromMemory) {
    auto client = connect(group_.kernel, "s1");
    client.send("shell", "kernel_info_request", "k1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 k1"));
    spoken(group_, "h1",
           said("iopub", "status", "a", "s1", "k1", R"({"execution_state": "busy"})"));
    spoken(group_, "h1",
           said("shell", "kernel_info_reply", "b", "s1", "k1", R"({"status": "ok"})"));
    spoken(group_, "h1",
           said("iopub", "status", "c", "s1", "k1", R"({"execution_state": "idle"})"));
    client.take();
    client.send("shell", "kernel_info_request", "k2");
    EXPECT_THAT(cells_sent(), IsEmpty());
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < k2", "shell kernel_info_reply ok < k2",
                            "iopub status idle < k2"));
}

TEST_F(Channels, WhoComesWhileACellRunsHearsThatItIsBusy) {
    auto first = connect(group_.kernel, "s1");
    first.send("shell", "kernel_info_request", "k1");
    spoken(group_, "h1",
           said("shell", "kernel_info_reply", "b", "s1", "k1", R"({"status": "ok"})"));
    first.execute("m1");
    started(group_, "h1", "s1", "m1");
    first.take();
    auto late = connect(group_.kernel, "s2");
    late.send("shell", "kernel_info_request", "k2");
    EXPECT_THAT(late.take(),
                ElementsAre("iopub status busy < k2", "shell kernel_info_reply ok < k2",
                            "iopub status idle < k2", "iopub status busy < m1"));
    EXPECT_THAT(first.take(), IsEmpty());
}

TEST_F(Channels, AQuestionIsAskedAgainOfTheNextOwnerAndItsStatusStaysPaired) {
    auto client = connect(group_.kernel, "s1");
    client.send("shell", "complete_request", "q1");
    client.send("shell", "comm_msg", "c1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 q1", "h1 c1"));
    spoken(group_, "h1",
           said("iopub", "status", "a", "s1", "q1", R"({"execution_state": "busy"})"));
    lose("h1");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 q1"));
    spoken(group_, "h2",
           said("iopub", "status", "b", "s1", "q1", R"({"execution_state": "busy"})"));
    spoken(group_, "h2", said("shell", "complete_reply", "r", "s1", "q1", R"({"status": "ok"})"));
    spoken(group_, "h2",
           said("iopub", "status", "c", "s1", "q1", R"({"execution_state": "idle"})"));
    // The comm message may have had its effect: it is not repeated, and its sender waits for no
    // more.
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < q1", "iopub status busy < c1",
                                           "iopub status idle < c1", "shell complete_reply ok < q1",
                                           "iopub status idle < q1"));
}

// Its agent drops what waited for the interpreter of before.
TEST_F(Channels, WhatWasAskedBeforeARestartByOthersIsAskedAgainOrEnds) {
    group_.incarnation = 1;
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.send("shell", "complete_request", "q1");
    client.send("shell", "comm_msg", "c1");
    auto asked = link_.take<cluster::ClientMessage>();
    ASSERT_EQ(2U, asked.size());
    EXPECT_EQ(1U, asked[0].second.incarnation);
    client.take();
    group_.incarnation = 2;
    report(group_);
    asked = link_.take<cluster::ClientMessage>();
    ASSERT_EQ(1U, asked.size());
    EXPECT_EQ(2U, asked[0].second.incarnation);
    EXPECT_EQ("q1", jupyter::parse_header(asked[0].second.message.header)->msg_id);
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < c1", "iopub status idle < c1"));
}

// Found by platform_sim_test.
TEST_F(Channels, AQuestionOutlivesItsInterpreterAndIsAnsweredOnce) {
    auto client = connect(group_.kernel, "s1");
    client.send("shell", "complete_request", "q1");
    EXPECT_THAT(link_.take<cluster::ClientMessage>(), SizeIs(1));
    auto died = group_;
    died.replicas[0].interpreter = "starting";
    report(died);
    const auto again = link_.take<cluster::ClientMessage>();
    ASSERT_THAT(again, SizeIs(1));
    EXPECT_NE("h1", again[0].first);
    report(group_);
    for (const auto* host : {"h2", "h1"}) {  // the old one was about to answer
        spoken(group_, host,
               said("iopub", "status", std::string("b") + host, "s1", "q1",
                    R"({"execution_state": "busy"})"));
        spoken(group_, host,
               said("shell", "complete_reply", std::string("r") + host, "s1", "q1",
                    R"({"status": "ok"})"));
        spoken(group_, host,
               said("iopub", "status", std::string("i") + host, "s1", "q1",
                    R"({"execution_state": "idle"})"));
    }
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < q1", "shell complete_reply ok < q1",
                                           "iopub status idle < q1"));
}

TEST_F(Channels, ACellDoesNotWaitForAHostThatHesitates) {
    group_.executor = 1;
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
    link_.hesitating = {"h1", "h2"};
    advance(milliseconds(100));
    EXPECT_THAT(cells_sent(), ElementsAre("h3 m1"));
    advance(milliseconds(1'000));
    EXPECT_THAT(cells_sent(), IsEmpty());
    client.execute("m2");
    EXPECT_THAT(cells_sent(), ElementsAre("h3 m2"));
    link_.hesitating = {};  // it was only slow
    client.execute("m3");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1", "h1 m2", "h1 m3"));  // in their order
}

TEST_F(Channels, ARunningCellKeepsItsHostWhateverThatDoesNotSay) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    client.execute("m2");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1", "h1 m2"));
    link_.hesitating = {"h1"};
    advance(milliseconds(3'000));
    EXPECT_THAT(cells_sent(), IsEmpty());
}

TEST_F(Channels, WhenAllHostsHesitateTheOwnerIsAsked) {
    group_.executor = 2;
    report(group_);
    link_.hesitating = {"h1", "h2", "h3"};
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 m1"));
}

TEST_F(Channels, ARestartEndsWhatWaitedAndHoldsWhatComesMeanwhile) {
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    cells_sent();
    int answered = 0;
    jupyter::HttpRequest request{.method = "POST",
                                 .target = "/api/kernels/" + group_.kernel + "/restart",
                                 .headers = {{"authorization", "token secret"}},
                                 .body = ""};
    gateway_->handle(request, [&](const jupyter::HttpResponse& response) {
        answered = response.status;
        // What waited for the restart runs now.
        EXPECT_EQ("busy", jupyter::string_field(response.body, "execution_state"));
    });
    client.execute("new");
    EXPECT_THAT(cells_sent(), IsEmpty());
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, restarts.size());
    EXPECT_EQ(0, answered);
    group_.incarnation = 1;
    group_.session = restarts[0].second.session;
    report(group_);  // the new incarnation's reports come before the answer
    tell("h1", cluster::Reply{.request = restarts[0].second.request});
    EXPECT_EQ(200, answered);
    EXPECT_THAT(cells_sent(), ElementsAre("h1 old"));  // nobody has told how it ends
    advance(milliseconds(2001));
    EXPECT_THAT(
        client.take(),
        ElementsAre("iopub status busy < old", "iopub error KernelRestarted < old",
                    "shell execute_reply error KernelRestarted < old", "iopub status idle < old"));
    EXPECT_THAT(cells_sent(), ElementsAre("h1 new"));
    started(group_, "h1", "s1", "new");
    ASSERT_EQ(1U, client.socket->messages.size());
    EXPECT_EQ(group_.session, jupyter::parse_header(client.socket->messages[0].header)->session);
}

// By somebody else: it is not the next incarnation that this restart leads to.
TEST_F(Channels, WhatIsAskedUnderARestartRunsThoughAnotherOneCameBefore) {
    auto client = connect(group_.kernel, "s1");
    jupyter::HttpRequest request{.method = "POST",
                                 .target = "/api/kernels/" + group_.kernel + "/restart",
                                 .headers = {{"authorization", "token secret"}},
                                 .body = ""};
    gateway_->handle(request, [](const jupyter::HttpResponse&) {});
    const auto restarts = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, restarts.size());
    group_.incarnation = 1;
    group_.session = "of another restart";
    report(group_);
    client.execute("new");
    group_.incarnation = 2;
    group_.session = restarts[0].second.session;
    report(group_);
    tell("h1", cluster::Reply{.request = restarts[0].second.request});
    const auto sent = link_.take<cluster::ClientMessage>();
    ASSERT_EQ(1U, sent.size());
    EXPECT_EQ(2U, sent[0].second.incarnation);
    EXPECT_THAT(client.take(), IsEmpty());
}

// The log's word, and no guess: another gateway gives the same answer.
TEST_F(Channels, WhatARestartMeantForACellIsAskedOfTheHosts) {
    auto client = connect(group_.kernel, "s1");
    client.execute("old");
    cells_sent();
    group_.incarnation = 1;
    group_.session = "anew";
    report(group_);
    EXPECT_THAT(client.take(), IsEmpty());
    const auto again = link_.take<cluster::ClientMessage>();
    ASSERT_EQ(1U, again.size());
    EXPECT_EQ(0U, again[0].second.incarnation);
    client.execute("new");
    EXPECT_THAT(cells_sent(), IsEmpty());
    auto ended = end_of(group_, "s1", "old");
    ended.reply.reset();
    ended.ending = replica::Ending::kCancelled;
    tell("h1", ended);
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < old", "shell execute_reply aborted < old",
                            "iopub status idle < old"));
    EXPECT_THAT(cells_sent(), ElementsAre("h1 new"));
}

TEST_F(Channels, AKernelThatCannotStartSaysWhyAndHarmsNoOther) {
    auto good = connect(group_.kernel, "s1");
    auto bad_group = running_kernel();
    bad_group.replicas = {{1, "h1"}, {2, "h2"}, {4, "h4"}};
    auto bad = connect(bad_group.kernel, "s1");
    bad.execute("m1");
    for (auto& replica : bad_group.replicas) {
        replica.interpreter = "failed: no module named ipykernel";
    }
    report(bad_group);
    EXPECT_THAT(bad.socket->messages[1].content, HasSubstr("no module named ipykernel"));
    bad.execute("m2");
    EXPECT_THAT(
        bad.take(),
        ElementsAre("iopub status busy < m1", "iopub error KernelFailed < m1",
                    "shell execute_reply error KernelFailed < m1", "iopub status idle < m1",
                    HasSubstr("iopub stream This kernel cannot run"), "iopub status dead",
                    "iopub status busy < m2", "iopub error KernelFailed < m2",
                    "shell execute_reply error KernelFailed < m2", "iopub status idle < m2"));
    const auto model = rest("GET", "/api/kernels/" + bad_group.kernel).body;
    EXPECT_EQ("dead", jupyter::string_field(model, "execution_state"));
    EXPECT_EQ("no module named ipykernel", jupyter::string_field(model, "reason"));
    cells_sent();
    good.execute("m3");
    EXPECT_THAT(cells_sent(), ElementsAre(HasSubstr(" m3")));
}

TEST_F(Channels, StandbysStartInSilence) {
    auto client = connect(group_.kernel, "s1");
    auto starting = said("iopub", "status", "x", "", "", R"({"execution_state": "starting"})");
    starting.parent_header = "{}";
    spoken(group_, "h2", starting);
    auto noise = stream("y", "", "", "from a standby");
    noise.parent_header = "{}";
    spoken(group_, "h2", noise);
    EXPECT_THAT(client.take(), IsEmpty());
    spoken(group_, "h1", noise);
    EXPECT_THAT(client.take(), ElementsAre("iopub stream from a standby"));
}

TEST_F(Channels, MalformedMessagesGetAClearErrorAndTheSocketStaysOpen) {
    auto client = connect(group_.kernel, "s1", true);
    const std::vector<std::string> bads = {
        "", "x", "{", "{}", std::string(8, '\xff'), std::string(64, '\0')};
    for (const auto& bad : bads) {
        client.handler->message(bad, true);
        client.handler->message(bad, false);
    }
    EXPECT_EQ(12U, client.take().size());
    EXPECT_FALSE(client.socket->closed);
    client.execute("m1");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
}

TEST_F(Channels, HalfACharacterEndsItsRequestWithAnError) {
    for (const bool v1 : {false, true}) {
        auto client = connect(group_.kernel, "s1", v1);
        client.send("shell", "execute_request", "m1", R"({"code": "'\ud800'"})");
        EXPECT_THAT(client.take(),
                    ElementsAre("iopub status busy < m1", "iopub error MalformedMessage < m1",
                                "shell execute_reply error MalformedMessage < m1",
                                "iopub status idle < m1"));
        client.send("shell", "execute_request", "m2", R"({"code": "'\ud83d\ude00'"})");
        EXPECT_THAT(cells_sent(), ElementsAre("h1 m2"));
        tell("h1", end_of(group_, "s1", "m2"));
        client.take();
        client.drop();
    }
}

TEST_F(Channels, ALongStreamIsSplitBetweenCharacters) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    std::string text;
    while (text.size() < 20U << 20U) {
        text += "ab\xC3\xA9";
    }
    output(group_, "h1", stream("o1", "s1", "m1", text));
    std::string joined;
    for (const auto& message : client.socket->messages) {
        EXPECT_LT(message.content.size(), 9U << 20U);
        joined += jupyter::string_field(message.content, "text");
    }
    EXPECT_EQ(4U, client.socket->messages.size());  // busy, and three parts
    EXPECT_EQ(text, joined);
}

TEST_F(Channels, ARestartedGatewayFindsKernelsAndDeliversWhatEndsLater) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    restart_gateway();
    EXPECT_EQ(503, rest("GET", "/api/kernels").status);
    EXPECT_EQ(503, rest("GET", "/api/kernels/11111111-1111-1111-1111-111111111111").status);
    all_up();
    group_.executor = 1;
    report(group_);
    EXPECT_THAT(rest("GET", "/api/kernels").body, HasSubstr(group_.kernel));
    auto again = connect(group_.kernel, "s1");
    output(group_, "h1", stream("o2", "s1", "m1", "late"));
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o2", "s1", "m1", "late")};
    tell("h1", ended);
    EXPECT_THAT(again.take(), ElementsAre("iopub status busy < m1", "iopub stream late < m1",
                                          "shell execute_reply ok < m1", "iopub status idle < m1"));
}

TEST_F(Channels, HostsAreToldHowFarAClientHasHeard) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    output(group_, "h1", stream("o1", "s1", "m1", "a"));
    advance(milliseconds(50));
    tell("h1", end_of(group_, "s1", "m1"));
    std::vector<std::string> marks;
    for (const auto& [host, heard] : link_.take<cluster::Heard>()) {
        if (host == "h2") {
            EXPECT_EQ("s1", heard.session);
            EXPECT_EQ("m1", heard.msg_id);
            marks.push_back(heard.output + (heard.done ? "done" : ""));
        }
    }
    EXPECT_THAT(marks, ElementsAre("", "o1", "done"));
}

TEST_F(Channels, HostsAreToldOfAnEndAlsoWhenMuchIsSaidBehindIt) {
    auto client = connect(group_.kernel, "s1");
    advance(milliseconds(50));
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    for (int i = 0; i < 30; ++i) {
        output(group_, "h1", stream("o" + std::to_string(i), "s1", "m1", "a"));
    }
    tell("h1", end_of(group_, "s1", "m1"));
    started(group_, "h1", "s2", "m2");
    output(group_, "h1", stream("p", "s2", "m2", "a"));
    link_.take<cluster::Heard>();
    advance(milliseconds(50));
    std::vector<std::string> marks;
    for (const auto& [host, heard] : link_.take<cluster::Heard>()) {
        if (host == "h2") {
            marks.push_back(heard.msg_id + " " + heard.output + (heard.done ? "done" : ""));
        }
    }
    EXPECT_THAT(marks, ElementsAre("m1 done", "m2 p"));
}

TEST_F(Channels, AnotherGatewayGoesOnWhereAClientStoppedHearing) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    restart_gateway();
    all_up();
    report(group_);
    // Its client is not back yet; another one hears the cell for the first time.
    auto other = connect(group_.kernel, "s2");
    auto begun = cluster::CellStarted{.kernel = id_of(group_),
                                      .fence = {Term{group_.term}, Index{5}},
                                      .session = "s1",
                                      .msg_id = "m1",
                                      .heard = {{"s1", "o1"}}};
    tell("h1", begun);
    for (const auto* text : {"o1", "o2"}) {
        output(group_, "h1", stream(text, "s1", "m1", text));
    }
    auto again = connect(group_.kernel, "s1");
    output(group_, "h1", stream("o3", "s1", "m1", "o3"));
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o2", "s1", "m1", "o2"), stream("o3", "s1", "m1", "o3")};
    tell("h1", ended);
    EXPECT_THAT(again.take(), ElementsAre("iopub stream o2 < m1", "iopub stream o3 < m1",
                                          "shell execute_reply ok < m1", "iopub status idle < m1"));
    EXPECT_THAT(other.take(), ElementsAre("iopub status busy < m1", "iopub stream o1 < m1",
                                          "iopub stream o2 < m1", "iopub stream o3 < m1",
                                          "iopub status idle < m1"));
}

TEST_F(Channels, ANewSessionIsToldTheEndsThatItMissed) {
    auto client = connect(group_.kernel, "s1");
    advance(milliseconds(50));
    const auto recalls = link_.take<cluster::Recall>();
    ASSERT_EQ(1U, recalls.size());
    EXPECT_EQ("s1", recalls[0].second.session);
    auto ended = end_of(group_, "s1", "m1");
    ended.outputs = {stream("o1", "s1", "m1", "o1"), stream("o2", "s1", "m1", "o2")};
    ended.heard = {{"s1", "o1"}};
    tell("h1", ended);
    EXPECT_THAT(client.take(), ElementsAre("iopub stream o2 < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

TEST_F(Channels, TheEndOfACellThatAnotherGatewayWasAskedForIsAskedForUntilItComes) {
    auto client = connect(group_.kernel, "s1");
    advance(milliseconds(50));
    link_.take<cluster::Recall>();
    started(group_, "h1", "s1", "m1");
    advance(milliseconds(1000));
    EXPECT_EQ(0U, link_.take<cluster::Recall>().size());
    advance(milliseconds(5000));
    const auto recalls = link_.take<cluster::Recall>();
    ASSERT_LE(1U, recalls.size());
    EXPECT_EQ("s1", recalls[0].second.session);
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

TEST_F(Channels, ACellOfAGatewayThatIsGoneIsSentWhenItsClientAsksAgain) {
    auto client = connect(group_.kernel, "s1");
    started(group_, "h1", "s1", "m1");
    link_.take<cluster::ClientMessage>();
    client.execute("m1");
    advance(milliseconds(50));
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "shell execute_reply ok < m1",
                                           "iopub status idle < m1"));
}

TEST_F(Channels, AnExecutorThatWasGivenUpIsNotShown) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    auto lost = end_of(group_, "s1", "m1");
    lost.ending = replica::Ending::kExecutorLost;
    lost.reply.reset();
    tell("h2", lost);
    client.take();
    output(group_, "h1", stream("o1", "s1", "m1", "it does not know"));
    EXPECT_THAT(client.take(), ElementsAre());
}

TEST_F(Channels, TheLeadersWordWaitsForTheExecutorsOutputs) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    client.take();
    tell("h2", end_of(group_, "s1", "m1"));
    output(group_, "h1", stream("o1", "s1", "m1", "on its way"));
    tell("h1", end_of(group_, "s1", "m1"));
    EXPECT_THAT(client.take(),
                ElementsAre("iopub stream on its way < m1", "shell execute_reply ok < m1",
                            "iopub status idle < m1"));
    // An executor that is lost meanwhile says nothing more.
    client.execute("m2");
    started(group_, "h1", "s1", "m2");
    client.take();
    tell("h2", end_of(group_, "s1", "m2"));
    EXPECT_THAT(client.take(), ElementsAre());
    lose("h1");
    EXPECT_THAT(client.take(),
                ElementsAre("shell execute_reply ok < m2", "iopub status idle < m2"));
}

}  // namespace
}  // namespace nbos::gateway
