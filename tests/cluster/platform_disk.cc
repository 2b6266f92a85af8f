#include "tests/cluster/platform_disk.h"

#include <algorithm>
#include <utility>

namespace nbos::testing {

void PlatformDisk::write(std::vector<raft::GroupWrite> writes, std::function<void()> durable) {
    if (watch) {
        for (const auto& write : writes) {
            watch(write);
        }
    }
    if (full_) {
        failed_();
        return;
    }
    if (lies_) {
        post_(durable);
        durable = [] {};
    }
    under_way_.push_back({std::move(writes), std::move(durable)});
    const auto took = rng_.below(static_cast<std::uint64_t>(sync_ms_max_) * 1000);
    last_ = std::max(last_, time_.now() + std::chrono::microseconds(100 + took));
    time_.at(lies_ ? last_ + milliseconds(500) : last_, [this, life = life_] {
        if (life == life_) {
            complete_one();
        }
    });
}

void PlatformDisk::complete_one() {
    auto batch = std::move(under_way_.front());
    under_way_.pop_front();
    for (const auto& write : batch.writes) {
        std::size_t all = SIZE_MAX;
        keep(write, all);
    }
    post_(std::move(batch.durable));
}

void PlatformDisk::process_killed() { crash(rng_.chance(0.5)); }

void PlatformDisk::power_lost() { crash(false); }

void PlatformDisk::crash(bool keep_all) {
    ++life_;
    const auto kept = keep_all ? under_way_.size() : rng_.below(under_way_.size() + 1);
    for (std::size_t i = 0; i < under_way_.size() && i <= kept && !lies_; ++i) {
        std::size_t records = i < kept ? SIZE_MAX : rng_.below(6);
        for (const auto& write : under_way_[i].writes) {
            keep(write, records);
        }
    }
    under_way_.clear();
    last_ = time_.now();
}

// Its first `records` records, which are counted down.
void PlatformDisk::keep(const raft::GroupWrite& write, std::size_t& records) {
    const auto whole = [&records] { return records == SIZE_MAX || records-- > 0; };
    if (records == 0) {
        return;
    }
    if (write.remove) {
        if (whole()) {
            groups_.erase(write.group);
        }
        return;
    }
    auto& group = groups_[write.group];
    group.group = write.group;
    group.self = write.self;
    auto& log = group.state.log;
    if (write.snapshot && whole()) {
        ++snapshots_;
        const auto is_last = [&](const auto& e) {
            return e.index == write.snapshot->index && e.term == write.snapshot->term;
        };
        if (std::none_of(log.begin(), log.end(), is_last)) {
            log.clear();  // installed: what was stored before is void
        }
        group.state.snapshot = write.snapshot;
        std::erase_if(log, [&](const auto& e) { return e.index < write.first_kept; });
    }
    if (records == 0) {
        return;
    }
    if (write.hard_state && whole()) {
        group.state.hard_state = *write.hard_state;
    }
    for (const auto& entry : write.append) {
        if (records == 0) {
            return;
        }
        whole();
        std::erase_if(log, [&](const auto& e) { return e.index >= entry.index; });
        log.push_back(entry);
    }
}

std::vector<raft::RestoredGroup> PlatformDisk::restored() const {
    std::vector<raft::RestoredGroup> out;
    for (const auto& [id, group] : groups_) {
        auto copy = group;
        if (copy.state.snapshot) {
            std::erase_if(copy.state.log,
                          [&](const auto& e) { return e.index <= copy.state.snapshot->index; });
        }
        out.push_back(std::move(copy));
    }
    return out;
}

}  // namespace nbos::testing
