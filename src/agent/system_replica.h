// One replica of the system group on this host: the tables that gateways share.
//
// Stands beside KernelReplica in the agent and reports itself with the same messages, so that
// gateways keep its members as they keep those of kernels; there is no interpreter.
//
// Who acts  The leader takes writes, and tells every gateway what a write changed once it has been
//           applied. A gateway that comes gets all rows, after the leader has made sure that it
//           still leads: never an older state than one that was acknowledged.
// Threads   Owned by the agent's loop thread.
// Errors    A refused write is answered; a lost one is repeated by its gateway, and void then.
// Source    docs/design/0009-system-group.md
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "agent/host_watch.h"
#include "agent/member_change.h"
#include "agent/ports.h"
#include "cluster/rpc.h"
#include "raft/group_host.h"
#include "replica/table_machine.h"

namespace nbos::agent {

class SystemReplica {
public:
    SystemReplica(KernelId group, ReplicaId self, HostId host, raft::GroupHost& groups,
                  GatewayLink& gateways, const HostWatch& hosts);

    KernelId group() const { return group_; }
    ReplicaId self() const { return self_; }
    const replica::TableMachine& machine() const { return machine_; }

    // ---- from the log (GroupListener) ----
    void restore(const raft::Snapshot& snapshot);
    void apply(const raft::Entry& entry);
    void role_changed();
    void read_ready(std::uint64_t context, Index index);
    void read_lost(std::uint64_t context);

    // ---- from gateways ----
    void begin();  // the first member of a new group
    void handle(const cluster::WriteTable& request, const HostId& from);
    void handle(const cluster::ChangeMembers& request);
    void report(const HostId& to);  // to a gateway that has just come

    void tick();
    bool waits_for_time() const { return member_change_.has_value(); }

private:
    raft::Node& node();
    bool leads();
    bool hears_majority();
    bool knows_all();  // what any leader before it has acknowledged
    void tell_everything(const std::set<HostId>& wanted);
    void ask_read();
    void answer_reads();
    void tell_change(const replica::TableMachine::Applied& applied);
    void step_member_change();
    void compact_when_due();
    void changed();
    cluster::KernelStatus status();

    KernelId group_;
    ReplicaId self_;
    HostId host_;
    raft::GroupHost& groups_;
    GatewayLink& gateways_;
    const HostWatch& hosts_;
    replica::TableMachine machine_;
    Index applied_;
    Index told_;  // the last change that was told to all gateways, or the state before it
    std::size_t applied_bytes_ = 0;
    std::optional<Term> term_;                // it leads in this one
    std::map<Uuid, std::uint64_t> proposed_;  // in this term, not applied yet
    // Gateways that wait for all rows: until a read is asked for, is answered, is applied. An empty
    // name stands for every gateway.
    std::set<HostId> wanting_;
    std::map<std::uint64_t, std::set<HostId>> asked_;
    std::vector<std::pair<Index, std::set<HostId>>> reading_;
    std::uint64_t last_read_ = 0;
    std::optional<MemberChange> member_change_;
    Bytes last_status_;
};

}  // namespace nbos::agent
