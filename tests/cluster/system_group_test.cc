// The system group on real agents: writes, their repetition, the rows that gateways are told, and
// members that are lost.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/agent_cluster.h"

namespace nbos::testing {
namespace {

using cluster::kSystemGroup;
using std::chrono::milliseconds;

constexpr Uuid kWriter{7, 7};

class SystemGroup : public ::testing::Test {
protected:
    void SetUp() override {
        cluster_.create_system_group({1, 2, 3});
        ASSERT_TRUE(cluster_.run_until([this] { return leader() != 0; }));
        cluster_.run_for(milliseconds(500));
    }
    int leader() const {
        const auto status = cluster_.leader(kSystemGroup);
        return status ? std::stoi(status->host.value.substr(5)) : 0;
    }
    std::uint64_t write(int host, std::uint64_t sequence, const std::string& key,
                        const std::string& value) {
        const auto request = cluster_.next_request();
        cluster_.send(host, cluster::WriteTable{
                                request, {kWriter, sequence, {{{}, {{key, Bytes::copy(value)}}}}}});
        return request;
    }
    // What a gateway that takes all of it knows by now, and by which writes.
    std::map<std::string, std::string> known() const {
        std::map<std::string, std::string> rows;
        Index index;
        for (const auto& [host, told] : cluster_.table_rows()) {
            const bool news = told.index > index && (told.everything || told.base <= index);
            if (!news) {
                continue;
            }
            rows = told.everything ? decltype(rows)() : rows;
            for (const auto& row : told.rows) {
                row.value ? rows[row.key] = std::string(row.value->view())
                          : rows[row.key] = "erased";
            }
            index = told.index;
        }
        return rows;
    }
    bool is_acknowledged(std::uint64_t sequence) const {
        return std::ranges::any_of(cluster_.table_rows(), [&](const auto& told) {
            return std::ranges::any_of(told.second.writers, [&](const auto& writer) {
                return writer.writer == kWriter && writer.sequence == sequence;
            });
        });
    }

    AgentCluster cluster_{5};
};

TEST_F(SystemGroup, AWriteIsToldWithItsAcknowledgementWhenItIsApplied) {
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    EXPECT_EQ((std::map<std::string, std::string>{{"a", "1"}}), known());
}

TEST_F(SystemGroup, OnlyTheLeaderTakesWrites) {
    const int other = leader() % 3 + 1;
    for (const int host : {other, 5}) {
        const auto request = write(host, 1, "a", "1");
        const auto* reply = cluster_.reply(request);
        ASSERT_NE(nullptr, reply);
        EXPECT_EQ(Errc::kNotLeader, reply->code);
    }
    cluster_.run_for(milliseconds(500));
    EXPECT_FALSE(is_acknowledged(1));
}

TEST_F(SystemGroup, ARowThatIsTooLargeIsRefused) {
    const auto request = write(leader(), 1, "a", std::string(replica::kTableRowBytesMax + 1, 'x'));
    ASSERT_NE(nullptr, cluster_.reply(request));
    EXPECT_EQ(Errc::kInvalid, cluster_.reply(request)->code);
}

TEST_F(SystemGroup, ARepeatedWriteIsDoneOnceAndAcknowledgedAgain) {
    write(leader(), 1, "a", "1");
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    write(leader(), 2, "a", "2");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(2); }));
    const auto told = cluster_.table_rows().size();
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.table_rows().size() > told; }));
    EXPECT_TRUE(cluster_.table_rows().back().second.everything);
    EXPECT_EQ("2", known().at("a"));
}

TEST_F(SystemGroup, WhatWasAcknowledgedOutlivesTheLeaderAndTheNextOneTellsAll) {
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    const int before = leader();
    cluster_.kill(before);
    ASSERT_TRUE(cluster_.run_until([&] { return leader() != 0 && leader() != before; }));
    ASSERT_TRUE(cluster_.run_until([&] {
        const auto& [host, told] = cluster_.table_rows().back();
        return host != before && told.everything;
    }));
    EXPECT_EQ("1", known().at("a"));
    write(leader(), 1, "a", "repeated");  // as by a gateway that missed the acknowledgement
    write(leader(), 2, "b", "2");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(2); }));
    EXPECT_EQ("1", known().at("a"));
    EXPECT_EQ("2", known().at("b"));
}

