// A node's log as it sees it: a snapshot, and the entries behind it (and a few before it that slow
// followers may still want).
//
// The one place that knows the configuration: membership_at(i) is the last configuration entry at
// or below i, or else the snapshot's (rule 3 of consensus.md section 7).
//
// Threads  Owned by its Node.
// Errors   Misuse throws InvariantBroken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "raft/invariant.h"
#include "raft/messages.h"
#include "raft/mutants.h"

namespace nbos::raft {

class LogView {
public:
    // Entries at or below the snapshot are dropped; the rest must follow it without a gap.
    LogView(std::optional<Snapshot> snapshot, std::vector<Entry> log);

    const Snapshot& snapshot() const { return snapshot_; }
    Index first() const { return first_; }
    Index last() const { return Index{first_.value + entries_.size() - 1}; }
    Term last_term() const { return entries_.empty() ? base_term_ : entries_.back().term; }
    std::optional<Term> term_at(Index index) const;
    bool matches(Index index, Term term) const { return term_at(index) == term; }
    const Entry& at(Index index) const;
    std::size_t bytes() const { return bytes_; }  // of the entries behind the snapshot

    const Membership& membership_at(Index index) const;
    const Membership& membership() const { return membership_at(last()); }
    Index membership_index() const;  // of the configuration in force
    // In the configuration at `index`, or in any behind it.
    bool is_voter_since(Index index, ReplicaId id) const;

    // From `from` on, at most `bytes_max` (one entry may be larger).
    std::vector<Entry> slice(Index from, std::size_t bytes_max) const;
    std::vector<Entry> tail(Index from) const;

    // Entries of one batch; the first follows last(), or is at most last() when it replaces a
    // conflicting tail. Never at or below the snapshot.
    void append(std::vector<Entry> batch);
    void append_one(Entry entry);  // behind last()
    void install(Snapshot snapshot);
    // `snapshot` covers a prefix of this log.
    void compact(Snapshot snapshot, std::size_t keep_bytes);

    // The largest index at most `index` whose term is at most `term`: where two logs whose terms
    // never fall may still agree.
    Index last_at_or_below(Index index, Term term) const;

#ifdef NBOS_RAFT_MUTANTS
    Mutants mutants;
#endif
    void truncate_from(Index index);

private:
    void push(Entry entry, Index noted_at);
    void note_membership(const Entry& entry, Index noted_at);

    Snapshot snapshot_;
    Index first_{1};
    Term base_term_;  // of the entry before first_
    std::deque<Entry> entries_;
    std::size_t bytes_ = 0;
    // Decoded configuration entries behind the snapshot, oldest first: a part of entries_, kept
    // so that nobody searches the log for them.
    std::vector<std::pair<Index, Membership>> history_;
#ifdef NBOS_RAFT_MUTANTS
    bool snapshot_is_foreign_ = false;
#endif
};

}  // namespace nbos::raft
