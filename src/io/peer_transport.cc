#include "io/peer_transport.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "io/dial.h"
#include "io/listener.h"
#include "io/peer_connection.h"
#include "io/tls.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr milliseconds kPauseMin{5};
constexpr milliseconds kPauseMax{1000};
constexpr milliseconds kStable{1000};  // a connection that lived so long resets the pauses
constexpr std::chrono::seconds kSameLineAgain{30};

// What this process knows of one other. Either `live`, or an attempt: a dial, or a pause before it.
//
// The side that does not dial runs the same attempts, but only as probes: a plain TCP connection,
// closed at once, that is refused when the process is gone.
struct Peer {
    explicit Peer(asio::io_context& context) : pause(context) {}

    std::string address;  // empty: it only ever connects to us
    bool listed = false;
    std::shared_ptr<PeerConnection> live;
    std::shared_ptr<PeerConnection> shaking;  // dialled, not ready yet
    std::shared_ptr<Dial> dial;
    asio::steady_timer pause;
    int failures = 0;
    std::optional<PeerState> state;
};

}  // namespace

class PeerTransport::Impl : public PeerConnection::Owner,
                            public std::enable_shared_from_this<Impl> {
public:
    Impl(EventLoop& event_loop, PeerTransportOptions given, std::shared_ptr<TlsContext> context,
         OnFrame frame, OnState state)
        : loop(event_loop),
          io(*static_cast<asio::io_context*>(event_loop.native())),
          options(std::move(given)),
          tls(std::move(context)),
          on_frame(std::move(frame)),
          on_state(std::move(state)),
          acceptor(io),
          accept_pause(io),
          ticker(io) {}

    Status listen();
    void accept();
    void tick();
    void close();
    void set_peers(const std::map<HostId, std::string>& addresses);
    void send(const HostId& to, FrameKind kind, const Bytes& payload);

    void connection_ready(PeerConnection& connection) override;
    void connection_frame(PeerConnection& connection, std::uint8_t kind,
                          std::string_view payload) override;
    void connection_lost(PeerConnection& connection, const std::string& why) override;

    bool dials(const HostId& peer) const { return options.listen.empty() || options.self < peer; }
    Peer* find(const HostId& id);
    void attempt(const HostId& id);
    void attempt_later(const HostId& id);
    void dialled(const HostId& id, const error_code& error, tcp::socket socket);
    void add_connection(tcp::socket socket, TlsSession::Side side, const HostId& expected);
    void set_state(const HostId& id, PeerState state);
    void forget(const HostId& id);
    void complain(const std::string& line);
    ConnectionLimits limits() const;

    EventLoop& loop;
    asio::io_context& io;
    const PeerTransportOptions options;
    const std::uint64_t incarnation = std::max<std::uint64_t>(1, random_u64());
    const std::shared_ptr<TlsContext> tls;
    const OnFrame on_frame;
    const OnState on_state;
    tcp::acceptor acceptor;
    asio::steady_timer accept_pause;
    asio::steady_timer ticker;
    Instant last_tick{};
    std::map<HostId, std::unique_ptr<Peer>> peers;  // unique_ptr: a timer cannot be moved in a map
    std::set<std::shared_ptr<PeerConnection>> connections;  // all that are not closed
    std::map<std::string, Instant> complaints;
    bool closed = false;
};

Peer* PeerTransport::Impl::find(const HostId& id) {
    const auto at = peers.find(id);
    return at == peers.end() ? nullptr : at->second.get();
}

// A failing peer is dialled again and again: the same line is not repeated each time.
void PeerTransport::Impl::complain(const std::string& line) {
    const Instant now = loop.clock().now();
    std::erase_if(complaints, [&](const auto& said) { return now - said.second > kSameLineAgain; });
    if (complaints.emplace(line, now).second) {
        log_warning("peer", "{}", line);
    }
}

ConnectionLimits PeerTransport::Impl::limits() const {
    return {.frame_bytes_max = options.frame_bytes_max,
            .queued_bytes_max = options.queued_bytes_max,
            .ping_interval = options.ping_interval,
            .silence_max = options.silence_max,
            .hesitation = options.hesitation,
            .handshake_max = options.handshake_max};
}

