#include "io/event_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <vector>

namespace nbos::io {
namespace {

using namespace std::chrono_literals;

TEST(EventLoop, RunsPostedWorkOfAnyThreadInOrder) {
    EventLoop loop;
    std::vector<int> seen;
    std::thread other([&] {
        for (int i = 0; i < 100; ++i) {
            loop.post([&seen, i] { seen.push_back(i); });
        }
        loop.post([&] { loop.stop(); });
    });
    loop.run();
    other.join();
    ASSERT_EQ(seen.size(), 100U);
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST(EventLoop, AfterRunsNotBeforeItsTimeAndInTheOrderOfTimes) {
    EventLoop loop;
    const Instant start = loop.clock().now();
    std::vector<int> seen;
    loop.after(20ms, [&] {
        EXPECT_GE(loop.clock().now() - start, 20ms);
        seen.push_back(2);
        loop.stop();
    });
    loop.after(1ms, [&] { seen.push_back(1); });
    loop.run();
    EXPECT_EQ(seen, (std::vector{1, 2}));
}

TEST(EventLoop, ATerminationSignalReachesTheLoopEveryTime) {
    EventLoop loop;
    int seen = 0;
    loop.on_termination([&] {
        if (++seen == 2) {
            loop.stop();
        } else {
            loop.post([] { std::raise(SIGINT); });
        }
    });
    loop.post([] { std::raise(SIGTERM); });
    loop.run();
    EXPECT_EQ(seen, 2);
}

TEST(Random, UuidsAreVersionFourAndDiffer) {
    const Uuid id = random_uuid();
    EXPECT_EQ(id.str()[14], '4');
    EXPECT_NE(std::string("89ab").find(id.str()[19]), std::string::npos);
    EXPECT_NE(id, random_uuid());
}

}  // namespace
}  // namespace nbos::io
