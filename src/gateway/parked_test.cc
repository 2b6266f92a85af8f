// Kernels that were shut down, and what is taken up again; restarts without a majority.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::ElementsAre;
using testing::GatewayHarness;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::milliseconds;
using ::testing::Not;

class ParkedKernels : public GatewayHarness {
protected:
    void SetUp() override {
        restart_gateway_with(std::chrono::hours(1));
        all_up();
        group_ = running_kernel();
    }
    int status_of_kernel() { return rest("GET", "/api/kernels/" + group_.kernel).status; }
    std::size_t stops() { return link_.take<cluster::StopReplica>().size(); }
    std::string open_notebook() {
        const auto answer = rest("POST", "/api/sessions",
                                 R"({"path": "a.ipynb", "type": "notebook",)"
                                 R"( "kernel": {"name": "python3"}})");
        EXPECT_EQ(201, answer.status) << answer.body;
        const auto kernel = answer.body.find("\"kernel\": {");
        return answer.body.substr(answer.body.find("\"id\": \"", kernel) + 7, 36);
    }
    Group group_;
};

TEST_F(ParkedKernels, AreOutOfSightAndTheirReplicasStay) {
    auto client = connect(group_.kernel, "s1");
    EXPECT_EQ(204, rest("DELETE", "/api/kernels/" + group_.kernel).status);
    EXPECT_EQ(1000, client.socket->closed);
    EXPECT_EQ(404, status_of_kernel());
    EXPECT_EQ("[]", rest("GET", "/api/kernels").body);
    EXPECT_EQ("[]", rest("GET", "/api/nbos/kernels").body);
    EXPECT_THAT(rest("GET", "/api/status").body, HasSubstr("\"kernels\": 0"));
    EXPECT_THAT(rest("GET", "/api/nbos/kernels?parked=1").body, HasSubstr(group_.kernel));
    EXPECT_THAT(rest("GET", "/api/nbos/hosts").body, HasSubstr("\"replicas\": 1"));
    EXPECT_EQ(404, rest("DELETE", "/api/kernels/" + group_.kernel).status);
    EXPECT_EQ(0U, stops());
}

TEST_F(ParkedKernels, ComeBackWithTheirIdAlsoAfterARestartOfTheGateway) {
    rest("DELETE", "/api/kernels/" + group_.kernel);
    restart_gateway();
    all_up();
    report(group_);
    EXPECT_EQ(404, status_of_kernel());
    EXPECT_EQ(group_.kernel, create(R"({"env": {"KERNEL_ID": ")" + group_.kernel + R"("}})"));
    EXPECT_EQ(200, status_of_kernel());
    EXPECT_TRUE(link_.take<cluster::StartReplica>().empty());  // it is the old one
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());
}

TEST_F(ParkedKernels, AreDeletedWhenTheirTimeIsOver) {
    rest("DELETE", "/api/kernels/" + group_.kernel);
    advance(std::chrono::minutes(59));
    EXPECT_EQ(0U, stops());
    advance(std::chrono::minutes(2));
    EXPECT_LE(3U, stops());  // asked again until it is answered
    EXPECT_EQ(400,
              rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})").status);
}

TEST_F(ParkedKernels, ANotebookFindsItsKernelWhenOnlyTheKernelWasDeleted) {
    const auto kernel = open_notebook();
    rest("DELETE", "/api/kernels/" + kernel);
    EXPECT_EQ(kernel, open_notebook());
}

TEST_F(ParkedKernels, ANotebookStartsAfreshWhenItsSessionWasDeleted) {
    const auto kernel = open_notebook();
    const auto sessions = rest("GET", "/api/sessions").body;
    const auto session = jupyter::string_field(sessions.substr(1, sessions.size() - 2), "id");
    EXPECT_EQ(204, rest("DELETE", "/api/sessions/" + session).status);
    EXPECT_NE(kernel, open_notebook());
    EXPECT_EQ(201, rest("POST", "/api/kernels", R"({"kernel_id": ")" + kernel + R"("})").status);
    EXPECT_THAT(rest("GET", "/api/kernels").body, HasSubstr(kernel));
}

TEST_F(ParkedKernels, TheCommandLineRevivesAndDeletesThem) {
    rest("DELETE", "/api/kernels/" + group_.kernel);
    EXPECT_EQ(200, rest("POST", "/api/nbos/kernels/" + group_.kernel + "/revive").status);
    EXPECT_EQ(200, status_of_kernel());
    rest("DELETE", "/api/kernels/" + group_.kernel);
    EXPECT_EQ(204, rest("DELETE", "/api/nbos/kernels/" + group_.kernel).status);
    EXPECT_EQ(3U, stops());
    EXPECT_EQ(404, rest("POST", "/api/nbos/kernels/" + group_.kernel + "/revive").status);
}

