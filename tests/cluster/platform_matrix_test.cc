// The fault matrix: each fault in each phase, on the real gateway and agents. The phase is hit by
// watching what the real objects say and write; the fault strikes the host that it matters for.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/cluster/platform_sim.h"

namespace nbos::testing {
namespace {

using std::chrono::seconds;

enum class Fault : std::uint8_t {
    kInterpreterKilled,
    kAgentRestarted,
    kPowerOff,
    kCutOff10s,
    kCutOff90s,
    kOneWayCut,
    kAgentPaused10s,
    kGatewayRestarted,
    kAllAgentsKilled,
    kDiskFull,
    kLogCorrupted,
    // With two of them; the clients of the one go on through the other.
    kOneGatewayKilled,
    kOneGatewayCutOff,
};
enum class Phase : std::uint8_t {
    kIdle,
    kCellRunning,
    kResultCommit,
    kMembershipChange,
    kSnapshotTransfer,
};

std::string name(Fault fault) {
    const char* const names[] = {
        "InterpreterKilled", "AgentRestarted",   "PowerOff",         "CutOff10s",       "CutOff90s",
        "OneWayCut",         "AgentPaused10s",   "GatewayRestarted", "AllAgentsKilled", "DiskFull",
        "LogCorrupted",      "OneGatewayKilled", "OneGatewayCutOff"};
    return names[static_cast<std::size_t>(fault)];
}

std::string name(Phase phase) {
    const char* const names[] = {"Idle", "CellRunning", "ResultCommit", "MembershipChange",
                                 "SnapshotTransfer"};
    return names[static_cast<std::size_t>(phase)];
}

bool of_two_gateways(Fault fault) {
    return fault == Fault::kOneGatewayKilled || fault == Fault::kOneGatewayCutOff;
}

PlatformOptions options_for(Fault fault, Phase phase, std::uint64_t seed) {
    PlatformOptions options{
        .seed = seed, .gateways = of_two_gateways(fault) ? 2 : 1, .hosts = 4, .clients = 2};
    options.client.requests = 0;  // the schedule asks
    options.client.think_ms_max = 50;
    options.host.raft = {.election_ticks = 20, .heartbeat_ticks = 2};
    options.host.interpreters.cell_ms_max = phase == Phase::kCellRunning ? 3000 : 100;
    if (phase == Phase::kSnapshotTransfer) {
        options.host.replica.compact_bytes_min = 2000;
        options.host.raft.snapshot_chunk_bytes = 256;
    }
    return options;
}

class Schedule {
public:
    Schedule(Fault fault, Phase phase, std::uint64_t seed)
        : fault_(fault), phase_(phase), sim_(options_for(fault, phase, seed)) {
        sim_.start();
    }

    void run() {
        for (int i = 0; i < 6; ++i) {
            sim_.client(1 + i % 2).ask(i % 3 == 0 ? "add" : "append");
        }
        ASSERT_TRUE(sim_.run_until([this] { return answered(); })) << "not even without a fault";
        const auto target = reach_phase();
        ASSERT_TRUE(target) << "the phase was not reached";
        ASSERT_NO_FATAL_FAILURE(strike(*target));
        sim_.client(2).ask("append");
        sim_.client(1).ask("read");
        sim_.run_for(fault_ == Fault::kCutOff90s ? seconds(95) : seconds(15));
        // With a majority the kernel serves also before anything is mended.
        EXPECT_TRUE(fault_ == Fault::kAllAgentsKilled || sim_.run_until([this] {
            return answered();
        })) << "the kernel did not come back by itself";
        sim_.heal();
        for (const auto& broken : sim_.finish()) {
            ADD_FAILURE() << broken.str();
        }
        const auto figures = figures_of(sim_.history());
        EXPECT_GE(figures.ok + figures.lost + figures.aborted, figures.asked - 1);
        EXPECT_GE(figures.ok, 10U) << "of " << figures.asked;
        if (fault_ == Fault::kAgentRestarted || fault_ == Fault::kAllAgentsKilled) {
            EXPECT_EQ(figures.lost, 0U) << "interpreters outlive their agents";
        }
        if (of_two_gateways(fault_)) {
            EXPECT_EQ(figures.lost, 0U) << "no cell needs a gateway to end";
        }
    }

private:
    bool answered() { return sim_.client(1).answered_all() && sim_.client(2).answered_all(); }
    const std::string& kernel() const { return sim_.kernel(1); }

