#include "jupyter/signed_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nbos::jupyter {
namespace {

using ::testing::HasSubstr;

Addressed example() {
    return {{Bytes::copy("client-1")},
            Message{.channel = Channel::kShell,
                    .header = R"({"msg_id":"m1","msg_type":"execute_request","session":"s"})",
                    .parent_header = "{}",
                    .metadata = "{}",
                    .content = R"({"code":"1+1"})",
                    .buffers = {Bytes::copy(std::string("\0\xff", 2)), Bytes()}}};
}

std::string error_of(const std::vector<Bytes>& frames, std::string_view key) {
    const auto parsed = from_signed_frames(Channel::kShell, frames, key);
    return parsed ? "none" : parsed.error().what;
}

// Python: hmac.new(b"key", b'{"a":1}{}{}{"code":"1"}', "sha256").hexdigest()
TEST(SignedFrames, SignsAsJupyterDoes) {
    const Message message{.header = R"({"a":1})",
                          .parent_header = "{}",
                          .metadata = "{}",
                          .content = R"({"code":"1"})"};
    EXPECT_EQ(signature(message, "key"),
              "525d0c20431832a53c4a71c4f383df2b62c48584edd4491c14d751fb45b8f847");
    EXPECT_EQ(signature(message, ""), "");
}

TEST(SignedFrames, KeepIdentitiesTextsAndBuffers) {
    for (const auto* key : {"", "secret"}) {
        const auto frames = to_signed_frames(example(), key);
        EXPECT_EQ(frames[2].size(), *key == '\0' ? 0U : 64U);
        const auto back = from_signed_frames(Channel::kShell, frames, key);
        ASSERT_TRUE(back) << back.error().what;
        EXPECT_EQ(back->identities, example().identities);
        EXPECT_EQ(back->message, example().message);
    }
}

TEST(SignedFrames, RefuseWhatIsNotSignedWithTheKey) {
    const auto frames = to_signed_frames(example(), "secret");
    EXPECT_THAT(error_of(frames, "other"), HasSubstr("signature"));
    EXPECT_THAT(error_of(to_signed_frames(example(), ""), "secret"), HasSubstr("signature"));
    auto changed = frames;
    changed[6] = Bytes::copy(R"({"code":"2+2"})");
    EXPECT_THAT(error_of(changed, "secret"), HasSubstr("signature"));
}

TEST(SignedFrames, RefuseWhatIsNoMessage) {
    EXPECT_THAT(error_of({}, ""), HasSubstr("not the frames"));
    auto frames = to_signed_frames(example(), "");
    frames.resize(5);
    EXPECT_THAT(error_of(frames, ""), HasSubstr("not the frames"));
    auto addressed = example();
    addressed.message.content = "[]";
    EXPECT_THAT(error_of(to_signed_frames(addressed, "k"), "k"), HasSubstr("no JSON object"));
    addressed = example();
    addressed.message.header = R"({"msg_id":"m1"})";
    EXPECT_THAT(error_of(to_signed_frames(addressed, "k"), "k"), HasSubstr("msg_type"));
}

TEST(SignedFrames, HaveTheIdentitiesThatStandBeforeTheFirstDelimiter) {
    auto addressed = example();
    addressed.message.buffers = {Bytes::copy("<IDS|MSG>"), Bytes::copy("x")};
    const auto back = from_signed_frames(Channel::kShell, to_signed_frames(addressed, "k"), "k");
    ASSERT_TRUE(back);
    EXPECT_EQ(back->identities, addressed.identities);
    EXPECT_EQ(back->message.buffers.size(), 2U);
}

}  // namespace
}  // namespace nbos::jupyter
