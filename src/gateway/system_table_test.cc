// The shared tables as a gateway knows them: what it takes, what it repeats, what it gives up.
#include "gateway/system_table.h"

#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using replica::TableOutcome;
using testing::FakeClock;
using testing::GatewayHarness;
using ::testing::HasSubstr;
using testing::milliseconds;

class Recorder final : public AgentLink {
public:
    void send(const HostId& host, const cluster::Rpc& rpc) override {
        sent.emplace_back(host.value, std::get<cluster::WriteTable>(rpc));
    }
    std::vector<std::pair<std::string, cluster::WriteTable>> sent;
};

class Table : public ::testing::Test {
protected:
    Table() {
        hosts_.configure({{HostId{"h1"}, "a"}, {HostId{"h2"}, "b"}}, clock_.now());
        hosts_.set_state(HostId{"h1"}, HostState::kUp, clock_.now());
        hosts_.set_state(HostId{"h2"}, HostState::kUp, clock_.now());
    }
    // What became of it: "done", "conflict", an error's text, or nothing yet.
    std::shared_ptr<std::string> write(const std::string& key, const std::string& value) {
        auto said = std::make_shared<std::string>();
        table_.write({{}, {{key, Bytes::copy(value)}}}, [said](Result<TableOutcome> outcome) {
            *said = !outcome                          ? outcome.error().what
                    : *outcome == TableOutcome::kDone ? "done"
                                                      : "conflict";
        });
        return said;
    }
    void tell(Index base, Index index, const std::string& key, const std::string& value,
              std::uint64_t sequence = 0, std::vector<TableOutcome> outcomes = {}) {
        cluster::TableRows rows{.everything = base == Index{}, .base = base, .index = index};
        rows.rows.push_back({key, Bytes::copy(value), index});
        if (sequence > 0) {
            rows.writers.push_back({kWriter, sequence, std::move(outcomes)});
        }
        table_.rows_came(rows, [this](const std::string& changed) { changed_.push_back(changed); });
    }
    void advance(milliseconds by) {
        clock_.advance(by);
        table_.tick();
    }

    static constexpr Uuid kWriter{50, 60};
    FakeClock clock_;
    HostTable hosts_;
    Recorder link_;
    std::optional<HostId> leader_ = HostId{"h1"};
    std::vector<std::string> changed_;
    SystemTable table_{{clock_, hosts_, link_, [this] { return leader_; },
                        [] { return std::string("nobody leads"); }},
                       kWriter};
};

TEST_F(Table, TakesChangesThatFollowAndWaitsForAllBehindAGap) {
    tell(Index{5}, Index{6}, "a", "too early");
    EXPECT_FALSE(table_.known());
    tell({}, Index{7}, "a", "1");
    EXPECT_TRUE(table_.known());
    tell(Index{6}, Index{9}, "a", "2");  // 8 changed no row
    EXPECT_EQ(Index{9}, table_.index());
    tell(Index{11}, Index{12}, "a", "3");
    tell(Index{7}, Index{8}, "a", "old");
    tell({}, Index{8}, "a", "of a former leader");
    EXPECT_EQ("2", table_.find("a")->value.view());
    tell({}, Index{12}, "b", "4");
    EXPECT_EQ(nullptr, table_.find("a"));
    EXPECT_EQ((std::vector<std::string>{"a", "a", "b", "a"}), changed_);
}

TEST_F(Table, OneWriteIsUnderWayAndTheRestIsTheNext) {
    tell({}, Index{1}, "x", "");
    const auto a = write("a", "1");
    const auto b = write("b", "1");
    const auto c = write("c", "1");
    ASSERT_EQ(1U, link_.sent.size());
    EXPECT_EQ("", *a);
    tell(Index{1}, Index{2}, "a", "1", 1, {TableOutcome::kDone});
    EXPECT_EQ("done", *a);
    ASSERT_EQ(2U, link_.sent.size());
    EXPECT_EQ(2U, link_.sent[1].second.write.transactions.size());
    tell(Index{2}, Index{3}, "c", "1", 2, {TableOutcome::kConflict, TableOutcome::kDone});
    EXPECT_EQ("conflict", *b);
    EXPECT_EQ("done", *c);
}

