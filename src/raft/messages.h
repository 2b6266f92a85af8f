// What Raft nodes say to each other, and what they keep on disk.
//
// Message is one flat struct, as in Figure 2 of the Raft paper: which fields mean something is said
// beside each kind. All of it is legal input twice, late, or out of order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/wire.h"
#include "model/ids.h"
#include "model/membership.h"

namespace nbos::raft {

// Names a proposal for ever. The high 32 bits of `sequence` count the starts of the proposer (its
// HardState::incarnation), the low ones its proposals since that start, from 1: a node that
// restarts does not know which numbers its former self has used up.
// A proposal may reach the log twice (a retry over a change of leader); it is applied once. One of
// an earlier start that commits after one of a later start is void: nobody waits for it any more.
struct ProposalId {
    ReplicaId proposer;
    std::uint64_t sequence = 0;  // 0: not a proposal (no-op and configuration entries)
    auto operator<=>(const ProposalId&) const = default;
};

enum class EntryKind : std::uint8_t {
    kNoop,        // a new leader's first entry; `data` is empty
    kCommand,     // the application's; opaque
    kMembership,  // `data` is an encoded Membership
};

struct Entry {
    Term term;
    Index index;
    EntryKind kind = EntryKind::kNoop;
    ProposalId proposal;
    Bytes data;
    bool operator==(const Entry&) const = default;
};

// What must survive a crash besides the log. `commit` is a hint that speeds up a restart.
struct HardState {
    Term term;
    ReplicaId vote;  // 0: none in this term
    Index commit;
    std::uint64_t incarnation = 0;  // starts of this node; see ProposalId
    bool operator==(const HardState&) const = default;
};

// Which proposals of each node have been applied: all up to `through`, and those in `above`.
// Entries of nodes that have left stay (a few bytes a placement): a late copy may still arrive.
struct AppliedProposals {
    std::uint64_t through = 0;
    std::vector<std::uint64_t> above;  // sorted
    bool operator==(const AppliedProposals&) const = default;
};

// Everything a snapshot replaces: the log up to `index`, the configuration AT `index`, the
// duplicate table, and the application's state.
struct Snapshot {
    Index index;
    Term term;
    Membership membership;
    std::map<ReplicaId, AppliedProposals> applied_proposals;
    Bytes state;
};

enum class MessageKind : std::uint8_t {
    kPreVote,          // term (the one it would campaign in), last_index, last_term
    kPreVoteReply,     // term, reject
    kVote,             // term, last_index, last_term, force (set by a leadership transfer)
    kVoteReply,        // term, reject
    kAppend,           // term, prev (index, term), entries, commit, round
    kAppendReply,      // term, reject, match (or hint_index/hint_term), round
    kHeartbeat,        // term, commit (never above what the receiver is known to match), round
                       // (0: only tells of a commit, no reply wanted), index (0, or the last one
                       // sent: it travels behind all entries up to there)
    kHeartbeatReply,   // term, round, index (as asked), hint_index (its last index; NOT what it
                       // matches)
    kSnapshotChunk,    // term, snapshot id (index, term), offset, chunk, last_chunk, round
    kSnapshotReply,    // term, snapshot id, offset (the next one wanted), reject, round
    kTimeoutNow,       // term: campaign at once (leadership transfer)
    kTransferRequest,  // term, target: a follower asks the leader to hand over to `target`
    kPropose,          // term, entries: proposals forwarded to the leader
    kReadIndex,        // term, context: a follower asks for a read index
    kReadIndexReply,   // term, context, match (the read index), reject
    // Between the groups' Quiescence (raft/quiescence.h); a Node ignores them.
    kQuiet,       // term, index (the leader's last), round: shall we be quiet?
    kQuietReply,  // term, reject, index and round (as asked)
    kWake,        // term
};

struct Message {
    MessageKind kind = MessageKind::kHeartbeat;
    GroupId group;
    ReplicaId from;
    ReplicaId to;
    Term term;

    bool reject = false;
    bool force = false;
    bool last_chunk = false;
    Index index;    // prev / last / match / snapshot index, by kind
    Term log_term;  // term of `index`
    Index commit;
    Index hint_index;  // where a rejecting follower suggests to probe next
    Term hint_term;
    std::uint64_t round = 0;    // number of the probe or heartbeat that a reply answers
    std::uint64_t offset = 0;   // snapshot chunks, in bytes
    std::uint64_t context = 0;  // read index
    ReplicaId target;           // transfer
    std::vector<Entry> entries;
    Bytes chunk;        // the whole snapshot is encode(Snapshot), cut into chunks
    bool bulk = false;  // not sent: what is not bulk may overtake it, bulk keeps its order
};

std::size_t size_in_bytes(const Entry& entry);

void encode(Writer& out, const Entry& entry);
std::optional<Entry> decode_entry(Reader& in);
void encode(Writer& out, const HardState& state);
HardState decode_hard_state(Reader& in);
void encode(Writer& out, const Snapshot& snapshot);
std::optional<Snapshot> decode_snapshot(Reader& in);
void encode(Writer& out, const Message& message);
std::optional<Message> decode_message(Reader& in);

}  // namespace nbos::raft
