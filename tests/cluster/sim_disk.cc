#include "tests/cluster/sim_disk.h"

#include <algorithm>

namespace nbos::testing {

void DiskImage::apply(const DiskWrite& write, std::size_t records) {
    if (write.snapshot && records > 0) {
        --records;
        // As the write-ahead log does it: a log that disagrees with a snapshot is void.
        if (term_at(write.snapshot->index) != write.snapshot->term) {
            log.clear();
        }
        snapshot = write.snapshot;
        std::erase_if(log, [&](const auto& entry) { return entry.index < write.first_kept; });
    }
    if (write.hard_state && records > 0) {
        --records;
        hard_state = *write.hard_state;
    }
    for (const auto& entry : write.append) {
        if (records == 0) {
            return;
        }
        --records;
        while (!log.empty() && log.back().index >= entry.index) {
            log.pop_back();
        }
        log.push_back(entry);
    }
}

Index DiskImage::last() const {
    if (!log.empty()) {
        return log.back().index;
    }
    return snapshot ? snapshot->index : Index{};
}

std::optional<Term> DiskImage::term_at(Index index) const {
    if (!log.empty() && index >= log.front().index && index <= log.back().index) {
        return log[index.value - log.front().index.value].term;
    }
    if (snapshot && index == snapshot->index) {
        return snapshot->term;
    }
    return std::nullopt;
}

void SimDisk::complete_one() {
    durable.apply(under_way.front());
    under_way.pop_front();
}

void SimDisk::crash(Rng& rng, bool may_keep, bool may_tear) {
    const auto kept = may_keep ? rng.below(under_way.size() + 1) : 0;
    for (std::uint64_t i = 0; i < kept; ++i) {
        complete_one();
    }
    if (may_tear && !under_way.empty()) {
        const auto& torn = under_way.front();
        durable.apply(torn, rng.below(3 + torn.append.size()));
    }
    under_way.clear();
}

}  // namespace nbos::testing
