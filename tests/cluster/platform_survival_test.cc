// Interpreters that outlive their agents: an agent that is killed and started again costs no cell,
// no output and no question, and after the grace nothing of it is left.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/cluster/platform_sim.h"
#include "tests/cluster/seeds.h"

namespace nbos::testing {
namespace {

using std::chrono::seconds;

PlatformOptions quiet(std::uint64_t seed, int cell_ms_max) {
    PlatformOptions options{.seed = seed, .hosts = 4, .clients = 1};
    options.client.requests = 0;  // the test asks
    options.client.think_ms_max = 50;
    options.host.raft = {.election_ticks = 20, .heartbeat_ticks = 2};
    options.host.interpreters.cell_ms_max = cell_ms_max;
    return options;
}

// What `listener` was shown of a request that it asked, without numbers of processes.
std::vector<std::string> shown(const History& history, const std::string& msg) {
    std::vector<std::string> out;
    for (const auto& record : history) {
        if (record.kind != "heard" || record.msg != msg || record.client != record.asker) {
            continue;
        }
        const bool notice = record.text.starts_with("[NotebookOS] This cell waits: ");
        if (notice || record.type == "clear_output") {
            continue;  // the gateway's word on a cell that has not begun, and its end
        }
        out.push_back(record.type == "status"   ? record.state
                      : record.type == "stream" ? record.text.substr(0, record.text.find(' '))
                                                : record.type);
    }
    return out;
}

const std::vector<std::string> kWholeAnswer = {"busy",  "execute_input", "by",  "by",
                                               "holds", "execute_reply", "idle"};

class Survival : public ::testing::TestWithParam<std::uint64_t> {
protected:
    // The only client's first cell; where its code has begun.
    HostId begin_cell(PlatformSim& sim, const std::string& op) {
        sim.start();
        sim.client(1).ask(op);
        std::string who;
        const auto began = [&] {
            for (const auto& record : sim.history()) {
                who = record.kind == "began" ? record.who : who;
            }
            return !who.empty();
        };
        EXPECT_TRUE(sim.run_until(began));
        return HostId{who.substr(0, who.find('.'))};
    }
    static std::string cell(PlatformSim& sim) { return sim.client(1).session() + "-m1"; }

