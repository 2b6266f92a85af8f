#include "io/peer_connection.h"

#include <fmt/core.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/wire.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;

constexpr std::uint8_t kHelloKind = 0;
constexpr std::uint8_t kRaftKind = 1;  // whole
constexpr std::uint8_t kBulkKind = 3;  // as send() takes it; on the wire a part, and more follow
constexpr std::uint8_t kBulkEndKind = 4;
constexpr std::uint8_t kPingKind = 255;
constexpr std::uint32_t kMagic = 0x534F424EU;  // "NBOS"
constexpr std::uint16_t kProtocolVersion = 4;
constexpr std::size_t kReadBytes = 128U << 10U;
constexpr std::size_t kWriteBytes = 1U << 20U;     // encrypted at a time
constexpr std::size_t kLargePayload = 64U << 10U;  // from here on it is not copied
constexpr std::size_t kPartBytes = 128U << 10U;    // of bulk, at most
constexpr std::size_t kBulkBytes = 256U << 10U;    // encrypted at a time
constexpr int kUnsentBytes = 256 << 10;            // that the kernel keeps: nothing overtakes those

using UnsentLimit = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>;

}  // namespace

PeerConnection::PeerConnection(asio::ip::tcp::socket socket, TlsContext& context,
                               TlsSession::Side side, HostId expected, std::uint64_t incarnation,
                               ConnectionLimits limits, const Clock& clock)
    : socket_(std::move(socket)),
      tls_(context, side),
      side_(side),
      peer_(std::move(expected)),
      incarnation_(incarnation),
      limits_(limits),
      clock_(clock),
      frames_(limits.frame_bytes_max) {
    boost::system::error_code ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket_.set_option(UnsentLimit(kUnsentBytes), ignored);
    socket_.non_blocking(true, ignored);
    const auto remote = socket_.remote_endpoint(ignored);
    // The port of one that dialled changes with each attempt and tells nothing.
    address_ = dialled() ? fmt::format("{}:{}", remote.address().to_string(), remote.port())
                         : remote.address().to_string();
    since_ = heard_ = sent_ = clock_.now();
    raw_.resize(kReadBytes);
}

void PeerConnection::start(Owner& owner) {
    owner_ = &owner;
    if (side_ == TlsSession::Side::kDials) {
        tls_.handshake();
        write_output();
    }
    read_more();
}

void PeerConnection::close() {
    if (state_ == State::kClosed) {
        return;
    }
    state_ = State::kClosed;
    boost::system::error_code ignored;
    if (!writing_) {
        // Politeness only: an alert or the end of the stream, if the socket takes it at once.
        tls_.close_notify();
        socket_.write_some(asio::buffer(tls_.output()), ignored);
    }
    socket_.close(ignored);
}

void PeerConnection::lose(const std::string& why) {
    if (state_ == State::kClosed) {
        return;
    }
    const auto self = shared_from_this();
    close();
    owner_->connection_lost(*this, why);
}

void PeerConnection::read_more() {
    socket_.async_read_some(
        asio::buffer(raw_),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t size) {
            if (self->state_ == State::kClosed) {
                return;
            }
            if (error) {
                self->lose(error == asio::error::eof || error == asio::error::connection_reset
                               ? std::string()
                               : error.message());
                return;
            }
            self->on_read(size);
        });
}

void PeerConnection::on_read(std::size_t size) {
    heard_ = clock_.now();
    hesitates_ = false;
    tls_.feed(std::string_view(raw_).substr(0, size));
    if (state_ == State::kHandshake && !shake_hands()) {
        if (state_ != State::kClosed) {
            read_more();
        }
        return;
    }
    const auto step = tls_.read(frames_.buffer());
    handle_frames();
    if (state_ == State::kClosed) {
        return;
    }
    if (step == TlsSession::Step::kFailed) {
        lose(side_ == TlsSession::Side::kDials && state_ == State::kHello
                 ? fmt::format("it refused this process's certificate ({})", tls_.failure())
                 : tls_.failure());
        return;
    }
    if (step == TlsSession::Step::kClosed) {
        lose({});
        return;
    }
    read_more();
}

