// HTTP requests, responses and WebSockets as values and ports; io/http_server.h serves them.
//
// Threads  Everything on the loop thread of the server.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"

namespace nbos::jupyter {

struct HttpRequest {
    std::string method;  // upper case
    std::string target;  // path and query, as the client sent them
    std::map<std::string, std::string, std::less<>> headers;  // names in lower case
    std::string body;

    // Empty when absent.
    std::string_view header(std::string_view name) const {
        const auto found = headers.find(name);
        return found == headers.end() ? std::string_view() : std::string_view(found->second);
    }
};

struct HttpResponse {
    int status = 200;
    std::string content_type = "application/json";
    std::vector<std::pair<std::string, std::string>> headers;  // besides the ones above and below
    std::string body;  // Content-Length is the server's to add; a HEAD's body is not sent
};

// An open WebSocket, seen from the handler.
class WebSocket {
public:
    virtual ~WebSocket() = default;
    // Queued, in order. A peer that does not read fast enough is closed (1013) once the queue is
    // over the server's limit; nothing that was accepted is dropped silently in the middle.
    virtual void send(Bytes payload, bool binary) = 0;
    virtual void close(std::uint16_t code, std::string_view reason) = 0;
    // Bytes that the peer's system has not taken yet.
    virtual std::size_t queued_bytes() const { return 0; }
};

// What the handler does with one. Destroyed after closed().
class WebSocketHandler {
public:
    virtual ~WebSocketHandler() = default;
    virtual void message(std::string_view payload, bool binary) = 0;
    virtual void drained() {}   // the peer's system has taken all that was sent
    virtual void closed() = 0;  // once; the socket sends nothing any more
};

struct WebSocketAccept {
    std::string subprotocol;  // one that the client offered, or empty
    // Called after the 101 has been queued.
    std::function<std::unique_ptr<WebSocketHandler>(std::shared_ptr<WebSocket>)> opened;
};

class HttpHandler {
public:
    using Respond = std::function<void(HttpResponse)>;

    virtual ~HttpHandler() = default;
    // Asked with the headers of a request that has a body. False: handle() gets it without its
    // body, which is not read, and the connection ends with the answer.
    virtual bool wants_body(const HttpRequest&) { return true; }
    // `respond` may be called later, once, on the same thread; also when the client has gone.
    virtual void handle(HttpRequest request, Respond respond) = 0;
    // A WebSocket handshake: accepted, or answered with a plain response.
    virtual std::variant<HttpResponse, WebSocketAccept> upgrade(const HttpRequest& request) = 0;
};

}  // namespace nbos::jupyter
