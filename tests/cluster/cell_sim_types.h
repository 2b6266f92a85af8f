// What the parts of the cell simulator share: what is sent, what may go wrong, what is planted.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "base/bytes.h"
#include "model/ids.h"
#include "model/membership.h"
#include "replica/cell_machine.h"

namespace nbos::testing {

using Ticks = std::uint64_t;  // simulated time

// ---- between gateway and drivers; each may be lost, late, repeated or overtaken ----

struct SubmitCell {
    std::string msg_id;
    bool stop_on_error = true;
};
struct CancelCells {};  // an interrupt while nothing runs
struct RestartKernel {
    std::string session;
};
using ToDriver = std::variant<SubmitCell, CancelCells, RestartKernel>;

struct CellOutput {
    ReplicaId from;
    CellNumber cell;
    Epoch epoch;
    replica::Fence fence;
    std::string msg_id;
    std::uint32_t number = 0;
};
struct CellAnswer {  // the end of a cell, from whichever replica told it
    ReplicaId from;
    std::string msg_id;
    replica::Ending ending = replica::Ending::kResult;
    replica::Finished finished;
};
using ToGateway = std::variant<CellOutput, CellAnswer>;

// What a driver knows of another replica's host.
enum class PeerHealth : std::uint8_t { kAlive, kSilent, kDead };

// How often things go wrong: probabilities per tick, or per occasion. A seed draws a subset.
struct CellFaults {
    double message_loss = 0;    // per message between gateway and drivers
    double message_repeat = 0;  // likewise
    double crash = 0;           // of a node, per tick
    double pause = 0;           // of a node, longer than any timeout
    double cut = 0;             // a node from everyone else
    double leader_change = 0;
    double member_change = 0;
    double compaction = 0;
    double interpreter_crash = 0;
    double spurious_loss = 0;  // a failure detector that is wrong
    double yield = 0;          // per claim
    double race = 0;           // a replica that does not lead claims, per tick
    double cell_error = 0;     // per cell
    double parts = 0;          // per cell: its delta travels in parts
    double restart = 0;        // the user restarts the kernel, per tick
    double cancel = 0;         // the user interrupts, per tick
    double gateway_restart = 0;
};

// Faults of the driver itself, planted to prove that the checks see them.
enum class Planted : std::uint8_t {
    kNothing,
    kStartBeforeClaimApplies,    // rule 10: user code begins when the claim is proposed
    kAnswerBeforeResultApplies,  // rule 8: execute_reply leaves when the Result is proposed
    kResultOfOldEpochCounts,     // rules 2, 4: whoever's Result comes first is taken
    kTimeoutIsLoss,              // rule 6: the watcher tells of a loss that is only proposed
    kClaimWithOldState,          // rule 10: the leader claims before its interpreter caught up
    kSnapshotForgetsClaim,       // rule 12
    kApplyTornDelta,             // rule 7: a crash in the shadow step leaves half a delta
    kClaimBeforeCaughtUp,  // rule 10: a claim of an earlier life is taken for one of this life
    kYieldAfterRestart,    // rule 5: a restarted executor gives a begun cell back
    kNoDeduplication,      // a repeated Submit is a new cell
    kOutputsWithoutFence,  // the gateway shows whatever comes
};

}  // namespace nbos::testing