    void expect_all_is_well(PlatformSim& sim, std::size_t lost = 0) {
        EXPECT_TRUE(sim.run_until([&] { return sim.client(1).answered_all(); }, seconds(150)));
        for (const auto& broken : sim.finish()) {
            ADD_FAILURE() << broken.str();
        }
        EXPECT_EQ(figures_of(sim.history()).lost, lost);
    }
};

TEST_P(Survival, ARunningCellCompletesWithAllItsOutputs) {
    PlatformSim sim(quiet(GetParam(), 6000));
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.restart_agent(host, milliseconds(400));
    expect_all_is_well(sim);
    EXPECT_EQ(shown(sim.history(), cell(sim)), kWholeAnswer);
}

TEST_P(Survival, ACellThatEndsWithoutAnAgentIsNotLost) {
    PlatformSim sim(quiet(GetParam(), 1000));
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.restart_agent(host, seconds(8));
    expect_all_is_well(sim);
    EXPECT_EQ(shown(sim.history(), cell(sim)), kWholeAnswer);
}

TEST_P(Survival, ACellOutlivesAgentsThatAreKilledAgainAndAgain) {
    PlatformSim sim(quiet(GetParam(), 20'000));
    auto& host = sim.host(begin_cell(sim, "append"));
    for (int i = 0; i < 5; ++i) {
        sim.restart_agent(host, milliseconds(300));
        sim.run_for(milliseconds(350 + 400 * i));
    }
    expect_all_is_well(sim);
    EXPECT_EQ(shown(sim.history(), cell(sim)), kWholeAnswer);
}

TEST_P(Survival, AClaimIsGivenBackWhenItsCellNeverBegan) {
    PlatformSim sim(quiet(GetParam(), 1000));
    sim.start();
    sim.client(1).ask("append");
    std::optional<HostId> host;
    ASSERT_TRUE(sim.run_until([&] { return (host = sim.claim_written()).has_value(); }));
    sim.run_for(milliseconds(GetParam() % 5));  // on its way through the log, or just applied
    sim.restart_agent(sim.host(*host), milliseconds(400));
    expect_all_is_well(sim);
    EXPECT_EQ(shown(sim.history(), cell(sim)), kWholeAnswer);
}

// Its cell began in the one before: to give the claim back would let it begin a second time.
TEST_P(Survival, AnInterpreterInAnothersPlaceDoesNotGiveItsClaimBack) {
    PlatformSim sim(quiet(GetParam(), 60'000));
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.isolate(host.address(), seconds(10));  // so that its loss is not in the log at once
    host.kill_interpreters("out of memory");
    sim.run_for(seconds(3));
    sim.restart_agent(host, milliseconds(300));
    expect_all_is_well(sim, 1);
}

TEST_P(Survival, AQuestionOnStdinIsStillAnswered) {
    PlatformSim sim(quiet(GetParam(), 1000));
    auto& host = sim.host(begin_cell(sim, "input"));
    ASSERT_TRUE(sim.run_until([&] {
        const auto heard = shown(sim.history(), cell(sim));
        return std::count(heard.begin(), heard.end(), "input_request") > 0;
    }));
    sim.restart_agent(host, milliseconds(400));
    expect_all_is_well(sim);
    const auto heard = shown(sim.history(), cell(sim));
    EXPECT_EQ(std::count(heard.begin(), heard.end(), "execute_reply"), 1);
}

TEST_P(Survival, TheGraceOverItsCellIsLostAndTheKernelGoesOn) {
    auto options = quiet(GetParam(), 200'000);
    options.host.replica.silence_grace = seconds(3);
    PlatformSim sim(options);
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.restart_agent(host, seconds(10));
    ASSERT_TRUE(sim.run_until([&] { return sim.client(1).answered_all(); }, seconds(20)));
    EXPECT_EQ(figures_of(sim.history()).lost, 1U);
}

TEST_P(Survival, APowerCutEndsTheInterpretersToo) {
    PlatformSim sim(quiet(GetParam(), 60'000));
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.restart_agent(host, milliseconds(400));  // also those whose agent is away
    sim.run_for(milliseconds(100));
    sim.power_cycle(host, seconds(1));
    ASSERT_TRUE(sim.run_until([&] { return sim.client(1).answered_all(); }, seconds(40)));
    EXPECT_EQ(figures_of(sim.history()).lost, 1U);
}

TEST_P(Survival, AnAgentThatEndsByItselfTakesThemAlong) {
    PlatformSim sim(quiet(GetParam(), 60'000));
    auto& host = sim.host(begin_cell(sim, "append"));
    sim.corrupt_log(host, seconds(300));
    ASSERT_TRUE(sim.run_until([&] { return sim.client(1).answered_all(); }, seconds(20)));
    EXPECT_EQ(figures_of(sim.history()).lost, 1U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Survival, ::testing::Range<std::uint64_t>(1, 11));

// Agents are all that breaks here, and they are back before their replicas are made anew elsewhere.
PlatformOptions only_agents_crash(std::uint64_t seed) {
    auto options = PlatformOptions::draw(seed);
    const auto drawn = std::exchange(options.faults, {});
    options.faults.kill_agent = drawn.kill_agent > 0 ? drawn.kill_agent : 3000;
    options.faults.kill_all_agents = drawn.kill_all_agents;
    options.faults.slow_disk = drawn.slow_disk;
    options.agent_down_ms_max = 4000;
    options.client.dies = 0;
    options.client.inputs = 0.15;
    options.host.replica.silence_grace = seconds(60);
    return options;
}

std::string cells_that_suffered(const History& history) {
    std::string out;
    for (const auto& asked : history) {
        if (asked.kind != "asked" || (asked.op != "append" && asked.op != "add")) {
            continue;
        }
        const auto heard = shown(history, asked.msg);
        const bool answered = std::find(heard.begin(), heard.end(), "by") != heard.end();
        if (answered && heard != kWholeAnswer) {  // what a failed cell aborts never prints
            out += "\n  " + asked.msg + ":";
            for (const auto& word : heard) {
                out += " " + word;
            }
        }
    }
    return out;
}

TEST(PlatformSurvival, AgentsThatCrashCostNoCellAndNoOutput) {
    const auto range = seeds({1, 60});
    HistoryFigures sum;
    for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        PlatformSim sim(only_agents_crash(seed));
        for (const auto& broken : sim.run()) {
            ADD_FAILURE() << "seed " << seed << ": " << broken.str();
        }
        const auto figures = figures_of(sim.history());
        sum.ok += figures.ok;
        EXPECT_EQ(figures.lost, 0U) << "seed " << seed;
        EXPECT_EQ(cells_that_suffered(sim.history()), "") << "seed " << seed;
        if (HasFailure()) {
            break;
        }
    }
    std::cout << range.count << " seeds, " << sum.ok << " cells ok, none lost\n";
    EXPECT_GT(sum.ok, range.count);
}

}  // namespace
}  // namespace nbos::testing
