#include "io/http_server.h"

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/log.h"
#include "io/websocket_frames.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;
using Parser = http::request_parser<http::string_body>;
using Response = http::response<http::string_body>;

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return out;
}

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

jupyter::HttpRequest request_value(const http::request<http::string_body>& in) {
    jupyter::HttpRequest out;
    out.method = view(in.method_string());
    out.target = view(in.target());
    for (const auto& field : in) {
        auto& value = out.headers[lower(view(field.name_string()))];
        if (!value.empty()) {
            value += ", ";
        }
        value += view(field.value());
    }
    return out;
}

// The texts are ours: nothing in them needs escaping.
jupyter::HttpResponse plain_error(int status, std::string_view reason, std::string_view message) {
    jupyter::HttpResponse response;
    response.status = status;
    response.body = fmt::format(R"({{"reason": "{}", "message": "{}"}})", reason, message);
    return response;
}

bool wants_websocket(const jupyter::HttpRequest& request) {
    return lower(request.header("upgrade")).find("websocket") != std::string::npos &&
           lower(request.header("connection")).find("upgrade") != std::string::npos;
}

std::string handshake_response(const jupyter::HttpRequest& request, const std::string& protocol) {
    std::string text =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " +
        websocket_accept_key(request.header("sec-websocket-key")) + "\r\n";
    if (!protocol.empty()) {
        text += "Sec-WebSocket-Protocol: " + protocol + "\r\n";
    }
    return text + "\r\n";
}

}  // namespace

class HttpServer::Impl : public std::enable_shared_from_this<HttpServer::Impl> {
public:
    Impl(EventLoop& loop, HttpServerOptions options, jupyter::HttpHandler& handler)
        : context_(*static_cast<asio::io_context*>(loop.native())),
          acceptor_(context_),
          options_(std::move(options)),
          handler_(&handler) {}

    Status listen(const asio::ip::tcp::endpoint& endpoint) {
        ErrorCode error;
        acceptor_.open(endpoint.protocol(), error);
        if (!error) {
            acceptor_.set_option(asio::socket_base::reuse_address(true), error);
        }
        if (!error) {
            acceptor_.bind(endpoint, error);
        }
        if (!error) {
            acceptor_.listen(asio::socket_base::max_listen_connections, error);
        }
        if (error) {
            const bool taken = error == asio::error::address_in_use;
            return Error{Errc::kIo, Certainty::kDidNotHappen,
                         fmt::format("listen on {}: {}{}", options_.listen, error.message(),
                                     taken ? "; stop the program that uses this port, or choose "
                                             "another one"
                                           : "")};
        }
        return ok();
    }

    void accept() {
        acceptor_.async_accept([self = shared_from_this()](ErrorCode error,
                                                           asio::ip::tcp::socket socket) {
            if (self->stopped_ || error == asio::error::operation_aborted) {
                return;
            }
            if (error) {  // out of descriptors, most likely: do not spin
                log_warning("http",
                            "accept: {} ({} connections are open; a higher limit of open files, "
                            "ulimit -n, allows more)",
                            error.message(), self->connections_.size() + self->websockets_.size());
                self->accept_later();
                return;
            }
            self->start(std::move(socket));
            self->accept();
        });
    }

    std::uint16_t port() const {
        ErrorCode ignored;
        return acceptor_.local_endpoint(ignored).port();
    }

    void drain(std::uint16_t code, std::string_view reason) {
        stop_accepting();
        for (const auto& [id, session] : std::map(websockets_)) {
            session->close(code, reason);
        }
    }

    void stop();

private:
    class Connection;

    void start(asio::ip::tcp::socket socket);

    // The count of one address, as long as the returned value lives.
    std::shared_ptr<void> counted(const asio::ip::address& address) {
        ++per_address_[address];
        return {nullptr, [weak = weak_from_this(), address](void*) {
                    const auto self = weak.lock();
                    if (self && --self->per_address_[address] == 0) {
                        self->per_address_.erase(address);
                    }
                }};
    }

    void accept_later() {
        auto timer = std::make_shared<asio::steady_timer>(context_, std::chrono::milliseconds(100));
        timer->async_wait([self = shared_from_this(), timer](ErrorCode) {
            if (!self->stopped_) {
                self->accept();
            }
        });
    }

    void stop_accepting() {
        stopped_ = true;
        ErrorCode ignored;
        acceptor_.close(ignored);
    }