TEST_F(SystemGroup, ALeaderWithoutAMajorityTellsNobodyThatItKnowsAll) {
    const int old = leader();
    for (const int host : {1, 2, 3}) {
        if (host != old) {
            cluster_.kill(host, false);
        }
    }
    const auto told = cluster_.table_rows().size();
    cluster_.send(old, cluster::Hello{"gateway-2"});
    ASSERT_EQ(old, leader());  // it does not know yet that it cannot lead
    const auto request = write(old, 1, "a", "1");
    cluster_.run_for(std::chrono::seconds(25));
    ASSERT_NE(cluster_.reply(request), nullptr);
    EXPECT_EQ(cluster_.reply(request)->code, Errc::kNotLeader);
    EXPECT_EQ(told, cluster_.table_rows().size());
    for (const int host : {1, 2, 3}) {
        if (host != old) {
            cluster_.start(host);
        }
    }
    ASSERT_TRUE(cluster_.run_until([&] { return leader() != 0; }));
    cluster_.run_for(std::chrono::seconds(5));
    EXPECT_FALSE(is_acknowledged(1));  // it was refused, and is not done later
    write(leader(), 1, "a", "1");
    EXPECT_TRUE(cluster_.run_until([&] { return is_acknowledged(1); }));
}

TEST_F(SystemGroup, AllHostsMayBeKilledAndComeBack) {
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    for (const int host : {1, 2, 3}) {
        cluster_.kill(host);
    }
    const auto told = cluster_.table_rows().size();
    for (const int host : {1, 2, 3}) {
        cluster_.start(host);
    }
    ASSERT_TRUE(cluster_.run_until([&] { return cluster_.table_rows().size() > told; }));
    EXPECT_TRUE(cluster_.table_rows().back().second.everything);
    ASSERT_EQ(1U, cluster_.table_rows().back().second.rows.size());
}

TEST_F(SystemGroup, ANewMemberGetsTheRowsAndCanLead) {
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    const int lost = leader() % 3 + 1;
    cluster_.kill(lost);
    cluster_.change_members(kSystemGroup, 4, ReplicaId{static_cast<std::uint64_t>(lost)});
    ASSERT_TRUE(cluster_.run_until([&] {
        const auto status = cluster_.leader(kSystemGroup);
        return status && status->settled && status->membership.voters.contains(ReplicaId{101});
    }));
    const int before = leader();
    cluster_.kill(before);
    ASSERT_TRUE(cluster_.run_until([&] { return leader() != 0 && leader() != before; }));
    write(leader(), 2, "b", "2");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(2); }));
    EXPECT_EQ("1", known().at("a"));
}

TEST_F(SystemGroup, FallsSilentAndWakesForAWrite) {
    write(leader(), 1, "a", "1");
    ASSERT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
    cluster_.run_for(std::chrono::seconds(10));
    const auto frames = cluster_.frames_sent();
    cluster_.run_for(std::chrono::seconds(20));
    EXPECT_EQ(frames, cluster_.frames_sent());
    EXPECT_EQ(0U, cluster_.agent(leader()).restless_replicas());
    write(leader(), 2, "a", "2");
    EXPECT_TRUE(cluster_.run_until([this] { return is_acknowledged(2); }));
}

TEST_F(SystemGroup, AStoppedReplicaIsGone) {
    const int host = leader() % 3 + 1;
    cluster_.send(host, cluster::StopReplica{cluster_.next_request(), kSystemGroup,
                                             ReplicaId{static_cast<std::uint64_t>(host)}});
    cluster_.run_for(milliseconds(200));
    EXPECT_TRUE(cluster_.disk(host).restored().empty());
    write(leader(), 1, "a", "1");
    EXPECT_TRUE(cluster_.run_until([this] { return is_acknowledged(1); }));
}

