// One kernel as a pure function of its log: which cell is next, who runs it, what the state is.
//
// Every replica feeds the committed entries of its log in order and gets the same events. Entries
// that lost a race are void: committed, applied, and without effect (rules 1 to 7 and 9 to 12 of
// consensus.md section 9). The driver (agent/kernel_replica.h) turns events into work.
//
// Threads  Owned by the agent's loop thread; not synchronised.
// Errors   An entry that cannot be decoded is void, like any other that has no effect.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/wire.h"
#include "model/ids.h"
#include "replica/cell_log.h"
#include "state/state_table.h"

namespace nbos::replica {

// The (term, index) of the standing Claim: outputs, chunks and grants of a lower one are refused.
struct Fence {
    Term term;
    Index index;
    auto operator<=>(const Fence&) const = default;
};

struct Standing {
    CellNumber cell;
    Epoch epoch;
    ReplicaId replica;
    Fence fence;
};

struct QueuedCell {
    CellNumber number;
    std::string session;
    std::string msg_id;
    bool stop_on_error = true;
    bool numbered = true;
    Bytes request;
};

enum class Ending : std::uint8_t {
    kResult,        // accepted; `delta` has been merged, `sequence` published
    kExecutorLost,  // the state is that of the cell before
    kCancelled,     // before any claim: by an interrupt, a restart, or a lost cell of its client
    kAborted,       // queued behind a cell that failed with stop_on_error
    kReset,         // the kernel was restarted while it ran
};

// How a finished cell is answered when its client asks again, by message id.
struct Finished {
    CellNumber cell;  // 0: never queued: too many were, or it was cancelled before it came
    Ending ending = Ending::kResult;
    Outcome outcome = Outcome::kOk;
    Bytes reply;    // empty for a cell that ended without an executor's reply (lost, cancelled),
    Bytes outputs;  // and once it is older than Limits keeps
    std::string reason;  // why there is no reply
};

// What happened when an entry was applied, in order.
struct Configured {};
struct CellQueued {
    CellNumber cell;
};
struct SubmitRepeated {  // `finished` when the cell has ended: answer it again
    std::string session;
    std::string msg_id;
    std::optional<Finished> finished;
};
struct CellClaimed {
    Standing claim;
    QueuedCell cell;
};
struct ClaimEnded {  // yielded: the cell is unclaimed again, under a new epoch
    CellNumber cell;
};
struct CellEnded {
    Ending ending = Ending::kResult;
    QueuedCell cell;
    Finished finished;
    ReplicaId executor;  // 0 when it never had one
    Bytes delta;         // kResult: whole, parts joined; what standby interpreters apply
    Sequence sequence;   // after it
};
struct Diverged {  // this replica's table does not have the digest the executor had
    Sequence sequence;
};
struct WasReset {
    std::string session;
};
struct Void {  // no effect; `why` is for the log
    std::string why;
};
using Event = std::variant<Configured, CellQueued, SubmitRepeated, CellClaimed, ClaimEnded,
                           CellEnded, Diverged, WasReset, Void>;

// The same on every replica of a kernel, or they would not agree: they are constants of a release.
struct Limits {
    std::size_t queued_cells_max = 1000;          // above it a Submit ends at once, cancelled
    std::size_t queued_bytes_max = 64U << 20U;    // of requests; likewise
    std::size_t finished_cells_max = 256;         // replies kept for clients that ask again
    std::size_t finished_bytes_max = 16U << 20U;  // of those; the newest one is always kept
    std::size_t remembered_ids_max = 10'000;      // (session, msg_id) of ended cells: deduplication
    std::size_t past_sessions_max = 64;           // of earlier incarnations: a late Reset is void
};

class CellMachine {
public:
    explicit CellMachine(Limits limits = {});

    // An empty command (a no-op of Raft's) gives no event; so does a Cancel of a cell that must
    // wait for its turn to end, and a part, or a Result that overtook its parts.
    // When the executor of the standing claim leaves the group, the driver proposes ExecutorLost;
    // nothing changes here until that is applied.
    std::vector<Event> apply(Term term, Index index, std::string_view command);

    Bytes snapshot() const;  // everything below, and the table
    static nbos::Result<CellMachine> restore(std::string_view snapshot, Limits limits = {});

