// The consensus core under fire, seed after seed. NBOS_SEEDS=1:100000 is the long run, and
// NBOS_SEEDS=<seed>:1 NBOS_TRACE=1 replays one.
#include "tests/cluster/raft_sim.h"

#include <gtest/gtest.h>

#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSeeds = 200;  // a seed takes ten times as long
#else
constexpr std::uint64_t kSeeds = 2000;
#endif

TEST(RaftSim, KeepsEveryInvariantAndComesBackToLife) {
    const auto range = seeds({1, kSeeds});
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
