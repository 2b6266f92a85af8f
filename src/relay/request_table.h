// What local clients have asked and is not yet done: who gets the answer, and what must be asked
// again when the gateway was away.
//
// A request is done when its reply and its idle were there (only the idle, if it wants no reply).
// The gateway and the cell log know execute_requests by (session, message id), so that asking
// again runs nothing twice; what it repeats to a client, the table holds back.
//
// Limits   RequestLimits: above them a request is refused, none is dropped.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "jupyter/message.h"
#include "jupyter/signed_frames.h"

namespace nbos::relay {

struct RequestLimits {
    std::size_t requests_max = 1'000;
    std::size_t bytes_max = 256U << 20U;
    std::size_t done_max = 10'000;  // remembered, to hold back what is said of them again
};

struct Request {
    std::vector<Bytes> identities;
    jupyter::Message message;
    jupyter::Header header;
    bool sent = false;
    bool busy = false;
    bool idle = false;
    bool replied = false;

    bool wants_reply() const { return header.msg_type.ends_with("_request"); }
    bool done() const { return idle && (replied || !wants_reply()); }
    std::size_t size() const;
};

class RequestTable {
public:
    explicit RequestTable(RequestLimits limits = {}) : limits_(limits) {}

    enum class Added : std::uint8_t { kNew, kKnown, kFull };
    Added add(jupyter::Addressed request, const jupyter::Header& header);
    Request* find(std::string_view session, std::string_view msg_id);

    // Whether clients must be told this status of what `parent` asked. True for strangers'
    // requests.
    bool show_status(const jupyter::Header& parent, bool busy);
    // The identities of whoever waits for a reply to `parent`; nullopt: nobody (any more).
    std::optional<std::vector<Bytes>> take_reply(const jupyter::Header& parent);

    // After the connection was lost and is back: sorts what was sent before. Afterwards every
    // request is either unsent, to be sent in order, or waits for what the gateway still owes.
    struct AfterLoss {
        std::vector<Request> answer_lost;  // it ran, or may have; must be answered with an error
        std::vector<Request> idle_lost;    // it was answered
    };
    AfterLoss after_loss();

    std::vector<Request*> unsent();  // in the order in which they came
    std::vector<Request> take_all();
    std::set<std::string> sessions() const;  // of clients whose requests wait
    std::size_t size() const { return requests_.size(); }

private:
    using Key = std::pair<std::string, std::string>;  // session, message id

    void settle(std::list<Request>::iterator request);
    std::list<Request>::iterator erase(std::list<Request>::iterator request);
    bool make_room(std::size_t bytes);

    RequestLimits limits_;
    std::list<Request> requests_;
    std::map<Key, std::list<Request>::iterator> by_key_;
    std::size_t bytes_ = 0;
    std::set<Key> done_;
    std::deque<Key> done_order_;
};

}  // namespace nbos::relay
