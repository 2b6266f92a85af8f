// The consensus core under fire, seed after seed. NBOS_SEEDS=1:100000 is the long run, and
// NBOS_SEEDS=<seed>:1 NBOS_TRACE=1 replays one.
#include "tests/cluster/raft_sim.h"

#include <gtest/gtest.h>

#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

TEST(RaftSim, KeepsEveryInvariantAndComesBackToLife) {
    const auto range = seeds({1, 2000});
    int failures = 0;
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        RaftSim sim(SimConfig::draw(seed));
        if (const auto violation = sim.run()) {
            ADD_FAILURE() << violation->str();
            if (++failures == 20) {
                FAIL() << "that is enough";
            }
        }
    }
}

}  // namespace
}  // namespace nbos::testing
