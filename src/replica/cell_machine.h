// One kernel as a pure function of its log: which cell is next, who runs it, what the state is.
//
// Every replica feeds the committed entries of its log in order and gets the same events. Entries
// that lost a race are void: committed, applied, and without effect (rules 1 to 7 and 9 to 12 of
// consensus.md section 9). The driver (agent/kernel_replica.h) turns events into work.
//
// Threads  Owned by the agent's loop thread; not synchronised.
// Errors   An entry that cannot be decoded is void and reported as kMalformed: never a crash.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
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
    Bytes request;
};

// How a finished cell is answered when its client asks again, by message id.
struct Finished {
    CellNumber cell;
    Outcome outcome = Outcome::kOk;
    Bytes reply;    // empty for a cell that ended without an executor's reply (lost, cancelled)
    Bytes outputs;
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
enum class Ending : std::uint8_t {
    kResult,        // accepted; `delta` has been merged, `sequence` published
    kExecutorLost,  // the state is that of the cell before
    kCancelled,     // before any claim
    kAborted,       // queued behind a cell that failed with stop_on_error
    kReset,         // the kernel was restarted under it
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

struct Limits {
    std::size_t queued_cells_max = 1000;      // above it a Submit ends at once, cancelled
    std::size_t finished_cells_max = 256;     // replies kept for clients that ask again
    std::size_t remembered_ids_max = 10'000;  // (session, msg_id) pairs for deduplication
};

class CellMachine {
public:
    explicit CellMachine(Limits limits = {});

    std::vector<Event> apply(Term term, Index index, std::string_view command);
    // The executor of the standing claim left the group: the driver proposes ExecutorLost; nothing
    // changes here until that is applied.

    Bytes snapshot() const;  // everything below, and the table
    static nbos::Result<CellMachine> restore(std::string_view snapshot, Limits limits = {});

    const std::optional<KernelOptions>& options() const;
    const std::string& session() const;  // the present incarnation's Jupyter session id
    CellNumber next_cell() const;  // the lowest cell that has not ended; may not be submitted yet
    Epoch epoch() const;
    const std::optional<Standing>& standing() const;
    const std::deque<QueuedCell>& queue() const;  // not ended; the first is the running or next one
    Sequence sequence() const;
    std::uint64_t incarnation() const;  // counts Resets
    ReplicaId last_executor() const;    // 0: none yet; the preferred next one
    const state::StateTable& table() const;
    std::optional<Finished> finished(const std::string& session, const std::string& msg_id) const;

private:
    // The helper that writes this file fills in the state; all of it is in snapshot().
};

}  // namespace nbos::replica
