#include "local/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "local/control.h"
#include "local/ports.h"

namespace nbos::local {
namespace {

UpOptions example() {
    return {
        .layout = {"/data"},
        .installation = {.nbos = "/bin/nbos", .python = "/bin/python", .jupyter_lab = "/bin/lab"},
        .workspace = "/space",
        .hosts = 3,
        .port = *unused_port("127.0.0.1"),
        .token = "secret-token"};
}

TEST(Plan, GivesEachHostItsOwnAddressAndKeepsItsPort) {
    const auto options = example();
    const auto first = make_plan(options, {});
    ASSERT_TRUE(first) << first.error().what;
    ASSERT_EQ(first->hosts.size(), 3U);
    EXPECT_TRUE(first->hosts.at("host-2").starts_with("127.0.1.2:"));
    const auto second = make_plan(options, first->hosts);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->hosts, first->hosts);
}

TEST(Plan, PutsTheGatewayBehindJupyterLab) {
    auto options = example();
    const auto with_lab = make_plan(options, {});
    ASSERT_TRUE(with_lab);
    EXPECT_NE(with_lab->lab_port, 0);
    EXPECT_GT(with_lab->gateway_port, with_lab->lab_port);
    options.lab = false;
    const auto without = make_plan(options, {});
    ASSERT_TRUE(without);
    EXPECT_EQ(without->lab_url(), "");
    EXPECT_EQ(without->gateway_port, with_lab->lab_port);
}

TEST(Plan, FurtherGatewaysHavePortsAndIdsOfTheirOwn) {
    auto options = example();
    options.gateways = 3;
    const auto plan = make_plan(options, {});
    ASSERT_TRUE(plan);
    ASSERT_EQ(plan->gateways().size(), 3U);
    EXPECT_NE(plan->gateways().at("gateway"), plan->gateways().at("gateway-2"));
    EXPECT_NE(plan->gateways().at("gateway-2"), plan->gateways().at("gateway-3"));
    const auto program = gateway_program(options, *plan, "gateway-3");
    EXPECT_TRUE(std::ranges::count(program.argv, "gateway-3") == 1);
    EXPECT_TRUE(std::ranges::count(program.argv, plan->gateways().at("gateway-3")) == 1);
}

TEST(Plan, NoSecretIsOnACommandLine) {
    const auto options = example();
    const auto plan = make_plan(options, {});
    ASSERT_TRUE(plan);
    for (const auto& program :
         {agent_program(options, *plan, "host-1"), gateway_program(options, *plan, "gateway"),
          lab_program(options, *plan)}) {
        for (const auto& argument : program.argv) {
            EXPECT_EQ(argument.find(options.token), std::string::npos) << argument;
        }
    }
}

TEST(Plan, HostsFileIsWhatAgentsRead) {
    const Plan plan{.hosts = {{"host-1", "127.0.1.1:7"}, {"host-2", "127.0.1.2:8"}}};
    EXPECT_EQ(hosts_json(plan),
              "{\"hosts\": {\n  \"host-1\": \"127.0.1.1:7\",\n  \"host-2\": \"127.0.1.2:8\"\n}}\n");
}

TEST(Control, RefusesAPathThatIsTooLongAndSaysWhatToDo) {
    const auto opened = ControlServer::open("/tmp/" + std::string(200, 'x'));
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().what.find("--data"), std::string::npos);
}

TEST(Control, NobodyThereIsNotFound) {
    const auto answer = control_call("/nonexistent/socket", "{}", std::chrono::seconds(1));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace nbos::local
