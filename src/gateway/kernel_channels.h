// One logical kernel as its clients see it: what they ask, and what they are told.
//
// The gateway says busy and idle of cells, and answers those that end without a reply; everything
// else is said by the executor's interpreter and passed on. Ordering towards a client: busy, the
// outputs, the reply, idle.
//
// Limits   queued_max of cells and of other requests that wait; above it they are refused.
// Threads  The loop thread. Time comes in through tick() and the clock of `Shared`.
// Source   docs/design/0005-gateway.md
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ports.h"
#include "cluster/rpc.h"
#include "gateway/client_table.h"
#include "gateway/host_table.h"
#include "gateway/kernel_view.h"
#include "gateway/open_comms.h"
#include "gateway/output_gate.h"
#include "gateway/pending_cells.h"
#include "gateway/ports.h"
#include "jupyter/message_factory.h"

namespace nbos::gateway {

// What the gateway does for a kernel when a client asks for it in a message.
class KernelActions {
public:
    using Done = std::function<void(Status)>;
    virtual ~KernelActions() = default;
    virtual void interrupt(KernelId kernel, Done done) = 0;
    virtual void restart(KernelId kernel, Done done) = 0;
    // Shut down by a client; `done` before its sockets are closed.
    virtual void park(KernelId kernel, const std::string& path, Done done) = 0;
    // Cells of a client that ended unheard are told again (CellEnded). With `caught_up`: what it
    // has not heard of the running cell, too (CatchUp), and then that is called.
    virtual void recall(KernelId kernel, const std::string& session, Done caught_up) = 0;
};

class KernelChannels {
public:
    struct Shared {  // by all kernels of a gateway
        const Clock& clock;
        const HostTable& hosts;
        AgentLink& link;
        const jupyter::MessageFactory& factory;
        KernelActions& actions;
        // Another gateway is or was there: clients may come from it, having heard what this one
        // knows nothing of.
        std::function<bool()> together;
        // kernelspec -> content of its kernel_info_reply, once one was seen
        std::map<std::string, std::string>& infos;
        std::size_t queued_max = 1000;
        std::size_t stream_bytes_max = 8U << 20U;  // tornado clients close above 10 MiB a frame
        OutputLimits outputs = {};
    };

    KernelChannels(Shared& shared, const KernelView& view, KernelId kernel, std::string spec,
                   std::string session);

    // ---- clients ----
    void open(ClientId id, ClientTable::Client client);
    void close(ClientId id);
    void receive(ClientId id, std::string_view payload, bool binary);
    void drained(ClientId id);  // its socket has taken all that was sent
    void close_all(std::uint16_t code, std::string_view reason);
    std::size_t connections() const { return clients_.clients().size() + arriving_.size(); }

    // ---- agents ----
    void output(const HostId& from, const cluster::KernelOutput& output);
    void started(const HostId& from, const cluster::CellStarted& started);
    void ended(const HostId& from, const cluster::CellEnded& ended);
    void catch_up(const cluster::CatchUp& news);
    void status_changed();  // the view has changed
    // Its interpreter ended, and what was asked of it with it.
    void interpreter_lost(const HostId& host);
    // These do not wait for input any more; none: no cell does.
    void interrupted(const std::vector<cluster::CellId>& cells);

    // While a restart is under way nothing is sent; what was asked before it ends without a result.
    void begin_restart();
    void end_restart(const std::string& session);
    void abandon_restart();             // it failed: go on as before
    void fail(const std::string& why);  // it cannot start: everything is answered with an error
    void shut_down();                   // for good: what waits is answered, sockets are closed
    void park();                        // the same, and it can be opened again
    // It is. What was asked before the end of that may still be ending: until then cells wait.
    void take_up() { after_old_ones_ = true; }
    void old_ones_ended() { after_old_ones_ = false; }
    bool waits_for_old_ones() const { return after_old_ones_; }
    // While an interrupt that names no cell is under way: it would hit them.
    void hold_cells() { ++holds_; }
    void release_cells() { holds_ -= holds_ > 0 ? 1 : 0; }
    std::vector<cluster::CellId> pending() const;
    // Why its cells cannot go on now, told in the first one that waits; empty: nothing is in the
    // way.
    void hold_up(const std::string& why);
    void name_spec(const std::string& spec) { spec_ = spec; }
    bool failed() const { return !failure_.empty(); }
    const std::string& failure() const { return failure_; }

