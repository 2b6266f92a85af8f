// A replica's disk in memory: what is durable, what has only been issued, and what a crash leaves.
//
// Writes become durable in the order they were issued. A crash keeps some prefix of those still
// under way, and may cut the next one short in mid-batch: records are snapshot, hard state,
// entries, in that order, and a record that is not whole does not count (the write-ahead log has
// checksums).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/ports.h"
#include "raft/node.h"

namespace nbos::testing {

struct DiskWrite {
    std::uint64_t batch = 0;  // 0: a snapshot of the node's own, nobody waits for it
    std::optional<raft::Snapshot> snapshot;
    Index first_kept;  // entries below may go; 0: no change
    std::optional<raft::HardState> hard_state;
    std::vector<raft::Entry> append;
    std::vector<raft::Message> after;  // leave once this is durable
};

struct DiskImage {
    raft::HardState hard_state;
    std::optional<raft::Snapshot> snapshot;
    std::vector<raft::Entry> log;

    // The whole write, or only its first `records` records.
    void apply(const DiskWrite& write, std::size_t records = SIZE_MAX);
    Index last() const;
    std::optional<Term> term_at(Index index) const;  // also of the snapshot's index
    raft::Restored restored() const { return {hard_state, snapshot, log}; }
};

class SimDisk {
public:
    DiskImage durable;
    std::deque<DiskWrite> under_way;

    void complete_one();
    void crash(Rng& rng, bool may_keep, bool may_tear);
};

}  // namespace nbos::testing