    void upgrade(asio::ip::tcp::socket socket, std::shared_ptr<void> counted,
                 const jupyter::HttpRequest& request, std::string read_ahead,
                 jupyter::WebSocketAccept accept) {
        const auto id = ++last_websocket_;
        auto handshake = handshake_response(request, accept.subprotocol);
        auto session = start_websocket(&socket, options_.websocket, std::move(handshake),
                                       std::move(read_ahead), std::move(accept),
                                       [self = weak_from_this(), id, counted] {
                                           if (const auto server = self.lock()) {
                                               server->websockets_.erase(id);
                                           }
                                       });
        websockets_.emplace(id, std::move(session));
    }

    asio::io_context& context_;
    asio::ip::tcp::acceptor acceptor_;
    HttpServerOptions options_;
    jupyter::HttpHandler* handler_;
    std::set<Connection*> connections_;
    std::map<std::uint64_t, std::shared_ptr<WebSocketSession>> websockets_;
    std::uint64_t last_websocket_ = 0;
    std::map<asio::ip::address, std::size_t> per_address_;
    bool stopped_ = false;
};

// A connection lives as long as an operation, or a handler that has not answered, holds it.
class HttpServer::Impl::Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(std::shared_ptr<Impl> server, asio::ip::tcp::socket socket,
               std::shared_ptr<void> counted)
        : server_(std::move(server)), stream_(std::move(socket)), counted_(std::move(counted)) {
        server_->connections_.insert(this);
    }
    ~Connection() { server_->connections_.erase(this); }

    void read_request() {
        parser_.emplace();
        parser_->body_limit(server_->options_.body_bytes_max);
        parser_->header_limit(server_->options_.header_bytes_max);
        stream_.expires_after(server_->options_.idle_max);
        http::async_read_header(stream_, buffer_, *parser_,
                                beast::bind_front_handler(&Connection::header_read, hold()));
    }

    void refuse(const jupyter::HttpResponse& response) { respond(response, 11, false, false); }

    void abort() {
        beast::error_code ignored;
        stream_.socket().close(ignored);
    }

private:
    std::shared_ptr<Connection> hold() { return shared_from_this(); }

    void header_read(ErrorCode error, std::size_t) {
        if (error) {
            refuse_unreadable(error);
            return;
        }
        stream_.expires_after(server_->options_.request_max);
        auto request = request_value(parser_->get());
        version_ = parser_->get().version();
        if (wants_websocket(request)) {
            upgrade(request);
            return;
        }
        if (!parser_->is_done() && !server_->handler_->wants_body(request)) {
            handle(std::move(request), false);
            return;
        }
        if (lower(request.header("expect")) == "100-continue") {
            asio::async_write(stream_, asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25),
                              [self = hold()](ErrorCode failed, std::size_t) {
                                  if (!failed) {
                                      self->read_body();
                                  }
                              });
            return;
        }
        read_body();
    }

    void read_body() {
        http::async_read(stream_, buffer_, *parser_,
                         beast::bind_front_handler(&Connection::body_read, hold()));
    }

    void body_read(ErrorCode error, std::size_t) {
        if (error) {
            refuse_unreadable(error);
            return;
        }
        auto message = parser_->release();
        auto request = request_value(message);
        request.body = std::move(message.body());
        handle(std::move(request), message.keep_alive() && !server_->stopped_);
    }

    void handle(jupyter::HttpRequest request, bool keep_alive) {
        const bool head = request.method == "HEAD";
        stream_.expires_never();
        server_->handler_->handle(std::move(request), [self = hold(), head, keep_alive](
                                                          const jupyter::HttpResponse& response) {
            self->respond(response, self->version_, keep_alive, head);
        });
    }

    void refuse_unreadable(ErrorCode error) {
        if (error == http::error::body_limit) {
            refuse(plain_error(413, "Payload Too Large",
                               fmt::format("the body is larger than {} MiB",
                                           server_->options_.body_bytes_max >> 20U)));
        } else if (error == http::error::header_limit) {
            refuse(plain_error(431, "Request Header Fields Too Large", "the headers are too long"));
        } else if (error.category() == http::make_error_code(http::error::bad_method).category() &&
                   error != http::error::end_of_stream && error != http::error::partial_message) {
            refuse(plain_error(400, "Bad Request", "this is not a readable HTTP/1.1 request"));
        } else {
            abort();
        }
    }

    void respond(const jupyter::HttpResponse& response, unsigned version, bool keep_alive,
                 bool head) {
        if (answered_) {
            return;
        }
        answered_ = true;
        response_.emplace(static_cast<http::status>(response.status), version);
        response_->set(http::field::server, "nbos");
        if (!response.content_type.empty() && response.status != 204) {
            response_->set(http::field::content_type, response.content_type);
        }
        for (const auto& [name, value] : response.headers) {
            response_->insert(name, value);
        }
        response_->keep_alive(keep_alive);
        if (head) {
            response_->content_length(response.body.size());
        } else {
            response_->body() = response.body;
            response_->prepare_payload();
        }
        stream_.expires_after(server_->options_.request_max);
        http::async_write(stream_, *response_,
                          beast::bind_front_handler(&Connection::written, hold(), keep_alive));
    }

    void written(bool keep_alive, ErrorCode error, std::size_t) {
        answered_ = false;
        if (error || !keep_alive) {
            beast::error_code ignored;
            stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
            if (!error) {
                stream_.expires_after(std::chrono::seconds(2));
                discard();
            }
            return;
        }
        read_request();
    }

    // Closing with unread bytes resets the connection, and the client would miss the answer (413).
    void discard() {
        buffer_.consume(buffer_.size());
        stream_.async_read_some(buffer_.prepare(65536),
                                [self = hold()](ErrorCode error, std::size_t) {
                                    if (!error) {
                                        self->discard();
                                    }
                                });
    }

    void upgrade(const jupyter::HttpRequest& request) {
        if (request.method != "GET" || request.header("sec-websocket-key").empty()) {
            refuse(plain_error(400, "Bad Request", "this is not a WebSocket handshake"));
            return;
        }
        if (request.header("sec-websocket-version") != "13") {
            auto response = plain_error(426, "Upgrade Required", "only WebSocket version 13");
            response.headers.emplace_back("Sec-WebSocket-Version", "13");
            refuse(response);
            return;
        }
        auto answer = server_->handler_->upgrade(request);
        if (const auto* refusal = std::get_if<jupyter::HttpResponse>(&answer)) {
            refuse(*refusal);
            return;
        }
        stream_.expires_never();
        const auto data = buffer_.data();
        server_->upgrade(stream_.release_socket(), std::move(counted_), request,
                         std::string(static_cast<const char*>(data.data()), data.size()),
                         std::move(std::get<jupyter::WebSocketAccept>(answer)));
    }

    std::shared_ptr<Impl> server_;
    beast::tcp_stream stream_;
    std::shared_ptr<void> counted_;  // goes on with the WebSocket that this becomes
    beast::flat_buffer buffer_;
    std::optional<Parser> parser_;
    std::optional<Response> response_;
    unsigned version_ = 11;
    bool answered_ = false;
};

