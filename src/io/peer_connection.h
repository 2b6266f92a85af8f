// One TLS connection to one process of the cluster, from its connected socket to its end.
//
// Bulk frames wait in a queue of their own and leave in parts of bounded size, when nothing else
// waits: what is urgent overtakes them, also in the middle of a long one.
//
// States: handshake -> hello -> ready -> closed. Both sides check the other's certificate and say
// hello with their protocol version; only then is the connection ready and frames pass.
//
// Threads  All on the loop thread. The owner is called last in every step, and may close or drop
//          the connection from inside a call.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ports.h"
#include "io/frames.h"
#include "io/tls.h"
#include "model/ids.h"

namespace nbos::io {

struct ConnectionLimits {
    std::size_t frame_bytes_max;
    std::size_t queued_bytes_max;
    std::chrono::milliseconds ping_interval;
    std::chrono::milliseconds silence_max;
    std::chrono::milliseconds hesitation;
    std::chrono::milliseconds handshake_max;
};

// shared_ptr: asynchronous operations keep their connection alive.
class PeerConnection : public std::enable_shared_from_this<PeerConnection> {
public:
    class Owner {
    public:
        virtual ~Owner() = default;
        virtual void connection_ready(PeerConnection& connection) = 0;
        virtual void connection_frame(PeerConnection& connection, std::uint8_t kind,
                                      std::string_view payload) = 0;
        // Once, unless close() was called by the owner. `why` is empty for a plain end of stream.
        virtual void connection_lost(PeerConnection& connection, const std::string& why) = 0;
    };

    // `expected`: the id that the other side must have; empty accepts any of this cluster.
    // `incarnation` names this process to the other side.
    PeerConnection(boost::asio::ip::tcp::socket socket, TlsContext& context, TlsSession::Side side,
                   HostId expected, std::uint64_t incarnation, ConnectionLimits limits,
                   const Clock& clock);
    void start(Owner& owner);
    void close();  // the owner hears nothing any more

    enum class Sent : std::uint8_t { kQueued, kFull };
    Sent send(std::uint8_t kind, const Bytes& payload);
    // Pings, and ends the connection when the other side is silent. `forgiving` after this
    // process itself was held up: what the peer sent meanwhile has not been read yet.
    void tick(bool forgiving);

    bool ready() const { return state_ == State::kReady; }
    bool dialled() const { return side_ == TlsSession::Side::kDials; }
    const HostId& peer() const { return peer_; }  // once authenticated; before: the expected one
    std::uint64_t peer_incarnation() const { return peer_incarnation_; }  // once ready
    const std::string& address() const { return address_; }
    Instant since() const { return since_; }
    std::size_t queued_bytes() const { return queued_bytes_; }
    bool hesitates() const { return hesitates_; }  // ready, and nothing was heard for a moment

private:
    enum class State : std::uint8_t { kHandshake, kHello, kReady, kClosed };
    // Small frames gather in `head`; a large payload is not copied.
    struct Piece {
        std::string head;
        Bytes body;
    };

    void read_more();
    void on_read(std::size_t size);
    bool shake_hands();  // false: not done yet, or closed
    void handle_frames();
    bool hello(const Frame& frame);
    void queue(std::uint8_t kind, const Bytes& payload);
    void gather_part(const Frame& part);
    void flush_soon();
    void flush();
    bool encrypt_urgent();  // false: closed
    bool encrypt_bulk();
    void write_output();
    void lose(const std::string& why);

    boost::asio::ip::tcp::socket socket_;
    TlsSession tls_;
    const TlsSession::Side side_;
    HostId peer_;
    const std::uint64_t incarnation_;
    std::uint64_t peer_incarnation_ = 0;
    const ConnectionLimits limits_;
    const Clock& clock_;
    Owner* owner_ = nullptr;
    std::string address_;

    State state_ = State::kHandshake;
    Instant since_{};
    Instant heard_{};
    Instant sent_{};
    bool hesitates_ = false;
    std::string raw_;
    FrameReader frames_;
    std::string bulk_in_;  // the parts so far

    std::vector<Piece> gathering_;  // the two swapped buffers: filled while the other is written
    std::vector<Piece> leaving_;
    std::size_t leaving_at_ = 0;
    std::size_t body_at_ = 0;
    std::deque<Bytes> bulk_;
    std::size_t bulk_at_ = 0;       // of its front: so much has left
    std::size_t queued_bytes_ = 0;  // in all of them
    std::string on_wire_;           // encrypted; owned by the write under way
    bool writing_ = false;
    bool flush_posted_ = false;
};

}  // namespace nbos::io