    // The host that the fault strikes.
    std::optional<HostId> reach_phase() {
        std::optional<HostId> target;
        switch (phase_) {
            case Phase::kIdle:
                return sim_.last_executor(kernel());
            case Phase::kCellRunning:
                sim_.client(1).ask("append");
                sim_.client(1).ask("add");
                sim_.run_until([&] { return (target = sim_.executor(kernel())).has_value(); });
                return target;
            case Phase::kResultCommit:
                sim_.result_written();
                sim_.client(1).ask("append");
                sim_.run_until([&] { return (target = sim_.result_written()).has_value(); });
                return target;
            case Phase::kMembershipChange:
                begin_change();
                sim_.run_until([&] {
                    const auto leader = sim_.leader(kernel());
                    const bool changes = leader && !leader->settled;
                    target = changes ? std::optional(leader->host) : std::nullopt;
                    return changes;
                });
                return target;
            case Phase::kSnapshotTransfer:
                for (int i = 0; i < 30; ++i) {
                    sim_.client(1).ask("append");
                }
                sim_.run_until([this] { return answered(); });
                sim_.snapshot_chunk_arrived();
                begin_change();
                sim_.run_until(
                    [&] { return (target = sim_.snapshot_chunk_arrived()).has_value(); });
                return target;
        }
        return std::nullopt;
    }

    // To the one host that has no replica of it.
    void begin_change() {
        const auto leader = sim_.leader(kernel());
        ASSERT_TRUE(leader);
        for (int i = 1; i <= sim_.hosts(); ++i) {
            const HostId host{sim_.host(i).address()};
            bool member = false;
            for (const auto& [replica, where] : leader->membership.hosts) {
                member = member || where == host;
            }
            if (!member) {
                sim_.migrate(kernel(), host);
            }
        }
    }

    void strike(const HostId& target) {
        auto& host = sim_.host(target);
        switch (fault_) {
            case Fault::kInterpreterKilled:
                host.kill_interpreters("killed by signal 9");
                break;
            case Fault::kAgentRestarted:
                sim_.restart_agent(host, milliseconds(300));
                break;
            case Fault::kPowerOff:
                sim_.power_cycle(host, seconds(60));
                break;
            case Fault::kCutOff10s:
                sim_.isolate(host.address(), seconds(10));
                break;
            case Fault::kCutOff90s:
                sim_.isolate(host.address(), seconds(90));
                break;
            case Fault::kOneWayCut:
                for (const auto& other : sim_.everyone_but_clients()) {
                    sim_.cut_one_way(host.address(), other, seconds(12));
                }
                break;
            case Fault::kAgentPaused10s:
                sim_.pause(host, seconds(10));
                break;
            case Fault::kGatewayRestarted:
                sim_.restart_gateway(sim_.gateway(1), false, milliseconds(800));
                break;
            case Fault::kAllAgentsKilled:
                sim_.restart_all_agents(milliseconds(500));
                break;
            case Fault::kDiskFull:
                sim_.fill_disk(host, seconds(20));
                break;
            case Fault::kLogCorrupted:
                sim_.corrupt_log(host, seconds(40));
                break;
            case Fault::kOneGatewayKilled:
                sim_.restart_gateway(first_clients_gateway(), false, seconds(60));
                break;
            case Fault::kOneGatewayCutOff:
                sim_.isolate(first_clients_gateway().address(), seconds(12));
                sim_.client(1).move(seconds(30));
                break;
        }
    }

    PlatformGateway& first_clients_gateway() {
        auto& first = sim_.gateway(1);
        return first.address() == sim_.client(1).gateway() ? first : sim_.gateway(2);
    }

    Fault fault_;
    Phase phase_;
    PlatformSim sim_;
};

class FaultMatrix : public ::testing::TestWithParam<std::tuple<Fault, Phase>> {};

TEST_P(FaultMatrix, NothingAcknowledgedIsLostAndTheKernelGoesOn) {
    const auto [fault, phase] = GetParam();
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Schedule(fault, phase, seed).run();
    }
}

INSTANTIATE_TEST_SUITE_P(
    Platform, FaultMatrix,
    ::testing::Combine(::testing::Values(Fault::kInterpreterKilled, Fault::kAgentRestarted,
                                         Fault::kPowerOff, Fault::kCutOff10s, Fault::kCutOff90s,
                                         Fault::kOneWayCut, Fault::kAgentPaused10s,
                                         Fault::kGatewayRestarted, Fault::kAllAgentsKilled,
                                         Fault::kDiskFull, Fault::kLogCorrupted,
                                         Fault::kOneGatewayKilled, Fault::kOneGatewayCutOff),
                       ::testing::Values(Phase::kIdle, Phase::kCellRunning, Phase::kResultCommit,
                                         Phase::kMembershipChange, Phase::kSnapshotTransfer)),
    [](const auto& param) {
        return name(std::get<0>(param.param)) + "In" + name(std::get<1>(param.param));
    });

}  // namespace
}  // namespace nbos::testing