void HttpServer::Impl::start(asio::ip::tcp::socket socket) {
    ErrorCode ignored;
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    const auto peer = socket.remote_endpoint(ignored).address();
    const bool full = connections_.size() + websockets_.size() >= options_.connections_max;
    auto connection =
        std::make_shared<Connection>(shared_from_this(), std::move(socket), counted(peer));
    if (full) {
        connection->refuse(plain_error(503, "Service Unavailable",
                                       "this server has too many connections; try again later"));
    } else if (per_address_[peer] > options_.connections_per_address_max) {
        connection->refuse(
            plain_error(429, "Too Many Requests",
                        fmt::format("{} has more than {} connections here; close some of them",
                                    peer.to_string(), options_.connections_per_address_max)));
    } else {
        connection->read_request();
    }
}

void HttpServer::Impl::stop() {
    stop_accepting();
    for (const auto& [id, session] : std::exchange(websockets_, {})) {
        session->abort(1001, "the server stops");
    }
    for (auto* connection : std::set<Connection*>(connections_)) {
        connection->abort();
    }
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::open(EventLoop& loop, HttpServerOptions options,
                                                     jupyter::HttpHandler& handler) {
    const auto where = split_host_port(options.listen);
    ErrorCode error;
    const auto address = asio::ip::make_address(where ? where->host : std::string(), error);
    if (!where || error) {
        return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                     fmt::format("'{}' is not an address: write it as 127.0.0.1:8888 or [::1]:8888",
                                 options.listen)};
    }
    auto impl = std::make_shared<Impl>(loop, std::move(options), handler);
    if (auto listening = impl->listen({address, where->port}); !listening) {
        return std::move(listening).error();
    }
    impl->accept();
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const { return impl_->port(); }

void HttpServer::drain(std::uint16_t code, std::string_view reason) { impl_->drain(code, reason); }

std::optional<HostPort> split_host_port(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) {
        return std::nullopt;
    }
    auto host = text.substr(0, colon);
    if (host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    const auto digits = text.substr(colon + 1);
    HostPort result{std::string(host), 0};
    const auto* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, result.port);
    if (parsed.ec != std::errc{} || parsed.ptr != end || digits.empty()) {
        return std::nullopt;
    }
    return result;
}

}  // namespace nbos::io
