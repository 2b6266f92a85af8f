// The cell protocol under fire: drivers, interpreters, a gateway and a log in one thread, from one
// seed. After every event the checker compares what happened with consensus.md section 9.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/ports.h"
#include "tests/cluster/cell_sim_checker.h"
#include "tests/cluster/cell_sim_consensus.h"
#include "tests/cluster/cell_sim_driver.h"
#include "tests/cluster/cell_sim_gateway.h"

namespace nbos::testing {

struct CellSimOptions {
    std::uint64_t seed = 1;
    CellFaults faults;
    Planted planted = Planted::kNothing;
    Ticks silence_grace = 60;
    std::size_t compact_every = 0;
    Ticks cell_ticks_min = 1;
    Ticks cell_ticks_max = 40;
    std::size_t cells = 20;
    Ticks chaos_ticks = 1500;
    Ticks healing_ticks_max = 4000;
};

// A subset of the faults with rates of its own, drawn from the seed (swarm testing).
CellSimOptions swarm(std::uint64_t seed);

class CellSim : public DriverPorts, public GatewayPorts, public ConsensusListener {
public:
    CellSim(CellSimOptions options, std::unique_ptr<Consensus> consensus);

    // Chaos, healing, and the wait for every cell to end. The violation, if there was one.
    std::optional<std::string> run();
    // For named tests: one tick at a time, and until something holds.
    void tick();
    template <class Condition>
    bool run_until(Condition holds, Ticks ticks_max = 2000) {
        for (Ticks i = 0; i < ticks_max && !violation(); ++i) {
            if (holds()) {
                return true;
            }
            tick();
        }
        return holds();
    }
    void heal();
    std::optional<std::string> finish();  // heals, and waits for every cell to end

    GatewayModel& gateway() { return gateway_; }
    CellChecker& checker() { return checker_; }
    Consensus& consensus() { return *consensus_; }
    CellDriver* driver(ReplicaId id);  // nullptr: its process is dead
    ReplicaId leader() const;          // 0: nobody
    ReplicaId executor() const;        // where user code runs; 0: nowhere
    std::optional<std::string> violation() const;
    Ticks now() const { return now_; }
    std::string describe() const;  // one line a process, for a failure's report

    // ---- ports ----
    bool propose(ReplicaId from, Bytes command) override;
    bool leads(ReplicaId self) const override { return consensus_->leads(self); }
    bool caught_up(ReplicaId self) const override { return consensus_->caught_up(self); }
    const Membership& membership(ReplicaId self) const override {
        return consensus_->membership(self);
    }
    PeerHealth health(ReplicaId self, ReplicaId other) const override;
    void compact(ReplicaId self, Index index, Bytes state) override;
    void to_gateway(ReplicaId from, ToGateway message) override;
    void to_some_driver(ToDriver message) override;
    void take_lead(ReplicaId self) override { consensus_->transfer(self); }

    void node_started(ReplicaId id) override;
    void node_crashed(ReplicaId id) override;
    void restore(ReplicaId id, Index index, std::string_view state) override;
    void apply(ReplicaId id, const raft::Entry& entry) override;
    Bytes snapshot(ReplicaId id) override;

private:
    struct Letter {
        ReplicaId from;
        ReplicaId to;
        ToGateway to_gateway;
        ToDriver to_driver;
    };

    void post(Letter letter);
    void deliver();
    void disturb();
    bool everyone_agrees() const;

    CellSimOptions options_;
    Rng rng_;
    std::unique_ptr<Consensus> consensus_;
    CellChecker checker_;
    GatewayModel gateway_;
    std::map<ReplicaId, std::unique_ptr<CellDriver>> drivers_;
    std::multimap<Ticks, Letter> letters_;
    Ticks now_ = 0;
    bool healed_ = false;
};

}  // namespace nbos::testing