    void tick();

    // `queued`: cells in the log, by a report that may be older than the last end of a cell.
    bool busy(std::uint32_t queued) const {
        return !cells_.empty() || (queued > 0 && queued != stale_queued_);
    }
    const std::string& session() const { return session_; }
    std::chrono::microseconds last_activity() const { return last_activity_; }
    std::size_t waiting_cells() const { return cells_.size(); }

private:
    // A message to shell or control that is no cell.
    struct Request {
        jupyter::Message message;
        jupyter::Header header;
        ClientId client;
        HostId sent_to;
        std::uint64_t connection = 0;
        std::uint64_t incarnation = 0;  // that it was sent to
        bool sent = false;
        bool busy = false;
        bool replied = false;
        bool idle = false;
    };

    // A client that may come from another gateway, as long as it is being asked what it missed
    // there: what comes for it is kept until then.
    struct Arriving {
        ClientTable::Client client;
        Instant deadline{};
        std::vector<jupyter::Message> ended;    // of cells
        std::vector<jupyter::Message> running;  // of the one that runs
        HeardMark mark;                         // how far it has heard with these
        std::vector<HeardMark> ended_marks;
        std::set<cluster::CellId> asked;  // while it waits: the answer is news, whatever it heard
    };

    // Of a cell, by a session that arrives.
    struct Heard {
        bool knows = false;             // that it runs
        std::set<std::string> outputs;  // and all up to the last of these
    };

    // The kernel was restarted, and hosts are being asked how cells of the time before end.
    struct Entering {
        std::uint64_t incarnation = 0;
        std::string session;
        Instant deadline{};
    };

    Instant now() const { return shared_.clock.now(); }
    // ---- kernel_arrivals.cc ----
    void await_news(ClientId id, ClientTable::Client client);
    void arrive(ClientId id);
    void leave_early(ClientId id);
    void recalled(const cluster::CellEnded& ended);
    std::vector<jupyter::Message> told_again(const cluster::CellEnded& ended,
                                             const Heard& heard) const;
    void tell_end(const std::string& session, const HeardMark& mark);
    void end_arrivals();
    void end_unseen(const std::string& session, const std::string& msg_id);
    void drop_kept(const std::string& session, const std::string& asked_by,
                   const std::string& msg_id);
    Heard heard_of(const cluster::CellId& cell, const std::string& session,
                   const std::optional<std::string>& said) const;
    std::vector<jupyter::Message> unheard(const std::vector<jupyter::Message>& outputs,
                                          const Heard& heard) const;
    void tell_heard(const std::string& session, const HeardMark& mark);
    bool is_client(const PendingCell& cell) const;
    bool is_here(const std::string& session) const;
    void refuse(ClientId id, std::string_view payload, bool binary, jupyter::WsProtocol protocol,
                const std::string& why);
    void take(ClientId id, jupyter::Message message);
    void take_cell(ClientId id, jupyter::Message message, const jupyter::Header& header);
    void take_request(ClientId id, jupyter::Message message, jupyter::Header header);
    void take_interrupt(ClientId id, const jupyter::Message& message,
                        const jupyter::Header& header);
    void take_shutdown(ClientId id, const jupyter::Message& message, const jupyter::Header& header);
    void take_input(const jupyter::Message& message);
    void ask(const HostId& from, const cluster::KernelOutput& output,
             const jupyter::Header& parent);
    void ask_again(ClientId id);
    void send_answer(PendingCell::Question& question, const HostId& to);
    bool answer_kernel_info(ClientId id, const jupyter::Message& message,
                            const jupyter::Header& header);

