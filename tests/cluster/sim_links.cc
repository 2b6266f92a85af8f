#include "tests/cluster/sim_links.h"

#include <algorithm>

namespace nbos::testing {

SimLinks::SimLinks(World world, std::uint64_t seed, int silence_ms)
    : world_(std::move(world)), rng_(seed), silence_ms_(silence_ms) {}

void SimLinks::check(std::int64_t now) {
    const auto ids = world_.all();
    for (const auto a : ids) {
        for (const auto b : ids) {
            if (a < b) {
                check(connections_[{a, b}], a, b, now);
            }
        }
    }
}

void SimLinks::check(Connection& connection, ReplicaId a, ReplicaId b, std::int64_t now) {
    watch_end(connection, a, b, now);
    watch_end(connection, b, a, now);
    const bool possible = world_.running(a) && world_.running(b) && world_.hears(a, b) &&
                          world_.hears(b, a) && !is_whole(connection);
    if (possible && rng_.chance(0.5)) {
        const auto a_before = connection[a].process;
        const auto b_before = connection[b].process;
        connect(connection, a, b, now, b_before);
        connect(connection, b, a, now, a_before);
    }
}

bool SimLinks::is_whole(Connection& connection) const {
    return std::all_of(connection.begin(), connection.end(), [&](const auto& end) {
        return end.second.open && end.second.process == world_.process(end.first);
    });
}

// Does this end notice that the other one is gone, or says nothing?
void SimLinks::watch_end(Connection& connection, ReplicaId self, ReplicaId peer, std::int64_t now) {
    auto& end = connection[self];
    const auto& other = connection[peer];
    if (end.process != world_.process(self)) {
        end.open = false;
    }
    if (!end.open) {
        return;
    }
    if (!world_.running(self)) {
        end.heard_at = now;  // it will read what has come before it judges
        return;
    }
    const bool other_holds = other.open && other.process == world_.process(peer);
    const bool heard = world_.hears(peer, self);
    if (other_holds && world_.running(peer) && heard) {
        end.heard_at = now;
    }
    const bool told = !other_holds && heard && rng_.chance(0.3);  // the end of the stream
    if (told || now - end.heard_at > silence_ms_) {
        end.open = false;
        world_.tell(self, peer, std::nullopt);
    }
}

// Both ends are new. One that had not noticed yet may be told of the loss first; it must be if the
// other process is still the same: nothing else would tell it.
void SimLinks::connect(Connection& connection, ReplicaId self, ReplicaId peer, std::int64_t now,
                       std::uint64_t peer_before) {
    auto& end = connection[self];
    const bool unnoticed = end.open && end.process == world_.process(self);
    if (unnoticed && (peer_before == world_.process(peer) || rng_.chance(0.5))) {
        world_.tell(self, peer, std::nullopt);
    }
    end = {world_.process(self), true, now};
    world_.tell(self, peer, world_.process(peer));
}

}  // namespace nbos::testing
