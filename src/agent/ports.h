// What the agent needs from the outside, as interfaces that io/ implements and tests fake.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "cluster/rpc.h"
#include "jupyter/message.h"
#include "model/ids.h"

namespace nbos::agent {

using InterpreterId = Strong<struct InterpreterTag>;  // one process; never reused

// Whose an interpreter becomes, and how it starts.
struct Adoption {
    KernelId kernel;
    ReplicaId replica;
    std::string session;  // Jupyter session id of the kernel's incarnation
    std::string spec;
    std::string cwd;
    std::string username;
    std::map<std::string, std::string> env;
    std::chrono::milliseconds outlives_agent{0};  // waits so long for its agent to come back
};

// What an interpreter must know of a cell before its execute_request.
struct RunOrder {
    CellNumber cell;
    Epoch epoch;
    std::string msg_id;
    Sequence base;                   // the state that the cell works on
    std::uint32_t spent_counts = 0;  // execution counts to leave out: lost cells have shown them
};

// What an interpreter that outlived its agent has: it says so when the agent is there again.
struct Survivor {
    std::string session;
    std::optional<Sequence> sequence;  // empty: it was in the middle of a change
    struct Run {                       // begun under the agent before, perhaps ended since
        CellNumber cell;
        Epoch epoch;
        Sequence base;
    };
    std::optional<Run> run;
    struct Claim {
        CellNumber cell;
        Epoch epoch;
        bool operator==(const Claim&) const = default;
    };
    std::optional<Claim> expects;  // for which it was the interpreter when that was proposed
};

// The interpreter processes of this host (docs/reference/interpreter-protocol.md). Commands to one
// interpreter keep their order; answers come through InterpreterListener, never from inside a call.
class Interpreters {
public:
    virtual ~Interpreters() = default;

    // A warm one when there is one; before that one that outlived an earlier agent on this host
    // and is this very replica's: then interpreter_resumed comes instead of interpreter_ready.
    virtual InterpreterId start(const Adoption& adoption) = 0;
    // It is one that outlived its agent and was not resumed yet.
    virtual bool survives(InterpreterId) const { return false; }
    // The same for one process under all agents of this host, and never another one's.
    virtual std::string process_name(InterpreterId id) const { return std::to_string(id.value); }
    // The survivor goes on here: what it kept of its cell comes again, by message and delta.
    virtual void resume(InterpreterId) {}
    // The end of its cell is in the log: it need not keep anything of it.
    virtual void settled(InterpreterId, CellNumber) {}
    // A claim is being proposed for it. If that stands in the log of the next agent, and this
    // process has not begun the cell, then no other one has.
    virtual void expect(InterpreterId, const Survivor::Claim&) {}
    virtual void load(InterpreterId id, Sequence sequence, Bytes table) = 0;
    virtual void apply(InterpreterId id, Sequence base, Sequence sequence, Bytes delta) = 0;
    // The execute_request with this message id follows by send(): capture what it changes.
    virtual void run(InterpreterId id, const RunOrder& order) = 0;
    virtual void send(InterpreterId id, const jupyter::Message& message) = 0;
    virtual void interrupt(InterpreterId id) = 0;  // SIGINT
    virtual void crash(InterpreterId id) = 0;      // SIGKILL; its end is reported as any other
    virtual void discard(InterpreterId id) = 0;    // SIGKILL; nothing of it is reported any more
    // The replica has left this host: what outlived an earlier agent for it, and was not claimed
    // by start(), ends.
    virtual void discard_survivors(KernelId, ReplicaId) {}
};

// What interpreters report, on the loop thread.
class InterpreterListener {
public:
    virtual ~InterpreterListener() = default;
    virtual void interpreter_ready(InterpreterId id) = 0;  // adopted; takes commands
    virtual void interpreter_resumed(InterpreterId, const Survivor&) {}
    virtual void interpreter_applied(InterpreterId id, Sequence sequence, bool ok,
                                     const std::string& error) = 0;
    // Empty `error`: `delta` is what the cell changed (state/state_table.h).
    virtual void interpreter_delta(InterpreterId id, CellNumber cell, Epoch epoch, Bytes delta,
                                   const std::string& error) = 0;
    virtual void interpreter_message(InterpreterId id, jupyter::Message message) = 0;
    virtual void interpreter_ended(InterpreterId id, const std::string& why) = 0;
};

// To the gateways that are connected.
class GatewayLink {
public:
    virtual ~GatewayLink() = default;
    virtual void send(const cluster::Rpc& rpc) = 0;  // to all of them
    virtual void send_to(const HostId& gateway, const cluster::Rpc& rpc) = 0;
    // A gateway says where the other hosts are.
    virtual void hosts_known(const std::map<HostId, std::string>& addresses) = 0;
};

}  // namespace nbos::agent
