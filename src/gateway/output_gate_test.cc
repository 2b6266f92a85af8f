// Limits of outputs: what is merged, what is left out, what is too large for a client.
#include "gateway/output_gate.h"

#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using testing::FakeClient;
using testing::GatewayHarness;
using ::testing::HasSubstr;
using testing::milliseconds;
using ::testing::Not;

class Outputs : public GatewayHarness {
protected:
    void begin(OutputLimits limits) {
        outputs_ = limits;
        restart_gateway();
        all_up();
        group_ = running_kernel();
        client_ = connect(group_.kernel, "s1");
        client_.execute("m1");
        started(group_, "h1", "s1", "m1");
        client_.take();
    }
    void print(int n, const std::string& text, const std::string& name = "stdout") {
        output(group_, "h1",
               said("iopub", "stream", "o" + std::to_string(n), "s1", "m1",
                    R"({"name": ")" + name + R"(", "text": ")" + text + R"("})"));
    }
    void display(const std::string& id, std::size_t bytes) {
        output(group_, "h1",
               said("iopub", "display_data", id, "s1", "m1",
                    R"({"data": {"text/plain": ")" + std::string(bytes, 'x') +
                        R"("}, "metadata": {}, "transient": {"display_id": "d7"}})"));
    }
    void end() { tell("h1", end_of(group_, "s1", "m1")); }
    // All stream text that the client has, and how many messages carried it.
    std::pair<std::string, std::size_t> text(const std::string& name = "stdout") {
        std::pair<std::string, std::size_t> out;
        for (const auto& message : client_.socket->messages) {
            if (jupyter::string_field(message.header, "msg_type") == "stream" &&
                jupyter::string_field(message.content, "name") == name) {
                out.first += jupyter::string_field(message.content, "text");
                ++out.second;
            }
        }
        return out;
    }
    std::string last_display(FakeClient& client) {
        std::string content;
        for (const auto& message : client.socket->messages) {
            const auto type = jupyter::string_field(message.header, "msg_type");
            content = type.ends_with("display_data") ? message.content : content;
        }
        return content;
    }
    Group group_;
    FakeClient client_;
};

TEST_F(Outputs, AboveTheLimitOfMessagesStreamsAreMergedAndNothingIsLost) {
    begin({.messages_per_s = 10, .mib_per_s = 0});
    std::string all;
    for (int n = 0; n < 1000; ++n) {
        print(n, std::to_string(n) + "\\n");
        all += std::to_string(n) + "\n";
    }
    EXPECT_EQ(30U, text().second);  // 10/s over 3 s
    print(1000, "an error", "stderr");
    advance(milliseconds(4'000));  // there is room again
    EXPECT_EQ(all, text().first);
    EXPECT_EQ(31U, text().second);
    EXPECT_EQ("an error", text("stderr").first);
    end();
    EXPECT_EQ("iopub status idle < m1", client_.take().back());
}

TEST_F(Outputs, WhatIsHeldLeavesBeforeTheReply) {
    begin({.messages_per_s = 1, .mib_per_s = 0});
    for (int n = 0; n < 8; ++n) {
        display("d" + std::to_string(n), 10);
    }
    print(9, "last");
    end();
    const auto said = client_.take();
    ASSERT_EQ(11U, said.size());  // 8 displays, the text, reply, idle
    EXPECT_EQ("iopub stream last < m1", said[8]);
    EXPECT_EQ("shell execute_reply ok < m1", said[9]);
}

TEST_F(Outputs, AboveTheLimitOfBytesTheRestIsLeftOutWithOneLineThatNamesTheSetting) {
    begin({.messages_per_s = 0, .mib_per_s = 1});
    for (int n = 0; n < 10; ++n) {
        print(n, std::string(1U << 20U, 'x'));
        advance(milliseconds(100));
    }
    EXPECT_EQ(6U << 20U, text().first.size());  // 1 MiB/s in 3 s, but not before 6 MiB
    EXPECT_THAT(last_display(client_), HasSubstr("the rest of this cell's output is left out"));
    EXPECT_THAT(last_display(client_), HasSubstr("--iopub-mib"));
    advance(milliseconds(5'000));
    print(11, "still left out");
    // An error is never left out.
    output(group_, "h1", said("iopub", "error", "e", "s1", "m1", R"({"ename": "E"})"));
    end();
    EXPECT_THAT(text().first, Not(HasSubstr("still")));
    EXPECT_THAT(last_display(client_), HasSubstr("4097 KiB of this cell's output were left out"));
    EXPECT_EQ("iopub status idle < m1", client_.take().back());
    client_.execute("m2");
    started(group_, "h1", "s1", "m2", 6);
    output(group_, "h1", stream("p1", "s1", "m2", "shown"), 6);
    EXPECT_EQ("shown", text().first);
}

TEST_F(Outputs, OneLargeOutputAloneIsShownWhole) {
    begin({.messages_per_s = 10, .mib_per_s = 1});
    print(1, std::string(kHeldBytesMax + 1, 'x'));
    EXPECT_EQ(kHeldBytesMax + 1, text().first.size());
}

TEST_F(Outputs, ACellDoesNotPayForTheOneBefore) {
    begin({.messages_per_s = 10, .mib_per_s = 1});
    print(1, std::string(4U << 20U, 'x'));
    tell("h1", end_of(group_, "s1", "m1"));
    client_.socket->messages.clear();
    client_.execute("m2");
    started(group_, "h1", "s1", "m2", 6);
    output(group_, "h1", stream("o-2", "s1", "m2", "small"), 6);
    EXPECT_EQ("small", text().first);
}

TEST_F(Outputs, ZeroIsNoLimit) {
    begin({.messages_per_s = 0, .mib_per_s = 0});
    for (int n = 0; n < 5000; ++n) {
        print(n, std::string(20'000, 'x'));
    }
    EXPECT_EQ(5000U, text().second);
}

TEST_F(Outputs, ADisplayThatALegacyClientCannotTakeIsATextForItAlone) {
    begin({});
    auto v1 = connect(group_.kernel, "s2", true);
    display("big", 11U << 20U);
    EXPECT_THAT(last_display(client_), HasSubstr("an output of 11 MiB is left out"));
    EXPECT_THAT(last_display(client_), HasSubstr(R"("transient": {"display_id": "d7"})"));
    EXPECT_GT(last_display(v1).size(), 11U << 20U);
    display("fits", 9U << 20U);
    EXPECT_GT(last_display(client_).size(), 9U << 20U);
}

TEST(HeldOutputs, OnlyNeighboursOfOneNameAreMerged) {
    const auto stream = [](const std::string& name, const std::string& text) {
        jupyter::Message message;
        message.header = R"({"msg_id": "x", "msg_type": "stream"})";
        message.content = R"({"name": ")" + name + R"(", "text": ")" + text + R"("})";
        return message;
    };
    HeldOutputs held;
    held.add("1", stream("stdout", R"(a\")"));
    held.add("2", stream("stdout", R"(\ud83d\ude00)"));
    held.add("3", stream("stderr", "b"));
    held.add("4", stream("stdout", "c"));
    const auto first = held.take();
    EXPECT_EQ("2", first->last_id);
    EXPECT_EQ("a\"\U0001F600", jupyter::string_field(first->message.content, "text"));
    EXPECT_EQ("3", held.take()->last_id);
    EXPECT_EQ("4", held.take()->last_id);
    EXPECT_FALSE(held.take());
    EXPECT_EQ(0U, held.bytes());
}

}  // namespace
}  // namespace nbos::gateway
