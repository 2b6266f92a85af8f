#include "tests/cluster/platform_sim.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/log.h"
#include "jupyter/json_field.h"
#include "replica/cell_log.h"

namespace nbos::testing {
namespace {

constexpr milliseconds kStep{50};

bool is_gateway(const Address& who) { return who.starts_with("gateway"); }

}  // namespace

PlatformSim::PlatformSim(PlatformOptions options)
    : options_(std::move(options)),
      rng_(options_.seed),
      network_(time_, rng_, [this](const Address& who) { return process_of(who); }),
      wires_{.time = time_,
             .rng = rng_,
             .network = network_,
             .process = [this](const Address& who) { return process_of(who); },
             .transports = {}},
      factory_(time_, [this] { return Uuid{rng_.next(), ++last_uuid_}; }),
      trace_(std::getenv("NBOS_TRACE") != nullptr) {  // NOLINT(concurrency-mt-unsafe): one thread
    set_log_level(trace_ ? LogLevel::kDebug : static_cast<LogLevel>(4));
    make_hosts();
    make_gateways();
}

PlatformSim::~PlatformSim() { set_log_level(LogLevel::kInfo); }

void PlatformSim::make_hosts() {
    std::set<Address> addresses;
    for (int i = 1; i <= options_.hosts; ++i) {
        addresses.insert(fmt::format("host-{}", i));
    }
    for (int i = 1; i <= options_.hosts; ++i) {
        auto host = options_.host;
        host.seed = rng_.next();
        hosts_.push_back(std::make_unique<PlatformHost>(
            fmt::format("host-{}", i), addresses, wires_, factory_, host,
            HostWatchers{
                .said = [this](const auto& name, const auto& rpc) { heard_from(name, rpc); },
                .wrote = [this](const auto& name, const auto& write) { written(name, write); },
                .began =
                    [this](std::string session, const std::string& msg_id, const auto& who) {
                        std::erase(session, '\'');  // of a planted bug
                        record({.kind = "began", .msg = msg_id, .asker = session, .who = who});
                    }}));
    }
}

void PlatformSim::make_gateways() {
    std::set<Address> addresses;
    for (const auto& host : hosts_) {
        addresses.insert(host->address());
    }
    for (int i = 1; i <= options_.gateways; ++i) {
        gateways_.push_back(std::make_unique<PlatformGateway>(
            fmt::format("gateway-{}", i), addresses, wires_, [this] { return factory_.new_uuid(); },
            options_.host.planted));
    }
}

Process PlatformSim::process_of(const Address& who) const {
    for (const auto& gateway : gateways_) {
        if (gateway->address() == who) {
            return gateway->process();
        }
    }
    for (const auto& host : hosts_) {
        if (host->address() == who) {
            return host->process();
        }
    }
    return Process::kRuns;  // a client
}

PlatformHost& PlatformSim::host(const HostId& id) {
    for (const auto& host : hosts_) {
        if (host->address() == id.value) {
            return *host;
        }
    }
    NBOS_CHECK(false, "no such host");
}

std::set<Address> PlatformSim::everyone_but_clients() const {
    std::set<Address> all;
    for (const auto& gateway : gateways_) {
        all.insert(gateway->address());
    }
    for (const auto& host : hosts_) {
        all.insert(host->address());
    }
    return all;
}

// ---- a run ----

void PlatformSim::start() {
    for (const auto& host : hosts_) {
        host->start_agent();
    }
    for (const auto& gateway : gateways_) {
        gateway->start();
    }
    run_for(milliseconds(1000));
    create_kernels();
    make_clients();
}

void PlatformSim::make_clients() {
    std::vector<PlatformGateway*> gateways;
    for (const auto& gateway : gateways_) {
        gateways.push_back(gateway.get());
    }
    for (int i = 1; i <= options_.clients; ++i) {
        auto client = options_.client;
        client.protocol =
            rng_.chance(0.5) ? jupyter::WsProtocol::kV1 : jupyter::WsProtocol::kLegacy;
        client.names_session = !rng_.chance(options_.unnamed);
        const auto& kernel = kernels_[static_cast<std::size_t>(i - 1) % kernels_.size()];
        clients_.push_back(std::make_unique<PlatformClient>(
            i, kernel, client,
            PlatformClient::Ports{time_, rng_, network_, gateways,
                                  [this](Record said) { record(std::move(said)); }}));
        clients_.back()->start();
    }
}

void PlatformSim::create_kernels() {
    for (int i = 0; i < options_.kernels; ++i) {
        const auto& id = kernels_.emplace_back(create_kernel());
        NBOS_CHECK(run_until([&] { return leader(id).has_value(); }), "nobody leads the kernel");
    }
}

std::string PlatformSim::create_kernel() {
    std::string id;
    some_gateway().http(
        "client-0",
        {.method = "POST",
         .target = "/api/kernels",
         .headers = {},
         .body = fmt::format(R"({{"name": "python3", "env": {{"KERNEL_REPLICAS": "{}"}}}})",
                             options_.replicas)},
        [&id](const jupyter::HttpResponse& response) {
            id = jupyter::string_field(response.body, "id");
        });
    NBOS_CHECK(run_until([&] { return !id.empty(); }), "no kernel was made");
    return id;
}

void PlatformSim::run_for(milliseconds duration) { time_.run_for(duration); }

bool PlatformSim::run_until(const std::function<bool()>& holds, milliseconds limit) {
    const auto end = time_.now() + limit;
    while (!holds()) {
        if (time_.now() >= end) {
            return false;
        }
        time_.step(std::min(end, time_.now() + kStep));
    }
    return true;
}

std::vector<BrokenRule> PlatformSim::run() {
    start();
    disturb();
    run_for(milliseconds(options_.chaos_ms));
    heal();
    if (options_.gateways > 1) {
        change_gateways();
    }
    return finish();
}

void PlatformSim::heal() {
    chaos_ = false;
    note("heal");
    network_.mend();
    for (const auto& host : hosts_) {
        host->disk().make_room();
        host->disk().slow_down(4);
        if (!host->disk().readable()) {
            host->disk().wipe();
        }
        host->resume();
        host->power_on();
        host->start_agent();
    }
    for (const auto& gateway : gateways_) {
        gateway->start();
    }
    record({.kind = "healed"});
}

bool PlatformSim::await_answers() {
    for (const auto& client : clients_) {
        client->hurry();
    }
    const auto idle = [](const auto& client) { return client->idle(); };
    return run_until([&] { return std::all_of(clients_.begin(), clients_.end(), idle); },
                     milliseconds(options_.answers_ms_max));
}

// Nothing excuses here that something is told again.
void PlatformSim::change_gateways() {
    await_answers();
    run_for(milliseconds(CheckerOptions{}.word_ms_max + 2000));
    for (const auto& client : clients_) {
        client->ask("append");
    }
    await_answers();
    run_for(milliseconds(2000));
    for (const auto& client : clients_) {
        client->move(milliseconds(0));
    }
    run_for(milliseconds(6000));
}

std::vector<BrokenRule> PlatformSim::finish() {
    await_answers();
    for (const auto& client : clients_) {
        client->ask("append");
        client->ask("read");
    }
    await_answers();
    run_for(milliseconds(2000));  // for what would come too much
    record({.kind = "finished"});
    return check_history(history_);
}

void PlatformSim::record(Record said) {
    said.at_ms = time_.ms();
    if (trace_) {
        std::cerr << to_json_line(said) << '\n';
    }
    history_.push_back(std::move(said));
}

void PlatformSim::trouble(const std::string& what, milliseconds duration) {
    note(what);
    record({.kind = "broke", .text = what});
    time_.after(duration, [this] { record({.kind = "mended"}); });
}

void PlatformSim::note(const std::string& what) {
    if (trace_) {
        std::cerr << fmt::format("{{\"at_ms\": {}, \"fault\": \"{}\"}}\n", time_.ms(), what);
    }
}

// ---- what is watched ----

void PlatformSim::heard_from(const std::string& host, const cluster::Rpc& rpc) {
    if (const auto* status = std::get_if<cluster::KernelStatus>(&rpc)) {
        statuses_[{host, status->kernel.value.str()}] = *status;
    } else if (const auto* gone = std::get_if<cluster::ReplicaGone>(&rpc)) {
        statuses_.erase({host, gone->kernel.value.str()});
    }
}

void PlatformSim::written(const std::string& host, const raft::GroupWrite& write) {
    for (const auto& entry : write.append) {
        if (entry.kind != raft::EntryKind::kCommand || entry.data.empty()) {
            continue;
        }
        const auto cell = replica::decode_cell_entry(entry.data.view());
        if (cell && std::holds_alternative<replica::Result>(*cell)) {
            result_written_ = HostId{host};
        } else if (cell && std::holds_alternative<replica::Claim>(*cell)) {
            claim_written_ = HostId{host};
        }
    }
}

std::optional<HostId> PlatformSim::claim_written() {
    return std::exchange(claim_written_, std::nullopt);
}

std::optional<HostId> PlatformSim::result_written() {
    return std::exchange(result_written_, std::nullopt);
}

std::optional<HostId> PlatformSim::snapshot_chunk_arrived() {
    network_.watch = [this](const Address&, const Address& to, int kind, std::string_view bytes) {
        Reader in(bytes);
        while (kind == static_cast<int>(FrameKind::kRaft) && !is_gateway(to) && in.left() > 0) {
            const auto message = raft::decode_message(in);
            if (!message) {
                return;
            }
            if (message->kind == raft::MessageKind::kSnapshotChunk) {
                chunk_arrived_ = HostId{to};
            }
        }
    };
    return std::exchange(chunk_arrived_, std::nullopt);
}

std::optional<cluster::KernelStatus> PlatformSim::leader(const std::string& kernel) const {
    std::optional<cluster::KernelStatus> best;
    for (const auto& [where, status] : statuses_) {
        const bool leads = where.second == kernel && process_of(where.first) == Process::kRuns &&
                           status.role == raft::Role::kLeader;
        if (leads && (!best || status.term > best->term)) {
            best = status;
        }
    }
    return best;
}

std::optional<HostId> PlatformSim::executor(const std::string& kernel) const {
    for (const auto& [where, status] : statuses_) {
        if (where.second == kernel && status.interpreter == "running" &&
            process_of(where.first) == Process::kRuns) {
            return status.host;
        }
    }
    return std::nullopt;
}

std::optional<HostId> PlatformSim::last_executor(const std::string& kernel) const {
    const auto lead = leader(kernel);
    if (!lead) {
        return std::nullopt;
    }
    const auto& members = lead->membership.hosts;
    const auto found = members.find(lead->executor);
    return found == members.end() ? lead->host : found->second;
}

}  // namespace nbos::testing
