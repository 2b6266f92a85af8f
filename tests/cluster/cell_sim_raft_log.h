// The cell simulator's log on real Raft nodes: RaftSim (raft_sim.h) with its disks, network, faults
// and invariants, one simulated millisecond at a time, under the drivers of the cell protocol.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/cluster/cell_sim_consensus.h"
#include "tests/cluster/raft_sim.h"

namespace nbos::testing {

class RaftLog : public Consensus, public SimListener {
public:
    explicit RaftLog(SimConfig config) : config_(config) {}

    void start(ConsensusListener& listener) override;
    void tick(Ticks now) override;
    void disturb(const CellFaults& faults) override;
    void heal() override { sim_->heal(); }
    std::optional<std::string> violation() const override { return violation_; }

    bool propose(ReplicaId from, Bytes command) override;
    void compact(ReplicaId id, Index index, Bytes state) override;
    void transfer(ReplicaId to) override;
    std::string describe(ReplicaId id) const override;
    bool leads(ReplicaId id) const override;
    const Membership& membership(ReplicaId id) const override;
    bool caught_up(ReplicaId id) const override;
    bool alive(ReplicaId id) const override { return sim_->is_up(id); }
    bool paused(ReplicaId id) const override { return sim_->is_paused(id); }
    bool connected(ReplicaId a, ReplicaId b) const override;
    std::vector<ReplicaId> processes() const override { return sim_->replicas(); }

    void crash(ReplicaId id) override { sim_->crash(id, std::nullopt); }
    void restart(ReplicaId id) override { sim_->restart(id); }
    void pause(ReplicaId id, Ticks ticks) override { sim_->pause(id, ms(ticks)); }
    void cut(ReplicaId id, Ticks ticks) override;
    void replace(ReplicaId removed) override;

    RaftSim& sim() { return *sim_; }

    // ---- SimListener ----
    void node_started(RaftSim& sim, ReplicaId id) override;
    void node_crashed(RaftSim& sim, ReplicaId id) override;
    void restore(RaftSim& sim, ReplicaId id, const raft::Snapshot& snapshot) override;
    void apply(RaftSim& sim, ReplicaId id, const raft::Entry& entry) override;
    Bytes snapshot(RaftSim&, ReplicaId id) override { return listener_->snapshot(id); }
    void read_ready(RaftSim& sim, ReplicaId id, std::uint64_t context, Index index) override;
    void read_lost(RaftSim& sim, ReplicaId id, std::uint64_t context) override;

private:
    // What a process has still to apply before it may claim: unknown until a read index says.
    struct CatchUp {
        std::optional<std::uint64_t> asked;
        std::optional<Index> until;
        Ticks asked_at = 0;
    };
    static int ms(Ticks ticks) { return static_cast<int>(ticks) * 10; }
    raft::Node* node(ReplicaId id) const { return sim_->node(id); }

    SimConfig config_;
    ConsensusListener* listener_ = nullptr;
    std::unique_ptr<RaftSim> sim_;
    std::map<ReplicaId, CatchUp> catch_up_;
    std::map<ReplicaId, Ticks> cut_until_;  // from the gateway
    std::uint64_t contexts_ = 1'000'000;
    Ticks now_ = 0;
    std::optional<std::string> violation_;
};

// Network, disk and timing constants of a run, drawn from its seed; the faults are CellFaults'.
SimConfig raft_config(std::uint64_t seed);

}  // namespace nbos::testing
