// Clients that come from another gateway: what they missed there is told first, and nothing twice.
//
// Their gateway has told the kernel's hosts how far each session has heard (Heard). When a session
// comes here, it is kept waiting while the executor is asked for what it has not heard of the
// running cell, and the leader for its cells that ended unheard (KernelService::recall).
#include <algorithm>
#include <utility>

#include "gateway/cell_answer.h"
#include "gateway/kernel_channels.h"
#include "jupyter/json_field.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::seconds kPatience{5};

}  // namespace

// Whether a client of this gateway waits for its answer, or may come back for it.
bool KernelChannels::is_client(const PendingCell& cell) const {
    return !cell.foreign || !shared_.together() || clients_.knows(cell.session);
}

// Not only expected back: it may be at another gateway for good.
bool KernelChannels::is_here(const std::string& session) const {
    return clients_.hears(session) ||
           std::any_of(arriving_.begin(), arriving_.end(),
                       [&session](const auto& one) { return one.second.client.is_of(session); });
}

void KernelChannels::await_news(ClientId id, ClientTable::Client client) {
    const auto session = client.session;
    const bool here =
        std::any_of(clients_.clients().begin(), clients_.clients().end(),
                    [&session](const auto& other) { return other.second.is_of(session); });
    if (here) {  // it hears everything already
        clients_.open(id, std::move(client), missing());
        ask_again(id);
        return;
    }
    clients_.expect(session, now());
    arriving_[id] = Arriving{.client = std::move(client), .deadline = now() + kPatience};
    recalled_.insert(session);
    shared_.actions.recall(kernel_, session,
                           [this, alive = std::weak_ptr<bool>(alive_), id](const Status&) {
                               if (!alive.expired()) {
                                   arrive(id);
                               }
                           });
}

void KernelChannels::arrive(ClientId id) {
    auto found = arriving_.extract(id);
    if (found.empty()) {
        return;
    }
    auto& arriving = found.mapped();
    const auto session = arriving.client.session;
    auto news = std::move(arriving.ended);
    news.insert(news.end(), arriving.running.begin(), arriving.running.end());
    const auto kept = clients_.kept_replies(session);
    clients_.keep_first(session, news, now());
    if (!arriving.mark.msg_id.empty()) {
        arriving.client.note(arriving.mark);
    }
    arriving.client.saw_busy = !arriving.mark.msg_id.empty();
    clients_.open(id, std::move(arriving.client), missing());
    for (const auto& mark : arriving.ended_marks) {
        tell_end(session, mark);
    }
    for (const auto& msg_id : kept) {
        tell_end(session, {.asked_by = session, .msg_id = msg_id, .output = {}, .done = true});
    }
    ask_again(id);
    send_marks(false);
}

// It has gone again before it was told what it missed: it will be told when it is back.
void KernelChannels::leave_early(ClientId id) {
    auto found = arriving_.extract(id);
    if (!found.empty()) {
        const auto& arriving = found.mapped();
        clients_.keep_first(arriving.client.session, arriving.ended, now());
    }
}

void KernelChannels::end_arrivals() {
    std::vector<ClientId> late;
    for (const auto& [id, arriving] : arriving_) {
        if (now() >= arriving.deadline) {
            late.push_back(id);
        }
    }
    for (const auto id : late) {
        arrive(id);
    }
}

void KernelChannels::close_all(std::uint16_t code, std::string_view reason) {
    for (const auto& [id, arriving] : std::exchange(arriving_, {})) {
        arriving.client.socket->close(code, reason);
    }
    clients_.close_all(code, reason);
}

// Told in another way.
void KernelChannels::drop_kept(const std::string& session, const std::string& asked_by,
                               const std::string& msg_id) {
    clients_.drop_kept(session, [&](const jupyter::Message& message) {
        const auto parent = jupyter::parse_header(message.parent_header);
        return parent && parent->msg_id == msg_id && parent->session == asked_by;
    });
}

