// The side of the agents: what interpreters say, and how cells begin and end.
#include <utility>

#include "base/log.h"
#include "gateway/cell_answer.h"
#include "gateway/kernel_channels.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

using jupyter::Channel;

bool is_zero(const replica::Fence& fence) { return fence == replica::Fence{}; }

}  // namespace

void KernelChannels::output(const HostId& from, const cluster::KernelOutput& output) {
    if (!is_zero(output.fence)) {
        if (output.fence < fence_) {
            return;  // of an executor that has lost its claim
        }
        fence_ = output.fence;
    }
    const auto parent =
        jupyter::parse_header(output.message.parent_header).value_or(jupyter::Header{});
    switch (output.message.channel) {
        case Channel::kIopub:
            show(from, output, parent);
            break;
        case Channel::kStdin:
            ask(from, output, parent);
            break;
        case Channel::kShell:
        case Channel::kControl:
            reply(from, output, parent);
            break;
    }
}

void KernelChannels::show(const HostId& from, const cluster::KernelOutput& output,
                          const jupyter::Header& parent) {
    const auto& message = output.message;
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    if (parent.msg_id.empty()) {
        // Standbys start and follow in silence; the logical kernel's own status is said here.
        if (header.msg_type != "status" && view_.owner() == from) {
            note_comm(from, header.msg_type, message.content);
            broadcast(message);
        }
        return;
    }
    auto* cell = cells_.find(parent.session, parent.msg_id);
    const bool ended = cell == nullptr && ended_.contains(parent.session, parent.msg_id);
    if (ended && !is_zero(output.fence)) {
        return;  // of a claim that has ended: from an executor that does not know it yet
    }
    if (cell == nullptr && !ended && !is_zero(output.fence)) {
        cell = &foreign_cell(parent.session, parent.msg_id, message.parent_header);
    }
    if (header.msg_type == "status") {
        if (cell == nullptr && !ended) {
            show_status(message, parent);
        }
        return;  // busy and idle of cells are said at the claim and at the commit
    }
    touch();
    if (cell != nullptr || view_.owner() == from) {
        note_comm(from, header.msg_type, message.content);
    }
    if (cell == nullptr) {
        for (const auto& part : jupyter::split_stream(message, shared_.stream_bytes_max, [this] {
                 return shared_.factory.new_uuid();
             })) {
            broadcast(part);
        }
        return;
    }
    cell->executor = from;
    cell->executor_connection = shared_.hosts.connection(from);
    if (!cell->shown.add(header.msg_id)) {
        return;
    }
    note_output(*cell, message);
    say_busy(*cell);
    show_output(*cell, header.msg_id, header.msg_type, message);
}

void KernelChannels::deliver(PendingCell& cell, const HeldOutput& held) {
    const auto& output = held.message;
    const auto& id = held.last_id;
    const auto news = [&cell](const std::string& session) {
        const auto heard = cell.heard.find(session);
        return !cell.told.contains(session) && (heard == cell.heard.end() || heard->second.empty());
    };
    for (const auto& part : jupyter::split_stream(output, shared_.stream_bytes_max,
                                                  [this] { return shared_.factory.new_uuid(); })) {
        clients_.broadcast(part, news);
    }
    for (auto& [session, last] : cell.heard) {
        if (last == id) {
            last.clear();
        }
    }
    note_heard(cell, id, false);
}

// For the next gateway, should this one die: how far each client has heard the cell.
void KernelChannels::note_heard(const PendingCell& cell, const std::string& output, bool done) {
    for (auto& [id, client] : clients_.clients()) {
        const auto heard = cell.heard.find(client.session);
        const bool behind = heard != cell.heard.end() && !heard->second.empty();
        const bool told = cell.told.contains(client.session);
        if (!client.session.empty() && !told && (!behind || done)) {
            client.note(
                {.asked_by = cell.session, .msg_id = cell.msg_id, .output = output, .done = done});
        }
    }
    send_marks(false);
}

void KernelChannels::send_marks(bool new_turn) {
    for (auto& [id, client] : clients_.clients()) {
        client.mark_credit = new_turn ? kMarksPerTick : client.mark_credit;
        send_mark(client);
    }
}

