#include "relay/relay.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "jupyter/json_field.h"

namespace nbos::relay {
namespace {

using jupyter::Channel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FixedClock final : public Clock {
    Instant now() const override { return {}; }
    std::chrono::microseconds wall() const override { return {}; }
};

// Both sides of the relay, as lists of lines that say what each was told.
class Relays : public ::testing::Test, public LocalClients, public KernelAtGateway {
protected:
    void send(const jupyter::Addressed& message) override {
        const auto header = *jupyter::parse_header(message.message.header);
        const auto parent = *jupyter::parse_header(message.message.parent_header);
        std::string to;
        for (const auto& identity : message.identities) {
            to += std::string(identity.view());
        }
        const auto state = jupyter::string_field(message.message.content, "execution_state");
        clients_.push_back(fmt::format("{} {} {}{}{}", name(message.message.channel), to,
                                       header.msg_type, state.empty() ? "" : " " + state,
                                       parent.msg_id.empty() ? "" : " < " + parent.msg_id));
    }
    void send(const jupyter::Message& message) override {
        const auto header = *jupyter::parse_header(message.header);
        gateway_.push_back(header.msg_type + " " + header.msg_id);
    }
    void restart(Done done) override {
        gateway_.emplace_back("restart");
        done_ = std::move(done);
    }
    void remove(Done done) override {
        gateway_.emplace_back("remove");
        done_ = std::move(done);
    }

    static std::string header(const std::string& type, const std::string& id,
                              const std::string& session) {
        return fmt::format(R"({{"msg_id": "{}", "msg_type": "{}", "session": "{}"}})", id, type,
                           session);
    }
    void ask(const std::string& type, const std::string& id, std::string content = "{}",
             Channel channel = Channel::kShell) {
        relay_.receive({{Bytes::copy("me")},
                        {.channel = channel,
                         .header = header(type, id, "s1"),
                         .parent_header = "{}",
                         .metadata = "{}",
                         .content = std::move(content)}});
    }
    void hear(Channel channel, const std::string& type, const std::string& id,
              const std::string& parent, std::string content = "{}") {
        relay_.from_gateway({.channel = channel,
                             .header = header(type, id, "kernel"),
                             .parent_header = header("execute_request", parent, "s1"),
                             .metadata = "{}",
                             .content = std::move(content)});
    }
    void status(const std::string& id, const std::string& parent, const std::string& state) {
        hear(Channel::kIopub, "status", id, parent,
             fmt::format(R"({{"execution_state": "{}"}})", state));
    }
    void begin() {
        relay_.subscribed("");
        relay_.opened();
        clients_.clear();
    }
    std::vector<std::string> told() { return std::exchange(clients_, {}); }
    std::vector<std::string> asked() { return std::exchange(gateway_, {}); }

