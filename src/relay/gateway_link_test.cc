#include "relay/gateway_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace nbos::relay {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Link : public ::testing::Test, public Clock {
protected:
    Instant now() const override { return now_; }
    std::chrono::microseconds wall() const override { return {}; }

    std::vector<std::string> take() { return std::exchange(heard_, {}); }
    // Lets the pause that was asked for last pass.
    milliseconds pass() {
        const auto [pause, work] = std::exchange(pause_, {});
        now_ += pause;
        work();
        return pause;
    }

    Instant now_{};
    std::vector<std::string> heard_;
    std::pair<milliseconds, std::function<void()>> pause_;
    GatewayLink link_{
        {.first_pause = milliseconds(100),
         .pause_max = milliseconds(400),
         .reconnect_for = std::chrono::seconds(2)},
        {.clock = *this,
         .connect = [this] { heard_.emplace_back("connect"); },
         .ping = [this] { heard_.emplace_back("ping"); },
         .after = [this](auto delay, auto work) { pause_ = {delay, work}; },
         .opened = [this] { heard_.emplace_back("opened"); },
         .lost = [this] { heard_.emplace_back("lost"); },
         .gave_up = [this](const auto& why) { heard_.push_back("gave up: " + why); }}};
};

TEST_F(Link, IsOpenWhenThePingIsAnswered) {
    link_.start();
    link_.connected();
    EXPECT_THAT(take(), ElementsAre("connect", "ping"));
    link_.pong();
    EXPECT_THAT(take(), ElementsAre("opened"));
    link_.pong();  // of a ping that keeps the connection alive
    EXPECT_THAT(take(), IsEmpty());
}

TEST_F(Link, TriesAgainWithGrowingPauses) {
    link_.start();
    std::vector<milliseconds> pauses;
    for (int i = 0; i < 4; ++i) {
        link_.closed("refused");
        pauses.push_back(pass());
    }
    EXPECT_THAT(pauses, ElementsAre(milliseconds(100), milliseconds(200), milliseconds(400),
                                    milliseconds(400)));
    EXPECT_THAT(take(), ElementsAre("connect", "connect", "connect", "connect", "connect"));
}

TEST_F(Link, CountsItsTimeFromTheLossAndBeginsWithShortPausesAgain) {
    link_.start();
    link_.connected();
    link_.pong();
    now_ += std::chrono::hours(1);
    take();
    link_.closed("reset");
    EXPECT_EQ(pass(), milliseconds(100));
    EXPECT_THAT(take(), ElementsAre("lost", "connect"));
    link_.connected();
    link_.closed("reset");  // before it was open: no second loss
    pass();
    EXPECT_THAT(take(), ElementsAre("ping", "connect"));
}

TEST_F(Link, GivesUpAfterItsTime) {
    link_.start();
    link_.refused(503, "status 503");
    now_ += std::chrono::seconds(3);
    pass();
    take();
    link_.closed("connection refused");
    EXPECT_THAT(take(), ElementsAre(HasSubstr("did not come back within 2 s")));
    link_.closed("again");
    EXPECT_THAT(take(), IsEmpty());
}

TEST_F(Link, GivesUpAtOnceWhenTheKernelOrTheTokenIsRefused) {
    link_.start();
    take();
    link_.refused(404, "status 404");
    EXPECT_THAT(take(), ElementsAre(HasSubstr("does not exist")));
}

TEST_F(Link, IsQuietWhenStopped) {
    link_.start();
    link_.connected();
    link_.pong();
    take();
    link_.stop();
    link_.closed("closed with 1000");
    EXPECT_THAT(take(), IsEmpty());
    EXPECT_FALSE(pause_.second);
}

}  // namespace
}  // namespace nbos::relay
