// One replica of one kernel on this host: its log, its machine, its interpreter, and what it owes
// to clients.
//
// The machine (replica/cell_machine.h) says what has been decided; this class does the rest: it
// proposes (cells, claims, results, losses), starts user code when its own claim has been applied,
// lets the interpreter follow when another replica executes, and tells the gateways what happened.
//
// Who acts  The leader claims the next cell, and only when its interpreter has the whole state. The
//           executor proposes the Result. The leader proposes ExecutorLost for an executor whose
//           host is proven dead, or silent for longer than the grace.
// Threads   Owned by the agent's loop thread. Time comes in through tick().
// Errors    Nothing here throws; what cannot be done is told to the gateway, or tried again.
// Source    docs/design/0002-cell-log.md
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/cell_run.h"
#include "agent/heard_marks.h"
#include "agent/host_watch.h"
#include "agent/member_change.h"
#include "agent/ports.h"
#include "agent/replica_interpreter.h"
#include "base/ports.h"
#include "raft/group_host.h"
#include "replica/cell_machine.h"

namespace nbos::agent {

struct ReplicaLimits {
    std::chrono::milliseconds silence_grace{30'000};  // a silent executor keeps its cell this long
    std::chrono::milliseconds proposal_retry{3'000};
    // An interpreter that is idle again owes the cell's delta and reply; then the cell is lost.
    std::chrono::milliseconds unfinished_grace{20'000};
    std::size_t compact_bytes_min = 8U << 20U;  // of log since the last snapshot
    std::size_t waiting_messages_max = 1000;    // for an interpreter that is not ready
    CellRunLimits cell;
};

class KernelReplica {
public:
    struct Ports {
        HostId host;
        raft::GroupHost& groups;
        Interpreters& interpreters;
        GatewayLink& gateways;
        const HostWatch& hosts;
    };

    KernelReplica(KernelId kernel, ReplicaId self, Ports ports, ReplicaLimits limits);

    KernelId kernel() const { return kernel_; }
    ReplicaId self() const { return self_; }
    std::optional<InterpreterId> interpreter() const { return interpreter_.id(); }

    // ---- from the log (GroupListener) ----
    void restore(const raft::Snapshot& snapshot);
    void apply(const raft::Entry& entry);
    void role_changed();

    // ---- from gateways ----
    void configure(const replica::KernelOptions& options);  // first member of a new kernel
    void handle(const cluster::ClientMessage& message);
    void handle(const cluster::Interrupt& request);
    void handle(const cluster::InterruptCallback& request);
    void handle(const cluster::Restart& request);
    void handle(const cluster::Lead& request);
    void handle(const cluster::ChangeMembers& request);
    void handle(const cluster::KillInterpreter& request);
    void handle(const cluster::Heard& mark);
    void handle(const cluster::Recall& request, const HostId& from);
    void handle(const cluster::ReadOutputs& request);
    void report(const HostId& to);  // to a gateway that has just come: the status, a running cell

    // ---- from the interpreter ----
    void interpreter_ready();
    void interpreter_resumed(const Survivor& survivor);
    void interpreter_applied(Sequence sequence, bool ok, const std::string& error);
    void interpreter_delta(CellNumber cell, Epoch epoch, Bytes delta, const std::string& error);
    void interpreter_message(jupyter::Message message);
    void interpreter_ended(const std::string& why);

    void tick(Instant now);
    bool waits_for_time() const;  // without it, ticks are wanted only after something happened
    void set_time(Instant now);   // after a time without ticks
    void stop();                  // the replica leaves this host

private:
    raft::Node& node();
    const raft::Node& node() const;
    bool leads() const;
    bool leads_knowingly() const;
    void propose(const replica::CellEntry& entry);
    void pump_proposals();  // what the node had no room for

    void on(const replica::Configured& event);
    void on(const replica::CellQueued& event);
    void on(const replica::SubmitRepeated& event);
    void on(const replica::CellClaimed& event);
    void on(const replica::ClaimEnded& event);
    void on(const replica::CellEnded& event);
    void on(const replica::Diverged& event);
    void on(const replica::WasReset& event);
    void on(const replica::Void& event);

    void submit(const cluster::ClientMessage& message);
    void pump_submits();
    void claim_next();
    void start_cell();
    void finish_cell();  // all of it has arrived: propose the result
    void settle_survivor();
    void take_up_cell();
    void resume_interpreter();
    void send_waiting();
    void say_started();
    cluster::CellStarted started() const;
    void catch_up(const std::string& session, const HostId& to);
    std::map<std::string, std::string> heard(const HeardMarks::Cell& cell,
                                             const std::vector<jupyter::Message>& outputs) const;
    void watch_own_cell();
    bool hears_majority() const;
    void watch_isolation();
    void settle_own_result(const replica::CellEnded& event);
    void watch_executor();
    void hand_over_when_unable();
    void follow(const replica::CellEnded& event);
    void rebuild_interpreter(const std::string& why);
    // `again`: it was told before, perhaps to a gateway that is gone.
    void answer(const std::string& session, const std::string& msg_id,
                const replica::Finished& finished, replica::Ending ending, bool again);
    cluster::CellEnded ended(const std::string& session, const std::string& msg_id,
                             const replica::Finished& finished, replica::Ending ending,
                             bool again) const;
    cluster::CellEnded ended_cell(const std::string& session, const std::string& msg_id,
                                  const replica::Finished& finished, replica::Ending ending) const;
    void reply(std::uint64_t request, const Status& status);
    void to_interpreter(const cluster::ClientMessage& message);
    std::optional<ReplicaId> executor() const;
    void step_member_change();
    void answer_restarts();
    void interrupt_run(const cluster::Interrupt& request);
    void answer_interrupts();
    void ask_elsewhere(std::uint64_t request);
    void compact_when_due();
    void changed();  // the status may have changed: tell the gateways if it has
    cluster::KernelStatus status() const;
    Adoption adoption() const;
    std::chrono::milliseconds silence_grace() const;

    KernelId kernel_;
    ReplicaId self_;
    Ports ports_;
    ReplicaLimits limits_;
    replica::CellMachine machine_;
    Index applied_;                  // by machine_; the node may have handed out more
    std::size_t applied_bytes_ = 0;  // since the last snapshot
    ReplicaInterpreter interpreter_;
    std::optional<replica::KernelOptions> wished_options_;  // until the log has Configure
    std::optional<CellRun> run_;
    std::optional<CellNumber> started_;  // user code of this cell has begun here
    std::deque<Bytes> unproposed_;
    // One is proposed at a time: proposals may overtake each other on their way to the leader, and
    // the cells of a client run in its order.
    struct Submitted {
        std::string session;
        std::string msg_id;
        std::uint64_t incarnation;
        Bytes entry;
    };
    std::deque<Submitted> submits_;
    std::set<std::pair<std::string, std::string>> asked_;  // here: whose end is told from here, too
    std::optional<Instant> submit_proposed_at_;
    std::optional<std::pair<CellNumber, Epoch>> claimed_;         // a claim of ours is in flight
    std::set<std::pair<CellNumber, Epoch>> claims_of_this_life_;  // not applied yet
    std::optional<Epoch> loss_proposed_;
    Instant loss_proposed_at_{};
    std::optional<Instant> isolated_since_;  // no majority of the kernel's hosts is heard
    std::string own_loss_;                   // why user code of the standing claim of ours is gone
    std::optional<Instant> idle_since_;      // the interpreter, with its cell not complete
    std::deque<cluster::ClientMessage> waiting_;  // for an interpreter
    HeardMarks marks_;
    std::map<std::uint64_t, std::string> restarts_;                     // request -> session
    std::map<std::uint64_t, std::vector<cluster::CellId>> interrupts_;  // request -> cells
    std::optional<CellNumber> left_;  // the run that has been told that nobody waits for it
    std::optional<MemberChange> member_change_;
    bool wants_lead_ = false;
    Instant wants_lead_until_{};
    Instant handed_over_at_{};
    Bytes last_status_;
    Instant now_{};
};

}  // namespace nbos::agent