    FixedClock clock_;
    std::uint64_t ids_ = 0;
    jupyter::MessageFactory factory_{clock_, [this] { return Uuid{0, ++ids_}; }};
    std::vector<std::string> clients_;
    std::vector<std::string> gateway_;
    Done done_;
    std::optional<int> ended_;
    Relay relay_{{.kernel = {.id = "K"},
                  .session = "relay",
                  .request_bytes_max = 1'000,
                  .held_messages_max = 2,
                  .requests = {.requests_max = 2}},
                 {.factory = factory_, .clients = *this, .kernel = *this, .end = [this](int code) {
                      ended_ = code;
                  }}};
};

TEST_F(Relays, KeepRequestsUntilTheGatewayIsThere) {
    ask("execute_request", "m1");
    EXPECT_THAT(asked(), IsEmpty());
    relay_.opened();
    EXPECT_THAT(asked(), ElementsAre("execute_request m1"));
}

TEST_F(Relays, PassAnswersToWhoeverAskedAndOutputToTheTopicsOfStock) {
    begin();
    ask("execute_request", "m1");
    status("1", "m1", "busy");
    hear(Channel::kIopub, "stream", "2", "m1", R"({"name": "stdout", "text": "x"})");
    hear(Channel::kIopub, "display_data", "3", "m1");
    hear(Channel::kIopub, "comm_open", "4", "m1", R"({"comm_id": "c"})");
    hear(Channel::kStdin, "input_request", "5", "m1");
    hear(Channel::kShell, "execute_reply", "6", "m1");
    hear(Channel::kShell, "execute_reply", "7", "other");
    status("8", "m1", "idle");
    EXPECT_THAT(
        told(),
        ElementsAre("iopub kernel.K.status status busy < m1", "iopub stream.stdout stream < m1",
                    "iopub display_data display_data < m1", "iopub comm-c comm_open < m1",
                    "stdin me input_request < m1", "shell me execute_reply < m1",
                    "iopub kernel.K.status status idle < m1"));
}

TEST_F(Relays, ShowNothingTwiceWhenTheGatewayRepeatsItself) {
    begin();
    ask("execute_request", "m1");
    status("1", "m1", "busy");
    hear(Channel::kIopub, "stream", "2", "m1");
    relay_.lost();
    relay_.opened();
    EXPECT_THAT(asked(), ElementsAre("execute_request m1", "execute_request m1"));
    told();
    status("9", "m1", "busy");
    hear(Channel::kIopub, "stream", "2", "m1");
    hear(Channel::kIopub, "stream", "3", "m1");
    EXPECT_THAT(told(), ElementsAre("iopub stream. stream < m1"));
}

TEST_F(Relays, ShowOutputsOfTwoCellsWhoseIdsAreTheSame) {
    begin();
    ask("execute_request", "m1");
    hear(Channel::kIopub, "stream", "S_9_1", "m1");
    hear(Channel::kIopub, "stream", "S_9_1", "m2");
    EXPECT_EQ(told().size(), 2U);
}

TEST_F(Relays, SayTheIdleThatWasLost) {
    begin();
    ask("execute_request", "m1");
    status("1", "m1", "busy");
    hear(Channel::kShell, "execute_reply", "2", "m1");
    told();
    relay_.lost();
    relay_.opened();
    EXPECT_THAT(told(), ElementsAre("iopub kernel.K.status status idle < m1"));
}

TEST_F(Relays, HoldOutputForTheFirstSubscriberWithinALimit) {
    relay_.opened();
    for (const auto* id : {"1", "2", "3"}) {
        hear(Channel::kIopub, "stream", id, "elsewhere");
    }
    EXPECT_THAT(told(), IsEmpty());
    relay_.subscribed("");
    EXPECT_THAT(told(), ElementsAre("iopub  iopub_welcome", "iopub stream. stream < elsewhere",
                                    "iopub stream. stream < elsewhere"));
}

TEST_F(Relays, RefuseWhatIsTooMuch) {
    begin();
    ask("execute_request", "big", std::string(2'000, ' '));
    EXPECT_THAT(
        told(),
        ElementsAre("iopub kernel.K.status status busy < big", "iopub kernel.K.error error < big",
                    "shell me execute_reply < big", "iopub kernel.K.status status idle < big"));
    ask("execute_request", "m1");
    ask("execute_request", "m2");
    ask("complete_request", "m3");
    EXPECT_THAT(told(), ElementsAre("iopub kernel.K.status status busy < m3",
                                    "shell me complete_reply < m3",
                                    "iopub kernel.K.status status idle < m3"));
}

TEST_F(Relays, AskALocalClientOnceAndGiveALostAnswerAgain) {
    begin();
    ask("execute_request", "m1");
    hear(Channel::kStdin, "input_request", "q1", "m1");
    EXPECT_THAT(told(), ElementsAre("stdin me input_request < m1"));
    relay_.lost();
    relay_.opened();
    asked();
    hear(Channel::kStdin, "input_request", "q1", "m1");  // by the gateway, over the new connection
    EXPECT_THAT(told(), IsEmpty());
    ask("input_reply", "i1", "{}", Channel::kStdin);
    EXPECT_THAT(asked(), ElementsAre("input_reply i1"));
    hear(Channel::kStdin, "input_request", "q1", "m1");
    EXPECT_THAT(asked(), IsEmpty());  // the answer is on its way
    relay_.lost();
    relay_.opened();
    EXPECT_THAT(asked(), ElementsAre("execute_request m1"));
    hear(Channel::kIopub, "stream", "1", "m1");
    hear(Channel::kStdin, "input_request", "q1", "m1");  // so the answer was lost
    EXPECT_THAT(asked(), ElementsAre("input_reply i1"));
    told();
    hear(Channel::kStdin, "input_request", "q2", "m1");
    EXPECT_THAT(told(), ElementsAre("stdin me input_request < m1"));
}

TEST_F(Relays, DeleteTheKernelOnShutdown) {
    begin();
    ask("shutdown_request", "m1", R"({"restart": false})", Channel::kControl);
    EXPECT_THAT(told(), ElementsAre("control me shutdown_reply < m1",
                                    "iopub kernel.K.shutdown shutdown_reply < m1"));
    EXPECT_THAT(asked(), ElementsAre("remove"));
    EXPECT_FALSE(ended_);
    done_(ok());
    EXPECT_EQ(ended_, 0);
}

TEST_F(Relays, LeaveARestartToTheirSuccessor) {
    begin();
    ask("shutdown_request", "m1", R"({"restart": true})", Channel::kControl);
    EXPECT_THAT(asked(), IsEmpty());
    EXPECT_EQ(ended_, 0);
}

TEST_F(Relays, RestartAKernelThatTheUserNamedBeforeTheyEnd) {
    relay_.found({.id = "K", .ends_with_relay = false, .restarted_by_successor = false});
    begin();
    ask("shutdown_request", "m1", R"({"restart": true})", Channel::kControl);
    EXPECT_THAT(asked(), ElementsAre("restart"));
    EXPECT_THAT(told(), IsEmpty());
    done_(ok());
    EXPECT_THAT(told(), ElementsAre(HasSubstr("shutdown_reply"), HasSubstr("shutdown_reply")));
    EXPECT_EQ(ended_, 0);
}

TEST_F(Relays, EndWithTheirKernelUnlessItIsBorrowed) {
    begin();
    relay_.found({.id = "K", .ends_with_relay = false, .restarted_by_successor = false});
    relay_.terminate();
    EXPECT_THAT(asked(), IsEmpty());
    EXPECT_EQ(ended_, 0);
}

TEST_F(Relays, AnswerEverythingWhenTheKernelIsGone) {
    begin();
    ask("execute_request", "m1");
    ask("comm_msg", "m2");
    told();
    relay_.gone("why");
    EXPECT_THAT(
        told(),
        ElementsAre("iopub kernel.K.status status busy < m1", "iopub kernel.K.error error < m1",
                    "shell me execute_reply < m1", "iopub kernel.K.status status idle < m1",
                    "iopub kernel.K.status status busy < m2",
                    "iopub kernel.K.status status idle < m2", "iopub kernel.K.error error",
                    "iopub kernel.K.status status dead"));
    EXPECT_EQ(ended_, 1);
}

TEST_F(Relays, PassASignalOnAsAnInterrupt) {
    begin();
    relay_.interrupt();
    EXPECT_THAT(asked(), ElementsAre(HasSubstr("interrupt_request ")));
    relay_.lost();
    relay_.interrupt();
    EXPECT_THAT(asked(), IsEmpty());
}

}  // namespace
}  // namespace nbos::relay
