// Where in the log the things are that still count.
//
// Per group: the place of its last meta record and of each of its live entries. Per segment: how
// many of those lie in it, so that one which holds none can be used again.
//
// Threads  Built by recovery, then owned by the writer thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>

#include "io/wal_format.h"

namespace nbos::io::wal {

struct Place {
    std::uint64_t segment = 0;
    std::uint64_t batch = 0;
    auto operator<=>(const Place&) const = default;
};

struct Slot {
    Place place;
    Term term;
    std::uint32_t bytes = 0;
};

class WalIndex {
public:
    struct Group {
        Meta meta;
        Place meta_place;
        Index first{1};          // of slots; entries below it do not count
        std::deque<Slot> slots;  // one per live entry, without gaps
        Index last() const { return Index{first.value + slots.size() - 1}; }
    };

    void add_segment(std::uint64_t segment) { live_.emplace(segment, 0); }
    void drop_segment(std::uint64_t segment) { live_.erase(segment); }
    std::uint64_t live_in(std::uint64_t segment) const;
    std::uint64_t live_bytes() const { return live_bytes_; }

    Group* find(GroupId group);
    Group& add(GroupId group);  // finds or adds; a new one's meta counts nowhere yet
    const std::unordered_map<GroupId, Group>& groups() const { return groups_; }

    void remove(GroupId group);
    // What a later batch says about a group. The record itself is the caller's.
    void set_meta(Group& group, const Meta& meta, Place place);
    // The snapshot in group.meta has moved to `index`: entries up to there do not count. All
    // entries go when the log does not hold `index` with `term`; answers whether that was so.
    bool cut_to_snapshot(Group& group, Index index, Term term);
    // Replaces all at or after the entry's index; false: it would leave a gap.
    bool append(Group& group, const raft::Entry& entry, Place place);
    void move(Slot& slot, Place place);
    Slot* slot(Group& group, Index index);

private:
    void count(const Slot& slot, int sign);

    std::unordered_map<GroupId, Group> groups_;
    std::map<std::uint64_t, std::uint64_t> live_;  // segment -> records that count
    std::uint64_t live_bytes_ = 0;
};

}  // namespace nbos::io::wal
