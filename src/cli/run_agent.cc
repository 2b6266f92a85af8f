#include "cli/run_agent.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>
#include <utility>

#include "agent/agent.h"
#include "base/log.h"
#include "cli/agent_warden.h"
#include "cli/version_number.h"
#include "io/event_loop.h"
#include "io/hosts_file.h"
#include "io/interpreter_host.h"
#include "io/kernelspecs.h"
#include "io/peer_transport.h"
#include "io/pki.h"
#include "io/wal.h"

namespace nbos::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kHostsPoll{500};
// That a gateway has not taken: then code that prints waits, and no queue of outputs grows.
constexpr std::size_t kGatewayLagBytes = 8U << 20U;
constexpr std::string_view kGatewayPrefix = "gateway";

// A warden starts an agent again that was killed, not one that ends: this one would meet the same
// disk, and as long as somebody holds the host's socket the others cannot know that it is gone.
void end_without_log(const std::string& what) {
    log_error("wal", "{}", what);
    _exit(1);
}

bool is_gateway(const HostId& peer) { return peer.value.rfind(kGatewayPrefix, 0) == 0; }

cluster::AgentInfo describe(const std::string& host) {
    const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
    return {.host = HostId{host},
            .version = kVersion,
            .cpus = std::thread::hardware_concurrency(),
            .memory_bytes = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))};
}

std::map<std::string, io::ZygoteCommand> zygote_commands(const AgentOptions& options) {
    std::map<std::string, io::ZygoteCommand> commands;
    for (const auto& spec : io::find_kernelspecs(options.kernelspec_dirs)) {
        if (!spec.argv.empty()) {
            commands[spec.name] = {.argv = {spec.argv.front(), "-m", "nbos_kernel.zygote"},
                                   .env = io::expanded(spec.env)};
        }
    }
    commands["python3"] = {.argv = {options.python, "-m", "nbos_kernel.zygote"}, .env = {}};
    for (auto& [name, command] : commands) {
        command.argv.emplace_back("--memory-mib");
        command.argv.push_back(std::to_string(options.interpreter_mib));
    }
    return commands;
}

// The process: the agent, and what plugs its ports into io/.
class AgentProcess final : public raft::PeerLink, public agent::GatewayLink {
public:
    AgentProcess(const AgentOptions& options, const AgentGround& ground)
        : options_(options),
          ground_(ground),
          hosts_file_(options.hosts_file),
          interpreters_(loop_, {.directory = ground.directory,
                                .workspace = options.workspace,
                                .zygotes = zygote_commands(options),
                                .default_spec = "python3",
                                .warm = options.warm,
                                .lifeline = ground.lifeline,
                                .takes_outputs = [this] { return gateways_keep_up(); }}) {}

    Status open() {
        std::filesystem::create_directories(options_.data_dir);
        auto opened = io::Wal::open(
            loop_, {.directory = options_.data_dir + "/log", .on_fatal = end_without_log});
        if (!opened) {
            return std::move(opened).error().in("open the log");
        }
        wal_ = std::move(opened->wal);
        agent_ = std::make_unique<agent::Agent>(agent::AgentOptions{.host = HostId{options_.host},
                                                                    .info = describe(options_.host),
                                                                    .raft = kAgentRaft,
                                                                    .seed = io::random_u64()},
                                                *wal_, *this, interpreters_, *this);
        interpreters_.listen(*agent_);
        auto tls = io::issue(options_.pki_dir, options_.host);
        if (!tls) {
            return std::move(tls).error().in("read the certificates");
        }
        auto transport = io::PeerTransport::open(
            loop_,
            {.self = HostId{options_.host},
             .tls = *tls,
             .listen = options_.listen,
             .listener = ground_.listener},
            [this](const HostId& from, io::FrameKind kind, std::string_view payload) {
                receive(from, kind, payload);
            },
            [this](const HostId& peer, io::PeerState state) { peer_changed(peer, state); });
        if (!transport) {
            return std::move(transport).error();
        }
        transport_ = std::move(*transport);
        agent_->restore(std::move(opened->groups));
        return ok();
    }

