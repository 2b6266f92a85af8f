// Reads a log directory at start-up: what every group had made durable, and where to go on.
//
// Rule (consensus.md section 7, rule 8): what a crash can leave half-written is the last batch of
// the last segment, and only that is cut off. A bad batch anywhere else is damage, and the open is
// refused: acknowledged entries would be lost without a word.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/wal_files.h"
#include "io/wal_index.h"
#include "raft/group_host.h"

namespace nbos::io::wal {

struct Recovered {
    WalIndex index;
    std::vector<raft::RestoredGroup> groups;
    struct Segment {
        File file;
        std::uint64_t salt = 0;
    };
    std::map<std::uint64_t, Segment> segments;  // by sequence number; the last one goes on
    std::uint64_t end = 0;                      // where in the last segment
    std::uint64_t next_batch = 1;
    std::uint64_t next_snapshot = 1;
};

// Deletes what no record names: half-made files and snapshots of former times.
Result<Recovered> recover(const std::string& directory);

}  // namespace nbos::io::wal
