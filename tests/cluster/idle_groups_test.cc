// Many kernels that nobody uses: their groups sleep, cost nothing, and wake.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/support/agent_cluster.h"

namespace nbos::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kKernels = 60;

class IdleGroups : public ::testing::Test {
protected:
    void SetUp() override {
        for (int i = 0; i < kKernels; ++i) {
            kernels.push_back(cluster.create_kernel({1, 2, 3}));
        }
        ASSERT_TRUE(cluster.run_until([this] { return all_lead_but(0) && asleep({1, 2, 3}); }));
    }
    bool asleep(const std::vector<int>& hosts) {
        return std::all_of(hosts.begin(), hosts.end(), [this](int host) {
            return cluster.agent(host).awake_groups() == 0 &&
                   cluster.agent(host).restless_replicas() == 0;
        });
    }
    // Every kernel has a leader that is ready, and not on that host.
    bool all_lead_but(int host) {
        return std::all_of(kernels.begin(), kernels.end(), [&](KernelId kernel) {
            const auto leader = cluster.leader(kernel);
            return leader && leader->host != AgentCluster::name(host) &&
                   leader->state == cluster::ExecutionState::kIdle;
        });
    }
    int leader_of(KernelId kernel) {
        return std::stoi(cluster.leader(kernel)->host.value.substr(5));
    }
    void run_a_cell_everywhere(int host, const std::string& name) {
        for (int i = 0; i < kKernels; ++i) {
            cluster.execute(host, kernels[static_cast<std::size_t>(i)], name + std::to_string(i),
                            "set x " + name);
        }
        EXPECT_TRUE(cluster.run_until([&] {
            for (int i = 0; i < kKernels; ++i) {
                if (cluster.ended(name + std::to_string(i)) == nullptr) {
                    return false;
                }
            }
            return true;
        }));
        for (int i = 0; i < kKernels; ++i) {
            EXPECT_EQ(cluster.ended(name + std::to_string(i))->ending, replica::Ending::kResult);
        }
    }

    AgentCluster cluster{3};
    std::vector<KernelId> kernels;
};

TEST_F(IdleGroups, SendNothingForAsLongAsNobodyAsks) {
    const auto before = cluster.frames_sent();
    cluster.run_for(seconds(600));
    EXPECT_EQ(cluster.frames_sent(), before);
    EXPECT_TRUE(asleep({1, 2, 3}));
}

TEST_F(IdleGroups, WakeForACellOnAnyReplicaAndSleepAgain) {
    for (const int host : {1, 2, 3}) {
        run_a_cell_everywhere(host, "on-" + std::to_string(host) + "-");
        EXPECT_TRUE(cluster.run_until([this] { return asleep({1, 2, 3}); }));
    }
}

TEST_F(IdleGroups, ElectNewLeadersWhenTheirHostDies) {
    const int victim = leader_of(kernels[0]);
    cluster.kill(victim);
    EXPECT_TRUE(cluster.run_until([&] { return all_lead_but(victim); }));
    run_a_cell_everywhere(victim % 3 + 1, "after-");
}

TEST_F(IdleGroups, ElectNewLeadersWhenTheirHostFallsSilent) {
    const int victim = leader_of(kernels[0]);
    cluster.kill(victim, /*proven=*/false);
    EXPECT_TRUE(cluster.run_until([&] { return all_lead_but(victim); }));
}

TEST_F(IdleGroups, TakeInAHostThatWasRestartedWithinABlink) {
    for (const int host : {1, 2, 3}) {
        cluster.restart_in_a_blink(host);
        EXPECT_TRUE(cluster.run_until([this] { return all_lead_but(0) && asleep({1, 2, 3}); }));
        for (const auto kernel : kernels) {
            const auto status = cluster.status(host, kernel);
            ASSERT_TRUE(status);
            EXPECT_EQ(status->leader, cluster.leader(kernel)->replica);
        }
    }
    run_a_cell_everywhere(2, "after-");
}

TEST_F(IdleGroups, NoticeThatTheirLeaderWasTakenAwayFromALivingHost) {
    const auto kernel = kernels[0];
    const int host = leader_of(kernel);
    cluster.send(host, cluster::StopReplica{.request = cluster.next_request(),
                                            .kernel = kernel,
                                            .replica = cluster.leader(kernel)->replica});
    EXPECT_TRUE(cluster.run_until([&] {
        const auto leader = cluster.leader(kernel);
        return leader && leader->host != AgentCluster::name(host);
    }));
}

TEST_F(IdleGroups, SleepThroughACellThatTakesLong) {
    const int host = leader_of(kernels[0]);
    cluster.execute(host, kernels[0], "long", "hang");
    EXPECT_TRUE(cluster.run_until([this] {
        return cluster.times_started("long") == 1 && cluster.agent(1).awake_groups() == 0 &&
               cluster.agent(2).awake_groups() == 0 && cluster.agent(3).awake_groups() == 0;
    }));
    cluster.kill(host);  // and yet its loss is noticed
    EXPECT_TRUE(cluster.run_until([&] { return cluster.ended("long") != nullptr; }));
    EXPECT_EQ(cluster.ended("long")->ending, replica::Ending::kExecutorLost);
}

}  // namespace
}  // namespace nbos::testing
