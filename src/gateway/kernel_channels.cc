// The side of the clients: what they ask, and where it goes. What agents say is in
// kernel_outputs.cc.
#include "gateway/kernel_channels.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

using jupyter::Channel;

// Questions that change nothing: asked again of the next owner when one is lost.
bool repeatable(std::string_view type) {
    return type == "kernel_info_request" || type == "complete_request" ||
           type == "inspect_request" || type == "history_request" ||
           type == "is_complete_request" || type == "comm_info_request";
}

std::string reply_type(const std::string& request_type) {
    constexpr std::string_view kSuffix = "_request";
    return request_type.ends_with(kSuffix)
               ? request_type.substr(0, request_type.size() - kSuffix.size()) + "_reply"
               : std::string();
}

bool has_code(const jupyter::Message& request) {
    const auto fields = jupyter::object_fields(request.content);
    if (!fields) {
        return false;
    }
    const auto code = fields->find("code");
    return code != fields->end() && code->second.starts_with('"');
}

}  // namespace

KernelChannels::KernelChannels(Shared& shared, const KernelView& view, KernelId kernel,
                               std::string spec, std::string session)
    : shared_(shared),
      view_(view),
      kernel_(kernel),
      spec_(std::move(spec)),
      session_(std::move(session)),
      last_activity_(shared.clock.wall()) {}

void KernelChannels::touch() { last_activity_ = shared_.clock.wall(); }

ClientTable::Missing KernelChannels::missing() const {
    return [this](std::size_t count) {
        return shared_.factory.stream(
            session_, "{}",
            fmt::format("{} messages of this kernel are missing here: more came while no browser "
                        "was connected than is kept.\n",
                        count));
    };
}

void KernelChannels::open(ClientId id, ClientTable::Client client) {
    const auto session = client.session;
    touch();
    if (!session.empty() && shared_.together()) {
        await_news(id, std::move(client));
        return;
    }
    clients_.open(id, std::move(client), missing());
    ask_again(id);
    recall(session);
}

// It may come from a gateway that is gone, and wait for the end of what it asked for there.
void KernelChannels::recall(const std::string& session) {
    constexpr std::size_t kSessionsMax = 1000;
    if (session.empty() || !recalled_.insert(session).second) {
        return;
    }
    if (recalled_.size() > kSessionsMax) {
        recalled_.clear();
        recalled_.insert(session);
    }
    shared_.actions.recall(kernel_, session, {});
}

void KernelChannels::close(ClientId id) {
    leave_early(id);
    clients_.close(id, now());
    touch();
}

void KernelChannels::receive(ClientId id, std::string_view payload, bool binary) {
    const auto found = clients_.clients().find(id);
    const auto arriving = arriving_.find(id);
    if (found == clients_.clients().end() && arriving == arriving_.end()) {
        return;
    }
    const auto protocol =
        arriving == arriving_.end() ? found->second.protocol : arriving->second.client.protocol;
    auto message = jupyter::decode_ws(payload, binary, protocol);
    if (!message) {
        log_warning("gateway", "kernel {}: a malformed message was dropped: {}",
                    kernel_.value.str(), message.error().what);
        refuse(id, payload, binary, protocol, message.error().what);
        return;
    }
    take(id, std::move(*message));
}

// Nobody is left waiting for an answer where it can be told what was asked.
void KernelChannels::refuse(ClientId id, std::string_view payload, bool binary,
                            jupyter::WsProtocol protocol, const std::string& why) {
    const auto& factory = shared_.factory;
    const auto say = [&](const jupyter::Message& message) {
        clients_.send(id, {}, message, now());
    };
    std::string mended(payload);
    const bool halves = jupyter::replace_lone_surrogates(mended);
    const auto request = jupyter::decode_ws(mended, binary, protocol);
    const auto header = request ? jupyter::parse_header(request->header) : std::nullopt;
    constexpr std::string_view kRequest = "_request";
    if (!halves || !header || !header->msg_type.ends_with(kRequest)) {
        say(factory.error(session_, "{}", "MalformedMessage", "a message was dropped: " + why));
        return;
    }
    constexpr std::string_view kName = "MalformedMessage";
    constexpr std::string_view kHalf =
        "the text holds half of a surrogate pair (like \\ud800), which is no character; remove it";
    const auto type = header->msg_type.substr(0, header->msg_type.size() - kRequest.size());
    say(factory.status(session_, request->header, "busy"));
    say(factory.error(session_, request->header, kName, kHalf));
    say(factory.error_reply(request->channel, type + "_reply", session_, request->header, kName,
                            kHalf));
    say(factory.status(session_, request->header, "idle"));
}

