#include "raft/proposals.h"

#include <algorithm>
#include <utility>

namespace nbos::raft {
namespace {

constexpr std::uint64_t start_of(std::uint64_t sequence) { return sequence >> 32U; }

}  // namespace

bool is_applied(const AppliedTable& table, const ProposalId& id) {
    const auto it = table.find(id.proposer);
    return it != table.end() &&
           (id.sequence <= it->second.through ||
            std::binary_search(it->second.above.begin(), it->second.above.end(), id.sequence));
}

bool already_applied(AppliedTable& table, const ProposalId& id) {
    auto& applied = table[id.proposer];
    if (start_of(id.sequence) > start_of(applied.through)) {
        applied.through = start_of(id.sequence) << 32U;
        applied.above.clear();
    }
    if (id.sequence <= applied.through) {
        return true;
    }
    auto& above = applied.above;
    const auto at = std::lower_bound(above.begin(), above.end(), id.sequence);
    if (at != above.end() && *at == id.sequence) {
        return true;
    }
    if (id.sequence != applied.through + 1) {
        above.insert(at, id.sequence);
        return false;
    }
    ++applied.through;
    auto joined = above.begin();
    while (joined != above.end() && *joined == applied.through + 1) {
        ++applied.through;
        ++joined;
    }
    above.erase(above.begin(), joined);
    return false;
}

void PendingProposals::add(ProposalId id, Bytes data) {
    Entry entry;
    entry.kind = EntryKind::kCommand;
    entry.proposal = id;
    entry.data = std::move(data);
    bytes_ += size_in_bytes(entry);
    pending_.push_back(std::move(entry));
}

void PendingProposals::done(const ProposalId& id) {
    const auto it = std::find_if(pending_.begin(), pending_.end(),
                                 [&](const Entry& entry) { return entry.proposal == id; });
    if (it == pending_.end()) {
        return;
    }
    bytes_ -= size_in_bytes(*it);
    if (static_cast<std::size_t>(it - pending_.begin()) < handed_) {
        --handed_;
    }
    pending_.erase(it);
}

void PendingProposals::drop_applied(const AppliedTable& table) {
    auto old = std::exchange(pending_, {});
    bytes_ = 0;
    handed_ = 0;
    for (auto& entry : old) {
        if (!is_applied(table, entry.proposal)) {
            bytes_ += size_in_bytes(entry);
            pending_.push_back(std::move(entry));
        }
    }
}

}  // namespace nbos::raft
