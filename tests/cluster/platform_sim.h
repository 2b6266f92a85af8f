// The whole platform in one thread and one seed: the real gateways and agents, the network,
// disks and interpreters between and below them, and clients that use it while things break.
//
// A run is: everything starts, clients work while faults happen (chaos), everything is mended,
// clients finish. What they asked and were told is the history that history_checker.h judges.
// docs/design/0008-platform-simulator.md says what is real, and how to replay a seed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/history_checker.h"
#include "tests/cluster/platform_client.h"
#include "tests/cluster/platform_gateway.h"
#include "tests/cluster/platform_host.h"

namespace nbos::testing {

// Mean time between faults of a kind, in milliseconds; 0: never.
struct FaultRates {
    int kill_interpreter = 0;
    int kill_agent = 0;
    int power_off = 0;
    int cut_off = 0;
    int one_way_cut = 0;
    int pause = 0;
    int kill_gateway = 0;
    int cut_off_gateway = 0;  // from the hosts; its clients still reach it
    int kill_all_agents = 0;
    int disk_full = 0;
    int corrupt_log = 0;
    int slow_disk = 0;
    int slow_link = 0;
    int break_stream = 0;
    int drop_client = 0;
    int move_client = 0;  // to another gateway, its connection before left open
    int cut_client = 0;   // from its gateway
    int migrate = 0;
    int interrupt = 0;
    int restart = 0;
};

struct PlatformOptions {
    std::uint64_t seed = 1;
    int gateways = 1;
    int hosts = 4;
    int replicas = 3;
    int kernels = 1;
    int clients = 2;
    ClientOptions client;
    double unnamed = 0;  // of the clients: they connect without a session id
    HostOptions host;
    FaultRates faults;
    int agent_down_ms_max = 8000;
    int chaos_ms = 60'000;
    int answers_ms_max = 240'000;  // after healing; then what waits never gets its answer

    static PlatformOptions draw(std::uint64_t seed);  // swarm: a subset of faults, own constants
};

class PlatformSim {
public:
    explicit PlatformSim(PlatformOptions options);
    ~PlatformSim();

    // Chaos, healing, another gateway for every client where there are two, the wait for every
    // answer; then the checker's verdict.
    std::vector<BrokenRule> run();

    // ---- for named schedules ----
    void start();  // hosts, gateways, kernels that answer
    void run_for(milliseconds duration);
    bool run_until(const std::function<bool()>& holds,
                   milliseconds limit = std::chrono::minutes(2));
    void heal();
    void change_gateways();  // every client, when all is well and what was asked is answered
    std::vector<BrokenRule> finish();

    PlatformHost& host(int number) { return *hosts_.at(static_cast<std::size_t>(number - 1)); }
    PlatformHost& host(const HostId& id);
    PlatformGateway& gateway(int number) {
        return *gateways_.at(static_cast<std::size_t>(number - 1));
    }
    PlatformClient& client(int number) {
        return *clients_.at(static_cast<std::size_t>(number - 1));
    }
    Network& network() { return wires_.network; }
    int hosts() const { return options_.hosts; }
    int gateways() const { return options_.gateways; }
    std::set<Address> everyone_but_clients() const;

    void isolate(const Address& who, milliseconds duration);
    void power_cycle(PlatformHost& host, milliseconds off);
    void restart_agent(PlatformHost& host, milliseconds down);
    void restart_gateway(PlatformGateway& gateway, bool in_order, milliseconds down);
    void restart_all_agents(milliseconds down);
    void pause(PlatformHost& host, milliseconds duration);
    void fill_disk(PlatformHost& host, milliseconds duration);
    void corrupt_log(PlatformHost& host, milliseconds until_wiped);
    void cut_one_way(const Address& from, const Address& to, milliseconds duration);
    void migrate(const std::string& kernel, const std::optional<HostId>& to);
    void cut_client(PlatformClient& client, milliseconds duration);
    void interrupt(const std::string& kernel);
    void restart_kernel(const std::string& kernel);

    // ---- what the real objects have said ----
    const std::string& kernel(int number) const {
        return kernels_.at(static_cast<std::size_t>(number - 1));
    }
    std::optional<cluster::KernelStatus> leader(const std::string& kernel) const;
    std::optional<HostId> executor(const std::string& kernel) const;  // of a cell that runs now
    std::optional<HostId> last_executor(const std::string& kernel) const;
    // Since the last call: a Claim or Result was handed to this host's log; a snapshot's chunk
    // came.
    std::optional<HostId> claim_written();
    std::optional<HostId> result_written();
    std::optional<HostId> snapshot_chunk_arrived();
    const History& history() const { return history_; }
    std::uint64_t now_ms() const { return time_.ms(); }
    std::size_t faults_injected() const { return faults_injected_; }

private:
    Process process_of(const Address& who) const;
    void make_hosts();
    void make_gateways();
    void make_clients();
    void create_kernels();
    std::string create_kernel();
    bool await_answers();
    void record(Record record);
    void note(const std::string& what);  // for the trace
    // A fault of the hosts, or between them and the gateways.
    void trouble(const std::string& what, milliseconds duration = milliseconds(0));
    void ask_gateway(const std::string& target, const std::string& body);  // one of them
    void note_answer(const jupyter::HttpResponse& response);
    void disturb();
    void schedule(int every_ms, const std::function<void()>& fault);
    void disturb_hosts();
    void disturb_networks();
    void disturb_gateways();
    void disturb_clients();
    PlatformHost& some_host();
    PlatformGateway& some_gateway();
    PlatformClient& some_client();
    const std::string& some_kernel();
    Address some_address();
    void heard_from(const std::string& host, const cluster::Rpc& rpc);
    void written(const std::string& host, const raft::GroupWrite& write);
    milliseconds between(int low_ms, int high_ms);

    PlatformOptions options_;
    VirtualTime time_;
    Rng rng_;
    Network network_;
    Wires wires_;
    std::uint64_t last_uuid_ = 0;
    jupyter::MessageFactory factory_;
    std::vector<std::unique_ptr<PlatformHost>> hosts_;
    std::vector<std::unique_ptr<PlatformGateway>> gateways_;
    std::vector<std::unique_ptr<PlatformClient>> clients_;
    std::vector<std::string> kernels_;
    History history_;
    std::map<std::pair<std::string, std::string>, cluster::KernelStatus> statuses_;
    std::optional<HostId> claim_written_;
    std::optional<HostId> result_written_;
    std::optional<HostId> chunk_arrived_;
    bool chaos_ = false;
    bool corrupted_ = false;
    std::size_t faults_injected_ = 0;
    bool trace_ = false;
};

}  // namespace nbos::testing
