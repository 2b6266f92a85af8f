#include "io/websocket_frames.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace nbos::io {
namespace {

std::uint64_t big_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char byte : bytes) {
        value = (value << 8U) | static_cast<std::uint8_t>(byte);
    }
    return value;
}

// Eight bytes a step: a byte a step is what makes large messages slow.
void unmask(char* data, std::size_t size, const char (&mask)[4]) {
    char twice[8];
    std::memcpy(twice, mask, 4);
    std::memcpy(twice + 4, mask, 4);
    std::uint64_t wide = 0;
    std::memcpy(&wide, twice, sizeof wide);
    std::size_t at = 0;
    for (; at + sizeof wide <= size; at += sizeof wide) {
        std::uint64_t block = 0;
        std::memcpy(&block, data + at, sizeof block);
        block ^= wide;
        std::memcpy(data + at, &block, sizeof block);
    }
    for (; at < size; ++at) {
        data[at] = static_cast<char>(data[at] ^ mask[at % 4]);
    }
}

bool is_control(WebSocketOpcode opcode) { return static_cast<std::uint8_t>(opcode) >= 8; }

}  // namespace

void WebSocketParser::fail(std::uint16_t code, std::string_view reason) {
    fault_ = WebSocketFault{code, std::string(reason)};
    input_.clear();
    used_ = 0;
    fragments_.reset();
}

std::optional<WebSocketParser::FrameHead> WebSocketParser::head() const {
    const std::string_view rest = std::string_view(input_).substr(used_);
    if (rest.size() < 2) {
        return std::nullopt;
    }
    const auto first = static_cast<std::uint8_t>(rest[0]);
    const auto second = static_cast<std::uint8_t>(rest[1]);
    FrameHead frame;
    frame.final = (first & 0x80U) != 0;
    frame.opcode = static_cast<WebSocketOpcode>(first & 0x0FU);
    const std::uint8_t short_length = second & 0x7FU;
    const std::size_t extra = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
    const bool masked = (second & 0x80U) != 0;
    frame.size = 2 + extra + (masked ? 4U : 0U);
    if (rest.size() < frame.size) {
        return std::nullopt;
    }
    frame.length = extra == 0 ? short_length : big_endian(rest.substr(2, extra));
    if (masked) {
        std::memcpy(frame.mask, rest.data() + 2 + extra, 4);
    }
    return frame;
}

bool WebSocketParser::legal(const FrameHead& frame) {
    const auto first = static_cast<std::uint8_t>(input_[used_]);
    const auto second = static_cast<std::uint8_t>(input_[used_ + 1]);
    const auto opcode = static_cast<std::uint8_t>(frame.opcode);
    if ((first & 0x70U) != 0) {
        fail(1002, "reserved bits are set, and no extension was agreed on");
    } else if ((second & 0x80U) == 0) {
        fail(1002, "a client's frames must be masked");
    } else if (opcode > 10 || (opcode > 2 && opcode < 8)) {
        fail(1002, "unknown opcode");
    } else if (is_control(frame.opcode) && (!frame.final || frame.length > 125)) {
        fail(1002, "a control frame must be whole and at most 125 bytes long");
    } else if (frame.opcode == WebSocketOpcode::kContinuation && !fragments_) {
        fail(1002, "a continuation of nothing");
    } else if ((frame.opcode == WebSocketOpcode::kText ||
                frame.opcode == WebSocketOpcode::kBinary) &&
               fragments_) {
        fail(1002, "a new message inside a fragmented one");
    } else {
        const std::size_t before = fragments_ ? fragments_->payload.size() : 0;
        if (frame.length > message_bytes_max_ || before > message_bytes_max_ - frame.length) {
            fail(1009, "message too large");
        }
    }
    return !fault_;
}

std::vector<WebSocketInput> WebSocketParser::feed(std::string_view bytes) {
    std::vector<WebSocketInput> messages;
    if (fault_) {
        return messages;
    }
    input_.append(bytes);
    while (const auto frame = head()) {
        if (!legal(*frame)) {
            return messages;
        }
        if (input_.size() - used_ - frame->size < frame->length) {
            break;
        }
        const auto length = static_cast<std::size_t>(frame->length);
        char* data = input_.data() + used_ + frame->size;
        unmask(data, length, frame->mask);
        if (is_control(frame->opcode)) {
            messages.push_back({frame->opcode, std::string(data, length)});
        } else {
            if (!fragments_) {
                fragments_ = WebSocketInput{frame->opcode, {}};
            }
            fragments_->payload.append(data, length);
            if (frame->final) {
                messages.push_back(std::move(*fragments_));
                fragments_.reset();
            }
        }
        used_ += frame->size + length;
    }
    input_.erase(0, used_);
    used_ = 0;
    return messages;
}

std::string websocket_frame_head(WebSocketOpcode opcode, std::size_t length) {
    std::string head;
    head.push_back(static_cast<char>(0x80U | static_cast<std::uint8_t>(opcode)));
    int bytes = 0;
    if (length < 126) {
        head.push_back(static_cast<char>(length));
    } else {
        bytes = length <= 0xFFFF ? 2 : 8;
        head.push_back(static_cast<char>(bytes == 2 ? 126 : 127));
    }
    for (int at = bytes - 1; at >= 0; --at) {
        head.push_back(static_cast<char>((length >> (8U * static_cast<unsigned>(at))) & 0xFFU));
    }
    return head;
}

std::string websocket_close_payload(std::uint16_t code, std::string_view reason) {
    std::string payload;
    payload.push_back(static_cast<char>(code >> 8U));
    payload.push_back(static_cast<char>(code & 0xFFU));
    payload.append(reason.substr(0, 123));
    return payload;
}

std::string websocket_accept_key(std::string_view key) {
    const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    NBOS_CHECK(EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr) == 1,
               "OpenSSL offers no SHA-1");
    unsigned char encoded[64];
    const int length = EVP_EncodeBlock(encoded, digest, static_cast<int>(size));
    return {reinterpret_cast<const char*>(encoded), static_cast<std::size_t>(length)};
}

}  // namespace nbos::io
