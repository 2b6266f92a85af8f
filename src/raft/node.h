// Raft as a value: messages and ticks in, a list of things to do out.
//
// No sockets, files, threads, clocks or global randomness, so the same object runs on a server, in
// a unit test and by the thousand in the simulator. Section numbers are those of Ongaro's thesis
// (2014). Rules that differ from the paper carry the reason where they stand.
//
// Errors   A broken invariant throws InvariantBroken (raft/invariant.h): the group must stop, the
//          other groups of the process need not. The node is not usable afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/ports.h"
#include "base/result.h"
#include "model/ids.h"
#include "model/membership.h"
#include "raft/messages.h"

namespace nbos::raft {

struct Options {
    int election_ticks = 10;  // a voter campaigns after [election_ticks, 2 x election_ticks)
    int heartbeat_ticks = 1;  // must be well below election_ticks
    std::size_t append_bytes_max = 1U << 20U;        // in one kAppend; one entry may be larger
    std::size_t inflight_bytes_max = 8U << 20U;      // appended and not acknowledged, per follower
    std::size_t uncommitted_bytes_max = 64U << 20U;  // above it propose() answers kExhausted
    std::size_t snapshot_chunk_bytes = 512U << 10U;
    int snapshot_retry_ticks = 5;  // a chunk that is not acknowledged is sent again
    // A leader with nothing to do for so long lets its group fall silent (raft/quiescence.h).
    int quiet_after_ticks = 0;  // 0: never
};

// What is on disk when a node starts. A new group's first voters start with the same `snapshot`
// {index 1, term 1, membership, empty state}; a joining node starts empty, as nobody's member.
struct Restored {
    HardState hard_state;
    std::optional<Snapshot> snapshot;
    std::vector<Entry> log;  // contiguous, behind the snapshot
};

// What the driver must do, in this order:
//   1. make `install`, `hard_state` and `append` durable (one batch), then call persisted(batch);
//   2. send `after_persist` only then (a vote or an acknowledgement must not outlive the state it
//      rests on, 3.8); `send_now` may leave at any time, before 1 (10.2.1);
//   3. hand `install` (first) and `committed`, in order, to the application.
// The driver may take the next Output before an earlier one is durable; batches become durable in
// order, and after_persist of a batch waits for that batch.
struct Output {
    std::uint64_t batch = 0;          // 0: nothing to persist; after_persist may leave at once
    std::optional<Snapshot> install;  // replaces the stored log and application state
    std::optional<HardState> hard_state;
    std::vector<Entry> append;  // replaces anything stored at or after append.front().index
    std::vector<Message> send_now;
    std::vector<Message> after_persist;
    std::vector<Entry> committed;  // duplicates of applied proposals come as empty no-ops
    struct ReadReady {
        std::uint64_t context;
        Index index;  // a read is linearizable once this index is applied
    };
    std::vector<ReadReady> reads;
    std::vector<std::uint64_t> lost_reads;  // contexts to ask again: leadership changed
};

enum class Role : std::uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

struct Progress {
    Index match;
    std::uint64_t inflight_bytes = 0;
    bool recently_active = false;
    bool snapshotting = false;
};

// Faults for the simulator's mutation tests: the ten of consensus.md section 10, and some that the
// histories of clients must show. Only a build with NBOS_RAFT_MUTANTS acts on them, and all are off
// by default.
struct Mutants;

class Node {
public:
    // `seed` drives only the election jitter: same seed and inputs, same outputs.
    Node(GroupId group, ReplicaId self, Options options, Restored restored, std::uint64_t seed);
    ~Node();
    Node(Node&&) noexcept;
    Node& operator=(Node&&) noexcept;

    void tick();
    // Messages for another group or another placement of this replica are ignored.
    void step(const Message& message);
    void persisted(std::uint64_t batch);

    // Appends on the leader; elsewhere the proposal goes to the leader once there is one. Either
    // way it is kept and proposed again, at once, whenever the leader changes, until it is seen
    // committed; then it appears in `committed` exactly once, on every node (not on one to which
    // it came inside an installed snapshot).
    // kExhausted: too much is in flight, nothing was queued; try again after a commit.
    Result<ProposalId> propose(Bytes command);

    // One change at a time, joint when voters change (A,B,C to A,B,D has no stage of four voters);
    // the leader leaves the joint stage by itself. kNotLeader; kExhausted: a change is under way,
    // or no entry of this term is committed yet; kInvalid: no voters, an unknown shape, a new voter
    // that is not a caught-up learner, or a newcomer whose id is not above all that were ever used.
    // `next.past` is not looked at.
    Result<Index> change_membership(Membership next);

    // Asks for leadership to move to `target`, whoever leads. A wish: it may fail without a word.
    void transfer_leadership(ReplicaId target);
    void campaign();  // now, with pre-vote; only if a voter
    // A host-level detector has proof that `peer`'s process is gone: do not wait for its timeout.
    void peer_is_dead(ReplicaId peer);

    // Nothing is under way: all that is in the log is durable, committed and applied, nobody waits
    // for anything, and, on a leader, every member has and knows all of it and was heard of lately.
    // Never without a leader.
    bool at_rest() const;
    // Ticks begin again after a time without them in which nobody was expected to speak: a leader
    // says at once that it lives, and everybody has a whole timeout ahead.
    void resume();

    // Answers through Output::reads or lost_reads, on any member.
    void read_index(std::uint64_t context);

    // The application's state at `index` (applied; above the last snapshot, otherwise ignored).
    // Drops the log up to there, except `keep_bytes` of entries that slow followers may still want.
    // The driver stores snapshot() behind the writes of every Output taken so far.
    void compact(Index index, Bytes state, std::size_t keep_bytes = 0);

    bool has_output() const;
    [[nodiscard]] Output take_output();

    GroupId group() const;
    ReplicaId self() const;
    Role role() const;
    Term term() const;
    ReplicaId leader() const;  // 0: unknown
    Index committed() const;
    Index applied() const;  // the highest index handed out in Output::committed
    Index last_index() const;
    Index snapshot_index() const;
    const Snapshot& snapshot() const;  // the last one taken or installed: what compact() stores
    Index first_index() const;         // of the oldest entry held; may lie below the snapshot
    std::optional<Term> term_at(Index index) const;  // nullopt: compacted away, or not there yet
    std::size_t log_bytes() const;                   // entries held since the snapshot
    const Membership& membership() const;  // in force: from the snapshot and the log, by one rule
    bool membership_settled() const;       // the one in force is committed and not joint
    // Leader only: how far each other member is; empty elsewhere.
    std::map<ReplicaId, Progress> progress() const;

    void plant(const Mutants& mutants);  // this and the next: defined only with NBOS_RAFT_MUTANTS
    const Mutants& planted() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nbos::raft
