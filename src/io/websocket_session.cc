#include "io/websocket_session.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <utility>
#include <vector>

#include "base/log.h"
#include "io/websocket_frames.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;

class Session final : public WebSocketSession,
                      public jupyter::WebSocket,
                      public std::enable_shared_from_this<Session> {
public:
    Session(asio::ip::tcp::socket socket, const WebSocketOptions& options,
            std::function<void()> on_end)
        : socket_(std::move(socket)),
          timer_(socket_.get_executor()),
          options_(options),
          parser_(options.message_bytes_max),
          on_end_(std::move(on_end)) {}

    void start(std::string handshake, std::string read_ahead, jupyter::WebSocketAccept accept) {
        enqueue(std::move(handshake), Bytes());
        handler_ = accept.opened(shared_from_this());
        take(read_ahead);
        read();
        arm_timer();
    }

    void send(Bytes payload, bool binary) override {
        if (closing_ || ended_) {
            return;
        }
        auto head = websocket_frame_head(binary ? WebSocketOpcode::kBinary : WebSocketOpcode::kText,
                                         payload.size());
        // Before this one: a single message may be larger than the limit.
        const auto waiting = queued_bytes_ - in_flight_bytes_;
        enqueue(std::move(head), std::move(payload));
        if (waiting > options_.queued_bytes_max) {
            log_warning("http", "a WebSocket client reads too slowly ({} MiB wait): closing it",
                        waiting >> 20U);
            close(1013, "the client reads too slowly; connect again");
        }
    }

    void close(std::uint16_t code, std::string_view reason) override {
        if (closing_ || ended_) {
            return;
        }
        closing_ = true;
        const auto payload = websocket_close_payload(code, reason);
        enqueue(websocket_frame_head(WebSocketOpcode::kClose, payload.size()) + payload, Bytes());
        arm_timer();
        tell_closed();
    }

    void abort(std::uint16_t code, std::string_view reason) override {
        close(code, reason);
        end();
    }

    std::size_t queued_bytes() const override { return queued_bytes_; }

private:
    struct Queued {
        std::string head;
        Bytes payload;
        std::size_t size() const { return head.size() + payload.size(); }
    };

    void enqueue(std::string head, Bytes payload) {
        queue_.push_back({std::move(head), std::move(payload)});
        queued_bytes_ += queue_.back().size();
        if (!writing_) {
            write();
        }
    }

    // All that has gathered leaves in one write, up to a bound: what is in flight does not count as
    // waiting for a slow client.
    void write() {
        constexpr std::size_t kFramesMax = 64;
        constexpr std::size_t kBytesMax = 1U << 20U;
        writing_ = true;
        std::vector<asio::const_buffer> buffers;
        while (in_flight_ < std::min(queue_.size(), kFramesMax) && in_flight_bytes_ < kBytesMax) {
            const auto& frame = queue_[in_flight_++];
            in_flight_bytes_ += frame.size();
            buffers.emplace_back(frame.head.data(), frame.head.size());
            buffers.emplace_back(frame.payload.view().data(), frame.payload.size());
        }
        asio::async_write(socket_, buffers, [self = shared_from_this()](ErrorCode error, size_t) {
            self->written(error);
        });
    }

    void written(ErrorCode error) {
        writing_ = false;
        in_flight_bytes_ = 0;
        for (; in_flight_ > 0; --in_flight_) {
            queued_bytes_ -= queue_.front().size();
            queue_.pop_front();
        }
        if (error) {
            end();
        } else if (!queue_.empty()) {
            write();
        } else if (closing_ && peer_closed_) {
            end();
        } else if (handler_) {
            handler_->drained();
        }
    }

    void read() {
        socket_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](ErrorCode error, std::size_t size) {
                                    if (error) {
                                        self->end();
                                        return;
                                    }
                                    self->take(std::string_view(self->buffer_.data(), size));
                                    if (!self->ended_) {
                                        self->read();
                                    }
                                });
    }

    void take(std::string_view bytes) {
        heard_ = true;
        for (auto& message : parser_.feed(bytes)) {
            if (ended_) {
                return;
            }
            take_message(std::move(message));
        }
        if (const auto& fault = parser_.fault(); fault && !closing_) {
            log_warning("http", "closing a WebSocket: {}", fault->reason);
            peer_closed_ = true;  // it cannot be understood any more: do not wait for its close
            close(fault->code, fault->reason);
        }
    }

    void take_message(WebSocketInput message) {
        switch (message.opcode) {
            case WebSocketOpcode::kText:
            case WebSocketOpcode::kBinary:
                if (!closing_ && handler_) {
                    handler_->message(message.payload, message.opcode == WebSocketOpcode::kBinary);
                }
                break;
            case WebSocketOpcode::kPing:
                if (!closing_) {
                    enqueue(websocket_frame_head(WebSocketOpcode::kPong, message.payload.size()) +
                                message.payload,
                            Bytes());
                }
                break;
            case WebSocketOpcode::kClose: {
                peer_closed_ = true;
                std::uint16_t code = 1000;
                if (message.payload.size() >= 2) {
                    code = static_cast<std::uint16_t>(
                        (static_cast<std::uint8_t>(message.payload[0]) << 8U) |
                        static_cast<std::uint8_t>(message.payload[1]));
                }
                close(code, "");
                if (!writing_) {
                    end();
                }
                break;
            }
            case WebSocketOpcode::kPong:
            case WebSocketOpcode::kContinuation:
                break;
        }
    }

    void arm_timer() {
        timer_.expires_after(closing_ ? options_.close_wait : options_.ping_interval);
        timer_.async_wait([self = shared_from_this()](ErrorCode error) {
            if (!error && !self->ended_) {
                self->timer_fired();
            }
        });
    }

    void timer_fired() {
        if (closing_) {
            end();
            return;
        }
        silence_ = heard_ ? std::chrono::seconds(0) : silence_ + options_.ping_interval;
        heard_ = false;
        if (silence_ >= options_.silence_max) {
            log_info("http", "a WebSocket client was silent for {} s: dropped", silence_.count());
            end();
            return;
        }
        enqueue(websocket_frame_head(WebSocketOpcode::kPing, 0), Bytes());
        arm_timer();
    }

    void tell_closed() {
        if (handler_ && !told_) {
            told_ = true;
            handler_->closed();
        }
    }

    void end() {
        if (ended_) {
            return;
        }
        ended_ = true;
        timer_.cancel();
        ErrorCode ignored;
        socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
        socket_.close(ignored);
        tell_closed();
        // The handler holds this socket and is perhaps on the stack now: it goes in the next turn,
        // or with the loop when there is none.
        asio::post(socket_.get_executor(), [handler = std::move(handler_)] {});
        if (auto on_end = std::exchange(on_end_, nullptr)) {
            on_end();
        }
    }

    asio::ip::tcp::socket socket_;
    asio::steady_timer timer_;
    WebSocketOptions options_;
    WebSocketParser parser_;
    std::function<void()> on_end_;
    std::unique_ptr<jupyter::WebSocketHandler> handler_;
    std::array<char, 32768> buffer_{};
    std::deque<Queued> queue_;  // a deque: frames in flight must not move when one is added
    std::size_t queued_bytes_ = 0;
    std::size_t in_flight_ = 0;  // frames of queue_ that are being written
    std::size_t in_flight_bytes_ = 0;
    std::chrono::seconds silence_{0};
    bool heard_ = true;
    bool writing_ = false;
    bool closing_ = false;      // our close frame is queued
    bool peer_closed_ = false;  // theirs has come
    bool told_ = false;
    bool ended_ = false;
};

}  // namespace

std::shared_ptr<WebSocketSession> start_websocket(void* socket, const WebSocketOptions& options,
                                                  std::string handshake, std::string read_ahead,
                                                  jupyter::WebSocketAccept accept,
                                                  std::function<void()> on_end) {
    auto session = std::make_shared<Session>(
        std::move(*static_cast<asio::ip::tcp::socket*>(socket)), options, std::move(on_end));
    session->start(std::move(handshake), std::move(read_ahead), std::move(accept));
    return session;
}

}  // namespace nbos::io
