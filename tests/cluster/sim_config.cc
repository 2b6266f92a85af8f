#include "tests/cluster/sim_config.h"

namespace nbos::testing {
namespace {

int between(Rng& rng, int low, int high) {
    return low + static_cast<int>(rng.below(static_cast<std::uint64_t>(high - low + 1)));
}

void draw_options(Rng& rng, raft::Options& options) {
    options.election_ticks = between(rng, 5, 12);
    options.heartbeat_ticks = between(rng, 1, options.election_ticks / 4 + 1);
    if (rng.chance(0.6)) {
        options.append_bytes_max = 1U << between(rng, 6, 12);
        options.inflight_bytes_max = options.append_bytes_max << between(rng, 2, 5);
        options.uncommitted_bytes_max = 1U << between(rng, 9, 16);
    }
    options.snapshot_chunk_bytes = 1U << between(rng, 5, 10);
    options.snapshot_retry_ticks = between(rng, 2, 6);
}

void draw_network(Rng& rng, SimConfig& c) {
    if (rng.chance(0.6)) {
        c.drop = 0.01 * between(rng, 1, 20);
    }
    if (rng.chance(0.4)) {
        c.duplicate = 0.01 * between(rng, 1, 15);
    }
    if (rng.chance(0.3)) {
        c.late = 0.01 * between(rng, 1, 5);
    }
    if (rng.chance(0.4)) {
        c.delay_max_ms = between(rng, 3, 40);
    }
    c.in_order = rng.chance(0.4);
    c.over_the_wire = rng.chance(0.1);
}

}  // namespace

SimConfig SimConfig::draw(std::uint64_t seed) {
    Rng rng(seed * 0x9E3779B97F4A7C15ULL + 1);
    SimConfig c;
    c.seed = seed;
    const int sizes[] = {3, 3, 3, 3, 5, 5, 4, 2, 1};
    c.voters = sizes[rng.below(9)];
    draw_options(rng, c.options);
    draw_network(rng, c);
    if (rng.chance(0.3)) {
        c.write_ms_max = between(rng, 3, 30);
    }
    c.crash_keeps_some = rng.chance(0.7);
    c.crash_tears = rng.chance(0.5);
    c.lazy_drain = rng.chance(0.4) ? 0.1 * between(rng, 1, 8) : 0;
    c.propose_every_ms = between(rng, 2, 40);
    const auto maybe = [&](double chance, int low, int high) {
        return rng.chance(chance) ? between(rng, low, high) : 0;
    };
    c.read_every_ms = maybe(0.3, 20, 200);
    c.crash_every_ms = maybe(0.6, 60, 600);
    c.power_loss_every_ms = maybe(0.15, 300, 2000);
    c.partition_every_ms = maybe(0.5, 60, 600);
    c.pause_every_ms = maybe(0.3, 100, 600);
    c.slow_disk_every_ms = maybe(0.3, 100, 800);
    c.skew_every_ms = maybe(0.3, 100, 800);
    c.transfer_every_ms = maybe(0.4, 50, 600);
    c.change_members_every_ms = maybe(0.5, 20, 400);
    c.compact_every_ms = maybe(0.5, 10, 300);
    c.wipe_every_ms = maybe(0.2, 200, 1500);
    c.campaign_every_ms = maybe(0.3, 50, 500);
    c.tell_deaths = rng.chance(0.5);
    c.false_deaths = c.tell_deaths && rng.chance(0.4);
    c.eager_changes = c.change_members_every_ms > 0 && rng.chance(0.5);
    c.new_leader_crashes = rng.chance(0.25) ? 0.1 * between(rng, 1, 9) : 0;
    c.command_bytes_max = rng.chance(0.3) ? 600 : 40;
    if (c.new_leader_crashes > 0 && rng.chance(0.5)) {
        // Figure 3.7 of the thesis: leaders that die while old entries trickle out one by one.
        c.voters = 5;
        c.options.append_bytes_max = 64;
        c.options.inflight_bytes_max = 256;
        c.drop += 0.1;
    }
    if (rng.chance(0.6)) {
        c.options.quiet_after_ticks = between(rng, 1, 20);
        c.link_silence_ms = between(rng, 30, 200);
        if (rng.chance(0.6)) {  // little to do: the group sleeps most of the time
            c.propose_every_ms = between(rng, 100, 800);
            c.faults_ms = 6000;
        }
    }
    return c;
}

}  // namespace nbos::testing