void KernelChannels::take(ClientId id, jupyter::Message message) {
    auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    if (clients_.name_session(id, header.session, missing())) {
        ask_again(id);
    }
    recall(header.session);
    if (message.channel == Channel::kStdin) {
        take_input(message);
    } else if (message.channel == Channel::kIopub) {
        log_debug("gateway", "kernel {}: a client spoke on iopub; dropped", kernel_.value.str());
    } else if (message.channel == Channel::kShell && header.msg_type == "execute_request") {
        take_cell(id, std::move(message), header);
    } else if (header.msg_type == "interrupt_request") {
        take_interrupt(id, message, header);
    } else if (header.msg_type == "shutdown_request") {
        take_shutdown(id, message, header);
    } else if (header.msg_type != "kernel_info_request" ||
               !answer_kernel_info(id, message, header)) {
        take_request(id, std::move(message), std::move(header));
    }
}

void KernelChannels::take_cell(ClientId id, jupyter::Message message,
                               const jupyter::Header& header) {
    touch();
    if (const auto arriving = arriving_.find(id); arriving != arriving_.end()) {
        arriving->second.asked.insert({header.session, header.msg_id});
    }
    if (auto* known = cells_.find(header.session, header.msg_id)) {
        known->client = id;  // asked again after a lost connection: it is under way
        if (std::exchange(known->foreign, false)) {
            known->request = std::move(message);  // now it can be sent again, should it be lost
        }
        return;
    }
    // Asked again: it is answered again, to those who have not heard its end.
    auto told = ended_.remove(header.session, header.msg_id);
    told.erase(header.session);
    PendingCell cell{.request = std::move(message),
                     .session = header.session,
                     .msg_id = header.msg_id,
                     .client = id,
                     .told = std::move(told),
                     .incarnation = asking_incarnation()};
    cell.parent = cell.request.header;
    if (!failure_.empty() && !between_incarnations()) {
        answer_failed_cell(cell, "KernelFailed", failure_);
        return;
    }
    if (!has_code(cell.request)) {  // a kernel drops such a request without a word
        answer_failed_cell(cell, "InvalidRequest",
                           "the execute_request's content has no text field named code");
        return;
    }
    if (cells_.size() >= shared_.queued_max) {
        answer_failed_cell(cell, "TooManyCells",
                           fmt::format("{} cells of this kernel wait already", shared_.queued_max));
        return;
    }
    cells_.add(std::move(cell));
    pump();
}

void KernelChannels::take_request(ClientId id, jupyter::Message message, jupyter::Header header) {
    if (header.msg_type != "comm_info_request" && header.msg_type != "kernel_info_request") {
        touch();
    }
    if (find_request(header.session, header.msg_id) != nullptr) {
        return;
    }
    answered_.remove(header.session, header.msg_id);  // asked again: it is answered again
    Request request{.message = std::move(message), .header = std::move(header), .client = id};
    if (!failure_.empty() && !between_incarnations()) {
        end_request(request, failure_);
        return;
    }
    if (requests_.size() >= shared_.queued_max) {
        end_request(requests_.front(), "too many requests wait for this kernel");
        requests_.pop_front();
    }
    requests_.push_back(std::move(request));
    pump();
}

// Whoever asks while a cell runs and saw its busy is shown the truth: the kernel answers after it.
bool KernelChannels::answer_kernel_info(ClientId id, const jupyter::Message& message,
                                        const jupyter::Header& header) {
    const auto info = shared_.infos.find(spec_);
    const auto client = clients_.clients().find(id);
    if (info == shared_.infos.end() || client == clients_.clients().end() ||
        between_incarnations() || !failure_.empty()) {
        return false;
    }
    const auto* running = cells_.running();
    if (running != nullptr && client->second.saw_busy) {
        return false;
    }
    const auto& factory = shared_.factory;
    const auto tell = [&](const jupyter::Message& status) {
        if (running != nullptr) {
            clients_.send(id, header.session, status, now());
        } else {
            broadcast(status);
        }
    };
    tell(factory.status(session_, message.header, "busy"));
    clients_.send(
        id, header.session,
        factory.make(message.channel, "kernel_info_reply", session_, message.header, info->second),
        now());
    tell(factory.status(session_, message.header, "idle"));
    const auto still = clients_.clients().find(id);
    if (running != nullptr && still != clients_.clients().end()) {
        still->second.saw_busy = true;  // it came while the cell ran: this is the first it hears
        clients_.send(id, header.session,
                      factory.status(speaker(*running), running->parent, "busy"), now());
    }
    return true;
}

