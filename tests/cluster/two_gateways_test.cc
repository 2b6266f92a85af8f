// Real gateways and real agents in one thread: gateways come and go, clients move between them,
// and the shared tables are found again.
#include <gmock/gmock.h>

#include "tests/support/agent_cluster.h"
#include "tests/support/gateway_harness.h"

namespace nbos::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ClusterClock final : public Clock {
public:
    explicit ClusterClock(const AgentCluster& cluster) : cluster_(cluster) {}
    Instant now() const override { return cluster_.now() + std::chrono::seconds(1000); }
    std::chrono::microseconds wall() const override {
        return std::chrono::microseconds(1'700'000'000'000'000) +
               std::chrono::duration_cast<std::chrono::microseconds>(now());
    }

private:
    const AgentCluster& cluster_;
};

class Gateways : public ::testing::Test {
protected:
    struct Process final : gateway::AgentLink {
        Process(Gateways& test, HostId name) : test_(test), id(std::move(name)) {}
        void send(const HostId& host, const cluster::Rpc& rpc) override {
            sent.push_back(rpc);
            test_.cluster_.from_gateway(id, host, rpc);
        }
        template <class T>
        std::size_t count() const {
            return static_cast<std::size_t>(
                std::count_if(sent.begin(), sent.end(),
                              [](const auto& rpc) { return std::holds_alternative<T>(rpc); }));
        }
        Gateways& test_;
        HostId id;
        std::unique_ptr<gateway::Gateway> gateway;
        std::vector<cluster::Rpc> sent;
        std::vector<std::shared_ptr<FakeSocket>> sockets;
    };

    Gateways() {
        cluster_.on_tick = [this] {
            for (const auto& [id, process] : processes_) {
                process->gateway->tick();
            }
        };
        start("gateway-1");
    }
    ~Gateways() override {
        cluster_.on_tick = [] {};
    }

    void start(const std::string& id) {
        auto& process = processes_[id] = std::make_unique<Process>(*this, HostId{id});
        gateway::GatewayConfig config;
        config.id = id;
        config.token = "secret";
        config.kernels.parked_for = std::chrono::hours(1);
        process->gateway = std::make_unique<gateway::Gateway>(
            config, gateway::Kernelspecs(),
            gateway::Gateway::Ports{clock_, [this] { return Uuid{++last_uuid_ << 32U, 7}; },
                                    *process, workspace_});
        std::map<HostId, std::string> addresses;
        for (int host = 1; host <= kHosts; ++host) {
            addresses[AgentCluster::name(host)] = "127.0.0.1:1";
        }
        process->gateway->set_hosts(addresses);
        auto* gateway = process->gateway.get();
        cluster_.attach_gateway(
            HostId{id},
            {.state =
                 [gateway](const HostId& host, bool up) {
                     gateway->host_changed(
                         host, up ? gateway::HostState::kUp : gateway::HostState::kRefused);
                 },
             .receive = [gateway](const HostId& host,
                                  std::string_view rpc) { gateway->receive(host, rpc); }});
    }
    // As by SIGKILL: its clients see their sockets close, its handlers are not told.
    void kill(const std::string& id) {
        cluster_.detach_gateway(HostId{id});
        auto process = std::move(processes_.extract(id).mapped());
        for (const auto& socket : process->sockets) {
            socket->handler = nullptr;
        }
        process->gateway.reset();
        cluster_.run_for(milliseconds(100));
    }
    gateway::Gateway& gateway(const std::string& id) { return *processes_.at(id)->gateway; }

