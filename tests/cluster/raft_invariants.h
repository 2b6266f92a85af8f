// The invariants of consensus.md section 8.2, checked from outside the core.
//
// The checker sees what a driver sees (Outputs, messages that leave, entries applied, questions
// answered by Node's public face, the durable disk images) and keeps its own copy of every log. It
// shares no code with src/raft beyond the message types. The first violation is thrown.
//
// Threads  One.  Cost  O(1) a step, O(log) at an election, 2^members at a change of configuration.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "raft/node.h"
#include "tests/cluster/quorum_overlap.h"
#include "tests/cluster/sim_disk.h"

namespace nbos::testing {

struct Violated {
    std::string invariant;  // its name in consensus.md 8.2
    std::string detail;
};

// What the checker may look at of a replica.
struct ReplicaView {
    ReplicaId id;
    const raft::Node* node = nullptr;  // nullptr: down
    const DiskImage* disk = nullptr;   // what is durable
    bool gone = false;                 // its disk is lost for good
};

class RaftInvariants {
public:
    // All replicas there ever were; refreshed by the simulator before each call below.
    std::vector<ReplicaView> replicas;

    // Off: of a wrong change of members only the effect is looked for (quorums that do not meet,
    // entries lost), not the broken rule itself (rule 2 of section 7, legal steps).
    bool check_change_rules = true;
    // Off: what clients are promised (read indexes that are not stale, a proposal applied once) is
    // left to the histories of clients.
    bool check_promises_to_clients = true;

    // The replica is what its durable image says: it started, or crashed.
    void reset(ReplicaId id);
    void output(ReplicaId id, const raft::Output& out);
    void left(ReplicaId id, const raft::Message& m);  // handed to the network
    void applied(ReplicaId id, const raft::Entry& entry);
    void compacted(ReplicaId id, const raft::Snapshot& snapshot);
    void after_step(ReplicaId id);  // only when the node has no output left
    void read_done(Index asked_at_commit, Index answered) const;

    bool was_applied(const raft::ProposalId& id) const { return proposals_.contains(id); }
    std::vector<Membership> configurations() const;  // in force somewhere, disks included
    Index committed() const { return Index{committed_.size()}; }
    // A hash over all that was applied up to `index`, duplicates removed.
    std::uint64_t prefix_hash(Index index) const { return prefix_.at(index.value); }
    static std::uint64_t mix(std::uint64_t a, std::uint64_t b);
    static std::uint64_t content_hash(const raft::Entry& entry);

    RaftInvariants();

private:
    struct LogEntry {
        Term term;
        std::uint64_t hash;
    };
    struct Shadow {
        Index first{1};  // of `log`
        std::deque<LogEntry> log;
        Index snapshot_index;
        Term snapshot_term;
        std::vector<std::pair<Index, Membership>> configs;  // [0] is the snapshot's
        Index commit;
        Index applied;
        Term leader_term;   // the last term that it led
        Index leader_last;  // its last entry when last seen leading that term
        Index acked;        // the highest append acknowledged in acked_term
        Term acked_term;
        Term promised;  // no message that needs durability was of a higher term
        std::map<Term, ReplicaId> votes;

        Index last() const { return Index{first.value + log.size() - 1}; }
        const LogEntry* at(Index index) const;
        Term last_term() const;
        const Membership& config() const { return configs.back().second; }
        const Membership& config_at(Index index) const;
        bool has(Index index, Term term) const;
    };
    struct Committed {
        Term term;
        std::uint64_t hash;
        Term by;  // committed in this term or before
    };

    const ReplicaView& view(ReplicaId id) const;
    void shadow_install(ReplicaId id, Shadow& s, const raft::Snapshot& snapshot);
    void shadow_append(ReplicaId id, Shadow& s, const raft::Entry& entry);
    void check_entry(ReplicaId id, const Shadow& s, const raft::Entry& entry);
    void check_snapshot(ReplicaId id, const raft::Snapshot& snapshot);
    void check_appended_by_leader(const ReplicaView& r, const Shadow& s, const raft::Output& out);
    void note_committed(const ReplicaView& r, Shadow& s, const raft::Entry& entry);
    void check_role(const ReplicaView& r, Shadow& s);
    void check_log(const ReplicaView& r, const Shadow& s) const;
    void check_promises(const ReplicaView& r, Shadow& s) const;
    void check_durable_majority(const ReplicaView& r, const Shadow& s, Index index) const;
    void check_rivals(const Committed& entry, Index index) const;
    std::vector<Elector> electors() const;
    void check_quorum_overlap() const;
    void check_acknowledged(const ReplicaView& r, Shadow& s, const raft::Message& m);
    void check_voted(const ReplicaView& r, Shadow& s, Term term, ReplicaId candidate);

    std::map<ReplicaId, Shadow> shadows_;
    std::map<Term, ReplicaId> leaders_;
    // (term, index) -> what that entry is, in every log, and the term of the one before it.
    std::unordered_map<std::uint64_t, std::pair<std::uint64_t, Term>> entries_;
    std::vector<Committed> committed_;    // [i] is index i + 1
    std::vector<std::uint64_t> content_;  // what was applied at i + 1
    std::vector<std::uint64_t> prefix_{0};
    std::map<Index, std::string> snapshots_;  // encoded: equal wherever they were taken
    std::map<raft::ProposalId, Index> proposals_;
    bool overlap_due_ = false;  // a configuration in force has changed
};

}  // namespace nbos::testing
