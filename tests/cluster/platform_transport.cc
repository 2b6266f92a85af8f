#include "tests/cluster/platform_transport.h"

#include <algorithm>
#include <utility>

namespace nbos::testing {
namespace {

constexpr milliseconds kConnectMax{2000};
constexpr milliseconds kQueued{10};  // in the queue of a socket that nobody accepts from yet

milliseconds pause_after(int failures) {
    return std::min(milliseconds(1000), milliseconds(50) * (1 << std::min(failures, 8)));
}

}  // namespace

SimTransport::SimTransport(Wires& wires, Options options)
    : wires_(wires), options_(std::move(options)) {
    wires_.transports[options_.self] = this;
}

SimTransport::~SimTransport() { wires_.transports.erase(options_.self); }

void SimTransport::set_peers(const std::set<Address>& addresses) {
    for (const auto& address : addresses) {
        if (address != options_.self && !peers_.contains(address)) {
            peers_[address];
            attempt_later(address, milliseconds(1));
        }
    }
}

void SimTransport::attempt_later(const Address& address, milliseconds pause) {
    auto& peer = peers_[address];
    if (peer.attempting) {
        return;
    }
    peer.attempting = true;
    wires_.time.after(pause, [this, alive = std::weak_ptr<bool>(alive_), address] {
        if (!alive.expired()) {
            peers_[address].attempting = false;
            attempt(address);
        }
    });
}

void SimTransport::attempt(const Address& address) {
    auto& peer = peers_[address];
    if (peer.stream != 0) {
        return;
    }
    if (wires_.process(options_.self) == Process::kPaused) {
        attempt_later(address, milliseconds(100));
        return;
    }
    const auto there = wires_.process(address);
    const bool reachable = there != Process::kOff &&
                           !wires_.network.is_cut(options_.self, address) &&
                           !wires_.network.is_cut(address, options_.self);
    if (reachable && there == Process::kAway) {
        attempt_later(address, kQueued);
        return;
    }
    const auto again = pause_after(peer.failures++);
    if (!reachable || there == Process::kPaused) {
        attempt_later(address, kConnectMax + again);
    } else if (there == Process::kDead) {
        set_state(address, PeerState::kRefused);
        if (dials(address)) {
            attempt_later(address, again);
        }
    } else if (const auto other = wires_.transports.find(address);
               dials(address) && other != wires_.transports.end()) {
        connect(address, *other->second);
    } else {
        attempt_later(address, again);  // it lives, and dials
    }
}

StreamEnd SimTransport::end(const Address& peer) {
    const std::weak_ptr<bool> alive = alive_;
    return {.address = options_.self,
            .silence_max = options_.silence_max,
            .frame =
                [this, alive, peer](int kind, std::string_view payload) {
                    if (!alive.expired()) {
                        options_.frame(HostId{peer}, static_cast<FrameKind>(kind), payload);
                    }
                },
            .closed = [] {}};
}

void SimTransport::connect(const Address& address, SimTransport& other) {
    auto mine = end(address);
    auto theirs = other.end(options_.self);
    // The ends hear of a loss by the stream's id, which is known only when it is open.
    auto id = std::make_shared<Network::StreamId>(0);
    mine.closed = [this, alive = std::weak_ptr<bool>(alive_), address, id] {
        if (!alive.expired()) {
            lost(address, *id);
        }
    };
    theirs.closed = [&other, alive = std::weak_ptr<bool>(other.alive_), self = options_.self, id] {
        if (!alive.expired()) {
            other.lost(self, *id);
        }
    };
    *id = wires_.network.open(std::move(mine), std::move(theirs));
    other.adopt(options_.self, *id, Network::Side::kAcceptor);
    adopt(address, *id, Network::Side::kDialer);
}

std::uint64_t SimTransport::incarnation(const HostId& peer) const {
    const auto found = wires_.transports.find(peer.value);
    return found == wires_.transports.end() ? 0 : found->second->options_.incarnation;
}

void SimTransport::adopt(const Address& address, Network::StreamId stream, Network::Side side) {
    auto& peer = peers_[address];
    if (const auto old = std::exchange(peer.stream, stream); old != 0) {
        wires_.network.close(old, peer.side);
        set_state(address, PeerState::kDown);
    }
    peer.side = side;
    peer.failures = 0;
    set_state(address, PeerState::kUp);
}

void SimTransport::lost(const Address& address, Network::StreamId stream) {
    auto& peer = peers_[address];
    if (peer.stream != stream) {
        return;
    }
    peer.stream = 0;
    attempt_later(address, milliseconds(2));  // a refusal now is the quickest proof of a death
    set_state(address, PeerState::kDown);
}

void SimTransport::set_state(const Address& address, PeerState state) {
    auto& peer = peers_[address];
    if (peer.state == state && (peer.told || state == PeerState::kDown)) {
        return;
    }
    peer.state = state;
    peer.told = true;
    options_.state(HostId{address}, state);
}

void SimTransport::send(const HostId& to, FrameKind kind, Bytes payload, bool bulk) {
    if (const auto found = peers_.find(to.value);
        found != peers_.end() && found->second.stream != 0) {
        wires_.network.send(found->second.stream, found->second.side, static_cast<int>(kind),
                            std::move(payload), bulk);
    }
}

}  // namespace nbos::testing
