#include "cli/bench_idle_host.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "agent/agent.h"
#include "base/log.h"
#include "cli/bench_processes.h"
#include "cli/run_agent.h"
#include "io/event_loop.h"
#include "io/peer_transport.h"
#include "io/wal.h"
#include "jupyter/json_field.h"

namespace nbos::cli {
namespace {

using namespace std::chrono_literals;
using agent::InterpreterId;
using jupyter::Channel;

constexpr std::uint32_t kHosts = 3;
constexpr auto kPoll = 100ms;  // for commands: seldom, as it is part of what is measured

HostId host_id(std::uint32_t number) { return HostId{fmt::format("host-{}", number)}; }
KernelId kernel_id(std::uint32_t group) { return KernelId{Uuid{0xD, group}}; }

jupyter::Message message(Channel channel, const std::string& type, const std::string& parent,
                         const std::string& content) {
    jupyter::Message m;
    m.channel = channel;
    m.header = fmt::format(R"({{"msg_id":"{}","msg_type":"{}","session":"bench"}})",
                           io::random_uuid().str(), type);
    m.parent_header = parent;
    m.metadata = "{}";
    m.content = content;
    return m;
}

// Every cell ends at once and changes nothing.
class PlayedInterpreters final : public agent::Interpreters {
public:
    explicit PlayedInterpreters(io::EventLoop& loop) : loop_(loop) {}
    void listen(agent::InterpreterListener& listener) { listener_ = &listener; }

    InterpreterId start(const agent::Adoption&) override {
        const InterpreterId id{++last_};
        loop_.post([this, id] { listener_->interpreter_ready(id); });
        return id;
    }
    void load(InterpreterId id, Sequence sequence, Bytes) override { applied(id, sequence); }
    void apply(InterpreterId id, Sequence, Sequence sequence, Bytes) override {
        applied(id, sequence);
    }
    void run(InterpreterId id, const agent::RunOrder& order) override { orders_[id.value] = order; }
    void send(InterpreterId id, const jupyter::Message& request) override {
        const auto header = jupyter::parse_header(request.header);
        if (header && header->msg_type == "execute_request") {
            loop_.post([this, id, parent = request.header] { end_cell(id, parent); });
        }
    }
    void interrupt(InterpreterId) override {}
    void crash(InterpreterId) override {}
    void discard(InterpreterId) override {}

private:
    void applied(InterpreterId id, Sequence sequence) {
        loop_.post(
            [this, id, sequence] { listener_->interpreter_applied(id, sequence, true, ""); });
    }
    void end_cell(InterpreterId id, const std::string& parent) {
        const auto& order = orders_[id.value];
        listener_->interpreter_delta(id, order.cell, order.epoch, Bytes(), "");
        listener_->interpreter_message(
            id, message(Channel::kShell, "execute_reply", parent, R"({"status":"ok"})"));
        listener_->interpreter_message(
            id, message(Channel::kIopub, "status", parent, R"({"execution_state":"idle"})"));
    }

    io::EventLoop& loop_;
    agent::InterpreterListener* listener_ = nullptr;
    std::unordered_map<std::uint64_t, agent::RunOrder> orders_;
    std::uint64_t last_ = 0;
};

std::uint64_t anonymous_bytes() {
    std::ifstream status("/proc/self/status");
    std::string word;
    std::uint64_t kilobytes = 0;
    while (status >> word) {
        if (word == "RssAnon:") {
            status >> kilobytes;
        }
    }
    return kilobytes << 10U;
}

std::uint64_t cpu_us() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto us = [](const timeval& t) { return t.tv_sec * 1'000'000L + t.tv_usec; };
    return static_cast<std::uint64_t>(us(used.ru_utime) + us(used.ru_stime));
}

class Host final : public raft::PeerLink, public agent::GatewayLink {
public:
    explicit Host(const BenchIdleHost& given)
        : given_(given), self_(host_id(given.number)), interpreters_(loop_) {}

    int run();

    void send(const HostId& to, Bytes frame) override {
        count(frame);
        transport_->send(to, io::FrameKind::kRaft, std::move(frame));
    }
    void send_bulk(const HostId& to, Bytes frame) override {
        count(frame);
        transport_->send(to, io::FrameKind::kRaftBulk, std::move(frame));
    }
    void send(const cluster::Rpc& rpc) override;
    void send_to(const HostId&, const cluster::Rpc& rpc) override { send(rpc); }
    void hosts_known(const std::map<HostId, std::string>&) override {}

private:
    void count(const Bytes& frame) {
        ++sent_.frames;
        sent_.bytes += frame.size();
    }
    Status open();
    void peer_changed(const HostId& peer, io::PeerState state);
    void tick();
    void obey();
    void create();
    void wake_next();
    void report();
    void to_agent(const cluster::Rpc& rpc) {
        agent_->receive_rpc(HostId{"gateway-1"}, cluster::encode(rpc).view());
    }