void KernelChannels::drained(ClientId id) {
    const auto found = clients_.clients().find(id);
    if (found != clients_.clients().end()) {
        send_mark(found->second);
    }
}

void KernelChannels::send_mark(ClientTable::Client& client) {
    while (!client.marks.empty() && client.socket->queued_bytes() == 0 && client.mark_credit > 0) {
        --client.mark_credit;
        client.told = client.marks.front();
        client.marks.pop_front();
        tell_heard(client.session, client.told);
    }
}

void KernelChannels::tell_heard(const std::string& session, const HeardMark& mark) {
    for (const auto& [replica, status] : view_.replicas()) {
        if (shared_.hosts.up(status.host)) {
            shared_.link.send(status.host, cluster::Heard{.kernel = kernel_,
                                                          .session = session,
                                                          .asked_by = mark.asked_by,
                                                          .msg_id = mark.msg_id,
                                                          .output = mark.output,
                                                          .done = mark.done});
        }
    }
}

// In pairs also for a request that was asked again of a second replica.
void KernelChannels::show_status(const jupyter::Message& message, const jupyter::Header& parent) {
    const bool busy = jupyter::string_field(message.content, "execution_state") == "busy";
    if (auto* request = find_request(parent.session, parent.msg_id)) {
        bool& said = busy ? request->busy : request->idle;
        if (said) {
            return;
        }
        said = true;
    } else if (answered_.contains(parent.session, parent.msg_id)) {
        return;
    }
    broadcast(message);
    forget_done_requests();
}

void KernelChannels::reply(const HostId& from, const cluster::KernelOutput& output,
                           const jupyter::Header& parent) {
    const auto& message = output.message;
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    if (header.msg_type == "kernel_info_reply" &&
        jupyter::string_field(message.content, "status") == "ok") {
        shared_.infos[spec_] = message.content;
    }
    if (header.msg_type == "comm_info_reply") {
        note_comm(from, header.msg_type, message.content);
    }
    auto* request = find_request(parent.session, parent.msg_id);
    if (request == nullptr ? answered_.contains(parent.session, parent.msg_id) : request->replied) {
        return;
    }
    if (header.msg_type == "execute_reply" &&
        (cells_.find(parent.session, parent.msg_id) != nullptr ||
         ended_.contains(parent.session, parent.msg_id))) {
        return;  // a cell's reply comes with its end, when it is committed
    }
    if (request == nullptr && shared_.together() && !is_here(parent.session)) {
        return;  // asked for by another gateway's client
    }
    clients_.send(request == nullptr ? ClientId{} : request->client, parent.session, message,
                  now());
    if (request != nullptr) {
        request->replied = true;
        forget_done_requests();
    }
}

// Whoever asked for it will come back: nothing of it may be lost until then.
PendingCell& KernelChannels::foreign_cell(const std::string& session, const std::string& msg_id,
                                          std::string parent) {
    if (!shared_.together()) {
        clients_.expect(session, now());
    }
    return cells_.add(PendingCell{.session = session,
                                  .msg_id = msg_id,
                                  .parent = std::move(parent),
                                  .foreign = true,
                                  .incarnation = asking_incarnation(),
                                  .sent_at = now()});
}

// What the gateway must know of it, should it have to answer the cell.
void KernelChannels::note_output(PendingCell& cell, const jupyter::Message& output) {
    if (cell.kernel_session.empty()) {
        cell.kernel_session = jupyter::string_field(output.header, "session");
    }
    if (jupyter::string_field(output.header, "msg_type") == "execute_input") {
        cell.execution_count = jupyter::uint_field(output.content, "execution_count");
    }
}

// What the gateway says of a cell comes from the same incarnation as what its code has said.
const std::string& KernelChannels::speaker(const PendingCell& cell) const {
    return cell.kernel_session.empty() ? session_ : cell.kernel_session;
}

