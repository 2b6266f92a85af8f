#include "gateway/client_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

std::size_t size_of(const jupyter::Message& message) {
    std::size_t size = message.header.size() + message.parent_header.size() +
                       message.metadata.size() + message.content.size();
    for (const auto& buffer : message.buffers) {
        size += buffer.size();
    }
    return size;
}

std::size_t frame_max(jupyter::WsProtocol protocol) {
    return protocol == jupyter::WsProtocol::kV1 ? kFrameBytesMax : kLegacyFrameBytesMax;
}

// A widget sends many messages after its first, which is a comm_open or a display.
void warn_of_buffers(const jupyter::Message& message) {
    const auto type = jupyter::string_field(message.header, "msg_type");
    if (type != "comm_msg") {
        log_warning(
            "gateway",
            "a {} goes without its {} buffers to a jupyter_server that cannot pass them on; "
            "docs/guide/jupyter-server.md says how it can",
            type, message.buffers.size());
    }
}

// A display that its framing's clients cannot take is a text that says so.
jupyter::WsPayload encoded(const jupyter::Message& message, jupyter::WsProtocol protocol) {
    if (protocol == jupyter::WsProtocol::kLegacyText && !message.buffers.empty()) {
        warn_of_buffers(message);
    }
    const auto max = frame_max(protocol);
    if (size_of(message) + kFrameOverhead < max) {
        return jupyter::encode_ws(message, protocol);
    }
    const auto type = jupyter::string_field(message.header, "msg_type");
    if (type != "display_data" && type != "execute_result" && type != "update_display_data") {
        return jupyter::encode_ws(message, protocol);
    }
    const auto why = fmt::format(
        "[an output of {} MiB is left out: this client takes messages of at most {} MiB; save it "
        "to a file instead]",
        size_of(message) >> 20U, max >> 20U);
    auto small = message;
    small.buffers.clear();
    small.content =
        fmt::format(R"({{"data": {{"text/plain": {}}}, "metadata": {{}}, "transient": {}, )"
                    R"("execution_count": {}}})",
                    jupyter::json_quoted(why),
                    jupyter::object_field_text(message.content, "transient").value_or("{}"),
                    jupyter::uint_field(message.content, "execution_count"));
    return jupyter::encode_ws(small, protocol);
}

// A send may close its socket, and that takes the client out of the table: hence the copies.
void transmit(ClientTable::Client client, const jupyter::Message& message) {
    auto payload = encoded(message, client.protocol);
    client.socket->send(std::move(payload.bytes), payload.binary);
}

}  // namespace

// An end is told, whatever comes behind it; of outputs the newest one says it all.
void ClientTable::Client::note(HeardMark mark) {
    if (!marks.empty() && !marks.back().done) {
        marks.pop_back();
    }
    marks.push_back(std::move(mark));
    if (marks.size() > kMarksMax) {
        marks.pop_front();
    }
}

void ClientTable::open(ClientId id, Client client, const Missing& missing) {
    client.told = told_before(client.session);
    clients_[id] = client;
    replay(client, client.session, missing);
    for (const auto& session : client.speaks_for) {
        replay(client, session, missing);
    }
}

bool ClientTable::name_session(ClientId id, const std::string& session, const Missing& missing) {
    const auto found = clients_.find(id);
    if (found == clients_.end() || session.empty() || found->second.is_of(session)) {
        return false;
    }
    auto& client = found->second;
    if (client.session.empty()) {
        client.session = session;
    } else if (client.speaks_for.size() < limits_.spoken_for_max) {
        client.speaks_for.insert(session);
    }
    replay(client, session, missing);
    return true;
}

void ClientTable::replay(Client client, const std::string& session, const Missing& missing) {
    auto kept = kept_.extract(session);
    if (session.empty() || kept.empty()) {
        return;
    }
    if (kept.mapped().dropped > 0) {
        transmit(client, missing(kept.mapped().dropped));
    }
    for (const auto& message : kept.mapped().messages) {
        transmit(client, *message);
    }
}

void ClientTable::close(ClientId id, Instant now) {
    auto client = clients_.extract(id);
    if (client.empty() || client.mapped().session.empty()) {
        return;
    }
    const auto& session = client.mapped().session;
    const bool elsewhere = std::any_of(clients_.begin(), clients_.end(), [&](const auto& other) {
        return other.second.session == session;
    });
    if (!elsewhere) {
        const auto& gone = client.mapped();
        const bool all = gone.socket->queued_bytes() == 0 && !gone.marks.empty();
        kept_for(session, now).told = all ? gone.marks.back() : gone.told;
    }
}

HeardMark ClientTable::told_before(const std::string& session) const {
    const auto kept = kept_.find(session);
    return kept == kept_.end() ? HeardMark{} : kept->second.told;
}

void ClientTable::expect(const std::string& session, Instant now) {
    if (!session.empty() && !knows(session)) {
        kept_for(session, now);
    }
}

void ClientTable::close_all(std::uint16_t code, std::string_view reason) {
    for (const auto& [id, client] : std::map(clients_)) {
        client.socket->close(code, reason);  // calls back into close()
    }
    kept_.clear();
}

