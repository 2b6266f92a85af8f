#include "relay/request_table.h"

#include <algorithm>
#include <array>

namespace nbos::relay {
namespace {

// Asked twice, they do what they do once: the log of the kernel deduplicates cells, the others
// change nothing, and a second interrupt finds nothing to interrupt.
bool safe_to_repeat(std::string_view type) {
    constexpr std::array<std::string_view, 8> kSafe = {
        "execute_request", "kernel_info_request", "complete_request",  "inspect_request",
        "history_request", "is_complete_request", "comm_info_request", "interrupt_request"};
    return std::ranges::find(kSafe, type) != kSafe.end();
}

}  // namespace

std::size_t Request::size() const {
    std::size_t size = message.header.size() + message.parent_header.size() +
                       message.metadata.size() + message.content.size();
    for (const auto& buffer : message.buffers) {
        size += buffer.size();
    }
    return size;
}

RequestTable::Added RequestTable::add(jupyter::Addressed request, const jupyter::Header& header) {
    const Key key(header.session, header.msg_id);
    if (by_key_.contains(key)) {
        return Added::kKnown;
    }
    Request added{.identities = std::move(request.identities),
                  .message = std::move(request.message),
                  .header = header};
    if (!make_room(added.size())) {
        return Added::kFull;
    }
    done_.erase(key);
    bytes_ += added.size();
    requests_.push_back(std::move(added));
    by_key_[key] = std::prev(requests_.end());
    return Added::kNew;
}

// A sent message that wants no answer is kept only to know its status: the oldest such may go.
bool RequestTable::make_room(std::size_t bytes) {
    const auto full = [&] {
        return requests_.size() >= limits_.requests_max || bytes_ + bytes > limits_.bytes_max;
    };
    for (auto at = requests_.begin(); full() && at != requests_.end();) {
        at = at->sent && !at->wants_reply() ? erase(at) : std::next(at);
    }
    return !full();
}

Request* RequestTable::find(std::string_view session, std::string_view msg_id) {
    const auto found = by_key_.find(Key(session, msg_id));
    return found == by_key_.end() ? nullptr : &*found->second;
}

bool RequestTable::show_status(const jupyter::Header& parent, bool busy) {
    const Key key(parent.session, parent.msg_id);
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        return !done_.contains(key);
    }
    bool& said = busy ? found->second->busy : found->second->idle;
    if (std::exchange(said, true)) {
        return false;
    }
    settle(found->second);
    return true;
}

std::optional<std::vector<Bytes>> RequestTable::take_reply(const jupyter::Header& parent) {
    const auto found = by_key_.find(Key(parent.session, parent.msg_id));
    if (found == by_key_.end() || found->second->replied) {
        return std::nullopt;
    }
    found->second->replied = true;
    auto identities = found->second->identities;
    settle(found->second);
    return identities;
}

RequestTable::AfterLoss RequestTable::after_loss() {
    AfterLoss lost;
    for (auto at = requests_.begin(); at != requests_.end();) {
        if (!at->sent) {
            ++at;
        } else if (at->replied) {
            lost.idle_lost.push_back(*at);
            at = erase(at);
        } else if (safe_to_repeat(at->header.msg_type) || !(at->busy || at->idle)) {
            at->sent = false;
            ++at;
        } else if (at->wants_reply()) {
            lost.answer_lost.push_back(*at);
            at = erase(at);
        } else {
            ++at;
        }
    }
    return lost;
}

std::vector<Request*> RequestTable::unsent() {
    std::vector<Request*> due;
    for (auto& request : requests_) {
        if (!request.sent) {
            due.push_back(&request);
        }
    }
    return due;
}

std::vector<Request> RequestTable::take_all() {
    std::vector<Request> all(std::make_move_iterator(requests_.begin()),
                             std::make_move_iterator(requests_.end()));
    requests_.clear();
    by_key_.clear();
    bytes_ = 0;
    return all;
}

std::set<std::string> RequestTable::sessions() const {
    std::set<std::string> names;
    for (const auto& request : requests_) {
        names.insert(request.header.session);
    }
    return names;
}

void RequestTable::settle(std::list<Request>::iterator request) {
    if (request->done()) {
        erase(request);
    }
}

std::list<Request>::iterator RequestTable::erase(std::list<Request>::iterator request) {
    Key key(request->header.session, request->header.msg_id);
    bytes_ -= request->size();
    by_key_.erase(key);
    if (done_.insert(key).second) {
        done_order_.push_back(std::move(key));
        if (done_order_.size() > limits_.done_max) {
            done_.erase(done_order_.front());
            done_order_.pop_front();
        }
    }
    return requests_.erase(request);
}

}  // namespace nbos::relay
