// The consensus core as its clients see it: histories of a replicated map under fire, seed after
// seed. NBOS_SEEDS=1:100000 is the long run, and NBOS_SEEDS=<seed>:1 NBOS_TRACE=1 replays one.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/cluster/raft_sim.h"
#include "tests/cluster/register_clients.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSeeds = 100;  // a seed takes ten times as long
#else
constexpr std::uint64_t kSeeds = 2000;
#endif

void add(RegisterClients::Counts& total, const RegisterClients::Counts& counts) {
    total.reads += counts.reads;
    total.updates += counts.updates;
    total.unknown += counts.unknown;
    total.asked_again += counts.asked_again;
    total.repeats += counts.repeats;
    total.steps += counts.steps;
}

TEST(RaftLinearizabilitySim, EveryHistoryIsThatOfOneMap) {
    const auto range = seeds({1, kSeeds});
    RegisterClients::Counts total;
    int failures = 0;
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        RegisterClients clients(seed);
        RaftSim sim(register_config(seed), &clients);
        if (const auto violation = sim.run()) {
            ADD_FAILURE() << violation->str();
            if (++failures == 20) {
                FAIL() << "that is enough";
            }
        }
        add(total, clients.counts());
    }
    std::cout << range.count << " seeds: " << total.reads << " reads and " << total.updates
              << " updates answered, " << total.unknown << " results unknown, " << total.asked_again
              << " asked again, " << total.repeats << " repeats applied; checked in " << total.steps
              << " steps\n";
    if (range.count >= 100) {  // the runs must meet what they are for
        EXPECT_GT(total.reads, 50 * range.count);
        EXPECT_GT(total.updates, 50 * range.count);
        EXPECT_GT(total.unknown, range.count);
        EXPECT_GT(total.repeats, range.count);
    }
}

}  // namespace
}  // namespace nbos::testing
