// The frames of a peer connection, cut out of a stream of bytes (docs/reference/peer-protocol.md).
//
// Hostile input is expected: a length above the limit ends the stream, and nothing is allocated
// from a length before its bytes have come.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nbos::io {

constexpr std::size_t kFrameHeaderBytes = 5;  // u32 length of the payload, u8 kind

inline void put_frame_header(std::string& out, std::size_t payload_bytes, std::uint8_t kind) {
    const auto length = static_cast<std::uint32_t>(payload_bytes);
    out.append(reinterpret_cast<const char*>(&length), sizeof length);
    out.push_back(static_cast<char>(kind));
}

struct Frame {
    std::uint8_t kind = 0;
    std::string_view payload;
};

class FrameReader {
public:
    enum class Next : std::uint8_t { kFrame, kNeedsMore, kTooLong };

    explicit FrameReader(std::size_t frame_bytes_max) : frame_bytes_max_(frame_bytes_max) {}

    // New bytes are appended here.
    std::string& buffer() { return buffer_; }
    // The payload is a view into the buffer: valid until compact() or the next append.
    Next next(Frame& frame) {
        const std::size_t left = buffer_.size() - read_;
        if (left < kFrameHeaderBytes) {
            return Next::kNeedsMore;
        }
        std::uint32_t length = 0;
        std::memcpy(&length, buffer_.data() + read_, sizeof length);
        if (length > frame_bytes_max_) {
            return Next::kTooLong;
        }
        if (left - kFrameHeaderBytes < length) {
            return Next::kNeedsMore;
        }
        frame.kind = static_cast<std::uint8_t>(buffer_[read_ + 4]);
        frame.payload = std::string_view(buffer_).substr(read_ + kFrameHeaderBytes, length);
        read_ += kFrameHeaderBytes + length;
        return Next::kFrame;
    }
    // Forgets the frames that were read.
    void compact() {
        buffer_.erase(0, read_);
        read_ = 0;
        if (buffer_.empty() && buffer_.capacity() > kKeptBytes) {
            std::string().swap(buffer_);
        }
    }

private:
    static constexpr std::size_t kKeptBytes = 1U << 20U;  // more is given back between frames

    std::size_t frame_bytes_max_;
    std::string buffer_;
    std::size_t read_ = 0;
};

}  // namespace nbos::io