void KernelChannels::take_interrupt(ClientId id, const jupyter::Message& message,
                                    const jupyter::Header& header) {
    broadcast(shared_.factory.status(session_, message.header, "busy"));
    auto done = [this, alive = std::weak_ptr<bool>(alive_), id, header, parent = message.header,
                 channel = message.channel](const Status& status) {
        if (alive.expired()) {
            return;
        }
        const auto& factory = shared_.factory;
        clients_.send(id, header.session,
                      status ? factory.make(channel, "interrupt_reply", session_, parent,
                                            R"({"status": "ok"})")
                             : factory.error_reply(channel, "interrupt_reply", session_, parent,
                                                   "InterruptFailed", status.error().what),
                      now());
        broadcast(factory.status(session_, parent, "idle"));
    };
    shared_.actions.interrupt(kernel_, std::move(done));
}

void KernelChannels::take_shutdown(ClientId id, const jupyter::Message& message,
                                   const jupyter::Header& header) {
    const bool restart = jupyter::bool_field(message.content, "restart", false);
    const auto content = fmt::format(R"({{"status": "ok", "restart": {}}})", restart);
    const auto answer = [this, id, session = header.session, parent = message.header,
                         channel = message.channel, content] {
        clients_.send(id, session,
                      shared_.factory.make(channel, "shutdown_reply", session_, parent, content),
                      now());
    };
    if (!restart) {
        const auto refuse = [this, id, session = header.session, parent = message.header,
                             channel = message.channel](const Error& error) {
            clients_.send(id, session,
                          shared_.factory.error_reply(channel, "shutdown_reply", session_, parent,
                                                      "ShutdownFailed", error.what),
                          now());
        };
        shared_.actions.park(
            kernel_, "",
            [alive = std::weak_ptr<bool>(alive_), answer, refuse](const Status& status) {
                if (!alive.expired()) {
                    status ? answer() : refuse(status.error());
                }
            });
        return;
    }
    shared_.actions.restart(kernel_, [alive = std::weak_ptr<bool>(alive_), answer](const Status&) {
        if (!alive.expired()) {
            answer();
        }
    });
}

KernelChannels::Request* KernelChannels::find_request(const std::string& session,
                                                      const std::string& msg_id) {
    const auto found = std::find_if(requests_.begin(), requests_.end(), [&](const Request& one) {
        return one.header.msg_id == msg_id && one.header.session == session;
    });
    return found == requests_.end() ? nullptr : &*found;
}

void KernelChannels::end_request(Request& request, std::string_view why) {
    const auto& factory = shared_.factory;
    const auto type = reply_type(request.header.msg_type);
    if (!request.replied && !type.empty()) {
        if (!request.busy) {
            broadcast(factory.status(session_, request.message.header, "busy"));
            request.busy = true;
        }
        clients_.send(request.client, request.header.session,
                      factory.error_reply(request.message.channel, type, session_,
                                          request.message.header, "KernelUnavailable", why),
                      now());
    }
    if (!request.busy) {  // it has no reply (comm messages): its sender waits for the idle
        broadcast(factory.status(session_, request.message.header, "busy"));
        request.busy = true;
    }
    if (!request.idle) {
        broadcast(factory.status(session_, request.message.header, "idle"));
    }
    request.replied = request.idle = true;
}

// While no cell runs and nothing was heard of the owner for a moment, another replica: if the owner
// is gone the others are about to elect, and if it is only slow the log settles who executes.
std::optional<HostId> KernelChannels::next_executor() const {
    const auto hesitates = [this](const HostId& host) { return shared_.link.hesitates(host); };
    const auto owner = view_.owner();
    if (!owner || cells_.running() != nullptr || !hesitates(*owner)) {
        return owner;
    }
    const auto other = view_.owner([&](const HostId& host) { return !hesitates(host); });
    return other ? other : owner;
}

