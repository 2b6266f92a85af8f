// Comms when the interpreter that they live in is lost, replaced or restarted.
#include <gmock/gmock.h>

#include "gateway/open_comms.h"
#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::ElementsAre;
using testing::FakeClient;
using testing::GatewayHarness;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::milliseconds;

class Comms : public GatewayHarness {
protected:
    void SetUp() override {
        all_up();
        group_ = running_kernel();
        for (auto& replica : group_.replicas) {
            replica.process = replica.host + "p";
        }
        report(group_);
        client_ = connect(group_.kernel, "s1");
        open("c1");
        open("c2");
        client_.take();
    }
    // By a cell on h1 that goes on.
    void open(const std::string& id) {
        if (!cell_) {
            client_.execute("m1");
            started(group_, "h1", "s1", "m1");
            cell_ = true;
        }
        output(group_, "h1", said("iopub", "comm_open", "o-" + id, "s1", "m1", content(id)));
    }
    static std::string content(const std::string& id) {
        return R"({"comm_id": ")" + id + R"(", "data": {}})";
    }
    void finish() {
        tell("h1", end_of(group_, "s1", "m1"));
        client_.take();
    }
    void report_as(const std::string& host, const std::string& process,
                   const std::string& interpreter = "ready") {
        for (auto& replica : group_.replicas) {
            if (replica.host == host) {
                replica.process = process;
                replica.interpreter = interpreter;
            }
        }
        report(group_);
    }
    // The ids of the comms that the client was told are closed.
    static std::vector<std::string> closed(FakeClient& client) {
        std::vector<std::string> ids;
        for (const auto& message : client.socket->messages) {
            if (jupyter::parse_header(message.header)->msg_type == "comm_close") {
                ids.push_back(jupyter::string_field(message.content, "comm_id"));
            }
        }
        return ids;
    }
    Group group_;
    FakeClient client_;
    bool cell_ = false;
};

TEST_F(Comms, AreClosedWhenTheirProcessIsAnotherAndTheNextCellSaysSo) {
    finish();
    auto away = connect(group_.kernel, "s2");
    away.drop();
    report_as("h1", "", "starting");  // it has ended; a new one comes
    EXPECT_THAT(closed(client_), IsEmpty());
    report_as("h1", "h1q");
    EXPECT_THAT(closed(client_), ElementsAre("c1", "c2"));
    auto back = connect(group_.kernel, "s2");
    EXPECT_THAT(closed(back), ElementsAre("c1", "c2"));  // kept for it meanwhile
    client_.take();
    client_.execute("m2");
    started(group_, "h1", "s1", "m2", 6);
    const auto said = client_.take();
    ASSERT_EQ(2U, said.size());
    EXPECT_THAT(said[1], HasSubstr("2 comms): their Python process on host h1 was lost"));
    EXPECT_THAT(said[1], HasSubstr("< m2"));
}

TEST_F(Comms, AreClosedWhenTheNextCellRunsElsewhere) {
    finish();
    client_.execute("m2");
    started(group_, "h2", "s1", "m2", 6);
    EXPECT_THAT(closed(client_), ElementsAre("c1", "c2"));
    EXPECT_THAT(client_.take().back(), HasSubstr("the kernel went on at host h2"));
    // The truth from here on: what h2 opens is open.
    output(group_, "h2", said("iopub", "comm_open", "o9", "s1", "m2", content("c9")), 6);
    client_.take();
    report_as("h2", "h2q");
    EXPECT_THAT(closed(client_), ElementsAre("c9"));
}

TEST_F(Comms, OutliveTheirAgentButNotTheirHost) {
    finish();
    lose("h1", HostState::kRefused);
    advance(milliseconds(3'000));
    up("h1");
    report_as("h1", "h1p");
    advance(milliseconds(6'000));
    EXPECT_THAT(closed(client_), IsEmpty());
    lose("h1", HostState::kRefused);
    advance(milliseconds(6'000));
    EXPECT_THAT(closed(client_), ElementsAre("c1", "c2"));
}

TEST_F(Comms, ARestartClosesThemWithoutANotice) {
    finish();
    group_.incarnation = 1;
    report_as("h1", "h1q");
    EXPECT_THAT(closed(client_), ElementsAre("c1", "c2"));
    client_.take();
    client_.execute("m2");
    started(group_, "h1", "s1", "m2", 6);
    EXPECT_THAT(client_.take(), ElementsAre("iopub status busy < m2"));
}

TEST_F(Comms, ClosedOnesAreForgottenAndClientsOpenSomeToo) {
    output(group_, "h1", said("iopub", "comm_close", "x1", "s1", "m1", content("c1")));
    finish();
    client_.send("shell", "comm_open", "q1", content("c3"));
    client_.send("shell", "comm_close", "q2", content("c2"));
    client_.take();
    report_as("h1", "h1q");
    EXPECT_THAT(closed(client_), ElementsAre("c3"));
}

TEST_F(Comms, AGatewayThatHasJustStartedLearnsThemFromTheAnswerToAClient) {
    finish();
    restart_gateway();
    all_up();
    report(group_);
    auto client = connect(group_.kernel, "s3");
    client.send("shell", "comm_info_request", "q1");
    spoken(group_, "h1",
           said("shell", "comm_info_reply", "r1", "s3", "q1",
                R"({"status": "ok", "comms": {"c1": {"target_name": "jupyter.widget"}}})"));
    client.take();
    report_as("h1", "h1q");
    EXPECT_THAT(closed(client), ElementsAre("c1"));
}

TEST_F(Comms, AMessageToOneThatIsGoneGetsItsBusyAndIdle) {
    finish();
    client_.send("shell", "comm_msg", "q1", content("c1"));  // sent to h1, not begun there
    lose("h1", HostState::kRefused);
    EXPECT_THAT(client_.take(), ElementsAre("iopub status busy < q1", "iopub status idle < q1"));
    advance(milliseconds(6'000));
    client_.take();
    link_.sent.clear();
    client_.send("shell", "comm_msg", "q2", content("c1"));
    EXPECT_EQ(1U, link_.take<cluster::ClientMessage>().size());  // the interpreter says its pair
    lose("h2");
    EXPECT_THAT(client_.take(), ElementsAre("iopub status busy < q2", "iopub status idle < q2"));
}

TEST(OpenComms, AreBounded) {
    OpenComms comms;
    const OpenComms::Home home{HostId{"h1"}, "p"};
    for (std::size_t n = 0; n < kOpenCommsMax + 3; ++n) {
        EXPECT_TRUE(comms.used("c" + std::to_string(n), home).empty());
    }
    comms.used(std::string(kCommIdBytesMax + 1, 'x'), home);
    EXPECT_EQ(kOpenCommsMax, comms.take_all().size());
    EXPECT_FALSE(comms.home());
}

}  // namespace
}  // namespace nbos::gateway
