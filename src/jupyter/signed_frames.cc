#include "jupyter/signed_frames.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/check.h"
#include "jupyter/json_text.h"
#include "jupyter/zmq_frames.h"

namespace nbos::jupyter {
namespace {

constexpr std::size_t kDelimiterAndParts = 6;  // delimiter, signature, four texts

Error refused(std::string what) {
    return {Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}

std::string hexadecimal(const unsigned char* bytes, std::size_t size) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    out.reserve(2 * size);
    for (std::size_t i = 0; i < size; ++i) {
        out.push_back(kDigits[bytes[i] >> 4U]);
        out.push_back(kDigits[bytes[i] & 0xFU]);
    }
    return out;
}

bool same(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string signature(const Message& message, std::string_view key) {
    if (key.empty()) {
        return {};
    }
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          &EVP_MD_CTX_free);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> secret(
        EVP_PKEY_new_raw_private_key(
            EVP_PKEY_HMAC, nullptr, reinterpret_cast<const unsigned char*>(key.data()), key.size()),
        &EVP_PKEY_free);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    std::size_t size = digest.size();
    bool good =
        context && secret &&
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, secret.get()) == 1;
    for (const auto* part :
         {&message.header, &message.parent_header, &message.metadata, &message.content}) {
        good = good && EVP_DigestSignUpdate(context.get(), part->data(), part->size()) == 1;
    }
    good = good && EVP_DigestSignFinal(context.get(), digest.data(), &size) == 1;
    NBOS_CHECK(good, "OpenSSL offers no HMAC-SHA256");
    return hexadecimal(digest.data(), size);
}

std::vector<Bytes> to_signed_frames(const Addressed& addressed, std::string_view key) {
    auto body = to_frames(addressed.message);
    body.at(1) = Bytes(signature(addressed.message, key));
    auto frames = addressed.identities;
    frames.insert(frames.end(), body.begin(), body.end());
    return frames;
}

Result<Addressed> from_signed_frames(Channel channel, const std::vector<Bytes>& frames,
                                     std::string_view key) {
    auto message = from_frames(channel, frames);
    if (!message) {
        return refused("not the frames of a message");
    }
    const auto body =
        static_cast<std::ptrdiff_t>(frames.size() - message->buffers.size() - kDelimiterAndParts);
    if (!same(signature(*message, key),
              key.empty() ? "" : frames[static_cast<std::size_t>(body) + 1].view())) {
        return refused("the signature is wrong");
    }
    for (const auto* part :
         {&message->header, &message->parent_header, &message->metadata, &message->content}) {
        if (!is_json_object(*part)) {
            return refused("a part is no JSON object");
        }
    }
    const auto header = parse_header(message->header).value_or(Header{});
    if (header.msg_id.empty() || header.msg_type.empty()) {
        return refused("the header has no msg_id or no msg_type");
    }
    return Addressed{{frames.begin(), frames.begin() + body}, std::move(*message)};
}

}  // namespace nbos::jupyter
