// HTTP/1.1 and WebSocket server on the event loop.
//
// Keep-alive, one request at a time per connection, chunked request bodies, Expect: 100-continue.
// Too large a body is answered 413, an unreadable request 400, both with a JSON body
// {"reason", "message"}. TCP_NODELAY is set on every connection: without it every cell costs 40 ms.
//
// Threads  The loop thread; the handler is called on it and may answer later.
// Source   Boost.Beast for HTTP; io/websocket_frames.h for WebSocket frames.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/event_loop.h"
#include "io/websocket_session.h"
#include "jupyter/http.h"

namespace nbos::io {

struct HttpServerOptions {
    std::string listen = "127.0.0.1:0";  // "ip:port"; port 0: any free one; "[::1]:0" for IPv6
    std::size_t body_bytes_max = 64U << 20U;
    std::uint32_t header_bytes_max = 64U << 10U;
    std::chrono::seconds idle_max{120};    // between the requests of a kept-alive connection
    std::chrono::seconds request_max{60};  // from its first byte to its last; also for a response
    std::size_t connections_max = 10'000;  // above it new ones are answered 503 and closed
    std::size_t connections_per_address_max = 4'000;  // of them; above it 429
    WebSocketOptions websocket;
};

class HttpServer {
public:
    // Listens when it returns. kInvalid: `listen` is no address. kIo: it cannot be bound, with why
    // and what to do. `handler` must outlive the server.
    static Result<std::unique_ptr<HttpServer>> open(EventLoop& loop, HttpServerOptions options,
                                                    jupyter::HttpHandler& handler);
    ~HttpServer();  // closes everything, at once

    std::uint16_t port() const;
    // Stops accepting, and closes every WebSocket with `code` (1012: clients reconnect).
    void drain(std::uint16_t code, std::string_view reason);

private:
    class Impl;
    explicit HttpServer(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// "127.0.0.1:8888" or "[::1]:8888" to its two halves; nullopt when it is not of that form.
struct HostPort {
    std::string host;
    std::uint16_t port = 0;
};
std::optional<HostPort> split_host_port(std::string_view text);

}  // namespace nbos::io