ClientTable::Kept& ClientTable::kept_for(const std::string& session, Instant now) {
    const auto [found, added] = kept_.try_emplace(session);
    if (added) {
        found->second.since = now;
        if (kept_.size() > limits_.kept_sessions_max) {
            auto oldest = kept_.end();
            for (auto at = kept_.begin(); at != kept_.end(); ++at) {
                if (at != found &&
                    (oldest == kept_.end() || at->second.since < oldest->second.since)) {
                    oldest = at;
                }
            }
            kept_.erase(oldest);
        }
    }
    return found->second;
}

void ClientTable::keep(Kept& kept, std::shared_ptr<const jupyter::Message> message) {
    kept.bytes += size_of(*message);
    kept.messages.push_back(std::move(message));
    while (kept.bytes > limits_.kept_bytes_max && !kept.messages.empty()) {
        kept.bytes -= size_of(*kept.messages.front());
        kept.messages.pop_front();
        ++kept.dropped;
    }
}

void ClientTable::broadcast(const jupyter::Message& message) {
    broadcast(message, [](const std::string&) { return true; });
}

void ClientTable::broadcast(const jupyter::Message& message, const Wanted& wanted) {
    // Once per framing, whatever the clients.
    std::array<std::optional<jupyter::WsPayload>, jupyter::kWsProtocols> payloads;
    for (const auto& [id, client] : std::map(clients_)) {
        if (!wanted(client.session)) {
            continue;
        }
        auto& payload = payloads[static_cast<std::size_t>(client.protocol)];
        if (!payload) {
            payload = encoded(message, client.protocol);
        }
        client.socket->send(payload->bytes, payload->binary);
    }
    std::shared_ptr<const jupyter::Message> shared;
    for (auto& [session, kept] : kept_) {
        if (wanted(session)) {
            shared = shared ? shared : std::make_shared<const jupyter::Message>(message);
            keep(kept, shared);
        }
    }
}

bool ClientTable::reach(ClientId id, const std::string& session, const jupyter::Message& message) {
    const auto is_of_it = [&session](const Client& client) {
        return !session.empty() && client.is_of(session);
    };
    std::vector<Client> listeners;
    for (const auto& [other, client] : clients_) {
        if (other == id || (other > id && is_of_it(client))) {
            listeners.push_back(client);
        }
    }
    if (listeners.empty()) {
        const auto older = std::find_if(clients_.begin(), clients_.end(),
                                        [&](const auto& one) { return is_of_it(one.second); });
        if (older != clients_.end()) {
            listeners.push_back(older->second);
        }
    }
    for (const auto& client : listeners) {
        transmit(client, message);
    }
    return !listeners.empty();
}

void ClientTable::send(ClientId id, const std::string& session, const jupyter::Message& message,
                       Instant now) {
    if (!reach(id, session, message) && !session.empty()) {
        keep(kept_for(session, now), std::make_shared<const jupyter::Message>(message));
    }
}

void ClientTable::send_to_all(const std::string& session, const jupyter::Message& message,
                              Instant now) {
    bool sent = false;
    for (const auto& [id, client] : std::map(clients_)) {
        if (client.is_of(session)) {
            transmit(client, message);
            sent = true;
        }
    }
    if (!sent && !session.empty()) {
        keep(kept_for(session, now), std::make_shared<const jupyter::Message>(message));
    }
}

void ClientTable::drop_kept(const std::string& session, const Which& which) {
    const auto kept = kept_.find(session);
    if (kept == kept_.end()) {
        return;
    }
    std::erase_if(kept->second.messages, [&](const auto& message) {
        const bool goes = which(*message);
        kept->second.bytes -= goes ? size_of(*message) : 0;
        return goes;
    });
}

std::vector<std::string> ClientTable::kept_replies(const std::string& session) const {
    std::vector<std::string> cells;
    const auto kept = kept_.find(session);
    if (kept == kept_.end()) {
        return cells;
    }
    for (const auto& message : kept->second.messages) {
        const auto parent = jupyter::parse_header(message->parent_header);
        if (parent && parent->session == session &&
            jupyter::string_field(message->header, "msg_type") == "execute_reply") {
            cells.push_back(parent->msg_id);
        }
    }
    return cells;
}

void ClientTable::keep_first(const std::string& session,
                             const std::vector<jupyter::Message>& messages, Instant now) {
    auto& kept = kept_for(session, now);
    auto later = std::exchange(kept.messages, {});
    kept.bytes = 0;
    for (const auto& message : messages) {
        keep(kept, std::make_shared<const jupyter::Message>(message));
    }
    for (auto& message : later) {
        keep(kept, std::move(message));
    }
}

bool ClientTable::hears(const std::string& session) const {
    return std::any_of(clients_.begin(), clients_.end(),
                       [&](const auto& client) { return client.second.is_of(session); });
}

bool ClientTable::knows(const std::string& session) const {
    return kept_.contains(session) || hears(session);
}

std::set<std::string> ClientTable::listeners() const {
    std::set<std::string> sessions;
    for (const auto& [id, client] : clients_) {
        sessions.insert(client.session);
        sessions.insert(client.speaks_for.begin(), client.speaks_for.end());
    }
    for (const auto& [session, kept] : kept_) {
        sessions.insert(session);
    }
    sessions.erase("");  // has not said who it is
    return sessions;
}

void ClientTable::forget_old(Instant now) {
    std::erase_if(kept_,
                  [&](const auto& kept) { return now - kept.second.since > limits_.kept_for; });
}

}  // namespace nbos::gateway
