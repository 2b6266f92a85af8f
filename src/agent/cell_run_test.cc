#include "agent/cell_run.h"

#include <gtest/gtest.h>

#include "jupyter/json_field.h"

namespace nbos::agent {
namespace {

using jupyter::Channel;

jupyter::Message message(Channel channel, const std::string& type, const std::string& content) {
    return {.channel = channel,
            .header = R"({"msg_id": "m", "msg_type": ")" + type + "\"}",
            .parent_header = "{}",
            .metadata = "{}",
            .content = content,
            .buffers = {}};
}

CellRun new_run(CellRunLimits limits = {}) {
    return CellRun({CellNumber{3}, Epoch{2}, ReplicaId{7}, {Term{1}, Index{9}}},
                   {CellNumber{3}, "client", "id", true, true, Bytes()}, Sequence{2}, limits);
}

void finish(CellRun& run) {
    run.take(message(Channel::kShell, "execute_reply", R"({"status": "ok"})"));
    run.take(message(Channel::kIopub, "status", R"({"execution_state": "idle"})"));
}

TEST(CellRun, IsCompleteWhenDeltaReplyAndIdleHaveComeInAnyOrder) {
    auto run = new_run();
    run.take(message(Channel::kIopub, "status", R"({"execution_state": "idle"})"));
    EXPECT_FALSE(run.complete());
    run.take_delta(Bytes::copy("d"));
    EXPECT_FALSE(run.complete());
    run.take(message(Channel::kShell, "execute_reply", R"({"status": "ok"})"));
    EXPECT_TRUE(run.complete());
}

TEST(CellRun, HoldsTheReplyAndStatusAndRelaysOutputs) {
    auto run = new_run();
    EXPECT_EQ(run.take(message(Channel::kIopub, "status", R"({"execution_state": "busy"})")),
              CellRun::Relay::kHeld);
    EXPECT_EQ(run.take(message(Channel::kIopub, "stream", "{}")), CellRun::Relay::kNow);
    EXPECT_EQ(run.take(message(Channel::kShell, "execute_reply", "{}")), CellRun::Relay::kHeld);
    EXPECT_EQ(run.take(message(Channel::kStdin, "input_request", "{}")), CellRun::Relay::kNow);
}

jupyter::Message asked(const std::string& id) {
    auto question = message(Channel::kStdin, "input_request", "{}");
    question.header = R"({"msg_id": ")" + id + R"(", "msg_type": "input_request"})";
    return question;
}

jupyter::Message answer_to(const std::string& id) {
    auto answer = message(Channel::kStdin, "input_reply", "{}");
    answer.parent_header = id.empty() ? "{}" : asked(id).header;
    return answer;
}

TEST(CellRun, KeepsAQuestionUntilItIsAnsweredOrInterrupted) {
    auto run = new_run();
    EXPECT_FALSE(run.question());
    run.take(asked("q1"));
    EXPECT_EQ(run.question()->header, asked("q1").header);
    EXPECT_FALSE(run.take_answer(answer_to("q0"))) << "the answer to the question before came late";
    EXPECT_TRUE(run.question());
    EXPECT_TRUE(run.take_answer(answer_to("q1")));
    EXPECT_FALSE(run.question());
    run.take(asked("q2"));
    EXPECT_TRUE(run.take_answer(answer_to(""))) << "clients need not say which one they answer";
    EXPECT_FALSE(run.question());
    run.take(asked("q3"));
    run.interrupted();
    EXPECT_FALSE(run.question());
}

TEST(CellRun, CutsALargeDeltaIntoNumberedPartsBeforeTheResult) {
    auto run = new_run({.slice_bytes = 4});
    run.take_delta(Bytes::copy("0123456789"));
    finish(run);
    const auto entries = run.entries(42);
    ASSERT_EQ(entries.size(), 3U);
    const auto& first = std::get<replica::ResultPart>(entries[0]);
    const auto& second = std::get<replica::ResultPart>(entries[1]);
    const auto& result = std::get<replica::Result>(entries[2]);
    EXPECT_EQ(first.number, 0U);
    EXPECT_EQ(second.number, 1U);
    EXPECT_EQ(std::string(first.slice.view()) + std::string(second.slice.view()) +
                  std::string(result.delta.view()),
              "0123456789");
    EXPECT_EQ(result.parts, 2U);
    EXPECT_EQ(result.digest, 42U);
    EXPECT_EQ(result.base, Sequence{2});
    EXPECT_TRUE(run.proposed());
}

TEST(CellRun, KeepsTheLastOutputsWithinTheirLimit) {
    auto run = new_run({.outputs_max = 2});
    for (const char* text : {"1", "2", "3"}) {
        run.take(message(Channel::kIopub, "stream", text));
    }
    run.take_delta(Bytes());
    finish(run);
    const auto entries = run.entries(0);
    const auto& result = std::get<replica::Result>(entries.back());
    Reader in(result.outputs.view());
    ASSERT_EQ(in.count(1), 2U);
    EXPECT_EQ(jupyter::decode_message(in)->content, "2");
    EXPECT_EQ(jupyter::decode_message(in)->content, "3");
    EXPECT_TRUE(in.done());
}

TEST(CellRun, SaysInPlaceOfAnOutputThatIsTooLargeThatThereWasOne) {
    auto run = new_run({.outputs_bytes_max = 4096});
    const std::string much(3000, 'x');
    run.take(message(Channel::kIopub, "stream", R"({"name": "stdout", "text": ")" + much + "\"}"));
    run.take(message(Channel::kIopub, "display_data", R"({"data": ")" + much + "\"}"));
    run.take(message(Channel::kIopub, "comm_msg", R"({"data": ")" + much + "\"}"));
    run.take_delta(Bytes());
    finish(run);
    const auto entries = run.entries(0);
    Reader in(std::get<replica::Result>(entries.back()).outputs.view());
    ASSERT_EQ(in.count(1), 2U);
    const auto stream = jupyter::decode_message(in);
    EXPECT_EQ(jupyter::string_field(stream->content, "name"), "stderr");
    EXPECT_NE(stream->content.find("2 KiB of output were lost"), std::string::npos);
    EXPECT_EQ(jupyter::parse_header(stream->header)->msg_id, "m");
    EXPECT_NE(jupyter::decode_message(in)->content.find("text/plain"), std::string::npos);
}

TEST(CellRun, ReadsTheOutcomeOfAReply) {
    EXPECT_EQ(outcome_of(R"({"status": "ok"})"), replica::Outcome::kOk);
    EXPECT_EQ(outcome_of(R"({"status": "error"})"), replica::Outcome::kError);
    EXPECT_EQ(outcome_of(R"({"status": "aborted"})"), replica::Outcome::kAborted);
    EXPECT_EQ(outcome_of("not json"), replica::Outcome::kError);
}

}  // namespace
}  // namespace nbos::agent