    void run() {
        loop_.on_termination([this] {
            agent_->stop();
            loop_.stop();
        });
        if (!options_.hosts_file.empty()) {
            poll_hosts();
        }
        tick();
        log_info("agent", "{} listens on {}", options_.host, options_.listen);
        loop_.run();
    }

    void send(const HostId& to, Bytes frame) override {
        transport_->send(to, io::FrameKind::kRaft, std::move(frame));
    }
    void send_bulk(const HostId& to, Bytes frame) override {
        transport_->send(to, io::FrameKind::kRaftBulk, std::move(frame));
    }

    void send(const cluster::Rpc& rpc) override {
        if (gateways_.empty()) {
            return;
        }
        const auto bytes = cluster::encode(rpc);
        for (const auto& gateway : gateways_) {
            transport_->send(gateway, io::FrameKind::kRpc, bytes);
        }
    }

    void send_to(const HostId& gateway, const cluster::Rpc& rpc) override {
        if (gateways_.contains(gateway)) {
            transport_->send(gateway, io::FrameKind::kRpc, cluster::encode(rpc));
        }
    }

    void hosts_known(const std::map<HostId, std::string>& addresses) override {
        if (options_.hosts_file.empty()) {  // the file is nearer to the truth where there is one
            set_peers(addresses);
        }
    }

private:
    void set_peers(std::map<HostId, std::string> addresses) {
        addresses.erase(HostId{options_.host});
        transport_->set_peers(addresses);
    }

    bool gateways_keep_up() const {
        return std::none_of(gateways_.begin(), gateways_.end(), [this](const HostId& gateway) {
            return transport_->queued_bytes(gateway) > kGatewayLagBytes;
        });
    }

    void receive(const HostId& from, io::FrameKind kind, std::string_view payload) {
        if (kind == io::FrameKind::kRaft && !is_gateway(from)) {
            agent_->receive_raft(from, payload);
        } else if (kind == io::FrameKind::kRpc && is_gateway(from)) {
            gateways_.insert(from);
            agent_->receive_rpc(from, payload);
        } else {
            log_warning("agent", "{} sent what it may not send; dropped", from.value);
        }
    }

    void peer_changed(const HostId& peer, io::PeerState state) {
        if (is_gateway(peer)) {
            if (state != io::PeerState::kUp) {
                gateways_.erase(peer);
                agent_->gateway_lost(peer);
            }
            return;
        }
        switch (state) {
            case io::PeerState::kUp:
                agent_->peer_up(peer, transport_->incarnation(peer));
                break;
            case io::PeerState::kDown:
                agent_->peer_down(peer);
                break;
            case io::PeerState::kRefused:
                agent_->peer_is_dead(peer);
                break;
        }
    }

    void poll_hosts() {
        if (auto hosts = hosts_file_.changed()) {
            set_peers(std::move(*hosts));
        }
        loop_.after(kHostsPoll, [this] { poll_hosts(); });
    }

    void tick() {
        agent_->tick(loop_.clock().now());
        loop_.after(kAgentTick, [this] { tick(); });
    }

    const AgentOptions& options_;
    const AgentGround& ground_;
    io::EventLoop loop_;
    io::HostsFile hosts_file_;
    io::InterpreterHost interpreters_;
    std::unique_ptr<io::Wal> wal_;
    std::unique_ptr<agent::Agent> agent_;
    std::unique_ptr<io::PeerTransport> transport_;
    std::set<HostId> gateways_;
};

}  // namespace

int run_agent(const AgentOptions& options) {
    set_log_name("agent " + options.host);
    return guard_agent(options.listen, [&options](const AgentGround& ground) {
        AgentProcess process(options, ground);
        if (const auto opened = process.open(); !opened) {
            log_error("agent", "{}", opened.error().what);
            return 1;
        }
        process.run();
        return 0;
    });
}

}  // namespace nbos::cli
