// WebSocket frames (RFC 6455), the server's side, without a socket.
//
// Our own, since Beast's stream always refuses a text frame that is not UTF-8, and one client of
// ours sends such frames: jupyter_server in gateway mode passes binary messages on as text.
// No extensions (permessage-deflate costs 20 to 45 KB a connection).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nbos::io {

enum class WebSocketOpcode : std::uint8_t {
    kContinuation = 0,
    kText = 1,
    kBinary = 2,
    kClose = 8,
    kPing = 9,
    kPong = 10,
};

// A whole message: fragments are joined, the mask is taken off.
struct WebSocketInput {
    WebSocketOpcode opcode = WebSocketOpcode::kText;
    std::string payload;
};

// The code and reason with which the connection must be closed.
struct WebSocketFault {
    std::uint16_t code = 1002;
    std::string reason;
};

class WebSocketParser {
public:
    explicit WebSocketParser(std::size_t message_bytes_max)
        : message_bytes_max_(message_bytes_max) {}

    // Appends what the client sent, and returns the messages that are complete now.
    std::vector<WebSocketInput> feed(std::string_view bytes);
    // Set at the first violation; feed() returns nothing any more.
    const std::optional<WebSocketFault>& fault() const { return fault_; }

private:
    struct FrameHead {
        bool final = false;
        WebSocketOpcode opcode = WebSocketOpcode::kText;
        std::uint64_t length = 0;
        std::size_t size = 0;  // of the head itself
        char mask[4] = {};
    };

    std::optional<FrameHead> head() const;  // nullopt: not there yet
    bool legal(const FrameHead& frame);
    void fail(std::uint16_t code, std::string_view reason);

    std::size_t message_bytes_max_;
    std::string input_;
    std::size_t used_ = 0;                     // of input_; what lies before is done with
    std::optional<WebSocketInput> fragments_;  // a data message whose last frame is still to come
    std::optional<WebSocketFault> fault_;
};

// The head of an unmasked, final frame, to be followed by `length` bytes of payload.
std::string websocket_frame_head(WebSocketOpcode opcode, std::size_t length);
std::string websocket_close_payload(std::uint16_t code, std::string_view reason);
// The value of Sec-WebSocket-Accept for a client's Sec-WebSocket-Key.
std::string websocket_accept_key(std::string_view key);

}  // namespace nbos::io