// --- listening

Status PeerTransport::Impl::listen() {
    int descriptor = options.listener;
    if (descriptor < 0) {
        auto opened = listen_on(options.listen);
        if (!opened) {
            return std::move(opened).error();
        }
        descriptor = *opened;
    }
    const auto parts = split_address(options.listen);
    const bool six = parts && parts->first.find(':') != std::string::npos;
    error_code error;
    acceptor.assign(six ? tcp::v6() : tcp::v4(), descriptor, error);
    if (error) {
        return Error{.code = Errc::kIo, .what = "cannot serve the socket: " + error.message()};
    }
    accept();
    return ok();
}

void PeerTransport::Impl::accept() {
    acceptor.async_accept([self = shared_from_this()](const error_code& error, tcp::socket socket) {
        if (self->closed) {
            return;
        }
        if (!error) {
            const auto shaking =
                std::count_if(self->connections.begin(), self->connections.end(),
                              [](const auto& connection) { return !connection->ready(); });
            if (static_cast<std::size_t>(shaking) < self->options.handshakes_max) {
                self->add_connection(std::move(socket), TlsSession::Side::kAccepts, {});
            }
            self->accept();
            return;
        }
        // Out of descriptors or memory: others may come free.
        self->complain(fmt::format("cannot accept connections: {}", error.message()));
        self->accept_pause.expires_after(milliseconds(100));
        self->accept_pause.async_wait([self](const error_code& stopped) {
            if (!stopped && !self->closed) {
                self->accept();
            }
        });
    });
}

void PeerTransport::Impl::add_connection(tcp::socket socket, TlsSession::Side side,
                                         const HostId& expected) {
    auto connection = std::make_shared<PeerConnection>(std::move(socket), *tls, side, expected,
                                                       incarnation, limits(), loop.clock());
    connections.insert(connection);
    if (side == TlsSession::Side::kDials) {
        find(expected)->shaking = connection;
    }
    connection->start(*this);
}

// --- dialling and probing

void PeerTransport::Impl::set_peers(const std::map<HostId, std::string>& addresses) {
    for (const auto& [id, address] : addresses) {
        if (id == options.self) {
            continue;
        }
        auto& peer = peers[id];
        if (!peer) {
            peer = std::make_unique<Peer>(io);
        }
        peer->listed = true;
        if (peer->address == address) {
            continue;
        }
        peer->address = address;
        peer->failures = 0;
        if (!peer->live) {
            attempt(id);
        }
    }
    std::vector<HostId> gone;
    for (const auto& [id, peer] : peers) {
        if (peer->listed && !addresses.contains(id)) {
            gone.push_back(id);
        }
    }
    for (const auto& id : gone) {
        forget(id);
    }
}

void PeerTransport::Impl::forget(const HostId& id) {
    Peer* peer = find(id);
    if (peer == nullptr) {
        return;
    }
    if (peer->dial) {
        peer->dial->cancel();
    }
    for (const auto& connection : {peer->live, peer->shaking}) {
        if (connection) {
            connection->close();
            connections.erase(connection);
        }
    }
    const bool was_up = peer->state == PeerState::kUp;
    peers.erase(id);
    if (was_up) {
        on_state(id, PeerState::kDown);
    }
}

// At once. Replaces whatever attempt is under way.
void PeerTransport::Impl::attempt(const HostId& id) {
    Peer* peer = find(id);
    if (peer == nullptr || closed) {
        return;
    }
    peer->pause.cancel();
    if (peer->dial) {
        peer->dial->cancel();
        peer->dial.reset();
    }
    if (peer->shaking) {
        peer->shaking->close();
        connections.erase(peer->shaking);
        peer->shaking.reset();
    }
    if (peer->address.empty()) {
        return;
    }
    peer->dial =
        Dial::start(io, peer->address, options.connect_max,
                    [self = shared_from_this(), id](const error_code& error, tcp::socket socket) {
                        self->dialled(id, error, std::move(socket));
                    });
}

