// The links between the hosts of a simulated cluster, as a transport shows them: one connection a
// pair, a silence limit, and the incarnation of the process at the other end.
//
// What io/peer_transport.* promises, and no more: a lost connection is reported to both ends, but
// to each in its own time; when the other process comes back within a blink, the loss itself may
// not be reported, only the new process.
//
// Units    Milliseconds of simulated time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/ports.h"
#include "model/ids.h"

namespace nbos::testing {

class SimLinks {
public:
    struct World {
        std::function<std::vector<ReplicaId>()> all;
        std::function<std::uint64_t(ReplicaId)> process;  // 0: down
        std::function<bool(ReplicaId)> running;           // up, and not paused
        std::function<bool(ReplicaId, ReplicaId)> hears;  // the second one can hear the first
        std::function<void(ReplicaId at, ReplicaId peer, std::optional<std::uint64_t> process)>
            tell;  // up with a process, or down
    };
    SimLinks(World world, std::uint64_t seed, int silence_ms);

    void check(std::int64_t now);  // now and then

private:
    struct End {
        std::uint64_t process = 0;  // that holds this end
        bool open = false;
        std::int64_t heard_at = 0;
    };
    using Connection = std::map<ReplicaId, End>;  // its two ends

    void check(Connection& connection, ReplicaId a, ReplicaId b, std::int64_t now);
    void watch_end(Connection& connection, ReplicaId self, ReplicaId peer, std::int64_t now);
    void connect(Connection& connection, ReplicaId self, ReplicaId peer, std::int64_t now,
                 std::uint64_t peer_before);
    bool is_whole(Connection& connection) const;

    World world_;
    Rng rng_;
    const int silence_ms_;
    std::map<std::pair<ReplicaId, ReplicaId>, Connection> connections_;
};

}  // namespace nbos::testing