// `said` by the hosts, who may not have been told what this gateway knows.
KernelChannels::Heard KernelChannels::heard_of(const cluster::CellId& cell,
                                               const std::string& session,
                                               const std::optional<std::string>& said) const {
    const auto told = clients_.told_before(session);
    Heard heard{.knows = said.has_value(), .outputs = {}};
    if (said && !said->empty()) {
        heard.outputs.insert(*said);
    }
    if (told.asked_by == cell.session && told.msg_id == cell.msg_id && !told.msg_id.empty()) {
        heard.knows = true;
        heard.outputs.insert(told.output);
    }
    return heard;
}

// Behind the last one that was heard.
std::vector<jupyter::Message> KernelChannels::unheard(const std::vector<jupyter::Message>& outputs,
                                                      const Heard& heard) const {
    const auto last = std::find_if(outputs.rbegin(), outputs.rend(), [&](const auto& output) {
        return heard.outputs.contains(jupyter::string_field(output.header, "msg_id"));
    });
    std::vector<jupyter::Message> news;
    for (auto at = last.base(); at != outputs.end(); ++at) {
        if (jupyter::string_field(at->header, "msg_type") == "status") {
            continue;
        }
        for (auto& part : jupyter::split_stream(*at, shared_.stream_bytes_max,
                                                [this] { return shared_.factory.new_uuid(); })) {
            news.push_back(std::move(part));
        }
    }
    return news;
}

// Of another gateway's client, who has heard its end there; here only the idle is due.
void KernelChannels::end_unseen(const std::string& session, const std::string& msg_id) {
    auto* cell = cells_.find(session, msg_id);
    if (cell == nullptr || !cell->foreign) {
        return;
    }
    const auto ended = cells_.take(*cell);
    ended_.add(session, msg_id, ended.busy ? clients_.listeners() : std::set<std::string>());
    if (ended.busy) {
        broadcast(shared_.factory.status(speaker(ended), ended.parent, "idle"));
    }
}

void KernelChannels::catch_up(const cluster::CatchUp& news) {
    for (const auto& [asked_by, msg_id] : news.done) {
        if (asked_by == news.session || !clients_.knows(asked_by)) {  // else its reply is due here
            end_unseen(asked_by, msg_id);
        }
    }
    const auto found = std::find_if(arriving_.begin(), arriving_.end(), [&news](const auto& one) {
        return one.second.client.session == news.session;
    });
    if (found == arriving_.end()) {
        return;  // it has gone again, or waited for too long
    }
    for (const auto& [asked_by, msg_id] : news.done) {
        if (!found->second.asked.contains({asked_by, msg_id})) {
            drop_kept(news.session, asked_by, msg_id);
        }
    }
    if (news.msg_id.empty()) {
        return;
    }
    auto* cell = cells_.find(news.asked_by, news.msg_id);
    if (cell == nullptr && ended_.contains(news.asked_by, news.msg_id)) {
        return;  // it has ended since: the leader tells that
    }
    if (cell == nullptr) {
        cell =
            &foreign_cell(news.asked_by, news.msg_id, made_up_header(news.asked_by, news.msg_id));
    }
    for (const auto& output : news.outputs) {
        note_output(*cell, output);
    }
    release_held(*cell, true);  // the others; for this one it is among what follows
    drop_kept(news.session, news.asked_by, news.msg_id);
    auto& arriving = found->second;
    arriving.running.clear();
    // Asked for while it waits: whatever hosts believe, no other gateway can have told it.
    const bool asked = arriving.asked.contains({news.asked_by, news.msg_id});
    const auto heard =
        asked ? Heard{}
              : heard_of({news.asked_by, news.msg_id}, news.session,
                         news.knows_it_runs ? std::optional(news.heard) : std::nullopt);
    if (!heard.knows) {
        arriving.running.push_back(shared_.factory.status(speaker(*cell), cell->parent, "busy"));
    }
    const auto outputs = unheard(news.outputs, heard);
    arriving.running.insert(arriving.running.end(), outputs.begin(), outputs.end());
    for (const auto& output : news.outputs) {
        cell->shown.add(jupyter::string_field(output.header, "msg_id"));
    }
    cell->heard[news.session].clear();  // and everything from here on
    arriving.mark = {.asked_by = news.asked_by,
                     .msg_id = news.msg_id,
                     .output = news.outputs.empty()
                                   ? std::string()
                                   : jupyter::string_field(news.outputs.back().header, "msg_id"),
                     .done = false};
}

