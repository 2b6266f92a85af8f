// A log that is never wrong: one list of committed entries, which nodes learn of at their own pace.
//
// It has what the cell protocol sees of Raft - stale leaders, lost and late proposals, crashes,
// snapshots, replaced members - and none of its machinery, so a seed costs a millisecond and a
// failure is never consensus' fault.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "tests/cluster/cell_sim_consensus.h"

namespace nbos::testing {

class NaiveLog : public Consensus {
public:
    NaiveLog(std::size_t replicas, std::uint64_t seed);

    void start(ConsensusListener& listener) override;
    void tick(Ticks now) override;
    void disturb(const CellFaults& faults) override;
    void heal() override;

    bool propose(ReplicaId from, Bytes command) override;
    void compact(ReplicaId id, Index index, Bytes state) override;
    void transfer(ReplicaId to) override;
    bool leads(ReplicaId id) const override;
    const Membership& membership(ReplicaId id) const override;
    bool caught_up(ReplicaId id) const override;
    bool alive(ReplicaId id) const override { return nodes_.at(id).alive; }
    bool paused(ReplicaId id) const override { return now_ < nodes_.at(id).paused_until; }
    bool connected(ReplicaId a, ReplicaId b) const override;
    std::vector<ReplicaId> processes() const override;

    void crash(ReplicaId id) override;
    void restart(ReplicaId id) override;
    void pause(ReplicaId id, Ticks ticks) override { nodes_.at(id).paused_until = now_ + ticks; }
    void cut(ReplicaId id, Ticks ticks) override { nodes_.at(id).cut_until = now_ + ticks; }
    void replace(ReplicaId removed) override;

private:
    struct Node {
        bool alive = true;
        Ticks paused_until = 0;
        Ticks cut_until = 0;
        Ticks back_at = 0;        // after a crash
        Term believes;            // the newest term it has heard of
        std::size_t applied = 0;  // entries of log_
        std::size_t committed_at_start = 0;
        std::deque<Bytes> pending;
        std::size_t snapshot_at = 0;
        Bytes snapshot;
        Membership membership;
    };

    bool works(ReplicaId id) const {
        return nodes_.contains(id) && alive(id) && !paused(id) && !is_cut(id);
    }
    bool is_cut(ReplicaId id) const { return now_ < nodes_.at(id).cut_until; }
    bool has_quorum() const;
    void elect();
    void append_pending();
    void apply_some(ReplicaId id, Node& node);
    void install(ReplicaId id, Node& node, std::size_t at, const Bytes& state);
    void append(raft::EntryKind kind, Bytes data);

    Rng rng_;
    ConsensusListener* listener_ = nullptr;
    std::map<ReplicaId, Node> nodes_;
    std::vector<raft::Entry> log_;
    Membership members_;  // the newest
    ReplicaId leader_;
    Term term_{1};
    Ticks leaderless_since_ = 0;
    Ticks now_ = 0;
    std::uint64_t next_id_ = 1;
};

}  // namespace nbos::testing
