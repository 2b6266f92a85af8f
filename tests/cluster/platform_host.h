// A simulated host: its disk, its interpreters, and the real agent while that process runs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "tests/cluster/platform_disk.h"
#include "tests/cluster/platform_interpreters.h"
#include "tests/cluster/platform_transport.h"

namespace nbos::testing {

// One bug at a time, planted at the edges of the real objects; only tests know of them.
enum class PlantedInPlatform : std::uint8_t {
    kNothing,
    kReplyBeforeCommit,    // a reply is shown as the cell's end when the interpreter sends it
    kRetryNotRecognised,   // a request that the gateway repeats counts as a new cell
    kStaleOutputsShown,    // outputs carry no fence
    kQueuedCellForgotten,  // a restarted gateway does not take up what is asked again
    kCountRepeated,        // interpreters do not leave out the counts of lost cells
    kSyncNotAwaited,       // the log says durable before it is
    kStandbySkipsDeltas,   // a standby says that it follows, and does not
    // Of clients that change gateways:
    kHeardForgotten,    // gateways do not say what their clients have heard
    kEndsToldAgain,     // an executor does not say which ends a session that moves has heard
    kOutputsToldAgain,  // nor which outputs
    // Of an interpreter whose agent was killed:
    kSurvivorRepeatsNothing,
    kSurvivorForgetsItsCell,
    kVoidFramesObeyed,
    kGoneAgentObeyed,
};

struct HostOptions {
    agent::ReplicaLimits replica;
    raft::Options raft;
    InterpreterOptions interpreters;
    PlantedInPlatform planted = PlantedInPlatform::kNothing;
    std::uint64_t seed = 0;
};

// What a test may watch: it sees what the real objects say, and changes nothing.
struct HostWatchers {
    std::function<void(const std::string& host, const cluster::Rpc& rpc)> said;
    std::function<void(const std::string& host, const raft::GroupWrite& write)> wrote;
    std::function<void(const std::string& session, const std::string& msg_id,
                       const std::string& who)>
        began;
};

class PlatformHost {
public:
    PlatformHost(Address address, std::set<Address> peers, Wires& wires,
                 const jupyter::MessageFactory& factory, HostOptions options,
                 HostWatchers watchers);
    ~PlatformHost();

    Process process() const { return state_; }
    void start_agent();  // no effect where it runs; it ends at once when its log is corrupted
    void kill_agent();   // its warden and its interpreters stay
    void power_off();
    void power_on();
    void pause();
    void resume();
    void kill_interpreters(const std::string& why);

    PlatformDisk& disk() { return disk_; }
    PlatformInterpreters& interpreters() { return interpreters_; }
    const Address& address() const { return address_; }

private:
    struct AgentProcess;
    class InterpreterPort;
    void post(std::function<void()> work);  // to the process that runs now
    void tick();
    void forget_agent();
    void agent_ends();  // by itself: its warden ends, too, and the interpreters with it

    Address address_;
    std::set<Address> peers_;
    Wires& wires_;
    HostOptions options_;
    HostWatchers watchers_;
    Process state_ = Process::kDead;
    std::uint64_t life_ = 0;
    PlatformDisk disk_;
    PlatformInterpreters interpreters_;
    std::unique_ptr<AgentProcess> agent_;
    std::vector<std::function<void()>> deferred_;  // while it is paused
};

}  // namespace nbos::testing