    jupyter::HttpResponse rest(const std::string& id, const std::string& method,
                               const std::string& target, const std::string& body = "") {
        const auto answer = std::make_shared<std::optional<jupyter::HttpResponse>>();
        gateway(id).handle(
            {.method = method,
             .target = target,
             .headers = {{"authorization", "token secret"}},
             .body = body},
            [answer](jupyter::HttpResponse response) { *answer = std::move(response); });
        EXPECT_TRUE(cluster_.run_until([&] { return answer->has_value(); })) << target;
        return answer->value_or(jupyter::HttpResponse{});
    }
    std::string create(const std::string& id) {
        const auto answer = rest(id, "POST", "/api/kernels", R"({"name": "python3"})");
        EXPECT_EQ(201, answer.status) << answer.body;
        return jupyter::string_field(answer.body, "id");
    }
    // A kernel that has executed nothing yet, with all of its replicas ready.
    std::string running_kernel(const std::string& id) {
        const auto kernel = create(id);
        EXPECT_TRUE(cluster_.run_until([&] {
            return jupyter::string_field(rest(id, "GET", "/api/kernels/" + kernel).body,
                                         "execution_state") == "idle";
        }));
        cluster_.run_for(milliseconds(500));
        return kernel;
    }
    FakeClient connect(const std::string& id, const std::string& kernel,
                       const std::string& session) {
        auto answer = gateway(id).upgrade(
            {.method = "GET",
             .target = "/api/kernels/" + kernel + "/channels?session_id=" + session,
             .headers = {{"authorization", "token secret"}},
             .body = {}});
        auto* accept = std::get_if<jupyter::WebSocketAccept>(&answer);
        EXPECT_NE(nullptr, accept) << std::get<jupyter::HttpResponse>(answer).body;
        FakeClient client;
        client.session = session;
        client.protocol = jupyter::WsProtocol::kLegacy;
        client.socket = std::make_shared<FakeSocket>(client.protocol);
        client.handler = accept->opened(client.socket);
        client.socket->handler = client.handler.get();
        processes_.at(id)->sockets.push_back(client.socket);
        cluster_.run_for(milliseconds(100));
        return client;
    }
    void execute(FakeClient& client, const std::string& msg_id, const std::string& code) {
        client.send("shell", "execute_request", msg_id, R"({"code": ")" + code + "\"}");
        cluster_.run_for(milliseconds(200));
    }
    void print(const std::string& text) {
        for (int host = 1; host <= kHosts; ++host) {
            cluster_.interpreters(host).print(text);
        }
        cluster_.run_for(milliseconds(100));
    }
    void finish() {
        for (int host = 1; host <= kHosts; ++host) {
            cluster_.interpreters(host).finish_hanging();
        }
        cluster_.run_for(milliseconds(500));
    }
    void both() {
        start("gateway-2");
        cluster_.run_for(milliseconds(1'000));
    }
    bool ready(const std::string& id) {
        return cluster_.run_until([&] { return rest(id, "GET", "/api/kernels").status == 200; });
    }
    void lose_most_of_the_tables() {
        cluster_.kill(1);
        cluster_.kill(2);
        EXPECT_TRUE(cluster_.run_until([this] { return system_leader() == 0; }));
        cluster_.run_for(milliseconds(2'000));
    }
    int system_leader() const {
        const auto status = cluster_.leader(cluster::kSystemGroup);
        return status ? std::stoi(status->host.value.substr(5)) : 0;
    }

    static constexpr int kHosts = 4;
    AgentCluster cluster_{kHosts};
    ClusterClock clock_{cluster_};
    FakeWorkspace workspace_;
    std::uint64_t last_uuid_ = 0;
    std::map<std::string, std::unique_ptr<Process>> processes_;
};

// ---- the system group ----

TEST_F(Gateways, TheSystemGroupBeginsOnceOnTheFirstThreeHosts) {
    start("gateway-2");
    ASSERT_TRUE(ready("gateway-1"));
    ASSERT_TRUE(ready("gateway-2"));
    const auto status = cluster_.leader(cluster::kSystemGroup);
    ASSERT_TRUE(status);
    EXPECT_EQ((std::map<ReplicaId, HostId>{{ReplicaId{1}, HostId{"host-1"}},
                                           {ReplicaId{2}, HostId{"host-2"}},
                                           {ReplicaId{3}, HostId{"host-3"}}}),
              status->membership.hosts);
    cluster_.run_for(std::chrono::seconds(30));
    EXPECT_EQ(status->membership, cluster_.leader(cluster::kSystemGroup)->membership);
}

TEST_F(Gateways, AHostThatDoesNotStartIsNoReasonToWaitForEver) {
    cluster_.kill(2);
    cluster_.run_for(milliseconds(2'000));
    EXPECT_EQ(0, system_leader());
    ASSERT_TRUE(ready("gateway-1"));
    EXPECT_NE(0, system_leader());
    // Its member is replaced, and it gets none when it comes.
    ASSERT_TRUE(cluster_.run_until([this] {
        const auto status = cluster_.leader(cluster::kSystemGroup);
        return status && status->settled && status->membership.voters.size() == 3 &&
               !status->membership.voters.contains(ReplicaId{2});
    }));
    cluster_.start(2);
    cluster_.run_for(std::chrono::seconds(30));
    EXPECT_TRUE(cluster_.disk(2).restored().empty());
}

TEST_F(Gateways, AMajorityOfTheHostsMissingIs) {
    cluster_.kill(2);
    cluster_.kill(3);
    cluster_.run_for(std::chrono::seconds(20));
    EXPECT_EQ(0, system_leader());
    const auto answer = rest("gateway-1", "GET", "/api/kernels");
    EXPECT_EQ(503, answer.status);
    EXPECT_THAT(answer.body, HasSubstr("when all hosts are connected"));
    cluster_.start(2);
    cluster_.start(3);
    EXPECT_TRUE(ready("gateway-1"));
}

TEST_F(Gateways, AllHostsAndGatewaysMayBeKilledAndEverythingIsKnownAgain) {
    ASSERT_TRUE(ready("gateway-1"));
    const auto kept = running_kernel("gateway-1");
    const auto parked = running_kernel("gateway-1");
    EXPECT_EQ(
        201, rest("gateway-1", "POST", "/api/sessions",
                  R"({"path": "a.ipynb", "type": "notebook", "kernel": {"id": ")" + kept + R"("}})")
                 .status);
    EXPECT_EQ(204, rest("gateway-1", "DELETE", "/api/kernels/" + parked).status);
    kill("gateway-1");
    for (int host = 1; host <= kHosts; ++host) {
        cluster_.kill(host);
    }
    for (int host = 1; host <= kHosts; ++host) {
        cluster_.start(host);
    }
    start("gateway-2");
    ASSERT_TRUE(ready("gateway-2"));
    const auto kernels = rest("gateway-2", "GET", "/api/kernels").body;
    EXPECT_THAT(kernels, HasSubstr(kept));
    EXPECT_THAT(kernels, Not(HasSubstr(parked)));
    EXPECT_THAT(rest("gateway-2", "GET", "/api/nbos/kernels?parked=1").body, HasSubstr(parked));
    EXPECT_THAT(rest("gateway-2", "GET", "/api/sessions").body, HasSubstr("a.ipynb"));
}

TEST_F(Gateways, ALostMemberIsReplaced) {
    ASSERT_TRUE(ready("gateway-1"));
    const auto kernel = running_kernel("gateway-1");
    cluster_.kill(system_leader());
    ASSERT_TRUE(cluster_.run_until([this] {
        const auto status = cluster_.leader(cluster::kSystemGroup);
        return status && status->settled && status->membership.voters.size() == 3 &&
               status->membership.hosts.rbegin()->second == HostId{"host-4"};
    }));
    EXPECT_THAT(rest("gateway-1", "GET", "/api/kernels").body, HasSubstr(kernel));
    create("gateway-1");
}

TEST_F(Gateways, WithoutAMajorityKernelsGoOnAndNoneIsCreatedOrDeleted) {
    ASSERT_TRUE(ready("gateway-1"));
    cluster_.run_for(milliseconds(1'000));
    const auto body = R"({"name": "python3", "env": {"KERNEL_REPLICAS": "1"}})";
    std::string kernel;
    do {  // on the host that has no part in the system group
        kernel = jupyter::string_field(rest("gateway-1", "POST", "/api/kernels", body).body, "id");
        cluster_.run_for(milliseconds(1'000));
    } while (rest("gateway-1", "GET", "/api/nbos/kernels/" + kernel).body.find("host-4") ==
             std::string::npos);
    auto client = connect("gateway-1", kernel, "s1");
    cluster_.kill(1, false);
    cluster_.kill(2, false);
    execute(client, "m1", "set a 1");
    EXPECT_THAT(client.take(), ::testing::Contains("shell execute_reply ok < m1"));
    for (const auto& [method, target] : {std::pair{"POST", std::string("/api/kernels")},
                                         std::pair{"DELETE", "/api/kernels/" + kernel}}) {
        const auto answer = rest("gateway-1", method, target, body);
        EXPECT_EQ(503, answer.status) << answer.body;
        EXPECT_THAT(answer.body, HasSubstr("2 of the 3 hosts"));
    }
    EXPECT_EQ(200, rest("gateway-1", "GET", "/api/kernels/" + kernel).status);
    cluster_.start(1);
    cluster_.start(2);
    ASSERT_TRUE(cluster_.run_until([this] { return system_leader() != 0; }));
    cluster_.run_for(milliseconds(2'000));
    EXPECT_EQ(204, rest("gateway-1", "DELETE", "/api/kernels/" + kernel).status);
}

TEST_F(Gateways, TablesWhoseMajorityIsLostAreBegunAnewWithWhatIsKnown) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kept = running_kernel("gateway-1");
    const auto parked = running_kernel("gateway-1");
    const auto session =
        R"({"path": "a.ipynb", "type": "notebook", "kernel": {"id": ")" + kept + R"("}})";
    EXPECT_EQ(201, rest("gateway-1", "POST", "/api/sessions", session).status);
    EXPECT_EQ(204, rest("gateway-1", "DELETE", "/api/kernels/" + parked).status);
    const auto anew = "/api/nbos/system/begin-anew";
    EXPECT_EQ(400, rest("gateway-1", "POST", anew).status);
    lose_most_of_the_tables();
    EXPECT_THAT(rest("gateway-1", "DELETE", "/api/kernels/" + kept).body,
                HasSubstr("nbos system begin-anew"));
    ASSERT_EQ(200, rest("gateway-1", "POST", anew).status);
    for (const auto* id : {"gateway-1", "gateway-2"}) {
        ASSERT_TRUE(cluster_.run_until([&] {
            return rest(id, "GET", "/api/nbos/status").body.find("\"generation\": 2") !=
                   std::string::npos;
        }));
    }
    const auto body = R"({"name": "python3", "env": {"KERNEL_REPLICAS": "1"}})";
    EXPECT_EQ(201, rest("gateway-2", "POST", "/api/kernels", body).status);
    // Hosts that come back have members of the old one: they are stopped, and it grows.
    cluster_.start(1);
    cluster_.start(2);
    ASSERT_TRUE(cluster_.run_until([this] {
        const auto status = cluster_.leader(cluster::system_group(2));
        return status && status->settled && status->membership.voters.size() == 3;
    }));
    cluster_.run_for(std::chrono::seconds(5));
    for (int host = 1; host <= kHosts; ++host) {
        const auto& groups = cluster_.disk(host).restored();
        EXPECT_TRUE(std::none_of(groups.begin(), groups.end(), [](const auto& group) {
            return group.group.value == cluster::kSystemGroup.value;
        })) << host;
    }
    kill("gateway-1");
    kill("gateway-2");
    start("gateway-3");
    ASSERT_TRUE(ready("gateway-3"));
    EXPECT_THAT(rest("gateway-3", "GET", "/api/kernels").body, HasSubstr(kept));
    EXPECT_THAT(rest("gateway-3", "GET", "/api/nbos/kernels?parked=1").body, HasSubstr(parked));
    EXPECT_THAT(rest("gateway-3", "GET", "/api/sessions").body, HasSubstr("a.ipynb"));
}

TEST_F(Gateways, TablesAreBegunAnewAlsoWhenTheirHostsAreBackWithEmptyDisks) {
    ASSERT_TRUE(ready("gateway-1"));
    const auto kernel = running_kernel("gateway-1");
    for (const int host : {1, 2}) {
        cluster_.kill(host);
        cluster_.disk(host).lose_everything();
    }
    cluster_.run_for(milliseconds(500));
    for (const int host : {1, 2}) {
        cluster_.start(host);
    }
    cluster_.run_for(milliseconds(5'000));
    EXPECT_EQ(0, system_leader());
    EXPECT_THAT(rest("gateway-1", "DELETE", "/api/kernels/" + kernel).body,
                HasSubstr("or have lost them"));
    const auto anew = "/api/nbos/system/begin-anew";
    ASSERT_EQ(200, rest("gateway-1", "POST", anew).status);
    EXPECT_EQ(400, rest("gateway-1", "POST", anew).status);  // it is under way
    ASSERT_TRUE(cluster_.run_until(
        [this] { return cluster_.leader(cluster::system_group(2)).has_value(); }));
    cluster_.run_for(milliseconds(3'000));
    EXPECT_EQ(204, rest("gateway-1", "DELETE", "/api/kernels/" + kernel).status);
}

TEST_F(Gateways, AHostWithAnEarlierGenerationOnItsDiskHoldsTheLatest) {
    ASSERT_TRUE(ready("gateway-1"));
    lose_most_of_the_tables();
    ASSERT_EQ(200, rest("gateway-1", "POST", "/api/nbos/system/begin-anew").status);
    ASSERT_TRUE(cluster_.run_until(
        [this] { return cluster_.leader(cluster::system_group(2)).has_value(); }));
    cluster_.kill(3);  // was a member of both
    cluster_.start(3);
    EXPECT_TRUE(cluster_.run_until(
        [this] { return cluster_.leader(cluster::system_group(2)).has_value(); }));
}

TEST_F(Gateways, AGatewayThatTheSystemLeaderDoesNotHearLeavesTheWorkToOneThatItHears) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto leader = AgentCluster::name(system_leader());
    EXPECT_THAT(rest("gateway-2", "GET", "/api/nbos/status").body,
                HasSubstr(R"("id": "gateway-1", "hosts": 4, "acts": true)"));
    gateway("gateway-2")
        .receive(leader, cluster::encode(cluster::ConnectedGateways{leader, {"gateway-2"}}).view());
    EXPECT_THAT(rest("gateway-2", "GET", "/api/nbos/status").body,
                HasSubstr(R"("id": "gateway-2", "hosts": 4, "acts": true)"));
}

TEST_F(Gateways, AKernelThatWasCreatedIsStartedAlsoWhenItsGatewayDiesAtOnce) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    // The row is there; what would have started its replicas dies with its gateway.
    gateway::KernelRow row{.spec = "python3"};
    row.start.emplace();
    row.start->members.voters = {ReplicaId{1}, ReplicaId{2}, ReplicaId{3}};
    row.start->members.hosts = {{ReplicaId{1}, HostId{"host-2"}},
                                {ReplicaId{2}, HostId{"host-3"}},
                                {ReplicaId{3}, HostId{"host-4"}}};
    row.start->options = {.spec = "python3", .session = "s"};
    const KernelId kernel{Uuid{0xF00, 1}};
    cluster_.send(
        system_leader(),
        cluster::WriteTable{1, {{9, 9}, 1, {{{}, {{gateway::kernel_key(kernel), encode(row)}}}}}});
    EXPECT_TRUE(cluster_.run_until([&] {
        return jupyter::string_field(
                   rest("gateway-2", "GET", "/api/kernels/" + kernel.value.str()).body,
                   "execution_state") == "idle";
    }));
    EXPECT_EQ(3U, cluster_.leader(kernel)->membership.voters.size());
}

// ---- two gateways ----

TEST_F(Gateways, WhatOneDoesTheOtherShows) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    EXPECT_THAT(rest("gateway-2", "GET", "/api/kernels").body, HasSubstr(kernel));
    auto client = connect("gateway-2", kernel, "s2");
    execute(client, "m1", "set a 1");
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < m1", "iopub stream set a < m1",
                            "shell execute_reply ok < m1", "iopub status idle < m1"));
    EXPECT_EQ(204, rest("gateway-2", "DELETE", "/api/kernels/" + kernel).status);
    EXPECT_EQ(404, rest("gateway-1", "GET", "/api/kernels/" + kernel).status);
    const auto chosen = R"({"env": {"KERNEL_ID": ")" + kernel + R"("}})";
    EXPECT_EQ(201, rest("gateway-1", "POST", "/api/kernels", chosen).status);
    EXPECT_EQ(200, rest("gateway-2", "GET", "/api/kernels/" + kernel).status);
    EXPECT_EQ(204, rest("gateway-1", "DELETE", "/api/nbos/kernels/" + kernel).status);
    cluster_.run_for(milliseconds(500));
    EXPECT_EQ("[]", rest("gateway-2", "GET", "/api/nbos/kernels?parked=all").body);
    for (int host = 1; host <= kHosts; ++host) {
        EXPECT_LE(cluster_.disk(host).restored().size(), 1U);  // the system group's
    }
}

TEST_F(Gateways, ClientsOfBothHearACellAndOnlyWhoAskedHasTheReply) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto one = connect("gateway-1", kernel, "s1");
    auto two = connect("gateway-2", kernel, "s2");
    execute(one, "m1", "hang");
    print("x");
    finish();
    EXPECT_THAT(one.take(), ::testing::Contains("shell execute_reply ok < m1"));
    const auto heard = two.take();
    EXPECT_THAT(heard, ::testing::Contains("iopub status busy < m1"));
    EXPECT_THAT(heard, ::testing::Contains("iopub stream x < m1"));
    EXPECT_THAT(heard, ::testing::Contains("iopub status idle < m1"));
    EXPECT_THAT(heard, Not(::testing::Contains(HasSubstr("execute_reply"))));
}

TEST_F(Gateways, AClientGoesOnAtTheOtherGatewayWhereItStoppedHearing) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto client = connect("gateway-1", kernel, "s1");
    execute(client, "m1", "hang");
    print("a");
    print("b");
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "iopub stream a < m1",
                                           "iopub stream b < m1"));
    kill("gateway-1");
    print("c");
    auto again = connect("gateway-2", kernel, "s1");
    print("d");
    finish();
    const auto heard = again.take();
    EXPECT_THAT(std::vector(heard.begin(), heard.begin() + 2),
                ElementsAre("iopub stream c < m1", "iopub stream d < m1"));
    EXPECT_EQ(1, std::count(heard.begin(), heard.end(), "shell execute_reply ok < m1"));
    EXPECT_EQ("iopub status idle < m1", heard.back());
    EXPECT_THAT(heard, Not(::testing::Contains("iopub status busy < m1")));
}

TEST_F(Gateways, ACellThatEndsWhileItsClientIsOnTheWayIsAnsweredOnce) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto client = connect("gateway-1", kernel, "s1");
    execute(client, "m0", "set a 1");
    execute(client, "m1", "hang");
    print("a");
    client.take();
    kill("gateway-1");
    print("b");
    finish();
    auto again = connect("gateway-2", kernel, "s1");
    const auto heard = again.take();
    EXPECT_EQ(1, std::count(heard.begin(), heard.end(), "iopub stream b < m1"));
    EXPECT_EQ(0, std::count(heard.begin(), heard.end(), "iopub stream a < m1"));
    EXPECT_EQ(1, std::count(heard.begin(), heard.end(), "shell execute_reply ok < m1"));
    EXPECT_EQ(0, std::count(heard.begin(), heard.end(), "shell execute_reply ok < m0"));
    // And once is enough, also for a third gateway.
    again.drop();
    start("gateway-3");
    cluster_.run_for(milliseconds(1'000));
    auto third = connect("gateway-3", kernel, "s1");
    EXPECT_THAT(third.take(), ::testing::IsEmpty());
}

TEST_F(Gateways, AClientMayGoThereAndBackAgain) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto first = connect("gateway-1", kernel, "s1");
    execute(first, "m1", "hang");
    print("a");
    EXPECT_EQ(2U, first.take().size());
    first.drop();
    auto second = connect("gateway-2", kernel, "s1");
    print("b");
    EXPECT_THAT(second.take(), ElementsAre("iopub stream b < m1"));
    second.drop();
    print("c");
    auto third = connect("gateway-1", kernel, "s1");
    print("d");
    EXPECT_THAT(third.take(), ElementsAre("iopub stream c < m1", "iopub stream d < m1"));
    finish();
    const auto heard = third.take();
    EXPECT_EQ(1, std::count(heard.begin(), heard.end(), "shell execute_reply ok < m1"));
    third.drop();
    auto fourth = connect("gateway-2", kernel, "s1");
    EXPECT_THAT(fourth.take(), ::testing::IsEmpty());
}

// The hosts do not know any more what it has heard, but its gateway does.
TEST_F(Gateways, AClientThatComesBackAfterAllAgentsWereKilledIsToldNothingTwice) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto client = connect("gateway-1", kernel, "s1");
    execute(client, "m1", "set a 1");
    execute(client, "m2", "set a 2");
    client.drop();
    for (int host = 1; host <= kHosts; ++host) {
        cluster_.kill(host);
    }
    for (int host = 1; host <= kHosts; ++host) {
        cluster_.start(host);
    }
    ASSERT_TRUE(cluster_.run_until(
        [&] { return cluster_.leader(KernelId{*Uuid::parse(kernel)}).has_value(); }));
    cluster_.run_for(std::chrono::seconds(3));
    auto again = connect("gateway-1", kernel, "s1");
    EXPECT_THAT(again.take(), ::testing::IsEmpty());
    // And the hosts are told again: the other gateway repeats nothing either.
    again.drop();
    auto elsewhere = connect("gateway-2", kernel, "s1");
    EXPECT_THAT(elsewhere.take(), ::testing::IsEmpty());
}

TEST_F(Gateways, InterruptsAndRestartsWorkThroughEither) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    auto client = connect("gateway-1", kernel, "s1");
    execute(client, "m1", "hang");
    EXPECT_EQ(204, rest("gateway-2", "POST", "/api/kernels/" + kernel + "/interrupt").status);
    EXPECT_EQ(200, rest("gateway-2", "POST", "/api/kernels/" + kernel + "/restart").status);
    cluster_.run_for(milliseconds(500));
    EXPECT_THAT(client.take(), ::testing::Contains(HasSubstr("execute_reply")));
    execute(client, "m2", "set a 2");
    EXPECT_THAT(client.take(), ::testing::Contains("shell execute_reply ok < m2"));
}

TEST_F(Gateways, TheSameIdCreatedThroughBothIsOneKernel) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const std::string id = "11111111-2222-4333-8444-555555555555";
    const auto body = R"({"env": {"KERNEL_ID": ")" + id + R"("}})";
    std::vector<int> answers;
    for (const auto* name : {"gateway-1", "gateway-2"}) {
        gateway(name).handle({.method = "POST",
                              .target = "/api/kernels",
                              .headers = {{"authorization", "token secret"}},
                              .body = body},
                             [&answers](const jupyter::HttpResponse& response) {
                                 answers.push_back(response.status);
                             });
    }
    cluster_.run_for(milliseconds(2'000));
    EXPECT_THAT(answers, ElementsAre(201, 201));
    const auto status = cluster_.leader(KernelId{*Uuid::parse(id)});
    ASSERT_TRUE(status);
    EXPECT_EQ(3U, status->membership.voters.size());
    EXPECT_EQ(3U, processes_.at("gateway-1")->count<cluster::StartReplica>() +
                      processes_.at("gateway-2")->count<cluster::StartReplica>() - 3U)
        << "three for the system group, three for the kernel";
}

// Repeated to the next leader, after the other gateway has removed both: an id never comes back.
TEST_F(Gateways, AnExchangeOfAReplicaThatIsGoneIsRefused) {
    ASSERT_TRUE(ready("gateway-1"));
    const KernelId kernel{*Uuid::parse(running_kernel("gateway-1"))};
    const auto leader = *cluster_.leader(kernel);
    cluster_.send(std::stoi(leader.host.value.substr(5)),
                  cluster::ChangeMembers{.request = 77,
                                         .kernel = kernel,
                                         .add = {{ReplicaId{8}, HostId{"host-4"}}},
                                         .remove = ReplicaId{7}});
    cluster_.run_for(milliseconds(500));
    const auto* reply = cluster_.reply(77);
    ASSERT_NE(nullptr, reply);
    EXPECT_EQ(Errc::kInvalid, reply->code) << reply->what;
    EXPECT_EQ(leader.membership, cluster_.leader(kernel)->membership);
}

TEST_F(Gateways, OneRepairsAndTheOtherTakesOverWhenItDies) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    EXPECT_THAT(rest("gateway-2", "GET", "/api/nbos/status").body,
                HasSubstr(R"({"id": "gateway-1", "hosts": 4, "acts": true})"));
    EXPECT_THAT(rest("gateway-2", "GET", "/api/nbos/status").body,
                HasSubstr(R"({"id": "gateway-2", "hosts": 4, "acts": false})"));
    const auto kernel = running_kernel("gateway-2");
    const auto members = cluster_.leader(KernelId{*Uuid::parse(kernel)})->membership;
    processes_.at("gateway-2")->sent.clear();
    cluster_.kill(1);
    cluster_.run_for(std::chrono::seconds(10));
    EXPECT_EQ(0U, processes_.at("gateway-2")->count<cluster::ChangeMembers>());
    EXPECT_NE(0U, processes_.at("gateway-1")->count<cluster::ChangeMembers>());
    cluster_.start(1);
    cluster_.run_for(std::chrono::seconds(10));
    kill("gateway-1");
    cluster_.kill(4);
    ASSERT_TRUE(cluster_.run_until([&] {
        const auto status = cluster_.leader(KernelId{*Uuid::parse(kernel)});
        return status && status->settled && status->membership.voters.size() == 3 &&
               std::none_of(status->membership.hosts.begin(), status->membership.hosts.end(),
                            [](const auto& member) { return member.second.value == "host-4"; });
    }));
    EXPECT_EQ(3U, members.voters.size());
}

TEST_F(Gateways, ParkedKernelsExpireOnce) {
    ASSERT_TRUE(ready("gateway-1"));
    both();
    const auto kernel = running_kernel("gateway-1");
    EXPECT_EQ(204, rest("gateway-2", "DELETE", "/api/kernels/" + kernel).status);
    EXPECT_THAT(rest("gateway-1", "GET", "/api/nbos/kernels?parked=1").body, HasSubstr(kernel));
    cluster_.run_for(std::chrono::minutes(61));
    EXPECT_EQ("[]", rest("gateway-1", "GET", "/api/nbos/kernels?parked=all").body);
    EXPECT_EQ("[]", rest("gateway-2", "GET", "/api/nbos/kernels?parked=all").body);
    EXPECT_EQ(1U, processes_.at("gateway-2")->count<cluster::WriteTable>());
}

}  // namespace
}  // namespace nbos::testing
