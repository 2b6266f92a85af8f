// Hosts go and come back; what the gateway does about the replicas that were on them.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using testing::GatewayHarness;
using ::testing::HasSubstr;
using testing::milliseconds;
using ::testing::Not;

class Repair : public GatewayHarness {
protected:
    void SetUp() override {
        all_up();
        group_ = running_kernel();
        advance(milliseconds(30'000));
        link_.sent.clear();
    }
    cluster::StartReplica expect_start(const std::string& host) {
        const auto starts = link_.take<cluster::StartReplica>();
        EXPECT_EQ(1U, starts.size());
        if (starts.empty()) {
            return {};
        }
        EXPECT_EQ(host, starts[0].first);
        EXPECT_FALSE(starts[0].second.bootstrap);
        return starts[0].second;
    }
    std::string repair() {
        const auto body = rest("GET", "/api/nbos/kernels/" + group_.kernel).body;
        return jupyter::string_field(body, "repair");
    }
    void migrate_to(const std::string& host, std::uint64_t replica) {
        gateway_->handle({.method = "POST",
                          .target = "/api/nbos/kernels/" + group_.kernel + "/migrate",
                          .headers = {{"authorization", "token secret"}},
                          .body = R"({"to": ")" + host + R"("})"},
                         [](const jupyter::HttpResponse&) {});
        for (const auto& [to, lead] : link_.take<cluster::Lead>()) {
            tell(to, cluster::Reply{.request = lead.request});
        }
        group_.leader = replica;
        ++group_.term;
    }
    std::string next_cell_goes_to(testing::FakeClient& client) {
        client.execute("m1");
        return link_.take<cluster::ClientMessage>().at(0).first;
    }
    Group group_;
};

TEST_F(Repair, ASilentHostKeepsItsRunningCellForTheGrace) {
    group_.executor = 1;
    group_.leader = 2;
    group_.queued = 1;
    report(group_);
    lose("h1", HostState::kDown);
    advance(milliseconds(30'000));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    advance(milliseconds(6'000));
    expect_start("h4");
}

TEST_F(Repair, AGoneHostsReplicaIsReplacedOnASpareHost) {
    lose("h3");
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty()) << "no grace";
    advance(milliseconds(1'500));
    const auto start = expect_start("h4");
    EXPECT_GT(start.replica.value, 1'000'000U) << "ids of replicas are never used again";
    EXPECT_TRUE(link_.take<cluster::ChangeMembers>().empty());
    EXPECT_THAT(repair(), HasSubstr("on h4"));
    tell("h4", cluster::Reply{.request = start.request});
    advance(milliseconds(200));
    const auto changes = link_.take<cluster::ChangeMembers>();
    ASSERT_EQ(1U, changes.size());
    EXPECT_EQ("h1", changes[0].first);
    EXPECT_EQ(start.replica, changes[0].second.add->first);
    EXPECT_EQ(ReplicaId{3}, *changes[0].second.remove);
    group_.replicas[2] = {start.replica.value, "h4"};
    report(group_);
    tell("h1", cluster::Reply{.request = changes[0].second.request});
    advance(milliseconds(30'000));
    EXPECT_EQ("", repair());
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    EXPECT_TRUE(link_.take<cluster::ChangeMembers>().empty());
}

TEST_F(Repair, ASilentHostGetsALongerGrace) {
    lose("h3", HostState::kDown);
    advance(milliseconds(4'000));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    up("h3");
    report(group_);
    advance(milliseconds(10'000));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    lose("h3", HostState::kDown);
    advance(milliseconds(6'000));
    expect_start("h4");
}

TEST_F(Repair, ANewLeaderIsAskedForTheSameChange) {
    lose("h3");
    advance(milliseconds(1'500));
    tell("h4", cluster::Reply{.request = expect_start("h4").request});
    advance(milliseconds(200));
    const auto first = link_.take<cluster::ChangeMembers>();
    ASSERT_EQ(1U, first.size());
    group_.leader = 2;
    group_.term = 2;
    report(group_);
    tell("h1", cluster::Reply{.request = first[0].second.request,
                              .ok = false,
                              .code = Errc::kNotLeader,
                              .what = "no"});
    advance(milliseconds(300));
    const auto second = link_.take<cluster::ChangeMembers>();
    ASSERT_EQ(1U, second.size());
    EXPECT_EQ("h2", second[0].first);
    EXPECT_EQ(first[0].second.request, second[0].second.request);
}

TEST_F(Repair, WithoutASpareHostItSaysSoAndWaitsForOne) {
    lose("h4");
    lose("h3");
    advance(milliseconds(2'000));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    EXPECT_THAT(repair(), HasSubstr("no spare host"));
    up("h4");
    advance(milliseconds(200));
    expect_start("h4");
}

TEST_F(Repair, AHostThatCameBackWithoutItsReplicaGetsANewOne) {
    lose("h4");
    lose("h3");
    advance(milliseconds(200));
    up("h3");  // and says nothing of the replica that it had
    advance(milliseconds(20'000));
    const auto starts = link_.take<cluster::StartReplica>();  // more than one: nobody answers
    ASSERT_FALSE(starts.empty());
    EXPECT_EQ("h3", starts[0].first);
    EXPECT_NE(ReplicaId{3}, starts[0].second.replica);
}

TEST_F(Repair, AReplicaThatWasRemovedIsStoppedWhenItsHostIsBack) {
    group_.replicas.push_back({.id = 9, .host = "h4"});
    group_.strangers = {9};
    report(group_);
    advance(milliseconds(5'000));
    EXPECT_TRUE(link_.take<cluster::StopReplica>().empty()) << "it may be about to be added";
    advance(milliseconds(6'000));
    const auto stops = link_.take<cluster::StopReplica>();
    ASSERT_EQ(1U, stops.size());
    EXPECT_EQ("h4", stops[0].first);
    EXPECT_EQ(ReplicaId{9}, stops[0].second.replica);
}

// Its host was cut off before the change and counted as up until after it.
TEST_F(Repair, AReplicaThatWasRemovedIsNotShownWhileItsHostIsAway) {
    group_.strangers = {1};
    group_.replicas.push_back({.id = 9, .host = "h4"});
    group_.leader = 2;
    report(group_);
    const auto row = [&] { return rest("GET", "/api/nbos/kernels/" + group_.kernel).body; };
    advance(milliseconds(500));
    EXPECT_THAT(row(), HasSubstr("\"h1\""));
    lose("h1", HostState::kDown);
    advance(milliseconds(500));
    EXPECT_THAT(row(), Not(HasSubstr("\"h1\"")));
    up("h1");
    report(group_);
    advance(milliseconds(12'000));
    EXPECT_EQ(1U, link_.take<cluster::StopReplica>().size());
}

TEST_F(Repair, WhatAnEarlierGatewayBeganIsFinished) {
    lose("h3");
    group_.replicas.push_back({.id = 77, .host = "h4"});
    group_.learners = {77};
    report(group_);
    advance(milliseconds(1'500));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    const auto changes = link_.take<cluster::ChangeMembers>();
    ASSERT_GE(changes.size(), 1U);
}

TEST_F(Repair, MigrationLeadsAVoterAndTheNextCellGoesThere) {
    auto client = connect(group_.kernel, "s1");
    int status = 0;
    gateway_->handle({.method = "POST",
                      .target = "/api/nbos/kernels/" + group_.kernel + "/migrate",
                      .headers = {{"authorization", "token secret"}},
                      .body = R"({"to": "h2"})"},
                     [&](const jupyter::HttpResponse& response) { status = response.status; });
    const auto leads = link_.take<cluster::Lead>();
    ASSERT_EQ(1U, leads.size());
    EXPECT_EQ("h2", leads[0].first);
    tell("h2", cluster::Reply{.request = leads[0].second.request});
    advance(milliseconds(500));
    EXPECT_EQ(0, status) << "it does not lead yet";
    group_.leader = 2;
    group_.term = 2;
    group_.executor = 1;
    report(group_);
    advance(milliseconds(100));
    EXPECT_EQ(200, status);
    client.execute("m1");
    EXPECT_EQ("h2", link_.take<cluster::ClientMessage>().at(0).first);
    EXPECT_EQ(
        404,
        rest("POST", "/api/nbos/kernels/" + group_.kernel + "/migrate", R"({"to": "h9"})").status);
}

TEST_F(Repair, TheNextCellGoesToWhereTheKernelWasMovedWhileThatCatchesUp) {
    auto client = connect(group_.kernel, "s1");
    group_.executor = 1;
    report(group_);
    migrate_to("h2", 2);
    report(group_);
    auto status = status_of(group_, group_.replicas[1]);
    status.interpreter = "behind";
    tell("h2", status);
    EXPECT_EQ("h2", next_cell_goes_to(client));
}

TEST_F(Repair, NewsOfTheCellBeforeTheMoveDoNotUndoIt) {
    auto client = connect(group_.kernel, "s1");
    group_.executor = 2;  // of an older cell: that the last one ran on h1 is not known yet
    report(group_);
    migrate_to("h2", 2);
    report(group_);
    group_.executor = 1;
    report(group_);
    EXPECT_EQ("h2", next_cell_goes_to(client));
}

TEST_F(Repair, AMoveIsOverWithTheCellThatRanThere) {
    auto client = connect(group_.kernel, "s1");
    group_.executor = 1;
    report(group_);
    migrate_to("h2", 2);
    group_.executor = 2;
    report(group_);
    group_.executor = 3;  // another gateway moved it on
    report(group_);
    EXPECT_EQ("h3", next_cell_goes_to(client));
}

TEST_F(Repair, MigrationToASpareHostMovesAReplicaFirst) {
    rest("POST", "/api/nbos/kernels/" + group_.kernel + "/migrate", R"({"to": "h4"})");
    advance(milliseconds(100));
    const auto start = expect_start("h4");
    tell("h4", cluster::Reply{.request = start.request});
    advance(milliseconds(100));
    const auto changes = link_.take<cluster::ChangeMembers>();
    ASSERT_EQ(1U, changes.size());
    EXPECT_EQ(ReplicaId{1}, *changes[0].second.remove);
    group_.replicas[0] = {start.replica.value, "h4"};
    group_.leader = 2;
    report(group_);
    tell("h1", cluster::Reply{.request = changes[0].second.request});
    EXPECT_EQ("h4", link_.take<cluster::Lead>().at(0).first);
    EXPECT_EQ("h1", link_.take<cluster::StopReplica>().at(0).first);
}

}  // namespace
}  // namespace nbos::gateway
