#include "raft/log_view.h"

#include <algorithm>

namespace nbos::raft {

LogView::LogView(std::optional<Snapshot> snapshot, std::vector<Entry> log) {
    if (snapshot) {
        snapshot_ = *std::move(snapshot);
        first_ = Index{snapshot_.index.value + 1};
        base_term_ = snapshot_.term;
#ifdef NBOS_RAFT_MUTANTS
        snapshot_is_foreign_ = snapshot_.index.value > 1;
#endif
    }
    for (auto& entry : log) {
        if (entry.index < first_) {
            continue;
        }
        append_one(std::move(entry));
    }
}

void LogView::append_one(Entry entry) {
    const auto index = entry.index;
    push(std::move(entry), index);
}

void LogView::push(Entry entry, Index noted_at) {
    require(entry.index.value == last().value + 1 && entry.term >= last_term(),
            "the log has a gap or a falling term");
    bytes_ += size_in_bytes(entry);
    if (entry.kind == EntryKind::kMembership) {
        note_membership(entry, noted_at);
    }
    entries_.push_back(std::move(entry));
}

std::optional<Term> LogView::term_at(Index index) const {
    if (index.value + 1 == first_.value) {
        return base_term_;
    }
    if (index < first_ || index > last()) {
        return std::nullopt;
    }
    return entries_[index.value - first_.value].term;
}

const Entry& LogView::at(Index index) const {
    require(index >= first_ && index <= last(), "entry is not in the log");
    return entries_[index.value - first_.value];
}

const Membership& LogView::membership_at(Index index) const {
    for (auto it = history_.rbegin(); it != history_.rend(); ++it) {
        if (it->first <= index) {
            return it->second;
        }
    }
#ifdef NBOS_RAFT_MUTANTS
    static const Membership kNobody;
    if (mutants.config_not_from_snapshot && snapshot_is_foreign_) {
        return kNobody;
    }
#endif
    return snapshot_.membership;
}

bool LogView::is_voter_since(Index index, ReplicaId id) const {
    return membership_at(index).is_voter(id) ||
           std::any_of(history_.begin(), history_.end(), [&](const auto& configuration) {
               return configuration.first > index && configuration.second.is_voter(id);
           });
}

Index LogView::membership_index() const {
    return history_.empty() ? snapshot_.index : history_.back().first;
}

std::vector<Entry> LogView::slice(Index from, std::size_t bytes_max) const {
    std::vector<Entry> out;
    std::size_t bytes = 0;
    for (auto i = from; i <= last(); ++i.value) {
        const auto& entry = at(i);
        bytes += size_in_bytes(entry);
        if (!out.empty() && bytes > bytes_max) {
            break;
        }
        out.push_back(entry);
    }
    return out;
}

std::vector<Entry> LogView::tail(Index from) const {
    require(from >= first_, "the tail begins before the log");
    const auto begin = std::min<std::uint64_t>(from.value - first_.value, entries_.size());
    return {entries_.begin() + static_cast<std::ptrdiff_t>(begin), entries_.end()};
}

void LogView::append(std::vector<Entry> batch) {
    if (batch.empty()) {
        return;
    }
    const auto front = batch.front().index;
#ifdef NBOS_RAFT_MUTANTS
    if (mutants.append_over_snapshot && front <= snapshot_.index) {
        entries_.clear();
        bytes_ = 0;
        first_ = front;
        base_term_ = {};
    }
#endif
    require(front > snapshot_.index || NBOS_MUTANT(mutants, append_over_snapshot),
            "an append reaches below the snapshot");
    require(front.value <= last().value + 1, "an append leaves a gap");
    truncate_from(front);
    for (auto& entry : batch) {
        const auto index = entry.index;
        push(std::move(entry), NBOS_MUTANT(mutants, config_at_batch_front) ? front : index);
    }
}

void LogView::truncate_from(Index index) {
    while (!entries_.empty() && last() >= index) {
        bytes_ -= size_in_bytes(entries_.back());
        entries_.pop_back();
    }
    while (!history_.empty() && history_.back().first >= index) {
        history_.pop_back();
    }
}

void LogView::note_membership(const Entry& entry, Index noted_at) {
    Reader in(entry.data.view());
    auto membership = decode_membership(in);
    require(membership.has_value() && in.done(), "a configuration entry does not decode");
    history_.emplace_back(noted_at, *std::move(membership));
}

void LogView::install(Snapshot snapshot) {
    require(snapshot.index > snapshot_.index, "an installed snapshot is older than our own");
    snapshot_ = std::move(snapshot);
    first_ = Index{snapshot_.index.value + 1};
    base_term_ = snapshot_.term;
    entries_.clear();
    history_.clear();
    bytes_ = 0;
#ifdef NBOS_RAFT_MUTANTS
    snapshot_is_foreign_ = true;
#endif
}

void LogView::compact(Snapshot snapshot, std::size_t keep_bytes) {
    require(matches(snapshot.index, snapshot.term), "a snapshot of entries we do not have");
    for (auto i = Index{snapshot_.index.value + 1}; i <= snapshot.index; ++i.value) {
        bytes_ -= size_in_bytes(at(i));
    }
    snapshot_ = std::move(snapshot);
    std::erase_if(history_, [&](const auto& note) { return note.first <= snapshot_.index; });

    std::size_t kept = 0;
    auto from = snapshot_.index.value + 1;
    while (from > first_.value) {
        kept += size_in_bytes(at(Index{from - 1}));
        if (kept > keep_bytes) {
            break;
        }
        --from;
    }
    while (first_.value < from) {
        base_term_ = entries_.front().term;
        entries_.pop_front();
        ++first_.value;
    }
}

Index LogView::last_at_or_below(Index index, Term term) const {
    index = std::min(index, last());
    while (index >= first_ && at(index).term > term) {
        --index.value;
    }
    return index;
}

}  // namespace nbos::raft
