#include "cli/run_gateway.h"

#include <fmt/core.h>
#include <sys/resource.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "base/log.h"
#include "cli/version_number.h"
#include "gateway/gateway.h"
#include "io/event_loop.h"
#include "io/hosts_file.h"
#include "io/http_server.h"
#include "io/kernelspecs.h"
#include "io/peer_transport.h"
#include "io/pki.h"

namespace nbos::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{50};
constexpr milliseconds kHostsPoll{500};
// Longer than between agents: they notice a silent host and elect another leader; what is lost with
// a connection to the gateway are outputs on their way.
constexpr milliseconds kHostSilence{5000};
constexpr milliseconds kDrain{300};              // for the close frames to leave
constexpr std::uint16_t kServiceRestart = 1012;  // clients reconnect after this one, not after 1001

// Every client is a descriptor: as many as the system lets this process have.
void raise_open_files() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        log_info("gateway", "up to {} open files", limit.rlim_cur);
    }
}

// "24h", "30m", "90s", "90"; at most ten years.
std::optional<std::chrono::seconds> seconds_of(const std::string& text) {
    std::uint32_t number = 0;
    const auto* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, number);
    const std::string_view unit(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
    const std::int64_t factor = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : 3600;
    const auto seconds = std::chrono::seconds(number * factor);
    const bool known = factor != 3600 || unit == "h";
    return parsed.ec == std::errc() && known && seconds < std::chrono::years(10)
               ? std::optional(seconds)
               : std::nullopt;
}

std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

Result<std::string> read_token(const std::string& path) {
    auto token = contents(path);
    const auto end = token.find_last_not_of(" \t\r\n");
    token.erase(end == std::string::npos ? 0 : end + 1);
    if (token.empty() || token.find_first_of("\r\n") != std::string::npos) {
        return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                     "the token file " + path +
                         " cannot be read, or does not hold one line; "
                         "write a secret of your choice into it"};
    }
    return token;
}

class Folders final : public gateway::Workspace {
public:
    explicit Folders(std::filesystem::path root) : root_(std::move(root)) {}

    std::string resolve(const std::string& folder) const override {
        const auto path = (root_ / folder).lexically_normal();
        std::error_code ignored;
        return std::filesystem::is_directory(path, ignored) ? path.string() : root_.string();
    }

private:
    std::filesystem::path root_;
};

gateway::Kernelspecs kernelspecs(const GatewayOptions& options) {
    gateway::Kernelspecs specs;
    for (auto& spec : io::find_kernelspecs(options.kernelspec_dirs)) {
        if (spec.name != specs.default_name()) {  // that one is built in
            specs.add(std::move(spec));
        }
    }
    return specs;
}

std::filesystem::path workspace_of(const GatewayOptions& options) {
    return options.workspace.empty() ? std::filesystem::current_path()
                                     : std::filesystem::absolute(options.workspace);
}

gateway::HostState state_of(io::PeerState state) {
    switch (state) {
        case io::PeerState::kUp:
            return gateway::HostState::kUp;
        case io::PeerState::kRefused:
            return gateway::HostState::kRefused;
        case io::PeerState::kDown:
            break;
    }
    return gateway::HostState::kDown;
}

// The process: the gateway, and what plugs its ports into io/.
class GatewayProcess final : public gateway::AgentLink {
public:
    explicit GatewayProcess(const GatewayOptions& options)
        : options_(options), hosts_file_(options.hosts_file), folders_(workspace_of(options)) {}

