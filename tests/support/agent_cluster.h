// A cluster of agents in one thread: real Raft, real replicas, disks and network in memory, time
// that moves only when the test says so, and a gateway that writes down what it hears.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "tests/support/fake_interpreters.h"

namespace nbos::testing {

// What a host has on disk: survives the host.
class MemoryDisk final : public raft::LogStore {
public:
    void write(std::vector<raft::GroupWrite> writes, std::function<void()> durable) override;
    bool pump();  // makes what was written durable
    void lose_unsynced() { pending_.clear(); }
    void lose_everything() { groups_.clear(); }
    std::vector<raft::RestoredGroup> restored() const;
    std::size_t snapshots() const { return snapshots_; }  // written, ever

private:
    struct Pending {
        std::vector<raft::GroupWrite> writes;
        std::function<void()> durable;
    };
    void keep(const raft::GroupWrite& write);

    std::deque<Pending> pending_;
    std::map<GroupId, raft::RestoredGroup> groups_;
    std::size_t snapshots_ = 0;
};

class AgentCluster {
public:
    explicit AgentCluster(int hosts);
    ~AgentCluster();

    // Everything that can happen without time passing, then `duration` in ticks of 50 ms.
    void run_for(std::chrono::milliseconds duration);
    bool run_until(const std::function<bool()>& condition,
                   std::chrono::milliseconds limit = std::chrono::seconds(30));

    void kill(int host, bool proven = true);  // power off; the others learn it at once, or not
    void start(int host);
    void restart_in_a_blink(int host);  // the others only see another process
    bool up(int host) const;

    // Real gateways, in place of the one that only writes down: messages to them wait for the end
    // of what sent them, those from them are heard at once.
    struct GatewayEnd {
        std::function<void(const HostId& host, bool up)> state;
        std::function<void(const HostId& host, std::string_view rpc)> receive;
    };
    void attach_gateway(const HostId& gateway, GatewayEnd end);
    void detach_gateway(const HostId& gateway);
    void from_gateway(const HostId& gateway, const HostId& host, const cluster::Rpc& rpc);
    std::function<void()> on_tick = [] {};
    Instant now() const { return now_; }
    agent::Agent& agent(int host);
    FakeInterpreters& interpreters(int host);
    MemoryDisk& disk(int host);

    KernelId create_kernel(const std::vector<int>& hosts);
    void create_system_group(const std::vector<int>& hosts);
    void send(int host, const cluster::Rpc& rpc);
    void execute(int host, KernelId kernel, const std::string& msg_id, const std::string& code);
    void change_members(KernelId kernel, int add_host, ReplicaId remove);

    // What the gateway knows.
    const cluster::CellEnded* ended(const std::string& msg_id) const;
    int times_ended(const std::string& msg_id) const;
    int times_started(const std::string& msg_id) const;
    int messages_about(const std::string& msg_id) const;   // of interpreters, passed on
    std::string printed(const std::string& msg_id) const;  // by outputs in the committed tail
    std::optional<cluster::KernelStatus> leader(KernelId kernel) const;  // of hosts that are up
    std::optional<cluster::KernelStatus> status(int host, KernelId kernel) const;
    const cluster::Reply* reply(std::uint64_t request) const;
    const std::vector<std::pair<int, cluster::TableRows>>& table_rows() const { return rows_; }
    const std::map<int, std::set<std::string>>& connected_gateways() const { return connected_; }
    std::uint64_t frames_sent() const { return frames_sent_; }  // between agents, ever
    std::uint64_t next_request() { return ++requests_; }
    static HostId name(int host) { return HostId{"host-" + std::to_string(host)}; }

private:
    struct Host;
    class Ports;
    void settle();
    void tick();
    void hear(int host, const cluster::Rpc& rpc);
    void to_gateway(int host, const HostId& gateway, const cluster::Rpc& rpc);
    void tell_gateways(int host);
    bool pump_gateways();

    std::map<int, std::unique_ptr<Host>> hosts_;
    struct Frame {
        int from;
        int to;
        Bytes bytes;
    };
    std::deque<Frame> network_;
    struct ToGateway {
        int from;
        HostId gateway;
        Bytes rpc;
    };
    std::map<HostId, GatewayEnd> gateways_;
    std::deque<ToGateway> to_gateways_;
    Instant now_{};
    std::uint64_t frames_sent_ = 0;
    std::uint64_t processes_ = 0;
    std::uint64_t requests_ = 0;
    std::uint64_t replicas_ = 0;
    std::uint64_t kernels_ = 0;
    std::vector<cluster::CellEnded> ended_;
    std::vector<cluster::CellStarted> started_;
    std::vector<cluster::KernelOutput> outputs_;
    std::map<std::uint64_t, cluster::Reply> replies_;
    std::vector<std::pair<int, cluster::TableRows>> rows_;
    std::map<int, std::set<std::string>> connected_;
    std::map<std::pair<int, KernelId>, cluster::KernelStatus> statuses_;
};

}  // namespace nbos::testing
