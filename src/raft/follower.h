// What a leader knows about one other member, and what it may send to it next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "raft/messages.h"

namespace nbos::raft {

// A snapshot on its way; shared by the followers that need the same one.
struct OutgoingSnapshot {
    Index index;
    Term term;
    Bytes encoded;
};

struct Follower {
    enum class Mode : std::uint8_t {
        kProbe,      // where its log agrees is not known: one append at a time
        kReplicate,  // appends stream, up to a limit in bytes
        kSnapshot,   // what it needs next has been compacted away
    };
    struct InFlight {
        Index last;
        std::size_t bytes;
        std::uint64_t heartbeat;  // the last one sent before it
    };

    Mode mode = Mode::kProbe;
    Index match;
    Index next;
    Index commit_sent;
    Index received;   // what it is believed to have, durable or not; a hint
    Index bulk_sent;  // the last entry that was sent as bulk; small ones must not overtake it
    std::uint64_t round = 0;       // numbers the appends sent to it
    std::uint64_t mode_round = 0;  // rejections of earlier appends are stale
    bool probe_sent = false;
    std::uint64_t probe_heartbeat = 0;  // the last one sent before the probe
    bool recently_active = false;
    int quiet_ticks = 0;  // since the last acknowledgement, while one is awaited
    std::uint64_t heartbeat_acked = 0;
    std::deque<InFlight> inflight;
    std::size_t inflight_bytes = 0;
    std::shared_ptr<const OutgoingSnapshot> snapshot;
    std::size_t chunk_acked = 0;  // offsets into snapshot->encoded
    std::size_t chunk_sent = 0;

    // A member seen for the first time; nothing happens to one that is known.
    void start_at(Index last) {
        if (next.value == 0) {
            next = Index{last.value + 1};
        }
    }
    void to_probe(Index from) {
        leave();
        mode = Mode::kProbe;
        next = std::max(from, Index{match.value + 1});
    }
    void to_replicate() {
        leave();
        mode = Mode::kReplicate;
        next = Index{match.value + 1};
    }
    void to_snapshot(std::shared_ptr<const OutgoingSnapshot> what) {
        leave();
        mode = Mode::kSnapshot;
        snapshot = std::move(what);
    }
    void sent(Index last, std::size_t bytes, std::uint64_t heartbeat) {
        inflight.push_back({last, bytes, heartbeat});
        inflight_bytes += bytes;
    }
    void acknowledged(Index index) {
        while (!inflight.empty() && inflight.front().last <= index) {
            inflight_bytes -= inflight.front().bytes;
            inflight.pop_front();
        }
        quiet_ticks = 0;
    }
    bool has_bulk_in_flight() const { return bulk_sent > match; }
    bool awaits_reply() const { return mode == Mode::kSnapshot || probe_sent || !inflight.empty(); }

private:
    void leave() {
        mode_round = round + 1;
        probe_sent = false;
        received = Index{};
        bulk_sent = Index{};
        quiet_ticks = 0;
        inflight.clear();
        inflight_bytes = 0;
        snapshot.reset();
        chunk_acked = 0;
        chunk_sent = 0;
    }
};

}  // namespace nbos::raft
