// What gateways and agents say to each other, over the same authenticated connections that agents
// use among themselves (io/peer_transport.h, frame kind kRpc).
//
// Every message may be lost with its connection. What must not be lost is asked again: the gateway
// repeats a request (same `request` number, or the same message id for a cell) until it is
// answered, and every receiver answers a repeated one the same way.
#pragma once

#include <cstdint>
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
#include "jupyter/message.h"
#include "model/ids.h"
#include "model/membership.h"
#include "raft/node.h"
#include "replica/cell_log.h"
#include "replica/cell_machine.h"
#include "replica/table_log.h"

namespace nbos::cluster {

// The group of the gateways' own tables, where a kernel's id stands for others: StartReplica,
// StopReplica, ChangeMembers and KernelStatus speak of it, too. Begun anew, when most of its
// members are lost for good, it is another group, of a later generation; the latest is the one. No
// kernel may have such an id.
constexpr KernelId system_group(std::uint64_t generation) { return KernelId{Uuid{0, generation}}; }
constexpr bool is_system_group(KernelId id) { return id.value.hi == 0; }
constexpr KernelId kSystemGroup = system_group(1);  // of a new cluster

// ---- gateway to agent ----

struct Hello {  // first on a new connection; answered by AgentInfo and a KernelStatus per replica
    std::string gateway;
};
struct HostDirectory {  // where to reach the other hosts: "ip:port"
    std::map<HostId, std::string> addresses;
};
struct StartReplica {  // answered by Reply once the replica exists on disk
    std::uint64_t request = 0;
    KernelId kernel;
    ReplicaId replica;
    // Set for the first members of a new kernel, the same for all of them. Empty: the replica
    // joins, and learns everything from the leader once a ChangeMembers has added it.
    std::optional<Membership> bootstrap;
    replica::KernelOptions options;  // proposed by the lowest of the first members
};
struct StopReplica {  // forget it, log and all; not an error when it is not there
    std::uint64_t request = 0;
    KernelId kernel;
    ReplicaId replica;
};
struct ClientMessage {  // shell (cells included), control and stdin messages from a client
    KernelId kernel;
    jupyter::Message message;
    std::uint64_t incarnation = replica::kAnyIncarnation;  // a cell's, as Submit's
};
struct CellId {
    std::string session;  // the client's
    std::string msg_id;
    auto operator<=>(const CellId&) const = default;
};
// Answered when the running one has its signal, and those that wait will not run.
struct Interrupt {
    std::uint64_t request = 0;
    KernelId kernel;
    std::vector<CellId> cells;  // that are meant; none: all
    // Nobody waits for them any more: one signal to a running one, however often this is asked for,
    // and the answer when it has ended.
    bool leaving = false;
};
// What runs of it that is no cell: a widget's callback, a completion. To the replica that has it;
// not answered.
struct InterruptCallback {
    KernelId kernel;
};
struct Restart {  // answered when the new incarnation can serve
    std::uint64_t request = 0;
    KernelId kernel;
    std::string session;  // the new Jupyter session id
};
struct Lead {  // take the leadership and become the next executor (migration)
    std::uint64_t request = 0;
    KernelId kernel;
};
struct ChangeMembers {  // to the leader's agent; add as learner, catch up, swap; answered when done
    std::uint64_t request = 0;
    KernelId kernel;
    std::optional<std::pair<ReplicaId, HostId>> add;
    std::optional<ReplicaId> remove;
    // The one that goes may end its cell first (a migration); false: it is lost, and the cell too.
    bool cell_may_end = false;
};
struct KillInterpreter {  // `nbos kernel kill-replica`: SIGKILL, as a crash would
    std::uint64_t request = 0;
    KernelId kernel;
};

struct Heard {  // how far a client's session has heard a cell; to every host of the kernel
    KernelId kernel;
    std::string session;  // the client's that heard
    std::string asked_by;
    std::string msg_id;  // the cell
    std::string output;  // the last one; empty: that it runs
    bool done = false;   // and how it ended
};
struct Recall {  // of a session that this gateway never saw; what is asked for comes before the
                 // Reply
    std::uint64_t request = 0;
    KernelId kernel;
    std::string session;
    // To the executor: what it has not heard of the running cell (CatchUp). Else to the leader: its
    // cells that ended unheard (CellEnded).
    bool running = false;
};

// To the leader of the system group. Answered by the TableRows that show it applied; Reply only
// when it is refused: kNotLeader (ask the next one), kInvalid (a limit), kExhausted (again later).
struct WriteTable {
    std::uint64_t request = 0;
    replica::TableWrite write;
};

struct ReadOutputs {  // answered by CellOutputs, or kNotFound: no such cell
    std::uint64_t request = 0;
    KernelId kernel;
    std::string session;  // that asked for the cell; empty: whichever
    std::string msg_id;
};

// ---- agent to gateway ----

struct AgentInfo {
    HostId host;
    std::string version;
    std::uint32_t cpus = 0;
    std::uint64_t memory_bytes = 0;
};
struct Reply {
    std::uint64_t request = 0;
    bool ok = true;
    Errc code = Errc::kInvalid;
    std::string what;
};
struct KernelOutput {  // relayed as it is; a lower fence than one already seen is stale: dropped
    KernelId kernel;
    replica::Fence fence;  // zero for what belongs to no cell (completion, comm messages, ...)
    jupyter::Message message;
};
struct CellStarted {  // the claim stands: the gateway says busy. Again, with the outputs, after
                      // Hello
    KernelId kernel;
    replica::Fence fence;
    std::string session;
    std::string msg_id;
    // Clients' sessions that know it already, with the last of the outputs that they have heard;
    // empty: none of those that are kept.
    std::map<std::string, std::string> heard;
};
struct CellEnded {  // the end of a cell, committed; sent again when its client asks again
    KernelId kernel;
    replica::Fence fence;
    std::string session;
    std::string msg_id;
    replica::Ending ending = replica::Ending::kResult;
    std::string reason;                     // why there is no reply, for the user
    std::optional<jupyter::Message> reply;  // the execute_reply
    std::vector<jupyter::Message> outputs;  // a bounded tail; the gateway shows what it has not yet
    std::map<std::string, std::string> heard;  // as in CellStarted
    std::string recalled_by;  // told again for this session only, which may have missed it
};
// What a session that came from another gateway knows and misses: everything that follows on this
// connection comes after it.
struct CatchUp {
    KernelId kernel;
    std::string session;
    // Cells (who asked, message id) whose end it has heard.
    std::vector<std::pair<std::string, std::string>> done;
    // The cell that runs here, as far as it is kept; empty `msg_id`: none does.
    std::string asked_by;
    std::string msg_id;
    bool knows_it_runs = false;  // the session does
    std::string heard;           // the last of the outputs that it has heard; empty: none of these
    std::vector<jupyter::Message> outputs;
};
enum class ExecutionState : std::uint8_t { kStarting, kIdle, kBusy, kDead };
struct KernelStatus {  // pushed on every change, by every replica's agent
    KernelId kernel;
    ReplicaId replica;
    HostId host;
    raft::Role role = raft::Role::kFollower;
    Term term;
    ReplicaId leader;
    Membership membership;
    bool settled = false;
    replica::KernelOptions options;
    Sequence sequence;
    std::uint64_t incarnation = 0;
    ReplicaId executor;        // of the running cell, or the last one
    std::uint32_t queued = 0;  // cells that have not ended
    ExecutionState state = ExecutionState::kStarting;
    std::string interpreter;  // "starting", "ready", "running", "behind", "failed: why"
    std::uint64_t state_bytes = 0;
    std::string process;  // which Python process that is, on this host; empty: none now
};
struct ReplicaGone {  // stopped here, or removed from its group
    KernelId kernel;
    ReplicaId replica;
};

// Rows of the gateways' tables, from the leader of the system group: all of them to a gateway that
// comes and when leadership has moved, and what changed when a write was applied.
struct TableRow {
    std::string key;
    std::optional<Bytes> value;  // empty: erased
    Index version;
};
struct TableWriter {
    Uuid writer;
    std::uint64_t sequence = 0;  // its last write that was applied
    std::vector<replica::TableOutcome> outcomes;
};
struct TableRows {
    KernelId group = kSystemGroup;
    bool everything = false;
    Index base;   // what changed since this index; without `everything`
    Index index;  // the state after it
    std::vector<TableRow> rows;
    std::vector<TableWriter> writers;
};
// Who else is there: told to every gateway at every change, and after Hello.
struct ConnectedGateways {
    HostId host;
    std::set<std::string> gateways;
};

// What is kept of a cell: the newest of its outputs, and its reply when it has ended with one.
struct CellOutputs {
    enum class State : std::uint8_t { kQueued, kRunning, kEnded };
    std::uint64_t request = 0;
    KernelId kernel;
    std::string session;
    State state = State::kQueued;
    replica::Ending ending = replica::Ending::kResult;  // when it has ended
    std::string reason;                                 // why it has no reply
    std::vector<jupyter::Message> messages;
};

using Rpc =
    std::variant<Hello, HostDirectory, StartReplica, StopReplica, ClientMessage, Interrupt, Restart,
                 Lead, ChangeMembers, KillInterpreter, AgentInfo, Reply, KernelOutput, CellStarted,
                 CellEnded, KernelStatus, ReplicaGone, Heard, Recall, ReadOutputs, CellOutputs,
                 WriteTable, CatchUp, TableRows, ConnectedGateways, InterruptCallback>;

Bytes encode(const Rpc& rpc);
std::optional<Rpc> decode_rpc(std::string_view bytes);  // hostile input is fine

}  // namespace nbos::cluster
