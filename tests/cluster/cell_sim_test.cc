// Random runs of the cell protocol. NBOS_SEEDS=from:count replays or extends; a failure prints its
// seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/cluster/cell_sim.h"
#include "tests/cluster/cell_sim_naive_log.h"

namespace nbos::testing {
namespace {

struct Seeds {
    std::uint64_t from = 1;
    std::uint64_t count = 0;
};

Seeds seeds(std::uint64_t count) {
    const char* text = std::getenv("NBOS_SEEDS");
    if (text == nullptr) {
        return {1, count};
    }
    char* end = nullptr;
    const auto from = std::strtoull(text, &end, 10);
    const auto n = *end == ':' ? std::strtoull(end + 1, nullptr, 10) : 1;
    return {from, n};
}

std::unique_ptr<Consensus> naive(std::uint64_t seed) {
    Rng rng(seed);
    const std::size_t replicas = rng.chance(0.1) ? 1 : rng.chance(0.8) ? 3 : 5;
    return std::make_unique<NaiveLog>(replicas, rng.next());
}

TEST(CellSimNaive, RandomRunsKeepEveryRule) {
    const auto range = seeds(2000);
    std::uint64_t checks = 0, by_result = 0, lost = 0, other = 0, voids = 0;
    for (auto seed = range.from; seed < range.from + range.count; ++seed) {
        CellSim sim(swarm(seed), naive(seed));
        const auto violation = sim.run();
        ASSERT_FALSE(violation) << "seed " << seed << " at tick " << sim.now() << ": "
                                << *violation << '\n'
                                << sim.describe() << "replay with NBOS_SEEDS=" << seed << ":1";
        checks += sim.checker().checks();
        voids += sim.checker().voids();
        by_result += sim.checker().count(replica::Ending::kResult);
        lost += sim.checker().count(replica::Ending::kExecutorLost);
        other += sim.checker().cells_ended();
    }
    other -= by_result + lost;
    std::cout << range.count << " seeds: " << checks << " checks, cells ended by a result "
              << by_result << ", lost " << lost << ", otherwise " << other << "; void entries "
              << voids << '\n';
    // The runs must meet what they are for.
    EXPECT_GT(by_result, 0U);
    if (range.count >= 100) {
        EXPECT_GT(lost, range.count / 4);
        EXPECT_GT(other, range.count / 4);
        EXPECT_GT(voids, range.count);
    }
}

}  // namespace
}  // namespace nbos::testing
