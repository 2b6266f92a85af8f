// A small model of what the agent does for one replica: it proposes, runs cells in a modelled
// interpreter, and tells the gateway. Deterministic: time and chance come in.
//
// What survives a crash is in the log; a driver that restarts is a new object.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/ports.h"
#include "raft/messages.h"
#include "replica/cell_machine.h"
#include "tests/cluster/cell_sim_checker.h"
#include "tests/cluster/cell_sim_interpreter.h"
#include "tests/cluster/cell_sim_types.h"

namespace nbos::testing {

// What a driver needs of consensus and of the network. One object serves all drivers.
class DriverPorts {
public:
    virtual ~DriverPorts() = default;
    virtual bool propose(ReplicaId from, Bytes command) = 0;  // false: no room, try again
    virtual bool leads(ReplicaId self) const = 0;
    virtual const Membership& membership(ReplicaId self) const = 0;
    virtual bool caught_up(ReplicaId self) const = 0;  // see Consensus
    virtual PeerHealth health(ReplicaId self, ReplicaId other) const = 0;
    virtual void compact(ReplicaId self, Index index, Bytes state) = 0;
    virtual void to_gateway(ReplicaId from, ToGateway message) = 0;
    virtual void take_lead(ReplicaId self) = 0;
};

struct DriverOptions {
    CellFaults faults;
    Planted planted = Planted::kNothing;
    Ticks silence_grace = 60;
    Ticks retry = 50;
    Ticks cell_ticks_min = 1;
    Ticks cell_ticks_max = 40;
    std::size_t compact_every = 0;  // entries; 0: never
};

class CellDriver {
public:
    CellDriver(ReplicaId self, DriverPorts& ports, CellChecker& checker, DriverOptions options,
               std::uint64_t seed);

    void restore(Index index, std::string_view snapshot);  // empty: a new group
    void apply(const raft::Entry& entry);
    void handle(const ToDriver& message);
    void tick(Ticks now);
    void crash_interpreter(bool in_shadow_step_only);
    // Healing: from now on nothing goes wrong by itself.
    void heal() { options_.faults = {}; }

    const replica::CellMachine& machine() const { return machine_; }
    Index applied() const { return applied_; }
    std::string describe() const;
    const ModelInterpreter& interpreter() const { return interpreter_; }
    bool running() const { return run_ && run_->began; }

private:
    struct Run {
        replica::Standing claim;
        replica::QueuedCell cell;
        Sequence base;
        bool began = false;
        bool proposed = false;
        Ticks ends_at = 0;
        std::uint32_t outputs = 0;
    };

    void on(const replica::CellClaimed& event);
    void on(const replica::ClaimEnded& event);
    void on(const replica::CellEnded& event);
    void on(const replica::SubmitRepeated& event);
    void on(const replica::WasReset& event);
    void on(const replica::Void&) {}
    void on(const replica::Configured&) {}
    void on(const replica::CellQueued&) {}
    void on(const replica::Diverged&) { interpreter_.discard(); }

    void propose(const replica::CellEntry& entry);
    void configure();
    void claim_next(bool racing);
    void begin(replica::Standing claim, const replica::QueuedCell& cell);
    void run_on();
    void propose_result();
    void watch_executor();
    void answer(const std::string& msg_id, replica::Ending ending,
                const replica::Finished& finished);
    std::string command_as_planted(std::string_view command) const;

    ReplicaId self_;
    DriverPorts& ports_;
    CellChecker& checker_;
    DriverOptions options_;
    Rng rng_;
    replica::CellMachine machine_;
    ModelInterpreter interpreter_;
    Index applied_;
    std::size_t applied_since_snapshot_ = 0;
    Ticks now_ = 0;
    std::deque<Bytes> unproposed_;
    std::optional<std::pair<CellNumber, Epoch>> claimed_;  // our claim in flight, of this life
    Ticks claimed_at_ = 0;
    std::optional<Ticks> configured_at_;
    std::optional<Run> run_;
    std::optional<Epoch> loss_proposed_;
    Ticks loss_proposed_at_ = 0;
    std::optional<ReplicaId> silent_;
    Ticks silent_since_ = 0;
    std::uint64_t resubmitted_ = 0;
};

}  // namespace nbos::testing