TEST_F(ParkedKernels, WhatTheyRunIsInterruptedAndItsEndIsNotNews) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    rest("DELETE", "/api/kernels/" + group_.kernel);
    EXPECT_EQ(1U, link_.take<cluster::Interrupt>().size());
    tell("h1", end_of(group_, "s1", "m1"));
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s1");
    EXPECT_TRUE(again.take().empty());
}

TEST_F(ParkedKernels, AreAtMostSoMany) {
    std::vector<std::string> ids;
    for (int n = 0; n < 33; ++n) {
        advance(milliseconds(100));
        ids.push_back(create());
        rest("DELETE", "/api/kernels/" + ids.back());
    }
    advance(milliseconds(100));
    const auto kept = rest("GET", "/api/nbos/kernels?parked=1").body;
    EXPECT_THAT(kept, Not(HasSubstr(ids.front())));
    EXPECT_THAT(kept, HasSubstr(ids[1]));
    EXPECT_THAT(kept, HasSubstr(ids.back()));
}

TEST_F(ParkedKernels, WhatStillWaitsIsCancelledBeforeTheyComeBack) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    lose("h2");
    lose("h3");
    EXPECT_EQ(204, rest("DELETE", "/api/kernels/" + group_.kernel).status);
    EXPECT_THAT(client.socket->messages[1].content, HasSubstr("how far it came is not known"));
    EXPECT_THAT(
        client.take(),
        ElementsAre("iopub status busy < m1", "iopub error KernelFailed < m1",
                    "shell execute_reply error KernelFailed < m1", "iopub status idle < m1"));
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());  // nobody could do it
    link_.sent.clear();
    up("h2");
    group_.queued = 1;
    report(group_);
    advance(milliseconds(1'000));
    const auto interrupts = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, interrupts.size());
    EXPECT_THAT(interrupts[0].second.cells, ElementsAre(cluster::CellId{"s1", "m1"}));
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s2");
    again.execute("m2");
    EXPECT_TRUE(link_.take<cluster::ClientMessage>().empty());  // not behind what may fail
    tell(interrupts[0].first, cluster::Reply{.request = interrupts[0].second.request});
    group_.queued = 0;
    report(group_);
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());
}

TEST_F(ParkedKernels, WhatIsAskedForAfterTheyAreBackIsNotInterrupted) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    group_.executor = 1;
    group_.queued = 1;
    group_.replicas[0].interpreter = "running";
    report(group_);
    rest("DELETE", "/api/kernels/" + group_.kernel);
    const auto first = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, first.size());
    EXPECT_TRUE(first[0].second.leaving);  // one signal: it may be cleaning up
    EXPECT_THAT(first[0].second.cells, ElementsAre(cluster::CellId{"s1", "m1"}));
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s2");
    again.execute("m2");
    const auto not_yet = cluster::Reply{
        .request = first[0].second.request, .ok = false, .code = Errc::kNotLeader, .what = ""};
    tell("h1", not_yet);
    advance(milliseconds(12'000));
    for (const auto& [host, interrupt] : link_.take<cluster::Interrupt>()) {
        EXPECT_THAT(interrupt.cells, ElementsAre(cluster::CellId{"s1", "m1"}));
        tell(host, cluster::Reply{.request = interrupt.request});
    }
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());  // m2
    advance(milliseconds(12'000));
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());
}

TEST_F(ParkedKernels, AGatewayThatKnowsNoneOfTheOldCellsHoldsNewOnesUntilTheyAreOver) {
    rest("DELETE", "/api/kernels/" + group_.kernel);
    restart_gateway();
    all_up();
    group_.queued = 1;
    report(group_);
    advance(milliseconds(1'000));
    const auto all = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, all.size());
    EXPECT_THAT(all[0].second.cells, IsEmpty());
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s2");
    again.execute("m2");
    EXPECT_THAT(cells_sent(), IsEmpty());  // not behind what may fail
    link_.sent.clear();
    advance(milliseconds(4'000));
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());  // it would hit what others ask for
    EXPECT_THAT(again.take(), ElementsAre(HasSubstr("has not ended yet")));
    again.send("control", "interrupt_request", "i1");
    const auto asked = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, asked.size());
    EXPECT_THAT(asked[0].second.cells, IsEmpty());
    group_.queued = 0;
    report(group_);
    advance(milliseconds(100));
    EXPECT_THAT(cells_sent(), IsEmpty());
    tell(asked[0].first, cluster::Reply{.request = asked[0].second.request});
    advance(milliseconds(100));
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m2"));
}

TEST_F(ParkedKernels, AnInterruptMeansTheOldCellThatTheNewOnesWaitFor) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    started(group_, "h1", "s1", "m1");
    group_.queued = 1;
    report(group_);
    rest("DELETE", "/api/kernels/" + group_.kernel);
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s2");
    again.execute("m2");
    link_.sent.clear();
    again.send("control", "interrupt_request", "i1");
    const auto asked = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, asked.size());
    EXPECT_FALSE(asked[0].second.leaving);
    EXPECT_THAT(asked[0].second.cells,
                ElementsAre(cluster::CellId{"s2", "m2"}, cluster::CellId{"s1", "m1"}));
}

