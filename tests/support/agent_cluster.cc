#include "tests/support/agent_cluster.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "jupyter/json_field.h"

namespace nbos::testing {
namespace {

constexpr std::chrono::milliseconds kTick{50};

int number_of(const HostId& host) { return std::stoi(host.value.substr(5)); }

}  // namespace

// ---- disk ----

void MemoryDisk::write(std::vector<raft::GroupWrite> writes, std::function<void()> durable) {
    pending_.push_back({std::move(writes), std::move(durable)});
}

bool MemoryDisk::pump() {
    auto now = std::exchange(pending_, {});
    for (auto& [writes, durable] : now) {
        for (const auto& write : writes) {
            keep(write);
        }
        durable();
    }
    return !now.empty();
}

void MemoryDisk::keep(const raft::GroupWrite& write) {
    if (write.remove) {
        groups_.erase(write.group);
        return;
    }
    auto& group = groups_[write.group];
    group.group = write.group;
    group.self = write.self;
    auto& log = group.state.log;
    if (write.snapshot) {
        ++snapshots_;
        const auto is_last = [&](const auto& e) {
            return e.index == write.snapshot->index && e.term == write.snapshot->term;
        };
        if (std::none_of(log.begin(), log.end(), is_last)) {
            log.clear();  // installed: what was stored before is void
        }
        group.state.snapshot = write.snapshot;
        std::erase_if(log, [&](const auto& e) { return e.index <= write.snapshot->index; });
    }
    if (write.hard_state) {
        group.state.hard_state = *write.hard_state;
    }
    if (!write.append.empty()) {
        const auto from = write.append.front().index;
        std::erase_if(log, [&](const auto& e) { return e.index >= from; });
        log.insert(log.end(), write.append.begin(), write.append.end());
    }
    std::erase_if(log, [&](const auto& e) { return e.index < write.first_kept; });
}

std::vector<raft::RestoredGroup> MemoryDisk::restored() const {
    std::vector<raft::RestoredGroup> out;
    for (const auto& [id, group] : groups_) {
        auto copy = group;
        if (copy.state.snapshot) {
            std::erase_if(copy.state.log,
                          [&](const auto& e) { return e.index <= copy.state.snapshot->index; });
        }
        out.push_back(std::move(copy));
    }
    return out;
}

// ---- hosts ----

class AgentCluster::Ports final : public raft::PeerLink, public agent::GatewayLink {
public:
    Ports(AgentCluster& cluster, int host) : cluster_(cluster), host_(host) {}
    void send(const HostId& to, Bytes frame) override {
        ++cluster_.frames_sent_;
        cluster_.network_.push_back({host_, number_of(to), std::move(frame)});
    }
    void send(const cluster::Rpc& rpc) override {
        cluster_.hear(host_, rpc);
        for (const auto& [gateway, end] : cluster_.gateways_) {
            cluster_.to_gateway(host_, gateway, rpc);
        }
    }
    void send_to(const HostId& gateway, const cluster::Rpc& rpc) override {
        cluster_.hear(host_, rpc);
        cluster_.to_gateway(host_, gateway, rpc);
    }
    void hosts_known(const std::map<HostId, std::string>&) override {}

private:
    AgentCluster& cluster_;
    int host_;
};

struct AgentCluster::Host {
    MemoryDisk disk;
    FakeInterpreters interpreters;
    std::unique_ptr<Ports> ports;
    std::unique_ptr<agent::Agent> agent;  // empty: the host is down
    std::uint64_t incarnation = 0;
};

AgentCluster::AgentCluster(int hosts) {
    for (int i = 1; i <= hosts; ++i) {
        hosts_[i] = std::make_unique<Host>();
        hosts_[i]->ports = std::make_unique<Ports>(*this, i);
        start(i);
    }
}

AgentCluster::~AgentCluster() = default;

void AgentCluster::start(int host) {
    auto& h = *hosts_.at(host);
    agent::AgentOptions options;
    options.host = name(host);
    options.info = {.host = options.host, .version = "test"};
    options.raft.election_ticks = 20;
    options.raft.heartbeat_ticks = 2;
    options.raft.quiet_after_ticks = 20;
    options.seed = static_cast<std::uint64_t>(host);
    h.agent = std::make_unique<agent::Agent>(options, h.disk, *h.ports, h.interpreters, *h.ports);
    h.interpreters.listen(*h.agent);
    h.agent->tick(now_);
    h.agent->restore(h.disk.restored());
    h.incarnation = ++processes_;
    for (auto& [i, other] : hosts_) {
        if (other->agent && i != host) {
            other->agent->peer_up(name(host), h.incarnation);
            h.agent->peer_up(name(i), other->incarnation);
        }
    }
    tell_gateways(host);
}

// ---- real gateways ----

void AgentCluster::tell_gateways(int host) {
    for (const auto& [gateway, end] : std::map(gateways_)) {
        end.state(name(host), up(host));
    }
}

void AgentCluster::attach_gateway(const HostId& gateway, GatewayEnd end) {
    gateways_[gateway] = end;
    for (const auto& [i, host] : hosts_) {
        end.state(name(i), up(i));
    }
}

void AgentCluster::detach_gateway(const HostId& gateway) {
    gateways_.erase(gateway);
    for (const auto& [i, host] : hosts_) {
        if (host->agent) {
            host->agent->gateway_lost(gateway);
        }
    }
}

void AgentCluster::from_gateway(const HostId& gateway, const HostId& host,
                                const cluster::Rpc& rpc) {
    if (up(number_of(host)) && gateways_.contains(gateway)) {
        agent(number_of(host)).receive_rpc(gateway, cluster::encode(rpc).view());
    }
}

void AgentCluster::to_gateway(int host, const HostId& gateway, const cluster::Rpc& rpc) {
    if (gateways_.contains(gateway)) {
        to_gateways_.push_back({host, gateway, cluster::encode(rpc)});
    }
}

bool AgentCluster::pump_gateways() {
    auto messages = std::exchange(to_gateways_, {});
    for (const auto& message : messages) {
        const auto end = gateways_.find(message.gateway);
        if (end != gateways_.end() && up(message.from)) {
            const auto receive = end->second.receive;
            receive(name(message.from), message.rpc.view());
        }
    }
    return !messages.empty();
}

void AgentCluster::kill(int host, bool proven) {
    auto& h = *hosts_.at(host);
    h.agent.reset();
    h.interpreters.drop_all();
    h.disk.lose_unsynced();
    std::erase_if(statuses_, [host](const auto& entry) { return entry.first.first == host; });
    for (auto& [i, other] : hosts_) {
        if (other->agent && proven) {
            other->agent->peer_is_dead(name(host));
        } else if (other->agent) {
            other->agent->peer_down(name(host));
        }
    }
    tell_gateways(host);
}

void AgentCluster::restart_in_a_blink(int host) {
    auto& h = *hosts_.at(host);
    h.agent.reset();
    h.interpreters.drop_all();
    h.disk.lose_unsynced();
    start(host);
}

bool AgentCluster::up(int host) const { return hosts_.at(host)->agent != nullptr; }
agent::Agent& AgentCluster::agent(int host) { return *hosts_.at(host)->agent; }
FakeInterpreters& AgentCluster::interpreters(int host) { return hosts_.at(host)->interpreters; }
MemoryDisk& AgentCluster::disk(int host) { return hosts_.at(host)->disk; }

// ---- time ----

void AgentCluster::settle() {
    for (bool busy = true; busy;) {
        busy = false;
        for (auto& [i, host] : hosts_) {
            busy = host->disk.pump() || busy;
            busy = host->interpreters.pump() || busy;
        }
        busy = pump_gateways() || busy;
        auto frames = std::exchange(network_, {});
        for (auto& frame : frames) {
            const auto to = hosts_.find(frame.to);
            if (to != hosts_.end() && to->second->agent && up(frame.from)) {
                to->second->agent->receive_raft(name(frame.from), frame.bytes.view());
            }
            busy = true;
        }
    }
}

void AgentCluster::tick() {
    now_ += kTick;
    for (auto& [i, host] : hosts_) {
        if (host->agent) {
            host->agent->tick(now_);
        }
    }
    on_tick();
    settle();
}

void AgentCluster::run_for(std::chrono::milliseconds duration) {
    settle();
    for (auto left = duration; left.count() > 0; left -= kTick) {
        tick();
    }
}

bool AgentCluster::run_until(const std::function<bool()>& condition,
                             std::chrono::milliseconds limit) {
    settle();
    for (auto left = limit; !condition(); left -= kTick) {
        if (left.count() <= 0) {
            return false;
        }
        tick();
    }
    return true;
}

// ---- the gateway ----

void AgentCluster::hear(int host, const cluster::Rpc& rpc) {
    // Through the wire format, as in life.
    const auto copy = cluster::decode_rpc(cluster::encode(rpc).view());
    NBOS_CHECK(copy.has_value(), "a message that cannot be decoded");
    if (const auto* ended = std::get_if<cluster::CellEnded>(&*copy)) {
        ended_.push_back(*ended);
    } else if (const auto* started = std::get_if<cluster::CellStarted>(&*copy)) {
        started_.push_back(*started);
    } else if (const auto* reply = std::get_if<cluster::Reply>(&*copy)) {
        replies_[reply->request] = *reply;
    } else if (const auto* output = std::get_if<cluster::KernelOutput>(&*copy)) {
        outputs_.push_back(*output);
    } else if (const auto* status = std::get_if<cluster::KernelStatus>(&*copy)) {
        statuses_[{host, status->kernel}] = *status;
    } else if (const auto* rows = std::get_if<cluster::TableRows>(&*copy)) {
        rows_.emplace_back(host, *rows);
    } else if (const auto* connected = std::get_if<cluster::ConnectedGateways>(&*copy)) {
        connected_[host] = connected->gateways;
    }
}

void AgentCluster::send(int host, const cluster::Rpc& rpc) {
    if (up(host)) {
        agent(host).receive_rpc(HostId{"gateway-1"}, cluster::encode(rpc).view());
    }
}

KernelId AgentCluster::create_kernel(const std::vector<int>& hosts) {
    const KernelId kernel{Uuid{1, ++kernels_}};
    Membership members;
    for (const int host : hosts) {
        const ReplicaId replica{++replicas_};
        members.voters.insert(replica);
        members.hosts[replica] = name(host);
    }
    for (const auto& [replica, host] : members.hosts) {
        send(number_of(host),
             cluster::StartReplica{.request = next_request(),
                                   .kernel = kernel,
                                   .replica = replica,
                                   .bootstrap = members,
                                   .options = {.spec = "python3", .session = "session-1"}});
    }
    return kernel;
}

void AgentCluster::create_system_group(const std::vector<int>& hosts) {
    Membership members;
    for (const int host : hosts) {
        const ReplicaId replica{members.voters.size() + 1};
        members.voters.insert(replica);
        members.hosts[replica] = name(host);
    }
    replicas_ = std::max<std::uint64_t>(replicas_, 100);  // later ids are nobody's of these
    for (const auto& [replica, host] : members.hosts) {
        send(number_of(host), cluster::StartReplica{.request = next_request(),
                                                    .kernel = cluster::kSystemGroup,
                                                    .replica = replica,
                                                    .bootstrap = members});
    }
}

void AgentCluster::execute(int host, KernelId kernel, const std::string& msg_id,
                           const std::string& code) {
    jupyter::Message message;
    message.header =
        R"({"msg_id": ")" + msg_id + R"(", "msg_type": "execute_request", "session": "client"})";
    message.parent_header = message.metadata = "{}";
    message.content = R"({"code": ")" + code + "\"}";
    send(host, cluster::ClientMessage{kernel, message});
}

