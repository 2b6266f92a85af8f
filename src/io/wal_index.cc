#include "io/wal_index.h"

#include "base/check.h"

namespace nbos::io::wal {

std::uint64_t WalIndex::live_in(std::uint64_t segment) const {
    const auto at = live_.find(segment);
    return at == live_.end() ? 0 : at->second;
}

WalIndex::Group* WalIndex::find(GroupId group) {
    const auto at = groups_.find(group);
    return at == groups_.end() ? nullptr : &at->second;
}

WalIndex::Group& WalIndex::add(GroupId group) { return groups_[group]; }

void WalIndex::count(const Slot& slot, int sign) {
    auto& live = live_[slot.place.segment];
    if (sign > 0) {
        ++live;
        live_bytes_ += slot.bytes;
    } else {
        NBOS_CHECK(live > 0 && live_bytes_ >= slot.bytes,
                   "a segment's live records are miscounted");
        --live;
        live_bytes_ -= slot.bytes;
    }
}

void WalIndex::remove(GroupId id) {
    const auto at = groups_.find(id);
    if (at == groups_.end()) {
        return;
    }
    for (const auto& slot : at->second.slots) {
        count(slot, -1);
    }
    if (at->second.meta_place.batch != 0) {
        count({.place = at->second.meta_place}, -1);
    }
    groups_.erase(at);
}

void WalIndex::set_meta(Group& group, const Meta& meta, Place place) {
    if (group.meta_place.batch != 0) {
        count({.place = group.meta_place}, -1);
    }
    group.meta = meta;
    group.meta_place = place;
    count({.place = place}, +1);
}

bool WalIndex::cut_to_snapshot(Group& group, Index index, Term term) {
    if (index.value < group.first.value) {
        return false;
    }
    const Slot* held = slot(group, index);
    const bool foreign = !group.slots.empty() && (held == nullptr || held->term != term);
    while (!group.slots.empty() && (foreign || group.first <= index)) {
        count(group.slots.front(), -1);
        group.slots.pop_front();
        ++group.first.value;
    }
    group.first = Index{index.value + 1};
    return foreign;
}

bool WalIndex::append(Group& group, const raft::Entry& entry, Place place) {
    if (entry.index < group.first || entry.index.value > group.last().value + 1) {
        return false;
    }
    while (group.last() >= entry.index) {
        count(group.slots.back(), -1);
        group.slots.pop_back();
    }
    group.slots.push_back({.place = place,
                           .term = entry.term,
                           .bytes = static_cast<std::uint32_t>(raft::size_in_bytes(entry))});
    count(group.slots.back(), +1);
    return true;
}

void WalIndex::move(Slot& slot, Place place) {
    count(slot, -1);
    slot.place = place;
    count(slot, +1);
}

Slot* WalIndex::slot(Group& group, Index index) {
    if (index < group.first || index > group.last()) {
        return nullptr;
    }
    return &group.slots[index.value - group.first.value];
}

}  // namespace nbos::io::wal
