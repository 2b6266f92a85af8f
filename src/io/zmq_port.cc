#include "io/zmq_port.h"

#include <zmq.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <utility>

#include "base/check.h"

namespace nbos::io {
namespace {

constexpr int kSocketsMax = 65'536;
constexpr int kMessagesPerTurn = 64;             // then others of the loop have their turn
constexpr int kSubscriberMessagesMax = 100'000;  // for one that does not read; then it loses some
constexpr int kAheadMessagesMax = 32;            // of a subscriber's reader
constexpr std::chrono::milliseconds kHeldPause{5};
constexpr int kLastWordsMs = 1000;  // for what was said just before the end

int socket_type(ZmqKind kind) {
    switch (kind) {
        case ZmqKind::kDealer:
            return ZMQ_DEALER;
        case ZmqKind::kSubscribe:
            return ZMQ_SUB;
        case ZmqKind::kRouter:
            return ZMQ_ROUTER;
        case ZmqKind::kReply:
            return ZMQ_REP;
        case ZmqKind::kPublish:
            break;
    }
    return ZMQ_XPUB;
}

// Owns a frame for as long as libzmq sends it.
void release(void*, void* hint) { delete static_cast<Bytes*>(hint); }

bool send_frame(void* socket, const Bytes& frame, bool more) {
    auto* owner = new Bytes(frame);  // freed by libzmq through release()
    zmq_msg_t message;
    auto* data = const_cast<char*>(owner->view().data());  // NOLINT: libzmq only reads it
    zmq_msg_init_data(&message, data, owner->size(), release, owner);
    if (zmq_msg_send(&message, socket, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0) {
        zmq_msg_close(&message);
        return false;
    }
    return true;
}

}  // namespace

ZmqContext::ZmqContext() : context_(zmq_ctx_new()) {
    zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, kSocketsMax);
    zmq_ctx_set(context_, ZMQ_IO_THREADS, 1);
}
ZmqContext::~ZmqContext() { zmq_ctx_term(context_); }
void* ZmqContext::native() { return context_; }

class ZmqPort::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(EventLoop& loop, void* context, ZmqKind kind, OnMessage on_message, MayReceive may_receive)
        : loop_(loop),
          io_(*static_cast<boost::asio::io_context*>(loop.native())),
          socket_(zmq_socket(context, socket_type(kind))),
          wake_(io_),
          on_message_(std::move(on_message)),
          may_receive_(std::move(may_receive)) {
        NBOS_CHECK(socket_ != nullptr, "no ZeroMQ socket left: raise the limit of open files");
        const int zero = 0;  // no linger; no high-water mark: what would be dropped is output
        zmq_setsockopt(socket_, ZMQ_LINGER, &zero, sizeof zero);
        zmq_setsockopt(socket_, ZMQ_RCVHWM, &zero, sizeof zero);
        zmq_setsockopt(socket_, ZMQ_SNDHWM, &zero, sizeof zero);
        if (kind == ZmqKind::kSubscribe) {
            zmq_setsockopt(socket_, ZMQ_RCVHWM, &kAheadMessagesMax, sizeof kAheadMessagesMax);
            zmq_setsockopt(socket_, ZMQ_SUBSCRIBE, "", 0);
        } else if (kind == ZmqKind::kPublish) {
            zmq_setsockopt(socket_, ZMQ_SNDHWM, &kSubscriberMessagesMax,
                           sizeof kSubscriberMessagesMax);
        } else if (kind == ZmqKind::kRouter) {
            const int yes = 1;  // a client that reconnects with its identity takes it over
            zmq_setsockopt(socket_, ZMQ_ROUTER_HANDOVER, &yes, sizeof yes);
        }
    }

    void open(const std::string& endpoint, const std::string& identity) {
        if (!identity.empty()) {
            zmq_setsockopt(socket_, ZMQ_ROUTING_ID, identity.data(), identity.size());
        }
        NBOS_CHECK(zmq_connect(socket_, endpoint.c_str()) == 0, "a bad ZeroMQ endpoint");
        begin();
    }

    Status bind(const std::string& endpoint) {
        zmq_setsockopt(socket_, ZMQ_LINGER, &kLastWordsMs, sizeof kLastWordsMs);
        if (zmq_bind(socket_, endpoint.c_str()) != 0) {
            return Error{Errc::kIo, Certainty::kDidNotHappen,
                         "cannot bind " + endpoint + ": " + zmq_strerror(zmq_errno())};
        }
        begin();
        return ok();
    }

