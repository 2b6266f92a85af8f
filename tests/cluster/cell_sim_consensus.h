// What the cell simulator needs of a log, so that it runs on a naive one and on Raft alike.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ports.h"
#include "raft/messages.h"
#include "tests/cluster/cell_sim_types.h"

namespace nbos::testing {

class ConsensusListener {
public:
    virtual ~ConsensusListener() = default;
    virtual void node_started(ReplicaId id) = 0;  // a new process; restore() or apply() follow
    virtual void node_crashed(ReplicaId id) = 0;
    virtual void restore(ReplicaId id, Index index, std::string_view state) = 0;
    virtual void apply(ReplicaId id, const raft::Entry& entry) = 0;
    virtual Bytes snapshot(ReplicaId id) = 0;  // of all that it has applied
};

class Consensus {
public:
    virtual ~Consensus() = default;

    virtual void start(ConsensusListener& listener) = 0;
    virtual void tick(Ticks now) = 0;
    virtual void disturb(const CellFaults& faults) = 0;  // once a tick, before tick()
    virtual void heal() = 0;  // everybody runs and hears everybody, from now on

    virtual bool propose(ReplicaId from, Bytes command) = 0;
    virtual void compact(ReplicaId id, Index index, Bytes state) = 0;
    virtual void transfer(ReplicaId to) = 0;
    virtual std::string describe(ReplicaId) const { return {}; }  // for a failure's report
    virtual bool leads(ReplicaId id) const = 0;
    virtual const Membership& membership(ReplicaId id) const = 0;  // as far as `id` knows
    // It has applied everything that was committed when its process began (as leader: an entry of
    // its own term), so no claim of an earlier life of it is still to come.
    virtual bool caught_up(ReplicaId id) const = 0;
    virtual bool alive(ReplicaId id) const = 0;
    virtual bool paused(ReplicaId id) const = 0;
    virtual bool connected(ReplicaId a, ReplicaId b) const = 0;  // 0 stands for the gateway
    virtual std::vector<ReplicaId> processes() const = 0;        // alive or not; members or not

    virtual std::optional<std::string> violation() const { return std::nullopt; }  // of its own

    // For named tests.
    virtual void crash(ReplicaId id) = 0;
    virtual void restart(ReplicaId id) = 0;
    virtual void pause(ReplicaId id, Ticks ticks) = 0;
    virtual void cut(ReplicaId id, Ticks ticks) = 0;
    virtual void replace(ReplicaId removed) = 0;  // by a new replica
};

}  // namespace nbos::testing
