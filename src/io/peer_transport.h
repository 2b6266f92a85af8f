// One authenticated connection per pair of processes of the cluster: agents among themselves, and
// gateways to agents.
//
// TLS 1.3 with mutual certificates of the cluster's own authority (io/pki.h); the common name of a
// certificate is the id of the process ("host-1", "gateway-1"), and it must be the one expected.
// Between two agents the one with the smaller id dials; gateways dial agents. Whoever dials dials
// again, at first at once and then with growing pauses up to a second.
//
// A frame is u32 length, u8 kind, payload; while one write is under way all further frames of a
// peer gather and leave together. TCP_NODELAY is set.
//
// Limits   frame_bytes_max: a longer one closes the connection. queued_bytes_max per peer: above it
//          kRaft and kRaftBulk frames are dropped (Raft repeats), others close the connection.
// Threads  All calls and callbacks on the loop thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "io/event_loop.h"
#include "io/pki.h"
#include "model/ids.h"

namespace nbos::io {

// kRaftBulk arrives as kRaft: frames of the other kinds overtake it, also when it is half sent.
enum class FrameKind : std::uint8_t { kRaft = 1, kRpc = 2, kRaftBulk = 3 };

enum class PeerState : std::uint8_t {
    kUp,
    kDown,     // the connection is lost; nothing is proven
    kRefused,  // its address refuses connections: that process is gone
};

struct PeerTransportOptions {
    HostId self;
    TlsFiles tls;
    std::string listen;  // "ip:port"; empty: dials only (a gateway)
    int listener = -1;   // listens there already (io/listener.h); taken over
    std::size_t frame_bytes_max = 256U << 20U;
    std::size_t queued_bytes_max = 512U << 20U;
    std::chrono::milliseconds ping_interval{250};  // nothing sent for so long: a ping
    std::chrono::milliseconds silence_max{1000};   // nothing heard for so long: kDown
    std::chrono::milliseconds hesitation{1000};    // nothing heard for so long: it hesitates
    std::chrono::milliseconds handshake_max{5000};
    std::chrono::milliseconds connect_max{2000};
    std::size_t handshakes_max = 256;  // accepted, not yet authenticated
};

class PeerTransport {
public:
    using OnFrame =
        std::function<void(const HostId& from, FrameKind kind, std::string_view payload)>;
    using OnState = std::function<void(const HostId& peer, PeerState state)>;

    // kIo: the address is taken or a TLS file cannot be read, with what to do about it.
    static Result<std::unique_ptr<PeerTransport>> open(EventLoop& loop,
                                                       PeerTransportOptions options,
                                                       OnFrame on_frame, OnState on_state);
    ~PeerTransport();

    // Whom this process may dial; a peer that is not listed any more is disconnected.
    void set_peers(const std::map<HostId, std::string>& addresses);
    // Best effort; dropped when there is no connection. While one lasts bulk stays in its order,
    // and so does all else.
    void send(const HostId& to, FrameKind kind, Bytes payload);
    bool connected(const HostId& peer) const;
    // Connected, but nothing has been heard of it for a moment: slow, or about to be kDown.
    bool hesitates(const HostId& peer) const;
    std::size_t queued_bytes(const HostId& peer) const;  // sent, and not yet with the system
    // Names the process at the other end of the connection: another one has another number. 0: not
    // connected.
    std::uint64_t incarnation(const HostId& peer) const;

private:
    class Impl;
    explicit PeerTransport(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
