// What the replicas of one kernel last said about themselves, and what follows from it.
//
// The truth is in the kernel's group; this is the gateway's picture of it, rebuilt from the
// agents' reports after a restart. Where reports disagree, the leader of the highest term counts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "model/ids.h"

namespace nbos::gateway {

class KernelView {
public:
    explicit KernelView(const HostTable& hosts) : hosts_(&hosts) {}

    void update(const cluster::KernelStatus& status);
    // Whether `status`, which is newer, says that the replica's live interpreter is none any more.
    bool loses_interpreter(const cluster::KernelStatus& status) const;
    void remove(ReplicaId replica) { replicas_.erase(replica); }
    void forget(const HostId& host) {
        std::erase_if(replicas_, [&](const auto& entry) { return entry.second.host == host; });
    }
    const std::map<ReplicaId, cluster::KernelStatus>& replicas() const { return replicas_; }

    // The report that counts; nullptr: none yet.
    const cluster::KernelStatus* best() const;
    // Where it leads, on a host that is connected.
    std::optional<HostId> leader() const;
    // Who takes the kernel's messages: the last executor, else the leader, else any replica; one
    // with a live interpreter before one without. nullopt: no host of the kernel is connected.
    std::optional<HostId> owner() const;
    // The same among the hosts that `may` allows.
    std::optional<HostId> owner(const std::function<bool(const HostId&)>& may) const;
    // The host of the running or last executor, connected or not.
    std::optional<HostId> executor() const;
    std::optional<HostId> host_of(ReplicaId replica) const;
    bool serves(const HostId& host) const;  // connected, with a replica that has not failed
    bool connected(const HostId& host) const { return hosts_->up(host); }
    // Its interpreter's process; empty: none, or it cannot be asked now.
    std::string process(const HostId& host) const;
    bool ready(const HostId& host) const { return fitness(host) == Fitness::kReady; }

    bool runs_a_cell() const;  // on a host that is connected

    // Empty unless no replica can serve and at least one said why its interpreter does not start.
    std::string failure() const;
    bool idle_or_busy() const;     // some replica can serve
    std::uint32_t queued() const;  // cells that have not ended, in the log

    // Asked-for executor of the next cell (migration), also while it still catches up with the last
    // one; forgotten once it runs one, or when it goes away.
    void prefer(const HostId& host) { preferred_ = host; }

private:
    enum class Fitness : std::uint8_t { kNone, kPresent, kBehind, kReady };
    Fitness fitness(const HostId& host) const;

    const HostTable* hosts_;
    std::map<ReplicaId, cluster::KernelStatus> replicas_;
    mutable std::optional<HostId> preferred_;  // dropped lazily, when it is looked at
};

}  // namespace nbos::gateway
