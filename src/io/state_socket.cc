#include "io/state_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <utility>

#include "base/wire.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;

constexpr std::size_t kPrefixBytes = 9;  // u32 length, u8 type, u32 header length
constexpr std::size_t kHeaderMax = 1U << 20U;

}  // namespace

class StateSocket::Impl : public std::enable_shared_from_this<Impl> {
public:
    explicit Impl(stream_protocol::socket socket) : socket_(std::move(socket)) {}

    void start(Callbacks callbacks) {
        callbacks_ = std::move(callbacks);
        if (!std::exchange(started_, true)) {
            read_prefix();
        }
    }

    void send(StateFrame type, const std::string& header, Bytes body) {
        Writer prefix;
        prefix.put(static_cast<std::uint32_t>(5 + header.size() + body.size()))
            .put(type)
            .put(std::string_view(header));
        outbox_.push_back({prefix.take(), std::move(body)});
        write_next();
    }

    void close() {
        callbacks_ = {};
        boost::system::error_code ignored;
        socket_.close(ignored);
    }

    pid_t peer() {
        ucred credentials{};
        socklen_t size = sizeof credentials;
        getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
        return credentials.pid;
    }

private:
    struct Outgoing {
        std::string head;
        Bytes body;
    };

    void read_prefix() {
        asio::async_read(socket_, asio::buffer(prefix_),
                         [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                             if (error) {
                                 self->end();
                             } else {
                                 self->read_rest();
                             }
                         });
    }

    void read_rest() {
        Reader in({prefix_.data(), prefix_.size()});
        const auto length = in.get<std::uint32_t>();
        type_ = in.get<StateFrame>();
        header_size_ = in.get<std::uint32_t>();
        if (header_size_ > kHeaderMax || length < 5 + header_size_) {
            end();
            return;
        }
        rest_.resize(length - 5);
        asio::async_read(socket_, asio::buffer(rest_),
                         [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                             if (error) {
                                 self->end();
                                 return;
                             }
                             self->deliver();
                         });
    }

    void deliver() {
        auto header = rest_.substr(0, header_size_);
        rest_.erase(0, header_size_);
        const auto frame = callbacks_.frame;  // the handler may close this socket
        if (frame) {
            frame(type_, std::move(header), Bytes(std::exchange(rest_, {})));
            read_prefix();
        }
    }

    void write_next() {
        if (writing_ || outbox_.empty()) {
            return;
        }
        writing_ = true;
        const auto& next = outbox_.front();
        const std::array<asio::const_buffer, 2> buffers{
            asio::buffer(next.head), asio::buffer(next.body.view().data(), next.body.size())};
        asio::async_write(
            socket_, buffers,
            [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                self->writing_ = false;
                if (!error) {
                    self->outbox_.pop_front();
                    self->write_next();
                }
            });
    }

    void end() {
        const auto closed = std::exchange(callbacks_, {}).closed;
        boost::system::error_code ignored;
        socket_.close(ignored);
        if (closed) {
            closed();
        }
    }

    stream_protocol::socket socket_;
    Callbacks callbacks_;
    std::array<char, kPrefixBytes> prefix_{};
    StateFrame type_{};
    std::uint32_t header_size_ = 0;
    std::string rest_;
    std::deque<Outgoing> outbox_;
    bool writing_ = false;
    bool started_ = false;
};

StateSocket::StateSocket(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
StateSocket::~StateSocket() { impl_->close(); }
void StateSocket::start(Callbacks callbacks) { impl_->start(std::move(callbacks)); }
void StateSocket::send(StateFrame type, const std::string& header, Bytes body) {
    impl_->send(type, header, std::move(body));
}
pid_t StateSocket::peer() const { return impl_->peer(); }

class StateListener::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(asio::io_context& io, const std::string& path, OnConnection on_connection)
        : path_(path), on_connection_(std::move(on_connection)), acceptor_(io) {
        unlink(path.c_str());
        acceptor_.open();
        acceptor_.bind(stream_protocol::endpoint(path));
        acceptor_.listen();
    }

    void accept() {
        acceptor_.async_accept([self = shared_from_this()](boost::system::error_code error,
                                                           stream_protocol::socket s) {
            if (error || !self->on_connection_) {
                return;
            }
            self->on_connection_(std::unique_ptr<StateSocket>(
                new StateSocket(std::make_shared<StateSocket::Impl>(std::move(s)))));
            self->accept();
        });
    }

    void close() {
        on_connection_ = nullptr;
        boost::system::error_code ignored;
        acceptor_.close(ignored);
        unlink(path_.c_str());
    }

private:
    std::string path_;
    OnConnection on_connection_;
    stream_protocol::acceptor acceptor_;
};

StateListener::StateListener(EventLoop& loop, const std::string& path, OnConnection on_connection)
    : impl_(std::make_shared<Impl>(*static_cast<asio::io_context*>(loop.native()), path,
                                   std::move(on_connection))) {
    impl_->accept();
}
StateListener::~StateListener() { impl_->close(); }

}  // namespace nbos::io