void AgentCluster::change_members(KernelId kernel, int add_host, ReplicaId remove) {
    const ReplicaId replica{++replicas_};
    send(add_host,
         cluster::StartReplica{.request = next_request(), .kernel = kernel, .replica = replica});
    const auto now = leader(kernel);
    NBOS_CHECK(now.has_value(), "no leader to ask");
    send(number_of(now->host),
         cluster::ChangeMembers{.request = next_request(),
                                .kernel = kernel,
                                .add = std::make_pair(replica, name(add_host)),
                                .remove = remove,
                                .cell_may_end = true});
}

const cluster::CellEnded* AgentCluster::ended(const std::string& msg_id) const {
    for (const auto& cell : ended_) {
        if (cell.msg_id == msg_id) {
            return &cell;
        }
    }
    return nullptr;
}

int AgentCluster::times_ended(const std::string& msg_id) const {
    return static_cast<int>(std::count_if(ended_.begin(), ended_.end(),
                                          [&](const auto& cell) { return cell.msg_id == msg_id; }));
}

int AgentCluster::times_started(const std::string& msg_id) const {
    return static_cast<int>(std::count_if(started_.begin(), started_.end(),
                                          [&](const auto& cell) { return cell.msg_id == msg_id; }));
}

int AgentCluster::messages_about(const std::string& msg_id) const {
    return static_cast<int>(
        std::count_if(outputs_.begin(), outputs_.end(), [&](const auto& output) {
            return jupyter::string_field(output.message.parent_header, "msg_id") == msg_id;
        }));
}

std::string AgentCluster::printed(const std::string& msg_id) const {
    std::string out;
    if (const auto* cell = ended(msg_id)) {
        for (const auto& output : cell->outputs) {
            out += jupyter::string_field(output.content, "text");
        }
    }
    return out;
}

std::optional<cluster::KernelStatus> AgentCluster::leader(KernelId kernel) const {
    std::optional<cluster::KernelStatus> best;
    for (const auto& [where, status] : statuses_) {
        const bool leads =
            where.second == kernel && up(where.first) && status.role == raft::Role::kLeader;
        if (leads && (!best || status.term > best->term)) {
            best = status;
        }
    }
    return best;
}

std::optional<cluster::KernelStatus> AgentCluster::status(int host, KernelId kernel) const {
    const auto found = statuses_.find({host, kernel});
    return found == statuses_.end() ? std::nullopt : std::optional(found->second);
}

const cluster::Reply* AgentCluster::reply(std::uint64_t request) const {
    const auto found = replies_.find(request);
    return found == replies_.end() ? nullptr : &found->second;
}

}  // namespace nbos::testing