TEST_F(ParkedKernels, ARestartUnderWayEndsWithTheShutdown) {
    const auto restart = rest_later("POST", "/api/kernels/" + group_.kernel + "/restart");
    ASSERT_EQ(1U, link_.take<cluster::Restart>().size());
    rest("DELETE", "/api/kernels/" + group_.kernel);
    EXPECT_EQ(404, restart->status);
    rest("POST", "/api/kernels", R"({"kernel_id": ")" + group_.kernel + R"("})");
    auto again = connect(group_.kernel, "s2");
    again.execute("m2");
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m2"));
    advance(milliseconds(9'000));
    EXPECT_TRUE(link_.take<cluster::Restart>().empty());
}

TEST_F(ParkedKernels, WithoutAMajorityNoInterruptIsPromised) {
    auto client = connect(group_.kernel, "s1");
    lose("h2");
    lose("h3");
    client.execute("m1");
    const auto answer = rest_later("POST", "/api/kernels/" + group_.kernel + "/interrupt");
    advance(milliseconds(9'000));
    EXPECT_EQ(0, answer->status);  // most absences are over by then
    advance(milliseconds(2'000));
    EXPECT_EQ(503, answer->status);
    EXPECT_THAT(answer->body, HasSubstr("2 of the 3 hosts"));
    EXPECT_THAT(answer->body, HasSubstr("reached no cell"));
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());
}

TEST_F(ParkedKernels, ACellThatWaitsForHostsSaysSoUntilItBegins) {
    auto client = connect(group_.kernel, "s1");
    client.execute("m1");
    client.execute("m2");
    lose("h2");
    lose("h3");
    advance(milliseconds(2'000));
    EXPECT_THAT(client.take(), IsEmpty());
    advance(milliseconds(2'000));
    EXPECT_THAT(client.take(), ElementsAre(::testing::StartsWith("iopub stream [NotebookOS] This "
                                                                 "cell waits: 2 of its 3")));
    up("h2");
    report(group_);
    started(group_, "h1", "s1", "m1");
    EXPECT_THAT(client.take(), ElementsAre("iopub status busy < m1", "iopub clear_output < m1"));
}

class RestartWithoutAMajority : public ParkedKernels {
protected:
    void restart() {
        gateway_->handle({.method = "POST",
                          .target = "/api/kernels/" + group_.kernel + "/restart",
                          .headers = {{"authorization", "token secret"}},
                          .body = ""},
                         [this](jupyter::HttpResponse response) { answer_ = std::move(response); });
    }
    jupyter::HttpResponse answer_{.status = 0, .content_type = {}, .headers = {}, .body = {}};
};

TEST_F(RestartWithoutAMajority, IsRefusedInTimeAndNotDoneLater) {
    lose("h2");
    lose("h3");
    link_.sent.clear();
    restart();
    advance(milliseconds(7'500));
    EXPECT_EQ(0, answer_.status);
    advance(milliseconds(1'000));
    EXPECT_EQ(503, answer_.status);
    EXPECT_THAT(answer_.body, HasSubstr("2 of the 3 hosts"));
    EXPECT_THAT(answer_.body, HasSubstr("it was not restarted"));
    up("h2");
    report(group_);
    advance(milliseconds(40'000));
    EXPECT_TRUE(link_.take<cluster::Restart>().empty());
    EXPECT_EQ("idle", jupyter::string_field(rest("GET", "/api/kernels/" + group_.kernel).body,
                                            "execution_state"));
}

TEST_F(RestartWithoutAMajority, AHiccupIsWaitedFor) {
    lose("h2", HostState::kDown);
    lose("h3", HostState::kDown);
    link_.sent.clear();
    restart();
    advance(milliseconds(3'000));
    EXPECT_TRUE(link_.take<cluster::Restart>().empty());
    up("h2");
    report(group_);
    advance(milliseconds(100));
    const auto sent = link_.take<cluster::Restart>();
    ASSERT_EQ(1U, sent.size());
    tell(sent[0].first, cluster::Reply{.request = sent[0].second.request});
    EXPECT_EQ(200, answer_.status);
}

}  // namespace
}  // namespace nbos::gateway