    const BenchIdleHost& given_;
    const HostId self_;
    io::EventLoop loop_;
    PlayedInterpreters interpreters_;
    std::unique_ptr<io::Wal> wal_;
    std::unique_ptr<agent::Agent> agent_;
    std::unique_ptr<io::PeerTransport> transport_;
    IdleReport sent_;
    std::set<KernelId> serving_;  // have settled
    std::set<KernelId> leading_;
    std::vector<KernelId> to_wake_;
    std::uint64_t asked_ = 0;  // how many those were: an election may have given a host fewer
    KernelId woken_;
    Instant woken_at_{};
    std::vector<std::uint32_t> samples_;
};

Status Host::open() {
    auto opened = io::Wal::open(loop_, {.directory = given_.directory});
    if (!opened) {
        return std::move(opened).error();
    }
    wal_ = std::move(opened->wal);
    agent_ = std::make_unique<agent::Agent>(
        agent::AgentOptions{.host = self_, .raft = kAgentRaft, .seed = given_.number}, *wal_, *this,
        interpreters_, *this);
    interpreters_.listen(*agent_);
    auto transport = io::PeerTransport::open(
        loop_, {.self = self_, .tls = given_.tls, .listen = given_.addresses.at(self_)},
        [this](const HostId& from, io::FrameKind, std::string_view frame) {
            agent_->receive_raft(from, frame);
        },
        [this](const HostId& peer, io::PeerState state) { peer_changed(peer, state); });
    if (!transport) {
        return std::move(transport).error();
    }
    transport_ = *std::move(transport);
    auto peers = given_.addresses;
    peers.erase(self_);
    transport_->set_peers(peers);
    return ok();
}

int Host::run() {
    if (const auto opened = open(); !opened) {
        log_error("bench", "{}", opened.error().what);
        return 1;
    }
    tick();
    obey();
    loop_.run();
    return 0;
}

void Host::peer_changed(const HostId& peer, io::PeerState state) {
    if (state == io::PeerState::kUp) {
        agent_->peer_up(peer, transport_->incarnation(peer));
    } else if (state == io::PeerState::kDown) {
        agent_->peer_down(peer);
    } else {
        agent_->peer_is_dead(peer);
    }
}

void Host::tick() {
    agent_->tick(loop_.clock().now());
    loop_.after(kAgentTick, [this] { tick(); });
}

void Host::obey() {
    char command = 0;
    const ssize_t got = read(given_.from_parent, &command, 1);
    if (got == 0) {
        loop_.stop();
        return;
    }
    if (got == 1) {
        switch (static_cast<IdleCommand>(command)) {
            case IdleCommand::kCreate:
                create();
                report();
                break;
            case IdleCommand::kWake:
                to_wake_.assign(leading_.begin(), leading_.end());
                to_wake_.resize(std::min<std::size_t>(to_wake_.size(), given_.wakes));
                asked_ = to_wake_.size();
                wake_next();
                break;
            case IdleCommand::kReport:
                report();
                break;
        }
    }
    loop_.after(kPoll, [this] { obey(); });
}

// The lowest member of a kernel leads first: each host leads a third.
void Host::create() {
    for (std::uint32_t g = 0; g < given_.groups; ++g) {
        cluster::StartReplica start{.kernel = kernel_id(g), .bootstrap = Membership{}};
        for (std::uint32_t n = 0; n < kHosts; ++n) {
            const ReplicaId replica{std::uint64_t{g} * kHosts + n + 1};
            const auto host = host_id((g + n) % kHosts + 1);
            start.bootstrap->voters.insert(replica);
            start.bootstrap->hosts[replica] = host;
            start.replica = host == self_ ? replica : start.replica;
        }
        start.options = {.spec = "python3", .session = "bench"};
        to_agent(start);
    }
}

void Host::send(const cluster::Rpc& rpc) {
    if (const auto* status = std::get_if<cluster::KernelStatus>(&rpc)) {
        const bool serves = status->state == cluster::ExecutionState::kIdle;
        const bool leads = status->role == raft::Role::kLeader;
        serves ? void(serving_.insert(status->kernel)) : void(serving_.erase(status->kernel));
        leads ? void(leading_.insert(status->kernel)) : void(leading_.erase(status->kernel));
    } else if (const auto* started = std::get_if<cluster::CellStarted>(&rpc)) {
        if (started->kernel == woken_) {
            const auto took = loop_.clock().now() - woken_at_;
            samples_.push_back(static_cast<std::uint32_t>(took.count() / 1000));
        }
    } else if (const auto* ended = std::get_if<cluster::CellEnded>(&rpc)) {
        if (ended->kernel == woken_) {
            loop_.after(5ms, [this] { wake_next(); });
        }
    }
}

// One after the other, each in a kernel that sleeps.
void Host::wake_next() {
    woken_ = {};
    if (to_wake_.empty()) {
        const std::uint64_t count = samples_.size();
        write_all(given_.to_parent, &asked_, sizeof asked_);
        write_all(given_.to_parent, &count, sizeof count);
        write_all(given_.to_parent, samples_.data(), count * sizeof(std::uint32_t));
        report();
        return;
    }
    woken_ = to_wake_.back();
    to_wake_.pop_back();
    const auto cell =
        message(Channel::kShell, "execute_request", "{}", R"({"code":"pass","silent":false})");
    woken_at_ = loop_.clock().now();
    to_agent(cluster::ClientMessage{woken_, cell});
}

void Host::report() {
    IdleReport now = sent_;
    for (const auto& [host, address] : given_.addresses) {
        now.linked += transport_->connected(host) ? 1U : 0U;
    }
    now.groups = static_cast<std::uint32_t>(serving_.size());
    now.awake = static_cast<std::uint32_t>(agent_->awake_groups());
    now.restless = static_cast<std::uint32_t>(agent_->restless_replicas());
    now.leading = static_cast<std::uint32_t>(leading_.size());
    now.cpu_us = cpu_us();
    now.anonymous_bytes = anonymous_bytes();
    now.heap_bytes = mallinfo2().uordblks;
    write_all(given_.to_parent, &now, sizeof now);
}

}  // namespace

int run_idle_host(const BenchIdleHost& host) {
    set_log_name(fmt::format("bench host-{}", host.number));
    set_log_level(LogLevel::kError);
    fcntl(host.from_parent, F_SETFL, O_NONBLOCK);
    return Host(host).run();
}

}  // namespace nbos::cli