void PeerTransport::Impl::attempt_later(const HostId& id) {
    Peer* peer = find(id);
    if (peer == nullptr || closed || peer->live || peer->address.empty()) {
        return;
    }
    const auto pause = std::min(kPauseMax, kPauseMin * (1 << std::min(peer->failures, 8)));
    ++peer->failures;
    peer->pause.expires_after(pause);
    peer->pause.async_wait([self = shared_from_this(), id](const error_code& error) {
        if (!error) {
            self->attempt(id);
        }
    });
}

void PeerTransport::Impl::dialled(const HostId& id, const error_code& error, tcp::socket socket) {
    Peer* peer = find(id);
    if (closed || peer == nullptr || peer->live) {
        return;
    }
    peer->dial.reset();
    if (error == asio::error::connection_refused) {
        set_state(id, PeerState::kRefused);
        // When it is back, either this side dials it or it dials this one.
        if (dials(id)) {
            attempt_later(id);
        }
        return;
    }
    if (error) {
        complain(
            fmt::format("cannot reach {} at {}: {}", id.value, peer->address, error.message()));
        attempt_later(id);
        return;
    }
    if (dials(id)) {
        add_connection(std::move(socket), TlsSession::Side::kDials, id);
    } else {
        attempt_later(id);  // it lives; it will dial
    }
}

// --- connections

void PeerTransport::Impl::connection_ready(PeerConnection& connection) {
    const HostId id = connection.peer();
    const auto self = shared_from_this();
    auto& peer = peers[id];
    if (!peer) {
        peer = std::make_unique<Peer>(io);
    }
    const auto shared = connection.shared_from_this();
    const auto old = std::exchange(peer->live, shared);
    if (peer->shaking == shared) {
        peer->shaking.reset();
    }
    peer->pause.cancel();
    if (peer->dial) {
        peer->dial->cancel();
        peer->dial.reset();
    }
    if (old) {
        // The other side has given up the old connection, or two processes claim one id.
        old->close();
        connections.erase(old);
        complain(fmt::format("{} connected again from {}; the connection from {} is closed",
                             id.value, connection.address(), old->address()));
        set_state(id, PeerState::kDown);
    }
    set_state(id, PeerState::kUp);
}

void PeerTransport::Impl::connection_frame(PeerConnection& connection, std::uint8_t kind,
                                           std::string_view payload) {
    const auto self = shared_from_this();
    if (kind != static_cast<std::uint8_t>(FrameKind::kRaft) &&
        kind != static_cast<std::uint8_t>(FrameKind::kRpc)) {
        complain(fmt::format("{} sent a frame of unknown kind {}; it is ignored",
                             connection.peer().value, kind));
        return;
    }
    on_frame(connection.peer(), static_cast<FrameKind>(kind), payload);
}

void PeerTransport::Impl::connection_lost(PeerConnection& connection, const std::string& why) {
    const auto self = shared_from_this();
    const auto shared = connection.shared_from_this();
    connections.erase(shared);
    const HostId id = connection.peer();
    if (!why.empty()) {
        complain(fmt::format("connection {} {} ({}): {}", connection.dialled() ? "to" : "from",
                             id.value.empty() ? "a process" : id.value, connection.address(), why));
    }
    Peer* peer = find(id);
    if (peer == nullptr) {
        return;
    }
    if (peer->shaking == shared) {
        peer->shaking.reset();
        attempt_later(id);
        return;
    }
    if (peer->live != shared) {
        return;
    }
    peer->live.reset();
    if (loop.clock().now() - connection.since() > kStable) {
        peer->failures = 0;
    }
    if (peer->failures == 0) {
        attempt(id);  // a refusal now is the quickest proof of a death
    } else {
        attempt_later(id);
    }
    const bool listed = peer->listed;
    set_state(id, PeerState::kDown);
    if (!listed) {
        forget(id);
    }
}

