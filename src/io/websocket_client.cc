#include "io/websocket_client.h"

#include <fmt/core.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <deque>
#include <utility>

#include "io/dial.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;

}  // namespace

class WebSocketClient::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(EventLoop& loop, WebSocketAddress address, WebSocketClientOptions options, Events events)
        : io_(*static_cast<asio::io_context*>(loop.native())),
          address_(std::move(address)),
          options_(options),
          events_(std::move(events)),
          stream_(io_) {}

    void start() {
        dial_ = Dial::start(io_, fmt::format("{}:{}", address_.host, address_.port),
                            options_.connect_max,
                            [self = shared_from_this()](ErrorCode error, asio::ip::tcp::socket s) {
                                self->dialled(error, std::move(s));
                            });
    }

    void abandon() {
        ended_ = true;
        events_ = {};
        if (dial_) {
            dial_->cancel();
        }
        ErrorCode ignored;
        stream_.next_layer().close(ignored);
    }

    void send(Bytes payload, bool binary) {
        if (ended_) {
            return;
        }
        queued_bytes_ += payload.size();
        queue_.emplace_back(std::move(payload), binary);
        if (queued_bytes_ > options_.queued_bytes_max) {
            asio::post(
                io_, [self = shared_from_this()] { self->end("more waits to be sent than may"); });
        } else if (queue_.size() == 1) {
            write();
        }
    }

    void ping() {
        if (ended_) {
            return;
        }
        stream_.async_ping({}, [self = shared_from_this()](ErrorCode error) {
            if (error) {
                self->end(error.message());
            }
        });
    }

private:
    void dialled(ErrorCode error, asio::ip::tcp::socket socket) {
        if (ended_) {
            return;
        }
        if (error) {
            end(error.message());
            return;
        }
        socket.set_option(asio::ip::tcp::no_delay(true), error);
        stream_.next_layer() = std::move(socket);
        configure();
        stream_.async_handshake(
            response_, fmt::format("{}:{}", address_.host, address_.port), address_.target,
            [self = shared_from_this()](ErrorCode failed) { self->shaken(failed); });
    }

    void configure() {
        stream_.set_option(
            websocket::stream_base::timeout{.handshake_timeout = options_.connect_max,
                                            .idle_timeout = options_.silence_max,
                                            .keep_alive_pings = true});
        stream_.set_option(websocket::stream_base::decorator([this](websocket::request_type& out) {
            if (!address_.token.empty()) {
                out.set(http::field::authorization, "token " + address_.token);
            }
            if (!address_.subprotocol.empty()) {
                out.set(http::field::sec_websocket_protocol, address_.subprotocol);
            }
        }));
        stream_.control_callback([this](websocket::frame_type kind, boost::beast::string_view) {
            if (kind == websocket::frame_type::pong && events_.pong) {
                asio::post(io_, [self = shared_from_this()] { self->tell(self->events_.pong); });
            }
        });
        stream_.read_message_max(options_.message_bytes_max);
        stream_.auto_fragment(false);
    }

    void shaken(ErrorCode error) {
        if (ended_) {
            return;
        }
        if (error == websocket::error::upgrade_declined) {
            ended_ = true;
            if (const auto refused = events_.refused) {
                refused(response_.result_int());
            }
            return;
        }
        if (!error && response_[http::field::sec_websocket_protocol] != address_.subprotocol) {
            end("the server did not choose the subprotocol " + address_.subprotocol);
            return;
        }
        if (error) {
            end(error.message());
            return;
        }
        tell(events_.opened);
        read();
    }

    void read() {
        if (ended_) {
            return;
        }
        stream_.async_read(buffer_, [self = shared_from_this()](ErrorCode error, std::size_t) {
            if (error) {
                self->end(error == websocket::error::closed
                              ? fmt::format("closed with {}",
                                            static_cast<unsigned>(self->stream_.reason().code))
                              : error.message());
                return;
            }
            const auto data = self->buffer_.cdata();
            if (const auto message = self->events_.message) {
                message({static_cast<const char*>(data.data()), data.size()},
                        self->stream_.got_binary());
            }
            self->buffer_.consume(data.size());
            self->read();
        });
    }

    void write() {
        const auto& [payload, binary] = queue_.front();
        stream_.binary(binary);
        stream_.async_write(
            asio::buffer(payload.view().data(), payload.size()),
            [self = shared_from_this()](ErrorCode error, std::size_t) { self->written(error); });
    }

    void written(ErrorCode error) {
        queued_bytes_ -= queue_.front().first.size();
        queue_.pop_front();
        if (error) {
            end(error.message());
        } else if (!ended_ && !queue_.empty()) {
            write();
        }
    }

    // A copy: the handler may destroy this client and with it the handlers.
    static void tell(const std::function<void()>& event) {
        if (const auto call = event) {
            call();
        }
    }

    void end(const std::string& why) {
        if (std::exchange(ended_, true)) {
            return;
        }
        ErrorCode ignored;
        stream_.next_layer().close(ignored);
        if (const auto closed = events_.closed) {
            closed(why);
        }
    }

    asio::io_context& io_;
    WebSocketAddress address_;
    WebSocketClientOptions options_;
    Events events_;
    websocket::stream<asio::ip::tcp::socket> stream_;
    websocket::response_type response_;
    boost::beast::flat_buffer buffer_;
    std::shared_ptr<Dial> dial_;
    std::deque<std::pair<Bytes, bool>> queue_;  // the front one is being written
    std::size_t queued_bytes_ = 0;
    bool ended_ = false;
};

WebSocketClient::WebSocketClient(EventLoop& loop, WebSocketAddress address,
                                 WebSocketClientOptions options, Events events)
    : impl_(std::make_shared<Impl>(loop, std::move(address), options, std::move(events))) {
    impl_->start();
}

WebSocketClient::~WebSocketClient() { impl_->abandon(); }

void WebSocketClient::send(Bytes payload, bool binary) { impl_->send(std::move(payload), binary); }

void WebSocketClient::ping() { impl_->ping(); }

}  // namespace nbos::io
