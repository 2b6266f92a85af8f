// What clients are told of cells that a restart of their kernel has cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;

using Restarts = testing::RunningKernel;

std::vector<std::string> speakers(const std::vector<jupyter::Message>& messages) {
    std::vector<std::string> sessions;
    for (const auto& message : messages) {
        sessions.push_back(jupyter::string_field(message.header, "session"));
    }
    return sessions;
}

// Front ends drop what comes from an incarnation that they have left, and count per incarnation.
TEST_F(Restarts, ACellOfTheTimeBeforeIsAnsweredInTheSessionThatItRanIn) {
    group_.incarnation = 1;
    group_.session = "the-next-session";
    report(group_);
    auto client = connect(group_.kernel, "s1");
    client.take();
    output(group_, "h2",
           said("iopub", "execute_input", "i1", "s1", "m1", R"({"execution_count": 6})"));
    auto end = end_of(group_, "s1", "m1");
    end.reply.reset();
    end.ending = replica::Ending::kReset;
    tell("h2", end);
    ASSERT_THAT(client.socket->messages, Not(IsEmpty()));
    EXPECT_THAT(speakers(client.socket->messages), Each("kernel-session"));
}

}  // namespace
}  // namespace nbos::gateway
