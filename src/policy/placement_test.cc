#include "policy/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace nbos::policy {
namespace {

HostView host(const std::string& id, std::uint32_t subscribed, bool usable = true) {
    return {.id = HostId{id}, .subscribed = subscribed, .cpus = 2, .usable = usable};
}

std::vector<std::string> names(const Placement& placement) {
    std::vector<std::string> out;
    for (const auto& id : placement.hosts) {
        out.push_back(id.value);
    }
    return out;
}

TEST(Placement, TakesTheLeastSubscribedHostsAndBreaksTiesById) {
    const auto policy = make_placement_policy("least-subscribed");
    ASSERT_TRUE(policy);
    std::vector<HostView> hosts = {host("d", 1), host("a", 5), host("c", 1), host("b", 0)};
    const std::vector<std::string> want = {"b", "c", "d"};
    do {
        const auto placed = (*policy)->place({.replicas = 3}, hosts);
        ASSERT_TRUE(placed);
        EXPECT_EQ(want, names(*placed));
        EXPECT_NE(std::string::npos, placed->why.find("b (0 replicas)"));
    } while (std::next_permutation(hosts.begin(), hosts.end(),
                                   [](const auto& x, const auto& y) { return x.id < y.id; }));
}

TEST(Placement, SaysWhyThereAreTooFewHosts) {
    const auto policy = make_placement_policy("least-subscribed");
    const auto placed = (*policy)->place({.replicas = 2, .excluded = {HostId{"a"}}},
                                         {host("a", 0), host("b", 0, false), host("c", 0)});
    ASSERT_FALSE(placed);
    EXPECT_EQ(Errc::kExhausted, placed.error().code);
    EXPECT_NE(std::string::npos, placed.error().what.find("1 of 3 can take one"))
        << placed.error().what;
}

TEST(Placement, UnknownPolicyNamesTheKnownOnes) {
    const auto policy = make_placement_policy("best");
    ASSERT_FALSE(policy);
    EXPECT_NE(std::string::npos, policy.error().what.find("least-subscribed"));
}

}  // namespace
}  // namespace nbos::policy
