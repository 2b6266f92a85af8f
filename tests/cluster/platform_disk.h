// A host's log on disk: what is durable, what has only been issued, and what a crash leaves.
//
// Batches become durable in the order they were issued, each after a while. A killed process leaves
// what it had issued, or a part; a power cut leaves what was synced and perhaps a prefix of the
// rest, its last batch cut short between two records. A full disk fails the next sync, and that
// stops the process. A corrupted log is refused at the start.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/ports.h"
#include "raft/group_host.h"
#include "tests/cluster/platform_time.h"

namespace nbos::testing {

class PlatformDisk final : public raft::LogStore {
public:
    // `post` brings a call to the process when that can take it; `failed`: it has to stop.
    PlatformDisk(VirtualTime& time, Rng& rng, std::function<void(std::function<void()>)> post,
                 std::function<void()> failed)
        : time_(time), rng_(rng), post_(std::move(post)), failed_(std::move(failed)) {}

    void write(std::vector<raft::GroupWrite> writes, std::function<void()> durable) override;
    void process_killed();
    void power_lost();
    void wipe() { groups_.clear(), corrupt_ = false; }
    void corrupt() { corrupt_ = true; }
    void fill() { full_ = true; }
    void make_room() { full_ = false; }
    void slow_down(int sync_ms_max) { sync_ms_max_ = sync_ms_max; }
    // A planted bug: says that it has synced what it has not.
    void lie() { lies_ = true; }

    bool readable() const { return !corrupt_; }
    std::vector<raft::RestoredGroup> restored() const;
    std::size_t snapshots() const { return snapshots_; }

    std::function<void(const raft::GroupWrite&)> watch;

private:
    struct Batch {
        std::vector<raft::GroupWrite> writes;
        std::function<void()> durable;
    };
    void complete_one();
    void crash(bool keep_all);
    void keep(const raft::GroupWrite& write, std::size_t& records);

    VirtualTime& time_;
    Rng& rng_;
    std::function<void(std::function<void()>)> post_;
    std::function<void()> failed_;
    std::deque<Batch> under_way_;
    std::map<GroupId, raft::RestoredGroup> groups_;
    Instant last_{};
    std::uint64_t life_ = 0;
    int sync_ms_max_ = 4;
    bool full_ = false;
    bool corrupt_ = false;
    bool lies_ = false;
    std::size_t snapshots_ = 0;
};

}  // namespace nbos::testing