void KernelChannels::pump() {
    const auto target = view_.owner();
    if (entering_ && failure_.empty() && target) {
        pump_old_cells(*target);
    }
    if (between_incarnations() || !failure_.empty() || !target) {
        return;
    }
    const auto connection = shared_.hosts.connection(*target);
    for (auto& request : requests_) {
        const bool lost =
            request.sent && (!shared_.hosts.up(request.sent_to) ||
                             shared_.hosts.connection(request.sent_to) != request.connection ||
                             !view_.serves(request.sent_to));
        if (lost && !repeatable(request.header.msg_type)) {
            end_request(request, "the host that worked on this request was lost");
        } else if ((lost && !request.replied) || !request.sent) {
            request.sent = true;
            request.sent_to = *target;
            request.connection = connection;
            request.incarnation = incarnation_.value_or(replica::kAnyIncarnation);
            note_comm(*target, request.header.msg_type, request.message.content);
            shared_.link.send(
                *target, cluster::ClientMessage{kernel_, request.message, request.incarnation});
        } else if (lost && request.busy && !request.idle) {
            end_request(request, "");  // it was answered, only its idle is missing
        }
    }
    forget_done_requests();
    pump_cells(*next_executor());
}

void KernelChannels::ask_how_it_ends(PendingCell& cell) {
    cell.is_recalled = true;
    shared_.actions.recall(kernel_, cell.session,
                           [this, alive = std::weak_ptr(alive_), session = cell.session,
                            msg_id = cell.msg_id](const Status&) {
                               auto* asked =
                                   alive.expired() ? nullptr : cells_.find(session, msg_id);
                               if (asked != nullptr) {
                                   asked->is_recalled = false;
                               }
                           });
}

// In the order in which they were asked for: a cell that goes to another host than the ones before
// it takes those along, as one that is lost on its way there must not run after it. What is in the
// log already is void there.
void KernelChannels::pump_cells(const HostId& target) {
    constexpr std::chrono::seconds kAskForEnd{5};
    if (after_old_ones_ || holds_ > 0) {
        return;
    }
    const auto connection = shared_.hosts.connection(target);
    std::vector<PendingCell*> before;
    for (auto& cell : cells_.all()) {
        const bool hesitates = shared_.link.hesitates(cell.sent_to);
        if (cell.foreign && !cell.is_recalled && now() - cell.sent_at > kAskForEnd) {
            // Whoever told of its end may have had no connection to here just then; and where its
            // session has heard that elsewhere, only the marks tell (CatchUp).
            cell.sent_at = now();
            ask_how_it_ends(cell);
        } else if (PendingCells::due(cell, target, hesitates, shared_.hosts, view_, now())) {
            for (auto* earlier : std::exchange(before, {})) {
                send_cell(*earlier, target);
            }
            send_cell(cell, target);
        } else if (!cell.foreign && !cell.busy &&
                   (cell.sent_to != target || cell.connection != connection)) {
            before.push_back(&cell);
        }
    }
}

void KernelChannels::send_cell(PendingCell& cell, const HostId& target) {
    const auto* status = view_.best();
    cell.sent_to = target;
    cell.connection = shared_.hosts.connection(target);
    cell.leader = status == nullptr ? ReplicaId{} : status->leader;
    cell.sent_at = now();
    shared_.link.send(target, cluster::ClientMessage{kernel_, cell.request, cell.incarnation});
}

void KernelChannels::forget_done_requests() {
    std::erase_if(requests_, [this](const Request& request) {
        const bool wants_reply = request.header.msg_type.ends_with("_request");
        const bool done = request.idle && (request.replied || !wants_reply);
        if (done) {
            answered_.add(request.header.session, request.header.msg_id);
        }
        return done;
    });
}

std::vector<cluster::CellId> KernelChannels::pending() const {
    std::vector<cluster::CellId> ids;
    for (const auto& cell : cells_.all()) {
        ids.push_back({cell.session, cell.msg_id});
    }
    return ids;
}

void KernelChannels::broadcast(const jupyter::Message& message) { clients_.broadcast(message); }

void KernelChannels::broadcast(const PendingCell& cell, const jupyter::Message& message) {
    clients_.broadcast(
        message, [&cell](const std::string& session) { return !cell.told.contains(session); });
}

void KernelChannels::tick() {
    for (auto& cell : cells_.all()) {
        release_held(cell, false);
    }
    end_held_cells();
    end_arrivals();
    enter_when_ready();
    send_marks(true);
    watch_comms();
    pump();
    clients_.forget_old(now());
}

}  // namespace nbos::gateway
