#include "jupyter/ws_frames.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "base/ports.h"
#include "jupyter/json_text.h"

namespace nbos::jupyter {
namespace {

using ::testing::HasSubstr;

Message sample(std::size_t buffers = 0) {
    Message message;
    message.channel = Channel::kIopub;
    message.header = R"({"msg_id": "a\"b", "msg_type": "stream", "session": "s"})";
    message.parent_header = R"({"msg_id": "p"})";
    message.metadata = R"({"x": 1.0})";
    message.content = R"({"text": "h\u00e9 {]\"", "n": 12345678901234567890123})";
    for (std::size_t i = 0; i < buffers; ++i) {
        message.buffers.push_back(Bytes(std::string(i, '\xff')));
    }
    return message;
}

TEST(WsFrames, EveryFramingCarriesEveryTextUnchanged) {
    for (const auto protocol : {WsProtocol::kLegacy, WsProtocol::kV1}) {
        for (const std::size_t buffers : {0, 1, 3}) {
            const auto message = sample(buffers);
            const auto payload = encode_ws(message, protocol);
            EXPECT_EQ(protocol == WsProtocol::kV1 || buffers > 0, payload.binary);
            const auto back = decode_ws(payload.bytes.view(), payload.binary, protocol);
            ASSERT_TRUE(back) << back.error().what;
            EXPECT_EQ(message, *back);
        }
    }
}

TEST(WsFrames, V1HasTheLayoutOfTheSpecification) {
    Message message;
    message.channel = Channel::kShell;
    message.header = "{1}";
    message.parent_header = message.metadata = message.content = "{}";
    const auto payload = encode_ws(message, WsProtocol::kV1);
    const auto bytes = payload.bytes.view();
    EXPECT_EQ(6, bytes[0]);      // five parts and the end
    EXPECT_EQ(8 * 7, bytes[8]);  // the channel begins behind the offsets
    EXPECT_EQ("shell{1}{}{}{}", bytes.substr(56));
    EXPECT_EQ(bytes.size(), static_cast<std::size_t>(bytes[48]));
}

TEST(WsFrames, LegacyJsonHasIdAndTypeOnTop) {
    const auto payload = encode_ws(sample(), WsProtocol::kLegacy);
    const auto fields = object_fields(payload.bytes.view());
    ASSERT_TRUE(fields);
    EXPECT_EQ(R"("a\"b")", fields->at("msg_id"));
    EXPECT_EQ(R"("stream")", fields->at("msg_type"));
    EXPECT_EQ("[]", fields->at("buffers"));
}

TEST(WsFrames, ABinaryPayloadInATextFrameIsRecognised) {
    const auto payload = encode_ws(sample(2), WsProtocol::kLegacy);
    const auto back = decode_ws(payload.bytes.view(), false, WsProtocol::kLegacy);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(2U, back->buffers.size());
}

TEST(WsFrames, WhatAClientMayLeaveOut) {
    const auto bare = decode_ws(R"( {"header": {"msg_id": "1", "msg_type": "t"}, "content": null})",
                                false, WsProtocol::kLegacy);
    ASSERT_TRUE(bare) << bare.error().what;
    EXPECT_EQ(Channel::kShell, bare->channel);
    EXPECT_EQ("{}", bare->content);
    EXPECT_EQ("{}", bare->parent_header);
}

TEST(WsFrames, MalformedPayloadsAreRefusedWithAReason) {
    const std::pair<std::string, const char*> cases[] = {
        {"", "empty"},
        {"  \n", "empty"},
        {"{", "not a JSON object"},
        {"{} trailing", "not a JSON object"},
        {"{}", "no msg_id"},
        {R"({"header": []})", "header is not a JSON object"},
        {R"({"header": {"msg_id": "1", "msg_type": "t"}, "content": [1]})", "content is not"},
        {R"({"header": {"msg_id": "1", "msg_type": "t"}, "channel": "tea"})", "unknown channel"},
        {"\x01", "less than 4 bytes"},
        {std::string("\xff\xff\xff\xff", 4), "impossible number"},
        {std::string("\0\0\0\1\0\0\0\xff{}", 10), "offsets"},
    };
    for (const auto& [payload, why] : cases) {
        const auto decoded = decode_ws(payload, false, WsProtocol::kLegacy);
        ASSERT_FALSE(decoded) << payload;
        EXPECT_THAT(decoded.error().what, HasSubstr(why)) << payload;
    }
    EXPECT_FALSE(decode_ws(std::string(200, '['), false, WsProtocol::kLegacy));
    const std::string deep = R"({"header": )" + std::string(100'000, '[');
    EXPECT_FALSE(decode_ws(deep, false, WsProtocol::kLegacy));
}

// Any bytes: an answer or a refusal, never a crash (run with the address sanitizer too).
TEST(WsFrames, MutatedPayloadsNeverCrash) {
    const char* given = std::getenv("NBOS_SEED");
    const std::uint64_t seed = given == nullptr ? 7 : std::strtoull(given, nullptr, 10);
    SCOPED_TRACE("NBOS_SEED=" + std::to_string(seed));
    Rng rng(seed);
    std::size_t accepted = 0;
    for (int round = 0; round < 20'000; ++round) {
        const auto protocol = rng.chance(0.5) ? WsProtocol::kV1 : WsProtocol::kLegacy;
        const auto payload = encode_ws(sample(rng.below(3)), protocol);
        std::string bytes(payload.bytes.view());
        for (auto n = rng.below(4); n > 0; --n) {
            const auto at = rng.below(bytes.size());
            switch (rng.below(3)) {
                case 0:
                    bytes[at] = static_cast<char>(rng.next());
                    break;
                case 1:
                    bytes.resize(at + 1);
                    break;
                default:
                    bytes.insert(at, 1, static_cast<char>(rng.next()));
            }
        }
        const auto decoded = decode_ws(bytes, rng.chance(0.5), protocol);
        if (decoded) {
            ++accepted;
            EXPECT_TRUE(is_json_object(decoded->content));
        }
    }
    EXPECT_GT(accepted, 1'000U);  // or nothing was tested
}

TEST(WsFrames, TheSubprotocolIsFoundInAList) {
    const auto chosen = [](std::string_view offered) { return choose_protocol(offered, ""); };
    EXPECT_EQ(WsProtocol::kV1, chosen("v1.kernel.websocket.jupyter.org"));
    EXPECT_EQ(WsProtocol::kV1, chosen("a, v1.kernel.websocket.jupyter.org , b"));
    EXPECT_EQ(WsProtocol::kLegacy, chosen(""));
    EXPECT_EQ(WsProtocol::kLegacy, chosen("xv1.kernel.websocket.jupyter.org"));
    EXPECT_EQ(WsProtocol::kLegacy, chosen("v2.kernel.websocket.jupyter.org,"));
}

TEST(WsFrames, AJupyterServerWithoutV1GetsTextOnly) {
    EXPECT_EQ(WsProtocol::kLegacyText, choose_protocol("", "Tornado/6.5.1"));
    EXPECT_EQ(WsProtocol::kLegacy, choose_protocol("", "Mozilla/5.0"));
    EXPECT_EQ(WsProtocol::kV1, choose_protocol("v1.kernel.websocket.jupyter.org", "Tornado/6.5.1"));

    const auto payload = encode_ws(sample(3), WsProtocol::kLegacyText);
    EXPECT_FALSE(payload.binary);
    auto expected = sample(3);
    expected.buffers.clear();
    const auto back = decode_ws(payload.bytes.view(), false, WsProtocol::kLegacyText);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(expected, *back);
}

}  // namespace
}  // namespace nbos::jupyter
