// The entries of a kernel's log, above Raft (consensus.md section 9 in our words:
// docs/design/0002-cell-log.md). Each is a request; whether it takes effect is decided when it is
// applied, by CellMachine, the same on every replica.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/wire.h"
#include "model/ids.h"

namespace nbos::replica {

// How a kernel was asked for. Replicated, so that any host can start an interpreter for it.
struct KernelOptions {
    std::string spec;     // kernelspec name
    std::string session;  // the one Jupyter session id of this kernel's present incarnation
    std::string username;
    std::string cwd;  // where interpreters start; empty: the agent's workspace
    std::map<std::string, std::string> env;
    std::uint32_t replicas = 3;
    std::uint32_t silence_grace_s = 0;  // a silent executor keeps its cell so long; 0: the default
    bool operator==(const KernelOptions&) const = default;
};

struct Configure {  // the first entry of every kernel; a second one is void
    KernelOptions options;
};
constexpr std::uint64_t kAnyIncarnation = ~std::uint64_t{0};

struct Submit {           // numbers and queues a cell; a repeated (session, msg_id) is void
    std::string session;  // the client's
    std::string msg_id;
    bool stop_on_error = true;
    bool numbered = true;  // it shows an execution count: not silent, and kept in the history
    Bytes request;         // encoded jupyter::Message
    // That it was asked for: in a later one it ends at once, as what a restart ended.
    // kAnyIncarnation: whatever it is.
    std::uint64_t incarnation = kAnyIncarnation;
};
struct Claim {
    CellNumber cell;
    Epoch epoch;
    ReplicaId replica;
};
struct Yield {  // the standing claimer gives the cell back before user code began
    CellNumber cell;
    Epoch epoch;
    ReplicaId replica;
};
// A delta larger than one entry travels as numbered parts before its Result, in the same log, so
// that the delta has the quorum of its entry by construction.
struct ResultPart {
    CellNumber cell;
    Epoch epoch;
    ReplicaId replica;
    std::uint32_t number = 0;  // from 0, without gaps
    Bytes slice;
};
enum class Outcome : std::uint8_t { kOk, kError, kAborted };
struct Result {
    CellNumber cell;
    Epoch epoch;
    ReplicaId replica;
    Sequence base;             // the sequence that the delta changes
    std::uint32_t parts = 0;   // ResultParts that come before `delta`, concatenated
    Bytes delta;               // see state/state_table.h; empty: the cell changed nothing
    std::uint64_t digest = 0;  // of the executor's table after the delta
    Outcome outcome = Outcome::kOk;
    Bytes reply;    // encoded jupyter::Message: the whole execute_reply
    Bytes outputs;  // a bounded tail of IOPub: u32 count, then encoded jupyter::Messages
};
struct ExecutorLost {
    CellNumber cell;
    Epoch epoch;
    std::string reason;  // for the user
};
struct Cancel {  // ends a cell that nobody has claimed, also one that has not come yet
    std::string session;
    std::string msg_id;
    std::string reason;
};
struct Reset {            // the user restarts the kernel: empty state, no queue, a new session id
    std::string session;  // the new one; also makes a repeated Reset void
};

using CellEntry =
    std::variant<Configure, Submit, Claim, Yield, ResultPart, Result, ExecutorLost, Cancel, Reset>;

Bytes encode(const CellEntry& entry);
std::optional<CellEntry> decode_cell_entry(std::string_view bytes);  // hostile input is fine

// Pieces that other formats hold, too. Readers of hostile input: check `in` afterwards.
void encode(Writer& out, const KernelOptions& options);
KernelOptions decode_kernel_options(Reader& in);
Outcome get_outcome(Reader& in);
bool get_bool(Reader& in);  // fails on a byte that is neither 0 nor 1

}  // namespace nbos::replica
