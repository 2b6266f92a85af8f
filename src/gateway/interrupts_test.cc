// Interrupts that clients of one kernel ask for: where they go, and what they must not hit.
#include <gmock/gmock.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::milliseconds;

using Interrupts = testing::RunningKernel;

TEST_F(Interrupts, AnInterruptRequestGoesToTheExecutor) {
    group_.executor = 3;
    group_.replicas[2].interpreter = "running";
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.send("control", "interrupt_request", "i1");
    const auto interrupts = link_.take<cluster::Interrupt>();
    ASSERT_EQ(1U, interrupts.size());
    EXPECT_EQ("h3", interrupts[0].first);
    tell("h3", cluster::Reply{.request = interrupts[0].second.request});
    EXPECT_THAT(client.take(),
                ElementsAre("iopub status busy < i1", "control interrupt_reply ok < i1",
                            "iopub status idle < i1"));
}

TEST_F(Interrupts, WhileAnInterruptNamesNoCellNewOnesWait) {
    for (const auto* host : {"h1", "h2", "h3"}) {
        lose(host);
    }
    for (const auto* host : {"h1", "h2", "h3"}) {
        up(host);  // and none has said yet what it has
    }
    auto client = connect(group_.kernel, "s1");
    client.send("control", "interrupt_request", "i1");
    client.execute("m1");
    report(group_);
    advance(milliseconds(1'000));
    const auto asked = link_.take<cluster::Interrupt>();
    ASSERT_FALSE(asked.empty());
    EXPECT_THAT(cells_sent(), IsEmpty());
    tell(asked.back().first, cluster::Reply{.request = asked.back().second.request});
    advance(milliseconds(100));
    EXPECT_THAT(cells_sent(), ElementsAre("h1 m1"));
}

TEST_F(Interrupts, AnInterruptReachesACallbackWhereItRuns) {
    group_.executor = 2;
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.send("control", "interrupt_request", "i1");
    const auto sent = link_.take<cluster::InterruptCallback>();
    ASSERT_EQ(1U, sent.size());
    EXPECT_EQ("h2", sent[0].first);
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());  // there is no cell
}

}  // namespace
}  // namespace nbos::gateway