void PeerTransport::Impl::set_state(const HostId& id, PeerState state) {
    Peer* peer = find(id);
    if (closed || peer == nullptr || peer->state == state) {
        return;
    }
    peer->state = state;
    on_state(id, state);
}

void PeerTransport::Impl::send(const HostId& to, FrameKind kind, const Bytes& payload) {
    Peer* peer = find(to);
    if (peer == nullptr || !peer->live) {
        return;
    }
    const auto live = peer->live;
    const bool too_long = payload.size() > options.frame_bytes_max;
    if (!too_long &&
        live->send(static_cast<std::uint8_t>(kind), payload) == PeerConnection::Sent::kQueued) {
        return;
    }
    complain(too_long ? fmt::format("a frame of {} bytes to {} is above the limit of {}; dropped",
                                    payload.size(), to.value, options.frame_bytes_max)
                      : fmt::format("{} does not keep up: over {} bytes wait for it", to.value,
                                    options.queued_bytes_max));
    if (kind != FrameKind::kRpc) {
        return;  // Raft repeats
    }
    live->close();
    // Not from inside the caller: it may hold what on_state changes.
    loop.post([self = shared_from_this(), live] {
        if (!self->closed) {
            self->connection_lost(*live, "closed");
        }
    });
}

// --- life

void PeerTransport::Impl::tick() {
    const Instant now = loop.clock().now();
    const bool forgiving = now - last_tick > 2 * options.ping_interval;
    last_tick = now;
    for (const auto& connection : std::vector(connections.begin(), connections.end())) {
        connection->tick(forgiving);
    }
    ticker.expires_after(options.ping_interval);
    ticker.async_wait([self = shared_from_this()](const error_code& error) {
        if (!error && !self->closed) {
            self->tick();
        }
    });
}

void PeerTransport::Impl::close() {
    closed = true;
    error_code ignored;
    acceptor.close(ignored);
    accept_pause.cancel();
    ticker.cancel();
    for (const auto& [id, peer] : peers) {
        peer->pause.cancel();
        if (peer->dial) {
            peer->dial->cancel();
        }
    }
    for (const auto& connection : connections) {
        connection->close();
    }
    connections.clear();
    peers.clear();
}

PeerTransport::PeerTransport(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
PeerTransport::~PeerTransport() { impl_->close(); }

Result<std::unique_ptr<PeerTransport>> PeerTransport::open(EventLoop& loop,
                                                           PeerTransportOptions options,
                                                           OnFrame on_frame, OnState on_state) {
    auto context = TlsContext::load(options.tls);
    if (!context) {
        return std::move(context).error();
    }
    const bool listens = !options.listen.empty();
    auto impl = std::make_shared<Impl>(loop, std::move(options), *std::move(context),
                                       std::move(on_frame), std::move(on_state));
    if (listens) {
        if (auto listening = impl->listen(); !listening) {
            return std::move(listening).error();
        }
    }
    impl->last_tick = loop.clock().now();
    impl->tick();
    return std::unique_ptr<PeerTransport>(new PeerTransport(std::move(impl)));
}

void PeerTransport::set_peers(const std::map<HostId, std::string>& addresses) {
    impl_->set_peers(addresses);
}
void PeerTransport::send(const HostId& to, FrameKind kind, Bytes payload) {
    impl_->send(to, kind, payload);
}
bool PeerTransport::connected(const HostId& peer) const {
    const Peer* found = impl_->find(peer);
    return found != nullptr && found->live != nullptr;
}
bool PeerTransport::hesitates(const HostId& peer) const {
    const Peer* found = impl_->find(peer);
    return found != nullptr && found->live && found->live->hesitates();
}
std::size_t PeerTransport::queued_bytes(const HostId& peer) const {
    const Peer* found = impl_->find(peer);
    return found != nullptr && found->live ? found->live->queued_bytes() : 0;
}
std::uint64_t PeerTransport::incarnation(const HostId& peer) const {
    const Peer* found = impl_->find(peer);
    return found != nullptr && found->live ? found->live->peer_incarnation() : 0;
}

}  // namespace nbos::io