    void begin() {
        int fd = -1;
        std::size_t size = sizeof fd;
        zmq_getsockopt(socket_, ZMQ_FD, &fd, &size);
        wake_.assign(fd);
        drain_soon();
    }

    void close() {
        on_message_ = nullptr;
        while (!outbox_.empty() && (events() & ZMQ_POLLOUT) != 0) {
            send_front();
        }
        if (wake_.is_open()) {
            wake_.release();  // the descriptor belongs to libzmq
        }
        zmq_close(std::exchange(socket_, nullptr));
    }

    void send(Frames frames) {
        outbox_.push_back(std::move(frames));
        if (!draining_) {
            drain_soon();
        }
    }

private:
    int events() {
        int events = 0;
        std::size_t size = sizeof events;
        zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size);
        return events;
    }

    // From the loop, so that a handler never runs inside the caller's send().
    void drain_soon() {
        draining_ = true;
        boost::asio::post(io_, [self = shared_from_this()] { self->drain(); });
    }

    void drain_later() {
        loop_.after(kHeldPause, [self = shared_from_this()] { self->drain(); });
    }

    void drain() {
        draining_ = true;
        int received = 0;
        while (socket_ != nullptr) {
            const int now = events();
            if ((now & ZMQ_POLLOUT) != 0 && !outbox_.empty()) {
                send_front();
            } else if ((now & ZMQ_POLLIN) != 0) {
                if (may_receive_ && !may_receive_()) {
                    drain_later();
                    return;
                }
                if (received++ == kMessagesPerTurn) {
                    drain_soon();
                    return;
                }
                deliver(receive());
            } else {
                arm();
                break;
            }
        }
        draining_ = false;
    }

    void send_front() {
        auto frames = std::move(outbox_.front());
        outbox_.pop_front();
        for (std::size_t i = 0; i < frames.size(); ++i) {
            // Only the first frame could be refused, and POLLOUT says that it is not.
            send_frame(socket_, frames[i], i + 1 < frames.size());
        }
    }

    Frames receive() {
        Frames frames;
        int more = 1;
        while (more != 0) {
            zmq_msg_t message;
            zmq_msg_init(&message);
            if (zmq_msg_recv(&message, socket_, ZMQ_DONTWAIT) < 0) {
                zmq_msg_close(&message);
                return {};
            }
            frames.push_back(Bytes::copy(
                {static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message)}));
            more = zmq_msg_more(&message);
            zmq_msg_close(&message);
        }
        return frames;
    }

    void deliver(Frames frames) {
        if (on_message_ && !frames.empty()) {
            const auto handler = on_message_;  // it may close this port
            handler(std::move(frames));
        }
    }

    void arm() {
        if (armed_) {
            return;
        }
        armed_ = true;
        wake_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [self = shared_from_this()](boost::system::error_code error) {
                             self->armed_ = false;
                             if (!error && self->socket_ != nullptr) {
                                 self->drain();
                             }
                         });
    }

    EventLoop& loop_;
    boost::asio::io_context& io_;
    void* socket_;
    boost::asio::posix::stream_descriptor wake_;
    OnMessage on_message_;
    MayReceive may_receive_;
    std::deque<Frames> outbox_;
    bool armed_ = false;
    bool draining_ = false;
};

ZmqPort::ZmqPort(EventLoop& loop, ZmqContext& context, ZmqKind kind, const std::string& endpoint,
                 const std::string& identity, OnMessage on_message, MayReceive may_receive)
    : impl_(std::make_shared<Impl>(loop, context.native(), kind, std::move(on_message),
                                   std::move(may_receive))) {
    impl_->open(endpoint, identity);
}

ZmqPort::ZmqPort(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<ZmqPort>> ZmqPort::bind(EventLoop& loop, ZmqContext& context, ZmqKind kind,
                                               const std::string& endpoint, OnMessage on_message) {
    auto impl =
        std::make_shared<Impl>(loop, context.native(), kind, std::move(on_message), MayReceive{});
    std::unique_ptr<ZmqPort> port(new ZmqPort(impl));  // its constructor is private
    if (auto bound = impl->bind(endpoint); !bound) {
        return std::move(bound).error();
    }
    return port;
}

ZmqPort::~ZmqPort() { impl_->close(); }

void ZmqPort::send(Frames frames) { impl_->send(std::move(frames)); }

}  // namespace nbos::io