    Status open() {
        const auto& base = options_.base_path;
        if (!base.empty() && (base.front() != '/' || base.back() == '/')) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "the base path must begin with a slash and not end with one: /base"};
        }
        if (options_.replicas != 1 && options_.replicas != 3 && options_.replicas != 5) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "a kernel has 1, 3 or 5 replicas"};
        }
        auto token = read_token(options_.token_file);
        if (!token) {
            return std::move(token).error();
        }
        if (options_.system_replicas != 1 && options_.system_replicas != 3 &&
            options_.system_replicas != 5) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "--system-replicas must be 1, 3 or 5"};
        }
        if (!options_.id.starts_with("gateway")) {
            return Error{
                Errc::kInvalid, Certainty::kDidNotHappen,
                "--id " + options_.id + " must begin with 'gateway': hosts know a gateway by that"};
        }
        gateway::GatewayConfig config;
        config.id = options_.id;
        config.version = kVersion;
        config.token = *token;
        config.base_path = options_.base_path;
        config.kernels.replicas = options_.replicas;
        config.system.replicas = options_.system_replicas;
        const auto parked_for = seconds_of(options_.parked_for);
        if (!parked_for) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "--parked-for " + options_.parked_for +
                             " is no time; write it as 24h, 30m, 90s or 0"};
        }
        config.kernels.parked_for = *parked_for;
        config.kernels.outputs = {options_.iopub_messages, options_.iopub_mib};
        gateway_ = std::make_unique<gateway::Gateway>(
            std::move(config), kernelspecs(options_),
            gateway::Gateway::Ports{loop_.clock(), [] { return io::random_uuid(); }, *this,
                                    folders_});
        if (auto connected = open_transport(); !connected) {
            return connected;
        }
        auto server =
            io::HttpServer::open(loop_,
                                 {.listen = options_.listen,
                                  .connections_per_address_max = options_.connections_per_address},
                                 *gateway_);
        if (!server) {
            return std::move(server).error();
        }
        server_ = std::move(*server);
        return ok();
    }

    void run() {
        loop_.on_termination([this] { drain(); });
        poll_hosts();
        tick();
        log_info("gateway", "{} listens on {} (port {})", options_.id, options_.listen,
                 server_->port());
        loop_.run();
    }

    void send(const HostId& host, const cluster::Rpc& rpc) override {
        transport_->send(host, io::FrameKind::kRpc, cluster::encode(rpc));
    }

    bool hesitates(const HostId& host) const override { return transport_->hesitates(host); }

private:
    Status open_transport() {
        auto tls = io::issue(options_.pki_dir, options_.id);
        if (!tls) {
            return std::move(tls).error().in("read the certificates");
        }
        auto transport = io::PeerTransport::open(
            loop_,
            {.self = HostId{options_.id}, .tls = *tls, .listen = {}, .silence_max = kHostSilence},
            [this](const HostId& from, io::FrameKind kind, std::string_view payload) {
                if (kind == io::FrameKind::kRpc) {
                    gateway_->receive(from, payload);
                }
            },
            [this](const HostId& peer, io::PeerState state) {
                gateway_->host_changed(peer, state_of(state));
            });
        if (!transport) {
            return std::move(transport).error();
        }
        transport_ = std::move(*transport);
        return ok();
    }

    void poll_hosts() {
        if (const auto hosts = hosts_file_.changed()) {
            gateway_->set_hosts(*hosts);
            transport_->set_peers(*hosts);
        }
        loop_.after(kHostsPoll, [this] { poll_hosts(); });
    }

    void tick() {
        gateway_->tick();
        loop_.after(kTick, [this] { tick(); });
    }

    void drain() {
        server_->drain(kServiceRestart, "the gateway restarts");
        loop_.after(kDrain, [this] { loop_.stop(); });
    }

    const GatewayOptions& options_;
    io::EventLoop loop_;
    io::HostsFile hosts_file_;
    Folders folders_;
    std::unique_ptr<gateway::Gateway> gateway_;
    std::unique_ptr<io::PeerTransport> transport_;
    std::unique_ptr<io::HttpServer> server_;
};

}  // namespace

int run_gateway(const GatewayOptions& options) {
    set_log_name("gateway");
    raise_open_files();
    GatewayProcess process(options);
    if (const auto opened = process.open(); !opened) {
        log_error("gateway", "{}", opened.error().what);
        return 1;
    }
    process.run();
    return 0;
}

}  // namespace nbos::cli
