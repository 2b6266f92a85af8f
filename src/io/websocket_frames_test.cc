#include "io/websocket_frames.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/ports.h"

namespace nbos::io {
namespace {

// A client's frame: masked.
std::string frame(WebSocketOpcode opcode, const std::string& payload, bool final = true,
                  const std::string& mask = "\x01\x02\x03\x04") {
    auto out = websocket_frame_head(opcode, payload.size());
    out[0] = static_cast<char>(final ? out[0] : out[0] & 0x7F);
    out[1] = static_cast<char>(out[1] | 0x80);
    out += mask;
    for (std::size_t i = 0; i < payload.size(); ++i) {
        out += static_cast<char>(payload[i] ^ mask[i % 4]);
    }
    return out;
}

TEST(WebSocketFrames, AcceptKeyIsThatOfTheRfc) {
    EXPECT_EQ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ=="));
}

TEST(WebSocketFrames, AnyLengthAndAnyCutComesOutWhole) {
    for (const std::size_t size : {0, 1, 125, 126, 127, 65535, 65536, 200'000}) {
        std::string payload(size, '\0');
        for (std::size_t i = 0; i < size; ++i) {
            payload[i] = static_cast<char>(i * 7);
        }
        const auto bytes = frame(WebSocketOpcode::kBinary, payload);
        for (const std::size_t step : {std::size_t{1} + bytes.size() / 3, bytes.size()}) {
            WebSocketParser parser(1U << 20U);
            std::vector<WebSocketInput> got;
            for (std::size_t at = 0; at < bytes.size(); at += step) {
                for (auto& one : parser.feed(std::string_view(bytes).substr(at, step))) {
                    got.push_back(std::move(one));
                }
            }
            ASSERT_EQ(1U, got.size()) << size;
            EXPECT_EQ(payload, got[0].payload);
        }
    }
}

TEST(WebSocketFrames, FragmentsAreJoinedAroundAPing) {
    WebSocketParser parser(1000);
    const auto got =
        parser.feed(frame(WebSocketOpcode::kText, "a", false) + frame(WebSocketOpcode::kPing, "p") +
                    frame(WebSocketOpcode::kContinuation, "b", false) +
                    frame(WebSocketOpcode::kContinuation, "\xff"));
    ASSERT_EQ(2U, got.size());
    EXPECT_EQ(WebSocketOpcode::kPing, got[0].opcode);
    EXPECT_EQ("ab\xff", got[1].payload) << "text need not be UTF-8";
    EXPECT_EQ(WebSocketOpcode::kText, got[1].opcode);
}

TEST(WebSocketFrames, ViolationsEndTheConnectionWithACode) {
    auto unmasked = websocket_frame_head(WebSocketOpcode::kText, 1) + "x";
    auto reserved = frame(WebSocketOpcode::kText, "x");
    reserved[0] = static_cast<char>(reserved[0] | 0x40);
    const std::pair<std::string, int> cases[] = {
        {unmasked, 1002},
        {reserved, 1002},
        {frame(static_cast<WebSocketOpcode>(3), "x"), 1002},
        {frame(WebSocketOpcode::kContinuation, "x"), 1002},
        {frame(WebSocketOpcode::kPing, std::string(126, 'x')), 1002},
        {frame(WebSocketOpcode::kPing, "x", false), 1002},
        {frame(WebSocketOpcode::kText, "x", false) + frame(WebSocketOpcode::kText, "x"), 1002},
        {frame(WebSocketOpcode::kText, std::string(101, 'x')), 1009},
        {frame(WebSocketOpcode::kText, std::string(60, 'x'), false) +
             frame(WebSocketOpcode::kContinuation, std::string(60, 'x')),
         1009},
        {std::string("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14), 1009},
    };
    for (const auto& [bytes, code] : cases) {
        WebSocketParser parser(100);
        parser.feed(bytes);
        ASSERT_TRUE(parser.fault());
        EXPECT_EQ(code, parser.fault()->code);
        EXPECT_TRUE(parser.feed(frame(WebSocketOpcode::kText, "x")).empty());
    }
}

TEST(WebSocketFrames, MutatedStreamsNeverCrash) {
    const char* given = std::getenv("NBOS_SEED");
    const std::uint64_t seed = given == nullptr ? 7 : std::strtoull(given, nullptr, 10);
    SCOPED_TRACE("NBOS_SEED=" + std::to_string(seed));
    Rng rng(seed);
    std::size_t messages = 0;
    std::size_t faults = 0;
    for (int round = 0; round < 5'000; ++round) {
        std::string bytes;
        for (int i = 0; i < 4; ++i) {
            bytes += frame(static_cast<WebSocketOpcode>(rng.below(11)),
                           std::string(rng.below(300), 'x'), rng.chance(0.8));
        }
        for (auto n = rng.below(4); n > 0; --n) {
            bytes[rng.below(bytes.size())] = static_cast<char>(rng.next());
        }
        WebSocketParser parser(512);
        for (std::size_t at = 0; at < bytes.size();) {
            const auto size = 1 + rng.below(200);
            messages += parser.feed(std::string_view(bytes).substr(at, size)).size();
            at += size;
        }
        faults += parser.fault() ? 1 : 0;
    }
    EXPECT_GT(messages, 500U);
    EXPECT_GT(faults, 500U);
}

}  // namespace
}  // namespace nbos::io
