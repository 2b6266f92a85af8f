#include "jupyter/message_factory.h"

#include <gtest/gtest.h>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "jupyter/rest_models.h"

namespace nbos::jupyter {
namespace {

class StillClock final : public Clock {
public:
    Instant now() const override { return {}; }
    std::chrono::microseconds wall() const override {
        return std::chrono::microseconds(1'700'000'000'000'000);
    }
};

TEST(IsoTime, AlwaysHasAFractionAndZ) {
    EXPECT_EQ("2023-11-14T22:13:20.000000Z",
              iso_time(std::chrono::microseconds(1'700'000'000'000'000)));
    EXPECT_EQ("1970-01-01T00:00:00.000001Z", iso_time(std::chrono::microseconds(1)));
}

TEST(MessageFactory, MakesCompleteMessagesOfTheKernelsSession) {
    const StillClock clock;
    const MessageFactory factory(clock, [] { return Uuid{1, 2}; });
    const auto messages = {
        factory.status("kern\"el", R"({"msg_id": "p"})", "busy"),
        factory.error("kern\"el", "{}", "E", "what \"broke\"\n"),
        factory.aborted_reply("kern\"el", "{}"),
        factory.error_reply(Channel::kShell, "execute_reply", "kern\"el", "{}", "E", "\xff")};
    for (const auto& message : messages) {
        const auto header = parse_header(message.header);
        ASSERT_TRUE(header) << message.header;
        EXPECT_EQ("kern\"el", header->session);
        EXPECT_EQ("00000000-0000-0001-0000-000000000002", header->msg_id);
        EXPECT_EQ("5.3", string_field(message.header, "version"));
        EXPECT_EQ("2023-11-14T22:13:20.000000Z", string_field(message.header, "date"));
        EXPECT_TRUE(is_json_object(message.content)) << message.content;
    }
}

TEST(SplitStream, LeavesOtherAndShortMessagesAlone) {
    const StillClock clock;
    const MessageFactory factory(clock, [] { return Uuid{1, 2}; });
    const auto short_one = factory.stream("s", "{}", "abc");
    EXPECT_EQ(short_one, split_stream(short_one, 1000, [] { return Uuid{3, 4}; }).at(0));
    auto display = factory.make(Channel::kIopub, "display_data", "s", "{}",
                                R"({"text": ")" + std::string(100, 'x') + R"("})");
    EXPECT_EQ(1U, split_stream(display, 10, [] { return Uuid{3, 4}; }).size());
}

TEST(SplitStream, PartsHaveIdsOfTheirOwn) {
    const StillClock clock;
    const MessageFactory factory(clock, [] { return Uuid{1, 2}; });
    const auto parts = split_stream(factory.stream("s", "{}", std::string(250, 'x')), 100,
                                    [] { return Uuid{3, 4}; });
    ASSERT_EQ(3U, parts.size());
    EXPECT_NE(parse_header(parts[0].header)->msg_id, parse_header(parts[1].header)->msg_id);
    EXPECT_EQ("stderr", string_field(parts[2].content, "name"));
}

TEST(JsonText, TakesObjectsApartWithoutRewriting) {
    const auto fields = object_fields(R"( { "a" : [1, {"b": "}"}] , "c\u0064":1.50,"a": "\\" } )");
    ASSERT_TRUE(fields);
    EXPECT_EQ(R"("\\")", fields->at("a"));
    EXPECT_EQ("1.50", fields->at("cd"));
    EXPECT_FALSE(object_fields("[]"));
    EXPECT_FALSE(object_fields(R"({"a": })"));
}

TEST(JsonText, QuotesAnything) {
    EXPECT_EQ(R"("a\"\\\n\u0001é\ufffd")", json_quoted("a\"\\\n\x01é\xff"));
    EXPECT_EQ(R"("\ufffd\ufffd")", json_quoted("\xc0\x80"));  // overlong
}

TEST(RestModels, KernelJsonWithBadFilesSaysWhy) {
    KernelSpec spec;
    std::string why;
    EXPECT_FALSE(parse_kernel_json("[]", spec, why));
    EXPECT_FALSE(parse_kernel_json(R"({"argv": [1], "display_name": "x"})", spec, why));
    EXPECT_EQ("every word of argv must be a string", why);
    EXPECT_TRUE(parse_kernel_json(R"({"argv": ["r"], "display_name": "R", "language": "R",)"
                                  R"( "env": {"A": "1"}, "metadata": {"k": 1}})",
                                  spec, why));
    EXPECT_EQ("R", spec.language);
    EXPECT_EQ("1", spec.env.at("A"));
}

}  // namespace
}  // namespace nbos::jupyter
