#include "gateway/pending_cells.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

constexpr std::size_t kShownMax = 4096;
constexpr std::size_t kEndedMax = 2048;
constexpr std::chrono::seconds kRepeatUnstarted{5};
constexpr std::chrono::seconds kRepeatNewLeader{1};

}  // namespace

bool ShownIds::add(const std::string& id) {
    if (!ids_.insert(id).second) {
        return false;
    }
    order_.push_back(id);
    if (order_.size() > kShownMax) {
        ids_.erase(order_.front());
        order_.pop_front();
    }
    return true;
}

std::string made_up_header(const std::string& session, const std::string& msg_id) {
    return fmt::format(R"({{"msg_id": {}, "session": {}, "msg_type": "execute_request", )"
                       R"("username": "", "version": "5.3"}})",
                       jupyter::json_quoted(msg_id), jupyter::json_quoted(session));
}

void EndedCells::add(const std::string& session, const std::string& msg_id,
                     std::set<std::string> told) {
    const auto [cell, added] = cells_.try_emplace({session, msg_id});
    cell->second.merge(std::move(told));
    if (!added) {
        return;
    }
    order_.emplace_back(session, msg_id);
    if (order_.size() > kEndedMax) {
        cells_.erase(order_.front());
        order_.pop_front();
    }
}

std::set<std::string> EndedCells::remove(const std::string& session, const std::string& msg_id) {
    auto cell = cells_.extract({session, msg_id});
    if (cell.empty()) {
        return {};
    }
    std::erase(order_, cell.key());
    return std::move(cell.mapped());
}

bool EndedCells::contains(const std::string& session, const std::string& msg_id) const {
    return cells_.contains({session, msg_id});
}

PendingCell* PendingCells::find(const std::string& session, const std::string& msg_id) {
    const auto found = std::find_if(cells_.begin(), cells_.end(), [&](const PendingCell& cell) {
        return cell.msg_id == msg_id && cell.session == session;
    });
    return found == cells_.end() ? nullptr : &*found;
}

PendingCell& PendingCells::add(PendingCell cell) { return cells_.emplace_back(std::move(cell)); }

PendingCell PendingCells::take(const PendingCell& cell) {
    const auto found = std::find_if(cells_.begin(), cells_.end(),
                                    [&](const PendingCell& other) { return &other == &cell; });
    PendingCell taken = std::move(*found);
    cells_.erase(found);
    return taken;
}

const PendingCell* PendingCells::running() const {
    const auto found = std::find_if(cells_.begin(), cells_.end(),
                                    [](const PendingCell& cell) { return cell.busy; });
    return found == cells_.end() ? nullptr : &*found;
}

bool PendingCells::due(const PendingCell& cell, const HostId& target, bool hesitates,
                       const HostTable& hosts, const KernelView& view, Instant now) {
    if (cell.foreign) {
        return false;
    }
    const bool lost = cell.sent_to.value.empty() || !hosts.up(cell.sent_to) ||
                      hosts.connection(cell.sent_to) != cell.connection ||
                      !view.serves(cell.sent_to);
    if (lost) {
        return true;
    }
    // Connected to us does not mean connected to the others: a new leader may never have heard.
    const auto* status = view.best();
    const bool new_leader = status != nullptr && status->leader != cell.leader;
    if (new_leader && target != cell.sent_to && now - cell.sent_at > kRepeatNewLeader) {
        return true;
    }
    if (!cell.busy && hesitates && target != cell.sent_to) {
        return true;
    }
    return !cell.busy && now - cell.sent_at > kRepeatUnstarted;
}

}  // namespace nbos::gateway