// The end of a cell that this session asked for through another gateway, and has not heard.
void KernelChannels::recalled(const cluster::CellEnded& ended) {
    const auto& session = ended.recalled_by;
    if (auto* cell = cells_.find(ended.session, ended.msg_id)) {
        end_cell(*cell, ended);  // nobody here has heard it
        return;
    }
    const auto arriving =
        std::find_if(arriving_.begin(), arriving_.end(),
                     [&session](const auto& one) { return one.second.client.session == session; });
    const HeardMark mark{
        .asked_by = ended.session, .msg_id = ended.msg_id, .output = {}, .done = true};
    if (told_here_.contains(ended.session, ended.msg_id)) {
        tell_heard(session, mark);  // the hosts have lost it
        return;
    }
    // Its end came while the session waits, without what was before: then this is all of it.
    // Several recalls may have been waiting for a leader.
    const bool repeated =
        arriving != arriving_.end() &&
        std::any_of(arriving->second.ended_marks.begin(), arriving->second.ended_marks.end(),
                    [&ended](const auto& told) { return told.msg_id == ended.msg_id; });
    const bool in_part =
        arriving != arriving_.end() && arriving->second.mark.msg_id != ended.msg_id;
    const bool answered = answered_here_.contains(ended.session, ended.msg_id);
    if (repeated || (answered && !in_part) || !clients_.knows(session)) {
        return;
    }
    ended_.add(ended.session, ended.msg_id);
    answered_here_.add(ended.session, ended.msg_id);
    drop_kept(session, ended.session, ended.msg_id);
    const bool asked = arriving != arriving_.end() &&
                       arriving->second.asked.contains({ended.session, ended.msg_id});
    const auto said = ended.heard.find(session);
    const auto heard =
        asked ? Heard{}
              : heard_of({ended.session, ended.msg_id}, session,
                         said == ended.heard.end() ? std::nullopt : std::optional(said->second));
    const auto news = told_again(ended, heard);
    if (arriving != arriving_.end()) {
        auto& before = arriving->second.ended;
        before.insert(before.end(), news.begin(), news.end());
        arriving->second.ended_marks.push_back(mark);
        return;
    }
    for (const auto& message : news) {
        clients_.send_to_all(session, message, now());
    }
    tell_end(session, mark);
}

// What a session has not heard of a cell that has ended.
std::vector<jupyter::Message> KernelChannels::told_again(const cluster::CellEnded& ended,
                                                         const Heard& heard) const {
    PendingCell cell{.session = ended.session, .msg_id = ended.msg_id};
    cell.parent =
        ended.reply ? ended.reply->parent_header : made_up_header(ended.session, ended.msg_id);
    for (const auto& output : ended.outputs) {
        note_output(cell, output);
    }
    const auto& factory = shared_.factory;
    const auto& from = speaker(cell);
    std::vector<jupyter::Message> news;
    if (!heard.knows) {
        news.push_back(factory.status(from, cell.parent, "busy"));
    }
    for (auto& output : unheard(ended.outputs, heard)) {
        news.push_back(std::move(output));
    }
    if (ended.reply) {
        news.push_back(*ended.reply);
    } else if (const auto failure = failure_of(ended)) {
        news.push_back(factory.error(from, cell.parent, failure->ename, failure->evalue));
        news.push_back(factory.error_reply(jupyter::Channel::kShell, "execute_reply", from,
                                           cell.parent, failure->ename, failure->evalue,
                                           cell.execution_count));
    } else {
        news.push_back(factory.aborted_reply(from, cell.parent));
    }
    news.push_back(factory.status(from, cell.parent, "idle"));
    return news;
}

void KernelChannels::tell_end(const std::string& session, const HeardMark& mark) {
    told_here_.add(mark.asked_by, mark.msg_id);
    tell_heard(session, mark);
}

}  // namespace nbos::gateway