TEST_F(SystemGroup, EveryHostSaysWhichGatewaysItHears) {
    cluster_.send(1, cluster::Hello{"gateway-1"});
    EXPECT_EQ((std::set<std::string>{"gateway-1"}), cluster_.connected_gateways().at(1));
    cluster_.agent(1).receive_rpc(HostId{"gateway-2"},
                                  cluster::encode(cluster::Hello{"gateway-2"}).view());
    EXPECT_EQ((std::set<std::string>{"gateway-1", "gateway-2"}),
              cluster_.connected_gateways().at(1));
    cluster_.agent(1).gateway_lost(HostId{"gateway-1"});
    EXPECT_EQ((std::set<std::string>{"gateway-2"}), cluster_.connected_gateways().at(1));
}

// ---- both generations on one disk: the host died between the two ----

struct Reports final : raft::PeerLink, agent::GatewayLink {
    void send(const HostId&, Bytes) override {}
    void send(const cluster::Rpc& rpc) override { hear(rpc); }
    void send_to(const HostId&, const cluster::Rpc& rpc) override { hear(rpc); }
    void hosts_known(const std::map<HostId, std::string>&) override {}
    void hear(const cluster::Rpc& rpc) {
        if (const auto* status = std::get_if<cluster::KernelStatus>(&rpc)) {
            groups.insert(status->kernel);
        }
    }
    std::set<KernelId> groups;
};

class TwoGenerations : public ::testing::Test {
protected:
    void SetUp() override {
        for (const auto generation : {1U, 2U}) {
            const Membership alone{.voters = {ReplicaId{generation}},
                                   .hosts = {{ReplicaId{generation}, kHost}}};
            auto agent = process();
            agent->receive_rpc(
                kGateway,
                cluster::encode(cluster::StartReplica{.request = generation,
                                                      .kernel = cluster::system_group(generation),
                                                      .replica = ReplicaId{generation},
                                                      .bootstrap = alone})
                    .view());
            disk_.pump();
        }
        ASSERT_EQ(2U, disk_.restored().size());
        reports_.groups.clear();
    }
    std::unique_ptr<agent::Agent> process() {
        agent::AgentOptions options{.host = kHost};
        auto agent =
            std::make_unique<agent::Agent>(options, disk_, reports_, interpreters_, reports_);
        interpreters_.listen(*agent);
        return agent;
    }
    void expect_only_the_latest(std::vector<raft::RestoredGroup> groups) {
        const auto agent = process();
        agent->restore(std::move(groups));
        agent->receive_rpc(kGateway, cluster::encode(cluster::Hello{"gateway-1"}).view());
        disk_.pump();
        EXPECT_TRUE(reports_.groups.contains(cluster::system_group(2)));
        ASSERT_EQ(1U, disk_.restored().size());
        EXPECT_EQ(GroupId{cluster::system_group(2).value}, disk_.restored().front().group);
        reports_.groups.clear();
        agent->receive_rpc(kGateway, cluster::encode(cluster::Hello{"gateway-1"}).view());
        EXPECT_EQ((std::set<KernelId>{cluster::system_group(2)}), reports_.groups);
    }

    const HostId kHost{"host-1"};
    const HostId kGateway{"gateway-1"};
    MemoryDisk disk_;
    Reports reports_;
    FakeInterpreters interpreters_;
};

TEST_F(TwoGenerations, TheLaterOneIsKeptWhenItIsRestoredLast) {
    expect_only_the_latest(disk_.restored());
}

TEST_F(TwoGenerations, TheLaterOneIsKeptWhenItIsRestoredFirst) {
    auto groups = disk_.restored();
    std::swap(groups.front(), groups.back());
    expect_only_the_latest(std::move(groups));
}

}  // namespace
}  // namespace nbos::testing
