// The WebSockets of one kernel, and what is kept for those that went away.
//
// When a socket closes, what it would have received is kept for its session id, bounded, and
// replayed when the same session connects again: a client that reconnects misses nothing.
//
// Limits   Below. Above them the oldest messages go, and the replay says how many are missing.
// Threads  The loop thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/ports.h"
#include "base/strong.h"
#include "jupyter/http.h"
#include "jupyter/message.h"
#include "jupyter/ws_frames.h"

namespace nbos::gateway {

using ClientId = Strong<struct ClientTag>;  // one connection; 0 is nobody

struct ClientLimits {
    std::size_t kept_bytes_max = 8U << 20U;  // per session
    std::size_t kept_sessions_max = 16;
    std::size_t spoken_for_max = 64;  // further sessions of one client
    std::chrono::minutes kept_for{60};
};

// A message that is longer is not sent to a client of this framing.
constexpr std::size_t kLegacyFrameBytesMax = 10U << 20U;  // tornado closes above it
constexpr std::size_t kFrameBytesMax = 128U << 20U;
constexpr std::size_t kFrameOverhead = 4096;  // what the framing adds to a message, at most

// How far a client has heard a cell. Sent when its socket has taken everything.
struct HeardMark {
    std::string asked_by;  // empty: nothing to tell
    std::string msg_id;
    std::string output;
    bool done = false;
};

constexpr int kMarksPerTick =
    20;  // and client; then at the next tick all ends, and the newest output
constexpr std::size_t kMarksMax = 256;  // that wait for it

class ClientTable {
public:
    explicit ClientTable(ClientLimits limits = {}) : limits_(limits) {}

    struct Client {
        std::string session;  // of the URL; empty: the first message tells
        jupyter::WsProtocol protocol = jupyter::WsProtocol::kLegacy;
        std::shared_ptr<jupyter::WebSocket> socket;
        bool saw_busy = false;        // has been told that a cell is running
        std::deque<HeardMark> marks;  // what to tell the hosts of it
        HeardMark told = {};          // the last that they were told
        int mark_credit = kMarksPerTick;
        // Sessions besides its own: a relay's local clients. What was kept for one of them goes to
        // whoever names it, or says a message of it.
        std::set<std::string, std::less<>> speaks_for = {};

        bool is_of(std::string_view name) const {
            return session == name || speaks_for.contains(name);
        }
        void note(HeardMark mark);
    };

    // `missing` makes the message that tells how many messages are gone.
    using Missing = std::function<jupyter::Message(std::size_t count)>;

    void open(ClientId id, Client client, const Missing& missing);
    void close(ClientId id, Instant now);
    void expect(const std::string& session, Instant now);  // keeps messages for it from now on
    // Whether it is a new one to this client.
    bool name_session(ClientId id, const std::string& session, const Missing& missing);
    void close_all(std::uint16_t code, std::string_view reason);

    // To every client, and to what is kept for those that are away.
    void broadcast(const jupyter::Message& message);
    // To those whose session is wanted.
    using Wanted = std::function<bool(const std::string& session)>;
    void broadcast(const jupyter::Message& message, const Wanted& wanted);
    // To one client, and to newer connections of its session, as it may be half open by now; when
    // it is gone to any one of its session; else kept for it.
    void send(ClientId id, const std::string& session, const jupyter::Message& message,
              Instant now);
    // To every connection that speaks for the session; kept for it when there is none.
    void send_to_all(const std::string& session, const jupyter::Message& message, Instant now);
    // As send(), but false instead of keeping it.
    bool reach(ClientId id, const std::string& session, const jupyter::Message& message);
    bool hears(const std::string& session) const;  // connected
    bool knows(const std::string& session) const;  // connected, or away with messages kept
    std::set<std::string> listeners() const;       // all sessions that it knows
    void forget_old(Instant now);
    // Of what is kept for a session: what it has heard through another gateway goes, and what it
    // has missed comes first.
    using Which = std::function<bool(const jupyter::Message& message)>;
    void drop_kept(const std::string& session, const Which& which);
    // The cells of its own whose reply is kept for a session, by message id.
    std::vector<std::string> kept_replies(const std::string& session) const;
    // How far a session that is away had heard: hosts may have missed the word of it.
    HeardMark told_before(const std::string& session) const;
    void keep_first(const std::string& session, const std::vector<jupyter::Message>& messages,
                    Instant now);

    std::map<ClientId, Client>& clients() { return clients_; }
    const std::map<ClientId, Client>& clients() const { return clients_; }

private:
    struct Kept {
        std::deque<std::shared_ptr<const jupyter::Message>> messages;
        std::size_t bytes = 0;
        std::size_t dropped = 0;
        Instant since{};
        HeardMark told = {};
    };

    void keep(Kept& kept, std::shared_ptr<const jupyter::Message> message);
    Kept& kept_for(const std::string& session, Instant now);
    void replay(Client client, const std::string& session, const Missing& missing);

    ClientLimits limits_;
    std::map<ClientId, Client> clients_;
    std::map<std::string, Kept> kept_;
};

}  // namespace nbos::gateway