void KernelChannels::say_busy(PendingCell& cell) {
    if (std::exchange(cell.busy, true)) {
        return;
    }
    rate_.cell_begins();
    clients_.broadcast(shared_.factory.status(speaker(cell), cell.parent, "busy"),
                       [&cell](const std::string& session) {
                           return !cell.heard.contains(session) && !cell.told.contains(session);
                       });
    for (auto& [id, client] : clients_.clients()) {
        client.saw_busy = client.saw_busy || !cell.told.contains(client.session);
    }
    take_back_why_it_waits(cell);
    say_notice(cell);
    note_heard(cell, {}, false);
}

void KernelChannels::started(const HostId& from, const cluster::CellStarted& started) {
    if (started.fence < fence_ || ended_.contains(started.session, started.msg_id)) {
        return;
    }
    fence_ = started.fence;
    auto* cell = cells_.find(started.session, started.msg_id);
    if (cell == nullptr) {
        cell = &foreign_cell(started.session, started.msg_id,
                             made_up_header(started.session, started.msg_id));
    }
    if (cell->foreign && !cell->busy) {
        cell->heard = started.heard;
        for (const auto& [session, output] : started.heard) {
            if (!shared_.together()) {
                clients_.expect(session, now());
            }
        }
    }
    cell->executor = from;
    cell->executor_connection = shared_.hosts.connection(from);
    stale_queued_ = 0;  // this one is in the log, whatever was reported before
    touch();
    if (comms_.home() && comms_.home()->host != from) {
        close_comms(comms_.take_all(), "the kernel went on at host " + from.value);
    }
    say_busy(*cell);
}

void KernelChannels::ended(const HostId& from, const cluster::CellEnded& ended) {
    if (!ended.recalled_by.empty() && shared_.together()) {
        recalled(ended);
        return;
    }
    auto* cell = cells_.find(ended.session, ended.msg_id);
    if (cell == nullptr) {
        // Both the executor and the leader say it; or it was asked for through another gateway.
        if (ended_.contains(ended.session, ended.msg_id) || !clients_.knows(ended.session)) {
            return;
        }
        cell = &foreign_cell(
            ended.session, ended.msg_id,
            ended.reply ? ended.reply->parent_header : made_up_header(ended.session, ended.msg_id));
        cell->heard = ended.heard;
    }
    touch();
    if (may_overtake(from, *cell, ended)) {
        cell->held_end = ended;
        cell->held_at = now();
        return;
    }
    end_cell(*cell, ended);
}

// The executor says it too, behind its last output.
bool KernelChannels::may_overtake(const HostId& from, const PendingCell& cell,
                                  const cluster::CellEnded& ended) const {
    return ended.ending == replica::Ending::kResult && !cell.executor.value.empty() &&
           cell.executor != from && shared_.hosts.up(cell.executor) &&
           shared_.hosts.connection(cell.executor) == cell.executor_connection;
}

void KernelChannels::end_held_cells() {
    constexpr std::chrono::seconds kPatience{2};
    std::vector<cluster::CellEnded> due;  // an end may end others, too
    for (const auto& cell : cells_.all()) {
        if (cell.held_end &&
            (now() - cell.held_at > kPatience || !may_overtake({}, cell, *cell.held_end))) {
            due.push_back(*cell.held_end);
        }
    }
    for (const auto& ended : due) {
        if (auto* cell = cells_.find(ended.session, ended.msg_id)) {
            end_cell(*cell, ended);
        }
    }
}

void KernelChannels::end_cell(PendingCell& pending, const cluster::CellEnded& ended) {
    auto cell = cells_.take(pending);
    ended_.add(cell.session, cell.msg_id, clients_.listeners());
    const bool answers = is_client(cell);
    if (answers) {
        answered_here_.add(cell.session, cell.msg_id);
    }
    if (clients_.hears(cell.session)) {
        told_here_.add(cell.session, cell.msg_id);
    }
    stale_queued_ = view_.queued();
    for (const auto& output : ended.outputs) {
        note_output(cell, output);
        const auto header = jupyter::parse_header(output.header).value_or(jupyter::Header{});
        if (header.msg_type != "status" && cell.shown.add(header.msg_id)) {
            say_busy(cell);
            show_output(cell, header.msg_id, header.msg_type, output);
        }
    }
    release_held(cell, true);
    if (!cell.elided_display_id.empty()) {
        say_elided(cell, "update_display_data");
    }
    if (ended.reply) {
        say_busy(cell);
        if (answers) {
            clients_.send(cell.client, cell.session, *ended.reply, now());
        }
        broadcast(cell, shared_.factory.status(speaker(cell), cell.parent, "idle"));
    } else if (const auto failure = failure_of(ended)) {
        answer_failed_cell(cell, failure->ename, failure->evalue);
    } else {
        say_busy(cell);
        if (answers) {
            clients_.send(cell.client, cell.session,
                          shared_.factory.aborted_reply(speaker(cell), cell.parent), now());
        }
        broadcast(cell, shared_.factory.status(speaker(cell), cell.parent, "idle"));
    }
    note_heard(cell, {}, true);
    if (cells_.running() == nullptr) {
        for (auto& [id, client] : clients_.clients()) {
            client.saw_busy = false;
        }
    }
    enter_when_ready();
}