    void show(const HostId& from, const cluster::KernelOutput& output,
              const jupyter::Header& parent);
    void show_status(const jupyter::Message& message, const jupyter::Header& parent);
    void reply(const HostId& from, const cluster::KernelOutput& output,
               const jupyter::Header& parent);
    PendingCell& foreign_cell(const std::string& session, const std::string& msg_id,
                              std::string parent);
    static void note_output(PendingCell& cell, const jupyter::Message& output);
    const std::string& speaker(const PendingCell& cell) const;
    void say_busy(PendingCell& cell);
    void take_back_why_it_waits(PendingCell& cell);  // kernel_waits.cc
    void show_output(PendingCell& cell, const std::string& id, const std::string& type,
                     const jupyter::Message& output);
    void deliver(PendingCell& cell, const HeldOutput& output);
    void release_held(PendingCell& cell, bool all);
    void elide(PendingCell& cell, std::size_t bytes);
    void say_elided(const PendingCell& cell, std::string_view type);
    bool a_client_lags() const;
    bool may_overtake(const HostId& from, const PendingCell& cell,
                      const cluster::CellEnded& ended) const;
    void end_held_cells();
    void note_heard(const PendingCell& cell, const std::string& output, bool done);
    void send_marks(bool new_turn);
    void send_mark(ClientTable::Client& client);
    void recall(const std::string& session);
    void end_cell(PendingCell& cell, const cluster::CellEnded& ended);
    // ---- kernel_restarts.cc ----
    void enter_incarnation(std::uint64_t incarnation, const std::string& session);
    void enter_when_ready();
    void finish_entering();
    std::vector<PendingCell*> old_cells();  // of the time before, while entering
    void pump_old_cells(const HostId& target);
    bool between_incarnations() const;
    std::uint64_t newest_incarnation() const;  // that is known
    void name_incarnation();
    std::uint64_t asking_incarnation() const;  // that a cell asked for now belongs to
    void answer_failed_cell(PendingCell& cell, std::string_view ename, std::string_view evalue);
    void end_request(Request& request, std::string_view why);
    void answer_all(const std::string& why);

    void note_comm(const HostId& at, std::string_view type, std::string_view content);
    void watch_comms();
    void close_comms(const std::vector<std::string>& ids, const std::string& why);
    void say_notice(const PendingCell& cell);

    void pump();  // sends what is due
    std::optional<HostId> next_executor() const;
    void pump_cells(const HostId& target);
    void ask_how_it_ends(PendingCell& cell);
    void send_cell(PendingCell& cell, const HostId& target);
    Request* find_request(const std::string& session, const std::string& msg_id);
    void forget_done_requests();
    void broadcast(const jupyter::Message& message);
    void broadcast(const PendingCell& cell, const jupyter::Message& message);
    void touch();
    ClientTable::Missing missing() const;

    Shared& shared_;
    const KernelView& view_;
    KernelId kernel_;
    std::string spec_;
    std::string session_;                       // the kernel's, not a client's
    std::optional<std::uint64_t> incarnation_;  // unknown until a replica has reported
    std::uint64_t restart_target_ = 0;  // the incarnation that the restart under way leads to
    ClientTable clients_;
    std::map<ClientId, Arriving> arriving_;
    PendingCells cells_;
    EndedCells ended_;
    EndedCells answered_here_;  // cells whose reply a client of this gateway has, or is kept for it
    EndedCells told_here_;      // of these: to a connection, and so the rest of it was, too
    std::set<std::string> recalled_;  // sessions that this gateway knows
    std::list<Request> requests_;
    EndedCells answered_;  // of the requests: one that was asked twice may be answered twice
    std::optional<HostId> stdin_host_;
    OutputRate rate_;
    OpenComms comms_;
    std::optional<Instant> comms_away_since_;  // their process cannot be reached
    std::string notice_;                       // for the reader, at the next cell
    replica::Fence fence_;                     // the highest seen
    std::uint32_t stale_queued_ = 0;           // reported before the last end of a cell
    bool restarting_ = false;
    std::optional<Entering> entering_;
    bool after_old_ones_ = false;  // taken up again: cells of the time before may still be ending
    std::size_t holds_ = 0;
    std::optional<Instant> held_up_since_;
    std::string failure_;  // why it is dead
    std::chrono::microseconds last_activity_{};
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for answers that come late
};

}  // namespace nbos::gateway
