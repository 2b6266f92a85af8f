// One accepted WebSocket: reads, a bounded send queue, pings, and an orderly close.
//
// Limits   Options below. A queue above its limit closes the connection with 1013 ("try again
//          later"): the client reconnects and gets what its kernel kept for it.
// Threads  The loop thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "jupyter/http.h"

namespace nbos::io {

struct WebSocketOptions {
    std::size_t message_bytes_max = 128U << 20U;
    std::size_t queued_bytes_max = 256U << 20U;  // behind what is being written
    std::chrono::seconds ping_interval{30};
    std::chrono::seconds silence_max{90};  // without any byte from the peer
    std::chrono::seconds close_wait{2};    // for the peer's close frame
};

class WebSocketSession {  // what the server keeps of one, to drain it
public:
    virtual ~WebSocketSession() = default;
    virtual void close(std::uint16_t code, std::string_view reason) = 0;
    // The same without waiting for anything: the peer gets the frame if it fits into the socket.
    // The handler and this go even when the loop never turns again.
    virtual void abort(std::uint16_t code, std::string_view reason) = 0;
};

// `socket` is a boost::asio::ip::tcp::socket* to be moved from, on which the client's handshake
// was read; `handshake` is the 101 to send, `read_ahead` what came behind the request.
std::shared_ptr<WebSocketSession> start_websocket(void* socket, const WebSocketOptions& options,
                                                  std::string handshake, std::string read_ahead,
                                                  jupyter::WebSocketAccept accept,
                                                  std::function<void()> on_end);

}  // namespace nbos::io
