// Clients of a replicated map of registers in the Raft simulator, and the judge of what they saw.
//
// Every node applies the log to a RegisterMachine. The clients keep asking whomever they take for
// the leader, also an old one, a learner, or one that was removed: they write and compare-and-set
// through RaftSim::propose() and read through RaftSim::read(). At the end of the run their history
// must be linearizable (linearizability.h).
//
// Half of the seeds ask a second time, elsewhere, for what was not answered in time; the machine
// then keeps requests from taking effect twice. In the other half each request is proposed once, so
// that only the core's own copies of a proposal are about. A request whose node crashed, or that
// took too long, has an unknown result. Reads are always asked again.
//
// Threads  One. All choices come from the seed; use it with a configuration of register_config().
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/ports.h"
#include "tests/cluster/raft_sim.h"
#include "tests/cluster/register_machine.h"
#include "tests/cluster/register_model.h"

namespace nbos::testing {

// A seed's faults without the simulator's own proposals and reads.
SimConfig register_config(std::uint64_t seed);

// Faults of the application, planted to prove that the histories show them.
enum class RegisterFault : std::uint8_t {
    kNone,
    kRepeatsTakeEffect,        // a request that was proposed twice
    kReadWithoutWaiting,       // of the read index: the node answers from what it has applied
    kReadWithoutAsking,        // the node answers from what it has applied, without a read index
    kAnswerBeforeCommit,       // a write is acknowledged when it is proposed
    kSnapshotForgetsSessions,  // which requests have been applied is not restored
};

class RegisterClients : public SimListener {
public:
    explicit RegisterClients(std::uint64_t seed, RegisterFault fault = RegisterFault::kNone);

    struct Counts {
        std::uint64_t reads = 0;  // with a result
        std::uint64_t updates = 0;
        std::uint64_t unknown = 0;
        std::uint64_t asked_again = 0;
        std::uint64_t repeats = 0;  // of requests that had been applied, on all nodes
        std::uint64_t steps = 0;    // of the checker
    };
    const Counts& counts() const { return counts_; }
    const RegisterHistory& history() const { return history_; }

    void node_started(RaftSim& sim, ReplicaId id) override;
    void node_crashed(RaftSim& sim, ReplicaId id) override;
    void restore(RaftSim& sim, ReplicaId id, const raft::Snapshot& snapshot) override;
    void apply(RaftSim& sim, ReplicaId id, const raft::Entry& entry) override;
    Bytes snapshot(RaftSim& sim, ReplicaId id) override;
    void read_ready(RaftSim& sim, ReplicaId id, std::uint64_t context, Index index) override;
    void read_lost(RaftSim& sim, ReplicaId id, std::uint64_t context) override;
    void act(RaftSim& sim) override;
    void healed(RaftSim& sim) override;
    void finish(RaftSim& sim) override;

private:
    struct Request {
        RegisterCall call;
        std::uint32_t number = 0;
        std::size_t operation = 0;     // in the history
        ReplicaId at;                  // with whom it is; 0: nobody
        bool is_proposed = false;      // somewhere, perhaps by a process that is gone
        std::set<ReplicaId> asked;     // whoever of them applies it may answer
        std::uint64_t context = 0;     // of the present read
        std::optional<Index> read_at;  // what `at` must have applied to answer it
        int ask_again_at = 0;
        int give_up_at = 0;
    };
    struct Client {
        std::uint32_t id = 0;
        std::uint32_t requests = 0;
        ReplicaId believed;  // to lead
        std::optional<Request> request;
        int idle_until = 0;
    };

    bool is_read(const Client& c) const { return c.request->call.action == RegisterAction::kRead; }
    HistoryTime time(const RaftSim& sim);
    ReplicaId somebody(RaftSim& sim);
    void believe(RaftSim& sim, Client& c);
    void begin(RaftSim& sim, Client& c);
    void ask(RaftSim& sim, Client& c);
    void arrive(RaftSim& sim, Client& c, std::uint32_t number, ReplicaId id);
    void leave(RaftSim& sim, Client& c);
    void abandon(RaftSim& sim, Client& c);
    void answer(RaftSim& sim, Client& c, RegisterResult result);
    void answer_reads(RaftSim& sim, ReplicaId id);
    Client* reader(ReplicaId id, std::uint64_t context);
    RegisterCall next_call(const RaftSim& sim);

    Rng rng_;
    RegisterFault fault_;
    bool asks_again_;
    std::vector<Client> clients_;
    std::map<ReplicaId, RegisterMachine> machines_;  // of the processes that are up
    RegisterHistory history_;
    Counts counts_;
    RegisterValue values_ = 0;         // every one is written once
    std::vector<RegisterValue> seen_;  // last read or written by anybody, by key
    std::uint64_t contexts_ = 0;
    HistoryTime last_time_ = 0;
    std::optional<int> quiet_at_;  // no new requests from then on
};

}  // namespace nbos::testing
