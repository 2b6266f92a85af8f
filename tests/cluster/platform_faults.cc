// What can go wrong: each fault with its end, and the random schedule of them.
#include <fmt/core.h>

#include <utility>

#include "base/check.h"
#include "tests/cluster/platform_sim.h"

namespace nbos::testing {
void PlatformSim::note_answer(const jupyter::HttpResponse& response) {
    note(fmt::format("answered with {}", response.status));
    NBOS_CHECK(response.body.find("there is nothing at") == std::string::npos,
               "the simulator asks the gateway for what it does not have: " + response.body);
}

void PlatformSim::isolate(const Address& who, milliseconds duration) {
    trouble(fmt::format("{} is cut off for {} ms", who, duration.count()), duration);
    const auto others = everyone_but_clients();
    network_.isolate(who, others);
    time_.after(duration, [this, others, who] {
        for (const auto& other : others) {
            network_.join(who, other);
            network_.join(other, who);
        }
    });
}

void PlatformSim::cut_one_way(const Address& from, const Address& to, milliseconds duration) {
    trouble(fmt::format("{} cannot reach {} for {} ms", from, to, duration.count()), duration);
    network_.cut(from, to);
    time_.after(duration, [this, from, to] { network_.join(from, to); });
}

void PlatformSim::power_cycle(PlatformHost& host, milliseconds off) {
    trouble(fmt::format("{} has no power for {} ms", host.address(), off.count()), off);
    host.power_off();
    time_.after(off, [&host] { host.power_on(); });
}

void PlatformSim::restart_agent(PlatformHost& host, milliseconds down) {
    trouble(fmt::format("the agent of {} is killed, for {} ms", host.address(), down.count()),
            down);
    host.kill_agent();
    time_.after(down, [&host] { host.start_agent(); });
}

void PlatformSim::restart_all_agents(milliseconds down) {
    note("all agents are killed");
    for (const auto& host : hosts_) {
        restart_agent(*host, down + milliseconds(rng_.below(500)));
    }
}

void PlatformSim::restart_gateway(PlatformGateway& gateway, bool in_order, milliseconds down) {
    note(fmt::format("{} {} for {} ms", gateway.address(), in_order ? "stops" : "is killed",
                     down.count()));
    in_order ? gateway.stop() : gateway.kill();
    record({.kind = "gateway_gone", .who = gateway.address()});
    time_.after(down, [&gateway] { gateway.start(); });
}

void PlatformSim::pause(PlatformHost& host, milliseconds duration) {
    trouble(fmt::format("the agent of {} is paused for {} ms", host.address(), duration.count()),
            duration);
    host.pause();
    time_.after(duration, [&host] { host.resume(); });
}

void PlatformSim::fill_disk(PlatformHost& host, milliseconds duration) {
    trouble(fmt::format("the disk of {} is full for {} ms", host.address(), duration.count()),
            duration);
    host.disk().fill();
    time_.after(duration, [&host] {
        host.disk().make_room();
        host.start_agent();
    });
}

// Its operator notices after a while, empties the data directory, and starts the agent again.
void PlatformSim::corrupt_log(PlatformHost& host, milliseconds until_wiped) {
    trouble(fmt::format("the log of {} is corrupted", host.address()), until_wiped);
    host.kill_agent();
    host.disk().corrupt();
    host.start_agent();
    time_.after(until_wiped, [&host] {
        if (!host.disk().readable()) {
            host.disk().wipe();
            host.start_agent();
        }
    });
}

// Its path to the gateway, both ways; the connection stays open until an end loses patience.
void PlatformSim::cut_client(PlatformClient& client, milliseconds duration) {
    const auto& gateway = client.gateway();
    note(fmt::format("{} and {} are cut off for {} ms", client.address(), gateway,
                     duration.count()));
    network_.isolate(client.address(), {gateway});
    time_.after(duration, [this, who = client.address(), gateway] {
        network_.join(who, gateway);
        network_.join(gateway, who);
    });
}

void PlatformSim::ask_gateway(const std::string& target, const std::string& body) {
    some_gateway().http("client-0",
                        {.method = "POST", .target = target, .headers = {}, .body = body},
                        [this](const jupyter::HttpResponse& response) { note_answer(response); });
}

void PlatformSim::migrate(const std::string& kernel, const std::optional<HostId>& to) {
    trouble("migrate to " + (to ? to->value : "any"));
    ask_gateway("/api/nbos/kernels/" + kernel + "/migrate",
                to ? fmt::format(R"({{"to": "{}"}})", to->value) : "{}");
}

void PlatformSim::interrupt(const std::string& kernel) {
    note("interrupt");
    ask_gateway("/api/kernels/" + kernel + "/interrupt", "");
}

void PlatformSim::restart_kernel(const std::string& kernel) {
    note("restart of the kernel");
    record({.kind = "restarted", .kernel = kernel});
    ask_gateway("/api/kernels/" + kernel + "/restart", "");
}

// ---- the random schedule ----

PlatformHost& PlatformSim::some_host() { return *hosts_[rng_.below(hosts_.size())]; }

PlatformGateway& PlatformSim::some_gateway() { return *gateways_[rng_.below(gateways_.size())]; }

PlatformClient& PlatformSim::some_client() { return *clients_[rng_.below(clients_.size())]; }

const std::string& PlatformSim::some_kernel() { return kernels_[rng_.below(kernels_.size())]; }

Address PlatformSim::some_address() {
    const auto all = everyone_but_clients();
    return *std::next(all.begin(), static_cast<std::ptrdiff_t>(rng_.below(all.size())));
}

milliseconds PlatformSim::between(int low_ms, int high_ms) {
    return milliseconds(
        low_ms + static_cast<int>(rng_.below(static_cast<std::uint64_t>(high_ms - low_ms + 1))));
}

void PlatformSim::schedule(int every_ms, const std::function<void()>& fault) {
    if (every_ms == 0) {
        return;
    }
    time_.after(between(1, 2 * every_ms), [this, every_ms, fault] {
        if (chaos_) {
            ++faults_injected_;
            fault();
            schedule(every_ms, fault);
        }
    });
}

void PlatformSim::disturb() {
    chaos_ = true;
    disturb_hosts();
    disturb_networks();
    disturb_gateways();
    disturb_clients();
}

void PlatformSim::disturb_hosts() {
    const auto& f = options_.faults;
    schedule(f.kill_interpreter, [this] { some_host().kill_interpreters("out of memory"); });
    schedule(f.kill_agent,
             [this] { restart_agent(some_host(), between(50, options_.agent_down_ms_max)); });
    schedule(f.power_off, [this] { power_cycle(some_host(), between(500, 20'000)); });
    schedule(f.pause, [this] { pause(some_host(), between(100, 12'000)); });
    schedule(f.kill_all_agents, [this] { restart_all_agents(between(50, 3000)); });
    schedule(f.disk_full, [this] { fill_disk(some_host(), between(1000, 20'000)); });
    schedule(f.corrupt_log, [this] {
        if (!std::exchange(corrupted_, true)) {  // a second one may take the majority with it
            corrupt_log(some_host(), std::chrono::minutes(10));
        }
    });
    schedule(f.slow_disk, [this] { some_host().disk().slow_down(rng_.chance(0.5) ? 4 : 400); });
}

void PlatformSim::disturb_networks() {
    const auto& f = options_.faults;
    schedule(f.cut_off, [this] {
        isolate(some_host().address(),
                rng_.chance(0.3) ? between(40'000, 90'000) : between(100, 12'000));
    });
    schedule(f.one_way_cut, [this] {
        const auto from = some_address();
        const auto to = some_address();
        cut_one_way(from, to, between(100, 15'000));
    });
    schedule(f.slow_link, [this] { network_.slow_down(some_address(), between(1, 200)); });
    schedule(f.break_stream, [this] {
        const auto& host = some_host().address();
        const auto other = rng_.chance(0.5) ? some_gateway().address() : some_host().address();
        trouble(fmt::format("what is between {} and {} is lost", host, other));
        network_.break_streams(host, other);
    });
}

void PlatformSim::disturb_gateways() {
    const auto& f = options_.faults;
    schedule(f.kill_gateway,
             [this] { restart_gateway(some_gateway(), rng_.chance(0.5), between(50, 5000)); });
    schedule(f.cut_off_gateway,
             [this] { isolate(some_gateway().address(), between(100, 15'000)); });
    schedule(f.migrate, [this] {
        rng_.chance(0.5) ? migrate(some_kernel(), HostId{some_host().address()})
                         : migrate(some_kernel(), std::nullopt);
    });
    schedule(f.interrupt, [this] { interrupt(some_kernel()); });
    schedule(f.restart, [this] { restart_kernel(some_kernel()); });
}

void PlatformSim::disturb_clients() {
    const auto& f = options_.faults;
    schedule(f.drop_client, [this] { some_client().drop(between(10, 15'000)); });
    schedule(f.move_client, [this] {
        note("a client moves");
        some_client().move(between(0, 60'000));
    });
    schedule(f.cut_client, [this] { cut_client(some_client(), between(100, 60'000)); });
}

PlatformOptions PlatformOptions::draw(std::uint64_t seed) {
    Rng rng(seed * 0x9E3779B97F4A7C15ULL + 1);
    PlatformOptions options{.seed = seed};
    const auto maybe = [&rng](double probability, int low_ms, int high_ms) {
        const auto drawn =
            low_ms + static_cast<int>(rng.below(static_cast<std::uint64_t>(high_ms - low_ms + 1)));
        return rng.chance(probability) ? drawn : 0;
    };
    options.replicas = rng.chance(0.1) ? 1 : rng.chance(0.85) ? 3 : 5;
    options.hosts = options.replicas + 1 + static_cast<int>(rng.below(2));
    options.hosts = std::max(options.hosts, 3);
    options.kernels = rng.chance(0.2) ? 2 : 1;
    options.clients = options.kernels + static_cast<int>(rng.below(3));
    options.client.requests = 8 + rng.below(40);
    options.client.fails = rng.chance(0.5) ? 0.1 : 0;
    options.client.dies = rng.chance(0.2) ? 0.05 : 0;
    options.client.inputs = rng.chance(0.2) ? 0.1 : 0;
    options.client.comms = rng.chance(0.3) ? 0.1 : 0;
    options.gateways = rng.chance(0.35) ? 2 : 1;
    options.unnamed = rng.chance(0.15) ? 0.5 : 0;
    options.chaos_ms = 10'000 << rng.below(3);
    // Most work while it breaks; some ask in a hurry, and then no more.
    options.client.think_ms_max =
        rng.chance(0.7) ? 2 * options.chaos_ms / static_cast<int>(options.client.requests)
                        : 100 << rng.below(6);
    auto& host = options.host;
    host.raft = {.election_ticks = 20, .heartbeat_ticks = 2};
    host.raft.snapshot_chunk_bytes = 256U << rng.below(6);
    host.replica.compact_bytes_min = rng.chance(0.6) ? 2000U << rng.below(6) : 8U << 20U;
    host.replica.silence_grace = milliseconds(rng.chance(0.3) ? 2000 : 30'000);
    host.replica.cell.slice_bytes = rng.chance(0.3) ? 40 : 1U << 20U;
    host.interpreters.cell_ms_max = 4 << rng.below(11);
    host.interpreters.start_ms_max = 20 << rng.below(7);
    host.interpreters.question_ms_max = 5 << rng.below(8);
    host.interpreters.hello_ms_max = 20 << rng.below(6);
    auto& f = options.faults;
    f.kill_interpreter = maybe(0.4, 2000, 20'000);
    f.kill_agent = maybe(0.5, 2000, 20'000);
    f.power_off = maybe(0.4, 4000, 30'000);
    f.cut_off = maybe(0.4, 4000, 30'000);
    f.one_way_cut = maybe(0.4, 2000, 20'000);
    f.pause = maybe(0.4, 3000, 30'000);
    f.kill_gateway = maybe(0.4, 4000, 30'000);
    f.cut_off_gateway = maybe(0.2, 4000, 30'000);
    f.kill_all_agents = maybe(0.2, 8000, 60'000);
    f.disk_full = maybe(0.2, 5000, 40'000);
    f.corrupt_log = maybe(0.2, 5000, 40'000);
    if (options.replicas == 1) {
        f.corrupt_log = 0;  // a single copy that is lost is lost
    }
    f.slow_disk = maybe(0.3, 3000, 20'000);
    f.slow_link = maybe(0.3, 3000, 20'000);
    f.break_stream = maybe(0.4, 1000, 10'000);
    f.drop_client = maybe(0.5, 1000, 15'000);
    f.move_client = maybe(0.4, 1000, 15'000);
    f.cut_client = maybe(0.2, 3000, 20'000);
    f.migrate = maybe(0.3, 4000, 20'000);
    f.interrupt = maybe(0.3, 2000, 15'000);
    f.restart = maybe(0.15, 8000, 40'000);
    return options;
}

}  // namespace nbos::testing
