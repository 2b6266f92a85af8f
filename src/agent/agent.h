// A host of the cluster: its replicas, and who talks to them.
//
// The agent routes: Raft events to the replica of their group, requests of gateways to the replica
// of their kernel, reports of interpreters to the replica that owns them. Each replica decides for
// itself (kernel_replica.h).
//
// Threads  Owned by the loop thread of the process.
// Errors   A request for a kernel that is not here is answered kNotFound.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <unordered_map>

#include "agent/kernel_replica.h"
#include "agent/ports.h"
#include "agent/system_replica.h"
#include "base/ports.h"
#include "cluster/rpc.h"
#include "raft/group_host.h"

namespace nbos::agent {

struct AgentOptions {
    HostId host;
    cluster::AgentInfo info;
    raft::Options raft;
    ReplicaLimits replica;
    std::uint64_t seed = 0;
};

class Agent final : public raft::GroupListener, public InterpreterListener, public HostWatch {
public:
    Agent(AgentOptions options, raft::LogStore& store, raft::PeerLink& link,
          Interpreters& interpreters, GatewayLink& gateways);
    ~Agent() override;

    void restore(std::vector<raft::RestoredGroup> groups);  // at start-up, once

    // What a gateway says; Hello makes the agent report everything to it again.
    void receive_rpc(const HostId& gateway, std::string_view bytes);
    void gateway_lost(const HostId& gateway);
    void receive_raft(const HostId& from, std::string_view frame);
    void peer_up(const HostId& peer, std::uint64_t incarnation);  // of its process
    void peer_down(const HostId& peer);                           // silent
    void peer_is_dead(const HostId& peer);                        // proven
    void tick(Instant now);                                       // once per raft tick
    void stop();

    // InterpreterListener
    void interpreter_ready(InterpreterId id) override;
    void interpreter_resumed(InterpreterId id, const Survivor& survivor) override;
    void interpreter_applied(InterpreterId id, Sequence sequence, bool ok,
                             const std::string& error) override;
    void interpreter_delta(InterpreterId id, CellNumber cell, Epoch epoch, Bytes delta,
                           const std::string& error) override;
    void interpreter_message(InterpreterId id, jupyter::Message message) override;
    void interpreter_ended(InterpreterId id, const std::string& why) override;

    // HostWatch
    State state(const HostId& host) const override;
    Instant since(const HostId& host) const override;

    // What a tick costs: groups that are not quiet, and replicas that wait for something.
    std::size_t awake_groups() const { return groups_.awake(); }
    std::size_t restless_replicas() const {
        return restless_.size() + (system_is_restless_ ? 1 : 0);
    }

private:
    void restore(GroupId group, const raft::Snapshot& snapshot) override;
    void apply(GroupId group, const raft::Entry& entry) override;
    void role_changed(GroupId group) override;
    void read_ready(GroupId group, std::uint64_t context, Index index) override;
    void read_lost(GroupId group, std::uint64_t context) override;

    void handle(const cluster::Hello& message, const HostId& from);
    void handle(const cluster::HostDirectory& message);
    void handle(const cluster::StartReplica& request);
    void handle(const cluster::StopReplica& request);
    void handle(const cluster::WriteTable& request, const HostId& from);
    template <class Request>
    void route(const Request& request, const HostId& from);  // to its replica, or kNotFound
    template <class Replica, class Request>
    static void give(Replica& replica, const Request& request, const HostId& from);
    void refuse(std::uint64_t request, Errc code, std::string what);

    KernelReplica& add(KernelId kernel, ReplicaId self);
    KernelReplica* find(KernelId kernel);  // for an event: it gets a tick
    SystemReplica* system();               // likewise; nullptr: it has none
    bool holds_tables(KernelId group) { return system() != nullptr && system_->group() == group; }
    void hold_tables(KernelId group, ReplicaId self);
    void tell_gateways(const std::optional<HostId>& to);
    void tick_replicas();
    void drop_stopped();
    KernelReplica* owner(InterpreterId id);
    void watch(const HostId& host, State state);

    AgentOptions options_;
    Interpreters& interpreters_;
    GatewayLink& gateways_;
    raft::GroupHost groups_;
    std::map<KernelId, std::unique_ptr<KernelReplica>> replicas_;
    std::unique_ptr<SystemReplica> system_;
    bool system_is_restless_ = false;
    std::set<std::string> connected_;  // gateways
    std::set<KernelId> restless_;      // something happened to them, or they wait for a time
    struct Watched {
        State state = State::kAlive;
        Instant since{};
    };
    std::map<HostId, Watched> hosts_;
    Instant now_{};
};

}  // namespace nbos::agent
