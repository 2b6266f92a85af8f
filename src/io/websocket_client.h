// A WebSocket to a server, on the event loop: connects, reads, writes from a bounded queue.
//
// Boost.Beast's stream, plain TCP with TCP_NODELAY, without compression. Pings are answered, and a
// server that is silent for too long is pinged and then given up.
//
// Limits   Options below.
// Threads  The loop thread. Events come from the loop, never from inside a call, and none after
//          the client was destroyed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "io/event_loop.h"

namespace nbos::io {

struct WebSocketAddress {
    std::string host;  // a name or an address
    std::uint16_t port = 80;
    std::string target;       // path and query
    std::string token;        // a secret, sent as `Authorization: token ...` unless empty
    std::string subprotocol;  // offered; the server must choose it. Empty: none
};

struct WebSocketClientOptions {
    std::size_t message_bytes_max = 1U << 30U;   // that come
    std::size_t queued_bytes_max = 512U << 20U;  // that wait to leave; above it: closed
    std::chrono::seconds connect_max{10};        // TCP and handshake, each
    std::chrono::seconds silence_max{60};
};

class WebSocketClient {
public:
    struct Events {
        std::function<void()> opened;
        // The server answered the handshake with this status and no WebSocket.
        std::function<void(int status)> refused;
        std::function<void(std::string_view payload, bool binary)> message;
        std::function<void()> pong;
        std::function<void(std::string why)> closed;  // at the end, also of a failed attempt
    };

    WebSocketClient(EventLoop& loop, WebSocketAddress address, WebSocketClientOptions options,
                    Events events);
    ~WebSocketClient();
    WebSocketClient(const WebSocketClient&) = delete;
    WebSocketClient& operator=(const WebSocketClient&) = delete;

    void send(Bytes payload, bool binary);  // when opened; in order
    void ping();

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