void KernelChannels::answer_failed_cell(PendingCell& cell, std::string_view ename,
                                        std::string_view evalue) {
    const auto& factory = shared_.factory;
    if (!cell.busy) {
        broadcast(cell, factory.status(speaker(cell), cell.parent, "busy"));
    }
    take_back_why_it_waits(cell);
    broadcast(cell, factory.error(speaker(cell), cell.parent, ename, evalue));
    if (is_client(cell)) {
        clients_.send(cell.client, cell.session,
                      factory.error_reply(Channel::kShell, "execute_reply", speaker(cell),
                                          cell.parent, ename, evalue, cell.execution_count),
                      now());
    }
    broadcast(cell, factory.status(speaker(cell), cell.parent, "idle"));
}

void KernelChannels::status_changed() {
    if (view_.queued() != stale_queued_) {
        stale_queued_ = 0;
    }
    if (const auto* best = view_.best()) {
        if (!incarnation_) {
            incarnation_ = best->incarnation;
            for (auto& cell : cells_.all()) {
                if (cell.incarnation != replica::kAnyIncarnation) {
                    cell.incarnation = *incarnation_;
                }
            }
        }
        enter_incarnation(best->incarnation, best->options.session);
    }
    watch_comms();
    if (const auto why = view_.failure(); !why.empty() && !between_incarnations()) {
        fail(why);
    } else if (why.empty() && view_.idle_or_busy()) {
        failure_.clear();
    }
    pump();
}

void KernelChannels::interpreter_lost(const HostId& host) {
    for (auto& request : requests_) {
        if (request.sent && request.sent_to == host) {
            request.connection = 0;  // as if with its connection: asked again, or ended
        }
    }
}

void KernelChannels::fail(const std::string& why) {
    if (!failure_.empty()) {
        return;
    }
    log_warning("gateway", "kernel {} cannot run: {}", kernel_.value.str(), why);
    answer_all(why);
    broadcast(shared_.factory.stream(session_, "{}", "This kernel cannot run: " + why + "\n"));
    broadcast(shared_.factory.status(session_, "{}", "dead"));
}

void KernelChannels::answer_all(const std::string& why) {
    failure_ = why;
    while (!cells_.empty()) {
        auto cell = cells_.take(cells_.all().front());
        ended_.add(cell.session, cell.msg_id, clients_.listeners());
        answer_failed_cell(cell, "KernelFailed", why);
    }
    for (auto& request : requests_) {
        end_request(request, why);
    }
    requests_.clear();
}

void KernelChannels::shut_down() {
    constexpr std::string_view kWhy = "the kernel was shut down";
    failure_ = kWhy;
    while (!cells_.empty()) {
        auto cell = cells_.take(cells_.all().front());
        const bool may_have_begun = cell.busy || cell.foreign || !cell.sent_to.value.empty();
        ended_.add(cell.session, cell.msg_id, clients_.listeners());
        answer_failed_cell(
            cell, "KernelFailed",
            fmt::format("{}{}", kWhy,
                        may_have_begun ? " before this cell ended; how far it came is not known"
                                       : "; this cell was not run"));
    }
    answer_all(std::string(kWhy));
    close_all(1000, kWhy);
}

void KernelChannels::park() {
    shut_down();
    failure_.clear();
}

}  // namespace nbos::gateway