TEST_F(Table, AWriteFollowsTheLeaderWithTheSameNumber) {
    const auto a = write("a", "1");
    leader_ = HostId{"h2"};
    table_.replied(
        {.request = link_.sent[0].second.request, .ok = false, .code = Errc::kNotLeader});
    advance(milliseconds(50));
    EXPECT_EQ(1U, link_.sent.size());
    advance(milliseconds(100));
    ASSERT_EQ(2U, link_.sent.size());
    EXPECT_EQ("h2", link_.sent[1].first);
    EXPECT_EQ(link_.sent[0].second.write, link_.sent[1].second.write);
    hosts_.set_state(HostId{"h2"}, HostState::kUp, clock_.now());  // another connection
    advance(milliseconds(50));
    EXPECT_EQ(3U, link_.sent.size());
    tell({}, Index{4}, "a", "1", 1, {TableOutcome::kDone});
    EXPECT_EQ("done", *a);
}

TEST_F(Table, WithoutALeaderItSaysSoInTimeAndTheNextWriteHasANewNumber) {
    leader_.reset();
    const auto a = write("a", "1");
    advance(milliseconds(7'900));
    EXPECT_EQ("", *a);
    advance(milliseconds(200));
    EXPECT_EQ("nobody leads", *a);
    leader_ = HostId{"h1"};
    write("b", "1");
    ASSERT_EQ(1U, link_.sent.size());
    EXPECT_EQ(2U, link_.sent[0].second.write.sequence);
}

TEST_F(Table, WhatIsTooLargeIsRefusedBeforeItIsSent) {
    const auto a = write("a", std::string(replica::kTableRowBytesMax + 1, 'x'));
    EXPECT_TRUE(link_.sent.empty());
    advance(milliseconds(50));
    EXPECT_THAT(*a, HasSubstr("are the limit"));
}

// ---- in a whole gateway ----

class WithoutATableLeader : public GatewayHarness {
protected:
    void SetUp() override {
        all_up();
        group_ = running_kernel();
        link_.system.leads = false;
        tell("h4", link_.system.status());
    }
    int status_after(const std::string& method, const std::string& target,
                     const std::string& body = "") {
        auto answer = std::make_shared<int>(0);
        gateway_->handle(
            {.method = method,
             .target = target,
             .headers = {{"authorization", "token secret"}},
             .body = body},
            [answer](const jupyter::HttpResponse& response) { *answer = response.status; });
        advance(milliseconds(9'000));
        return *answer;
    }
    Group group_;
};

TEST_F(WithoutATableLeader, KernelsAreServedAndNothingIsCreatedOrDeleted) {
    EXPECT_EQ(503, status_after("POST", "/api/kernels"));
    EXPECT_EQ(503, status_after("DELETE", "/api/kernels/" + group_.kernel));
    EXPECT_EQ(503, status_after("POST", "/api/sessions",
                                R"({"path": "a", "type": "notebook", "kernel": {"id": ")" +
                                    group_.kernel + R"("}})"));
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());
    EXPECT_EQ(200, rest("GET", "/api/kernels").status);
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());
    link_.system.leads = true;
    tell("h4", link_.system.status());
    EXPECT_EQ(201, status_after("POST", "/api/kernels"));
}

TEST_F(WithoutATableLeader, AGatewayThatHasNeverHeardTheTablesSaysThatListsAreNotWhole) {
    restart_gateway();
    for (const auto* host : {"h1", "h2", "h3"}) {
        up(host);
    }
    report(group_);
    advance(milliseconds(6'000));
    const auto answer = rest("GET", "/api/kernels");
    EXPECT_EQ(503, answer.status);
    EXPECT_THAT(answer.body, HasSubstr("does not know all kernels yet"));
    EXPECT_EQ(200, rest("GET", "/api/kernels/" + group_.kernel).status);  // hosts have it
}

}  // namespace
}  // namespace nbos::gateway
