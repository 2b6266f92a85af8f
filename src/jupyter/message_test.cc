#include "jupyter/message.h"

#include <gtest/gtest.h>

#include <string>

namespace nbos::jupyter {
namespace {

Message example() {
    return {.channel = Channel::kIopub,
            .header = R"({"msg_id":"m1"})",
            .parent_header = "{}",
            .metadata = "{}",
            .content = R"({"name":"stdout","text":"hé\n"})",
            .buffers = {Bytes::copy(std::string("\0\x01\xff", 3)), Bytes()}};
}

TEST(Channel, NamesRoundTrip) {
    for (const auto channel :
         {Channel::kShell, Channel::kControl, Channel::kStdin, Channel::kIopub}) {
        EXPECT_EQ(channel_named(name(channel)), channel);
    }
    EXPECT_EQ(channel_named("Shell"), std::nullopt);
    EXPECT_EQ(channel_named(""), std::nullopt);
}

TEST(ParseHeader, TakesTheStringsThatRoutingNeeds) {
    const auto header = parse_header(
        R"({"msg_id":"a-1","msg_type":"execute_request","session":"sé","username":"u",)"
        R"("date":"2024-01-01T00:00:00Z","version":"5.3"})");
    ASSERT_TRUE(header);
    EXPECT_EQ(header->msg_id, "a-1");
    EXPECT_EQ(header->msg_type, "execute_request");
    EXPECT_EQ(header->session, "s\u00e9");
    EXPECT_EQ(header->username, "u");
}

TEST(ParseHeader, AbsentOrOddFieldsAreEmpty) {
    const auto header = parse_header(R"({"msg_id":7,"msg_type":null,"session":["s"]})");
    ASSERT_TRUE(header);
    EXPECT_EQ(header->msg_id, "");
    EXPECT_EQ(header->msg_type, "");
    EXPECT_EQ(header->session, "");
    EXPECT_EQ(header->username, "");
}

TEST(ParseHeader, RefusesWhatIsNoObject) {
    for (const char* json :
         {"", "[]", "null", "\"x\"", "{", R"({"msg_id":"a"} x)", "{\"a\":\xff}"}) {
        EXPECT_FALSE(parse_header(json)) << json;
    }
    EXPECT_FALSE(parse_header(std::string(60'000, '[')));
    EXPECT_FALSE(parse_header(R"({"msg_id":")" + std::string(100'000, 'x') + R"("})"));
}

TEST(Message, RoundTrips) {
    Writer out;
    encode(out, example());
    encode(out, Message{});
    const auto bytes = out.take();
    Reader in(bytes);
    EXPECT_EQ(decode_message(in), example());
    EXPECT_EQ(decode_message(in), Message{});
    EXPECT_TRUE(in.done());
}

TEST(Message, EveryTruncationIsRefused) {
    Writer out;
    encode(out, example());
    const auto bytes = out.take();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        Reader in(std::string_view(bytes).substr(0, size));
        EXPECT_FALSE(decode_message(in)) << size;
        EXPECT_FALSE(in.ok()) << size;
    }
}

TEST(Message, AnUnknownChannelIsRefused) {
    Writer out;
    encode(out, Message{.channel = static_cast<Channel>(4)});
    const auto bytes = out.take();
    Reader in(bytes);
    EXPECT_FALSE(decode_message(in));
    EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace nbos::jupyter
