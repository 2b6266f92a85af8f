// What one simulated run is made of, drawn from its seed: a subset of the faults, and constants of
// its own (swarm testing: a run that has every fault all the time rarely gets anywhere).
//
// Units    Milliseconds of simulated time; probabilities per message or action.
#pragma once

#include <cstdint>
#include <string>

#include "raft/node.h"

namespace nbos::testing {

struct SimConfig {
    std::uint64_t seed = 0;
    raft::Options options;
    int voters = 3;
    int replicas_max = 8;  // ever, removed and wiped ones included
    int tick_ms = 10;
    int faults_ms = 3000;  // then everything is healed
    int calm_ms = 2000;    // from healing until there must be a leader

    // Network.
    double drop = 0;
    double duplicate = 0;
    double late = 0;  // delivered up to 2 s later
    int delay_min_ms = 1;
    int delay_max_ms = 2;
    bool in_order = true;        // per pair, as a TCP connection is
    bool over_the_wire = false;  // every message is encoded and decoded

    // Disk.
    int write_ms_max = 2;
    bool crash_keeps_some = true;  // a crash may keep unsynced writes
    bool crash_tears = false;      // and cut one short

    // The driver drains a node at once, or lets inputs pile up for a moment.
    double lazy_drain = 0;

    // Mean time between actions of each kind; 0: never.
    int propose_every_ms = 10;
    int read_every_ms = 0;
    int crash_every_ms = 0;
    double new_leader_crashes = 0;  // soon after its election
    int power_loss_every_ms = 0;
    int partition_every_ms = 0;
    int pause_every_ms = 0;
    int slow_disk_every_ms = 0;
    int skew_every_ms = 0;
    int transfer_every_ms = 0;
    int change_members_every_ms = 0;
    int compact_every_ms = 0;
    int wipe_every_ms = 0;
    int campaign_every_ms = 0;
    bool tell_deaths = false;    // crashes are reported to the others, as a host detector would
    bool false_deaths = false;   // now and then of a node that lives
    bool eager_changes = false;  // whoever becomes leader is asked for a change at once
    std::size_t command_bytes_max = 40;

    int link_silence_ms = 100;  // nothing heard for so long: the link between two hosts is lost

    static SimConfig draw(std::uint64_t seed);
};

}  // namespace nbos::testing
