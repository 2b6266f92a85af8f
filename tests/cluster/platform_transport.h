// What io/peer_transport.h does, on the simulated network: one connection per pair of processes,
// dialled again and again, with the three states that it reports.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "model/ids.h"
#include "tests/cluster/platform_network.h"

namespace nbos::testing {

enum class FrameKind : int { kRaft = 1, kRpc = 2, kWebSocket = 3 };
enum class PeerState : std::uint8_t { kDown, kUp, kRefused };

class SimTransport;

struct Wires {  // of all processes
    VirtualTime& time;
    Rng& rng;
    Network& network;
    std::function<Process(const Address&)> process;
    std::map<Address, SimTransport*> transports;
};

class SimTransport {
public:
    struct Options {
        Address self;
        bool listens = true;            // a gateway only dials
        std::uint64_t incarnation = 0;  // of the process
        milliseconds silence_max{1000};
        std::function<void(const HostId& from, FrameKind kind, std::string_view payload)> frame;
        std::function<void(const HostId& peer, PeerState state)> state;
    };
    SimTransport(Wires& wires, Options options);
    ~SimTransport();
    SimTransport(const SimTransport&) = delete;
    SimTransport& operator=(const SimTransport&) = delete;

    void set_peers(const std::set<Address>& addresses);
    void send(const HostId& to, FrameKind kind, Bytes payload, bool bulk = false);
    std::uint64_t incarnation(const HostId& peer) const;  // of the process at the other end

private:
    struct Peer {
        Network::StreamId stream = 0;
        Network::Side side = Network::Side::kDialer;
        PeerState state = PeerState::kDown;
        bool told = false;  // a state has been reported
        bool attempting = false;
        int failures = 0;
    };

    bool dials(const Address& peer) const { return !options_.listens || options_.self < peer; }
    void attempt_later(const Address& peer, milliseconds pause);
    void attempt(const Address& peer);
    void connect(const Address& peer, SimTransport& other);
    StreamEnd end(const Address& peer);
    void adopt(const Address& peer, Network::StreamId stream, Network::Side side);
    void lost(const Address& peer, Network::StreamId stream);
    void set_state(const Address& peer, PeerState state);

    Wires& wires_;
    Options options_;
    std::map<Address, Peer> peers_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace nbos::testing