bool PeerConnection::shake_hands() {
    const auto step = tls_.handshake();
    if (step == TlsSession::Step::kFailed || step == TlsSession::Step::kClosed) {
        lose(fmt::format("TLS handshake: {}", tls_.failure()));
        return false;
    }
    if (step == TlsSession::Step::kNeedsInput) {
        write_output();
        return false;
    }
    const HostId name{tls_.peer_name()};
    if (name.value.empty() || (!peer_.value.empty() && name != peer_)) {
        lose(
            fmt::format("its certificate names '{}', not '{}'; check the address and the "
                        "certificate of that process",
                        name.value, peer_.value));
        return false;
    }
    peer_ = name;
    state_ = State::kHello;
    queue(kHelloKind, Writer().put(kMagic).put(kProtocolVersion).put(incarnation_).take_bytes());
    return true;
}

bool PeerConnection::hello(const Frame& frame) {
    Reader in(frame.payload);
    const auto magic = in.get<std::uint32_t>();
    const auto version = in.get<std::uint16_t>();
    if (frame.kind != kHelloKind || !in.ok() || magic != kMagic) {
        lose("it does not speak this protocol");
        return false;
    }
    if (version != kProtocolVersion) {
        lose(
            fmt::format("it speaks version {} of the peer protocol, this process version {}; run "
                        "the same release on all hosts",
                        version, kProtocolVersion));
        return false;
    }
    peer_incarnation_ = in.get<std::uint64_t>();
    if (!in.done() || peer_incarnation_ == 0) {
        lose("its hello does not name its process");
        return false;
    }
    state_ = State::kReady;
    since_ = clock_.now();
    owner_->connection_ready(*this);
    return state_ != State::kClosed;
}

void PeerConnection::handle_frames() {
    const auto self = shared_from_this();
    Frame frame;
    while (state_ != State::kClosed) {
        const auto next = frames_.next(frame);
        if (next == FrameReader::Next::kNeedsMore) {
            break;
        }
        if (next == FrameReader::Next::kTooLong) {
            lose(fmt::format("it sent a frame above the limit of {} bytes",
                             limits_.frame_bytes_max));
            return;
        }
        if (state_ == State::kHello) {
            hello(frame);
        } else if (frame.kind == kBulkKind || frame.kind == kBulkEndKind) {
            gather_part(frame);
        } else if (frame.kind != kPingKind) {
            owner_->connection_frame(*this, frame.kind, frame.payload);
        }
    }
    frames_.compact();
}

void PeerConnection::gather_part(const Frame& part) {
    if (bulk_in_.size() + part.payload.size() > limits_.frame_bytes_max) {
        lose(fmt::format("it sent a frame above the limit of {} bytes", limits_.frame_bytes_max));
        return;
    }
    bulk_in_.append(part.payload);
    if (part.kind == kBulkEndKind) {
        const auto whole = std::exchange(bulk_in_, {});
        owner_->connection_frame(*this, kRaftKind, whole);
    }
}

PeerConnection::Sent PeerConnection::send(std::uint8_t kind, const Bytes& payload) {
    if (state_ != State::kReady) {
        return Sent::kQueued;  // closed meanwhile: like any frame in flight, it is lost
    }
    if (queued_bytes_ + payload.size() > limits_.queued_bytes_max) {
        return Sent::kFull;
    }
    if (kind != kBulkKind) {
        queue(kind, payload);
    } else if (bulk_.empty() && payload.size() < kLargePayload) {
        queue(kRaftKind, payload);  // there is nothing to overtake
    } else {
        bulk_.push_back(payload);
        queued_bytes_ += payload.size();
        flush_soon();
    }
    return Sent::kQueued;
}

