// The whole platform under fire, seed after seed. NBOS_SEEDS=1:5000 is a long run, and
// NBOS_SEEDS=<seed>:1 NBOS_TRACE=1 replays one, with every record, fault and log line.
#include "tests/cluster/platform_sim.h"

#include <gtest/gtest.h>

#include <iostream>

#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSeeds = 10;
#else
constexpr std::uint64_t kSeeds = 60;
#endif

TEST(PlatformSim, KeepsItsPromisesWhateverBreaks) {
    const auto range = seeds({1, kSeeds});
    HistoryFigures sum;
    std::size_t faults = 0;
    int failures = 0;
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        PlatformSim sim(PlatformOptions::draw(seed));
        const auto broken = sim.run();
        const auto figures = figures_of(sim.history());
        sum.asked += figures.asked;
        sum.ok += figures.ok;
        sum.lost += figures.lost;
        sum.aborted += figures.aborted;
        sum.observations += figures.observations;
        faults += sim.faults_injected();
        if (broken.empty()) {
            continue;
        }
        std::string text;
        for (std::size_t i = 0; i < broken.size() && i < 8; ++i) {
            text += "\n  " + broken[i].str();
        }
        ADD_FAILURE() << "seed " << seed << " broke " << broken.size() << " times:" << text;
        if (++failures == 20) {
            FAIL() << "that is enough";
        }
    }
    std::cout << range.count << " seeds, " << faults << " faults: " << sum.asked << " requests, "
              << sum.ok << " ok, " << sum.lost << " lost, " << sum.aborted << " aborted, "
              << sum.observations << " states seen\n";
    EXPECT_GT(sum.ok, range.count);
}

TEST(PlatformSim, OneSeedIsOneRun) {
    for (std::uint64_t seed = 7; seed <= 9; ++seed) {
        std::string runs[2];
        for (auto& run : runs) {
            PlatformSim sim(PlatformOptions::draw(seed));
            sim.run();
            for (const auto& record : sim.history()) {
                run += to_json_line(record) + "\n";
            }
        }
        EXPECT_EQ(runs[0], runs[1]) << "seed " << seed;
    }
}

}  // namespace
}  // namespace nbos::testing
