// Questions for input: of whom, how often, and where the answer goes.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Questions = testing::RunningKernel;

TEST_F(Questions, InputIsAskedOfTheRequesterAndAnsweredWhereTheCellRuns) {
    auto asker = connect(group_.kernel, "s1");
    auto other = connect(group_.kernel, "s2");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    cells_sent();
    asker.take();
    other.take();
    output(group_, "h2", said("stdin", "input_request", "i", "s1", "m1", R"({"prompt": "name?"})"));
    EXPECT_THAT(asker.take(), ElementsAre("stdin input_request name? < m1"));
    EXPECT_THAT(other.take(), IsEmpty());
    asker.send("stdin", "input_reply", "i1", R"({"value": "x"})");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
}

TEST_F(Questions, AQuestionIsAskedAgainOverANewConnectionUntilItIsAnswered) {
    const auto question = said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})");
    auto asker = connect(group_.kernel, "s1");
    auto other = connect(group_.kernel, "s2");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    asker.take();
    asker.drop();
    output(group_, "h2", question);
    auto again = connect(group_.kernel, "s1");
    EXPECT_THAT(again.take(), ElementsAre("stdin input_request ? < m1"));
    again.drop();
    auto third = connect(group_.kernel, "s1");
    EXPECT_THAT(third.take(), ElementsAre("stdin input_request ? < m1"));
    other.take();
    auto stranger = connect(group_.kernel, "s3");
    EXPECT_THAT(stranger.take(), IsEmpty());
    cells_sent();
    third.send("stdin", "input_reply", "i1", R"({"value": "x"})");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
    third.drop();
    auto fourth = connect(group_.kernel, "s1");
    EXPECT_THAT(fourth.take(), IsEmpty());
    fourth.send("stdin", "input_reply", "i2", R"({"value": "y"})");
    EXPECT_THAT(cells_sent(), IsEmpty());  // it is answered
    EXPECT_THAT(other.take(), IsEmpty());
}

TEST_F(Questions, AnAnswerThatWasLostWithItsHostsConnectionIsSentAgain) {
    const auto question = said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})");
    auto asker = connect(group_.kernel, "s1");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", question);
    cells_sent();
    asker.take();
    asker.send("stdin", "input_reply", "i1", R"({"value": "x"})");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
    output(group_, "h2", question);
    EXPECT_THAT(cells_sent(), IsEmpty());
    lose("h2", gateway::HostState::kDown);
    up("h2");
    cells_sent();
    output(group_, "h2", question);
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
    EXPECT_THAT(asker.take(), IsEmpty());
    output(group_, "h2", said("stdin", "input_request", "q2", "s1", "m1", R"({"prompt": "!"})"));
    EXPECT_THAT(asker.take(), ElementsAre("stdin input_request ! < m1"));
}

// Nobody at the other end of the first one any more, and no word of that has come.
TEST_F(Questions, AQuestionAndTheReplyReachAClientThatCameBackBeforeItsOldConnectionEnded) {
    auto half_open = connect(group_.kernel, "s1");
    half_open.execute("m1");
    started(group_, "h2", "s1", "m1");
    auto again = connect(group_.kernel, "s1");
    again.take();
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    EXPECT_THAT(again.take(), ElementsAre("stdin input_request ? < m1"));
    tell("h2", end_of(group_, "s1", "m1"));
    EXPECT_THAT(again.take(), Contains("shell execute_reply ok < m1"));
}

TEST_F(Questions, WithTwoGatewaysAQuestionIsAskedAgainOverASecondConnection) {
    tell("h1", cluster::ConnectedGateways{HostId{"h1"}, {"gateway-1", "gateway-2"}});
    auto half_open = connect(group_.kernel, "s1");
    for (int i = 0; i < 2; ++i) {  // what runs, then what has ended
        for (const auto& [host, recall] : link_.take<cluster::Recall>()) {
            tell(host, cluster::Reply{.request = recall.request});
        }
    }
    half_open.execute("m1");
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    auto again = connect(group_.kernel, "s1");
    EXPECT_THAT(again.take(), ElementsAre("stdin input_request ? < m1"));
}

// Somebody typed it while the kernel was restarted, and another cell asks by now.
TEST_F(Questions, AnAnswerToAnEarlierQuestionDoesNotCountForTheNextOne) {
    const auto reply_to = [](const std::string& question) {
        return R"({"msg_id": ")" + question +
               R"(", "msg_type": "input_request", "session": "k", "username": "u"})";
    };
    auto asker = connect(group_.kernel, "s1");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", said("stdin", "input_request", "q2", "s1", "m1", R"({"prompt": "?"})"));
    cells_sent();
    asker.send("stdin", "input_reply", "i1", R"({"value": "late"})", reply_to("q1"));
    EXPECT_THAT(cells_sent(), IsEmpty());
    asker.send("stdin", "input_reply", "i2", R"({"value": "x"})", reply_to("q2"));
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i2"));
}

// Its end was missed here, and is being asked for.
TEST_F(Questions, AQuestionOfACellThatIsOverIsNotInTheWayOfTheNextAnswer) {
    started(group_, "h1", "s2", "m0");
    output(group_, "h1", said("stdin", "input_request", "q0", "s2", "m0", R"({"prompt": "!"})"));
    auto asker = connect(group_.kernel, "s1");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    cells_sent();
    asker.send("stdin", "input_reply", "i1", R"({"value": "x"})",
               R"({"msg_id": "q1", "msg_type": "input_request", "session": "k", "username": "u"})");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
}

TEST_F(Questions, AGatewayThatComesAsksWhatIsNotAnswered) {
    restart_gateway();
    all_up();
    report(group_);
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    auto other = connect(group_.kernel, "s2");
    EXPECT_THAT(other.take(), Not(Contains(HasSubstr("stdin"))));
    auto asker = connect(group_.kernel, "s1");
    EXPECT_THAT(asker.take(), Contains("stdin input_request ? < m1"));
    asker.send("stdin", "input_reply", "i1", R"({"value": "x"})");
    EXPECT_THAT(cells_sent(), ElementsAre("h2 i1"));
}

TEST_F(Questions, AnInterruptedQuestionIsNotAskedAgain) {
    auto asker = connect(group_.kernel, "s1");
    asker.execute("m1");
    started(group_, "h2", "s1", "m1");
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    EXPECT_EQ(0, rest("POST", "/api/kernels/" + group_.kernel + "/interrupt").status);
    for (const auto& [host, interrupt] : link_.take<cluster::Interrupt>()) {
        tell(host, cluster::Reply{.request = interrupt.request});
    }
    asker.drop();
    auto again = connect(group_.kernel, "s1");
    EXPECT_THAT(again.take(), IsEmpty());
}

TEST_F(Questions, AnInterruptOfOthersLeavesAQuestionThatItDidNotHit) {
    restart_gateway();
    all_up();
    report(group_);
    auto other = connect(group_.kernel, "s2");
    other.execute("m2");
    EXPECT_EQ(0, rest("POST", "/api/kernels/" + group_.kernel + "/interrupt").status);
    started(group_, "h2", "s1", "m1");  // only now is it known here
    output(group_, "h2", said("stdin", "input_request", "q1", "s1", "m1", R"({"prompt": "?"})"));
    for (const auto& [host, interrupt] : link_.take<cluster::Interrupt>()) {
        tell(host, cluster::Reply{.request = interrupt.request});
    }
    auto asker = connect(group_.kernel, "s1");
    EXPECT_THAT(asker.take(), Contains("stdin input_request ? < m1"));
}

}  // namespace
}  // namespace nbos::gateway