void PeerConnection::queue(std::uint8_t kind, const Bytes& payload) {
    if (gathering_.empty() || !gathering_.back().body.empty()) {
        gathering_.emplace_back();
    }
    Piece& piece = gathering_.back();
    put_frame_header(piece.head, payload.size(), kind);
    if (payload.size() < kLargePayload) {
        piece.head.append(payload.view());
    } else {
        piece.body = payload;
    }
    queued_bytes_ += kFrameHeaderBytes + payload.size();
    flush_soon();
}

// At the end of this turn of the loop, so that what is sent in one turn leaves together.
void PeerConnection::flush_soon() {
    if (writing_ || flush_posted_) {
        return;
    }
    flush_posted_ = true;
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
        self->flush_posted_ = false;
        if (!self->writing_ && self->state_ != State::kClosed) {
            self->flush();
        }
    });
}

void PeerConnection::flush() {
    if (encrypt_urgent() && encrypt_bulk()) {
        write_output();
    }
}

bool PeerConnection::encrypt_urgent() {
    if (leaving_at_ == leaving_.size()) {
        leaving_.clear();
        leaving_.swap(gathering_);
        leaving_at_ = 0;
    }
    while (leaving_at_ < leaving_.size() && tls_.output().size() < kWriteBytes) {
        Piece& piece = leaving_[leaving_at_];
        const auto body = piece.body.view();
        const auto part = body.substr(body_at_, kWriteBytes);
        if (!tls_.write(piece.head) || !tls_.write(part)) {
            lose(tls_.failure());
            return false;
        }
        queued_bytes_ -= piece.head.size() + part.size();
        piece.head.clear();
        body_at_ += part.size();
        if (body_at_ == body.size()) {
            body_at_ = 0;
            piece = {};
            ++leaving_at_;
        }
    }
    return true;
}

// Only when all else has left, and no more than delays what comes next by a moment.
bool PeerConnection::encrypt_bulk() {
    const bool urgent_waits = leaving_at_ < leaving_.size() || !gathering_.empty();
    while (!urgent_waits && !bulk_.empty() && tls_.output().size() < kBulkBytes) {
        const auto rest = bulk_.front().view().substr(bulk_at_);
        const auto part = rest.substr(0, kPartBytes);
        const bool ends = part.size() == rest.size();
        std::string head;
        put_frame_header(head, part.size(), ends ? kBulkEndKind : kBulkKind);
        if (!tls_.write(head) || !tls_.write(part)) {
            lose(tls_.failure());
            return false;
        }
        queued_bytes_ -= part.size();
        bulk_at_ += part.size();
        if (ends) {
            bulk_.pop_front();
            bulk_at_ = 0;
        }
    }
    return true;
}

void PeerConnection::write_output() {
    if (writing_ || tls_.output().empty() || state_ == State::kClosed) {
        return;
    }
    writing_ = true;
    sent_ = clock_.now();
    on_wire_.clear();
    on_wire_.swap(tls_.output());
    asio::async_write(
        socket_, asio::buffer(on_wire_),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
            self->writing_ = false;
            if (self->state_ == State::kClosed) {
                return;
            }
            if (error) {
                self->lose(error.message());
                return;
            }
            self->flush();
        });
}

void PeerConnection::tick(bool forgiving) {
    const Instant now = clock_.now();
    if (state_ == State::kClosed) {
        return;
    }
    if (state_ != State::kReady) {
        if (now - since_ > limits_.handshake_max) {
            lose(fmt::format("no handshake within {} ms", limits_.handshake_max.count()));
        }
        return;
    }
    if (forgiving) {
        heard_ = std::max(heard_, now - limits_.silence_max + 2 * limits_.ping_interval);
    } else if (now - heard_ > limits_.silence_max) {
        lose(fmt::format(
            "nothing heard for {} ms",
            std::chrono::duration_cast<std::chrono::milliseconds>(now - heard_).count()));
        return;
    }
    hesitates_ = !forgiving && now - heard_ > limits_.hesitation;
    if (now - sent_ >= limits_.ping_interval && !writing_) {
        queue(kPingKind, {});
    }
}

}  // namespace nbos::io
