#include "agent/heard_marks.h"

namespace nbos::agent {

void HeardMarks::mark(const Cell& cell, const std::string& session, const std::string& output,
                      bool done) {
    const auto [found, added] = cells_.try_emplace(cell);
    if (added) {
        order_.push_back(cell);
    }
    auto& last = found->second.outputs[session];
    if (!output.empty()) {
        last = output;
    }
    if (done) {
        found->second.done.insert(session);
    }
    while (order_.size() > kCellsMax) {
        cells_.erase(order_.front());
        order_.pop_front();
    }
}

const HeardMarks::Outputs& HeardMarks::of(const Cell& cell) const {
    static const Outputs kNone;
    const auto found = cells_.find(cell);
    return found == cells_.end() ? kNone : found->second.outputs;
}

bool HeardMarks::done(const Cell& cell, const std::string& session) const {
    const auto found = cells_.find(cell);
    return found != cells_.end() && found->second.done.contains(session);
}

std::vector<HeardMarks::Cell> HeardMarks::done_by(const std::string& session) const {
    std::vector<Cell> cells;
    for (const auto& cell : order_) {
        if (done(cell, session)) {
            cells.push_back(cell);
        }
    }
    return cells;
}

}  // namespace nbos::agent
