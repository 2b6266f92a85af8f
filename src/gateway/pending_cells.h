// The cells of one kernel that clients wait for, in the order in which they were asked for.
//
// A cell stays until its end has been seen, and is sent again whenever it may have been lost: the
// log of the kernel deduplicates by (session, message id), so sending too often is safe.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "cluster/rpc.h"
#include "gateway/client_table.h"
#include "gateway/host_table.h"
#include "gateway/kernel_view.h"
#include "gateway/output_gate.h"
#include "jupyter/message.h"

namespace nbos::gateway {

// The message ids that clients have seen of a cell. Bounded: only a tail is ever repeated.
class ShownIds {
public:
    bool add(const std::string& id);  // whether it is new

private:
    std::set<std::string> ids_;
    std::deque<std::string> order_;
};

struct PendingCell {
    jupyter::Message request;
    std::string session;  // the client's
    std::string msg_id;
    std::string parent;  // the header that its messages answer
    ClientId client;
    bool foreign = false;  // asked for through a gateway that is gone: never sent from here
    bool busy = false;     // its busy has been sent
    bool told_why_it_waits = false;
    bool is_recalled = false;         // how it ends is being asked
    std::set<std::string> told = {};  // sessions that heard its end, before it was asked for again
    std::uint64_t incarnation = 0;
    bool may_have_begun = false;        // before the restart under whose end it waits
    std::uint64_t execution_count = 0;  // that its execute_input showed; 0: not yet
    // The kernel's, which its interpreter speaks in; empty: it has said nothing. A restart gives
    // the kernel another one, perhaps before the end of this cell is known.
    std::string kernel_session;
    // Clients' sessions that heard of it through a gateway that is gone: they know that it runs,
    // and all outputs up to this one (empty: from here on they hear everything).
    std::map<std::string, std::string> heard;
    // Who runs it, and its end as another host told it: it may have overtaken outputs.
    HostId executor;
    std::uint64_t executor_connection = 0;
    std::optional<cluster::CellEnded> held_end;
    Instant held_at{};

    HostId sent_to;
    std::uint64_t connection = 0;
    ReplicaId leader;   // when it was sent
    Instant sent_at{};  // of a foreign one: when its end was last asked for

    // For input, until it has another or the cell ends. Told again to its session when that
    // connects and there is no answer; the answer is sent again when the executor asks over a new
    // connection.
    struct Question {
        std::string id;
        jupyter::Message message;
        std::optional<jupyter::Message> answer;
        std::uint64_t answered_over = 0;  // which connection to the executor
    };
    std::optional<Question> question;

    ShownIds shown;
    HeldOutputs held;  // behind the limit of messages
    std::size_t shown_bytes = 0;
    std::size_t elided_bytes = 0;   // above the limit of bytes: the rest of it is left out
    std::string elided_display_id;  // of the line that says so
};

// A header that clients can match, for a cell whose request this gateway never saw.
std::string made_up_header(const std::string& session, const std::string& msg_id);

// Cells that ended, so that what agents repeat is not shown twice, and who was told of their ends.
class EndedCells {
public:
    void add(const std::string& session, const std::string& msg_id,
             std::set<std::string> told = {});
    std::set<std::string> remove(const std::string& session, const std::string& msg_id);
    bool contains(const std::string& session, const std::string& msg_id) const;

private:
    std::map<std::pair<std::string, std::string>, std::set<std::string>> cells_;
    std::deque<std::pair<std::string, std::string>> order_;
};

class PendingCells {
public:
    PendingCell* find(const std::string& session, const std::string& msg_id);
    PendingCell& add(PendingCell cell);
    PendingCell take(const PendingCell& cell);  // `cell` is one of these
    std::list<PendingCell>& all() { return cells_; }
    const std::list<PendingCell>& all() const { return cells_; }
    bool empty() const { return cells_.empty(); }
    std::size_t size() const { return cells_.size(); }
    const PendingCell* running() const;  // the first whose busy has been sent

    // Whether `cell` must be sent (again) to `target` now. `hesitates`: who has it does.
    static bool due(const PendingCell& cell, const HostId& target, bool hesitates,
                    const HostTable& hosts, const KernelView& view, Instant now);

private:
    std::list<PendingCell> cells_;
};

}  // namespace nbos::gateway