    const std::optional<KernelOptions>& options() const { return options_; }
    // The present incarnation's Jupyter session id.
    const std::string& session() const { return session_; }
    // The present one's, or one of those before it.
    bool had_session(const std::string& session) const;
    // The lowest cell that has not ended; may not be submitted yet.
    CellNumber next_cell() const;
    Epoch epoch() const { return epoch_; }
    const std::optional<Standing>& standing() const { return standing_; }
    // Not ended; the first is the running or next one.
    const std::deque<QueuedCell>& queue() const { return queue_; }
    Sequence sequence() const { return sequence_; }  // never falls; a Reset counts as a change
    std::uint64_t incarnation() const { return incarnation_; }  // counts Resets
    // Of the last accepted Result: the preferred next one. 0: none, or it was lost since.
    ReplicaId last_executor() const { return last_executor_; }
    // Execution counts that lost cells have shown and that the state does not know of: the next
    // cell leaves them out, so that no count is shown twice.
    std::uint32_t spent_counts() const { return spent_counts_; }
    // Parts of the standing claim's Result are here, others are still to come.
    bool result_is_arriving() const { return !parts_.empty() || held_; }
    const state::StateTable& table() const { return table_; }
    std::optional<Finished> finished(const std::string& session, const std::string& msg_id) const;
    bool knows(const std::string& session, const std::string& msg_id) const;  // queued, or ended
    // It has ended, or is cancelled and waits for its turn to end.
    bool will_not_run(const std::string& session, const std::string& msg_id) const;
    // Who asked for a cell of this id that is queued or has ended; the newest when several did.
    std::optional<std::string> asker(const std::string& msg_id) const;
    // Message ids of the newest cells of a client that have ended, oldest first.
    std::vector<std::string> ended_cells(const std::string& session, std::size_t max) const;

private:
    struct Ended {  // one of the remembered ids
        std::string session;
        std::string msg_id;
        Finished answer;
        bool kept = true;  // the whole answer; else only how it ended
    };
    using Id = std::pair<std::string, std::string>;
    using Events = std::vector<Event>;

    void on(const Configure& entry, Fence fence, Events& events);
    void on(const Submit& entry, Fence fence, Events& events);
    void on(const Claim& entry, Fence fence, Events& events);
    void on(const Yield& entry, Fence fence, Events& events);
    void on(const ResultPart& entry, Fence fence, Events& events);
    void on(const Result& entry, Fence fence, Events& events);
    void on(const ExecutorLost& entry, Fence fence, Events& events);
    void on(const Cancel& entry, Fence fence, Events& events);
    void on(const Reset& entry, Fence fence, Events& events);

    std::string why_not_standing(CellNumber cell, Epoch epoch, ReplicaId replica) const;
    bool parts_complete(const Result& entry) const;
    void accept(const Result& entry, Events& events);
    void end_claim();  // without a delta: the epoch grows
    void end_first(Finished finished, Events& events);
    void end_cancelled_heads(Events& events);
    void cancel_queue_of(const std::string& session, const std::string& reason);
    void end_unqueued(QueuedCell cell, const std::string& reason, Events& events);
    void end_all(Ending ending, const std::string& reason, Events& events);
    void remember(Ended ended);
    void trim();
    void forget_answer(Ended& ended);
    void restore_queue(Reader& in);
    void restore_held(Reader& in);
    void restore_ended(Reader& in);

    Limits limits_;

    // All of this is in snapshot().
    std::optional<KernelOptions> options_;
    std::string session_;
    std::deque<std::string> past_sessions_;
    std::uint64_t incarnation_ = 0;
    CellNumber last_submitted_;
    std::deque<QueuedCell> queue_;
    std::map<CellNumber, std::string> cancelled_;  // queued, to end as cancelled in their turn
    Epoch epoch_;
    std::optional<Standing> standing_;
    std::map<std::uint32_t, Bytes> parts_;  // of the standing claim's Result, by number
    std::optional<Result> held_;            // the standing executor's, until all its parts are here
    Sequence sequence_;
    ReplicaId last_executor_;
    std::uint32_t spent_counts_ = 0;
    std::deque<Ended> ended_;  // oldest first
    state::StateTable table_;

    // Derived.
    std::uint64_t ended_dropped_ = 0;       // so many came before ended_.front()
    std::map<Id, std::uint64_t> ended_at_;  // ordinal: position in ended_ plus ended_dropped_
    std::set<Id> queued_ids_;
    std::size_t queued_bytes_ = 0;
    std::size_t answers_ = 0;  // in ended_: always its newest ones
    std::size_t answer_bytes_ = 0;
};

}  // namespace nbos::replica
