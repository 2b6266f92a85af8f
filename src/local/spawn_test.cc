#include "local/spawn.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

#include "local/files.h"

namespace nbos::local {
namespace {

constexpr std::chrono::seconds kLimit{20};  // of a loaded machine

bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kLimit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

class Host : public ::testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        if (GetParam() && !can_isolate()) {
            GTEST_SKIP() << "this user may not make namespaces";
        }
        std::string path = ::testing::TempDir() + "nbos-host-XXXXXX";
        directory_ = mkdtemp(path.data());
    }
    void TearDown() override {
        if (host_.pid != 0) {
            kill_tree(host_);
            waitpid(host_.pid, nullptr, 0);
        }
        std::filesystem::remove_all(directory_);
    }

    void start(const std::string& script, const std::filesystem::path& tmp = {}) {
        const auto started = spawn_host({.argv = {"/bin/sh", "-c", script},
                                         .env = {{"WHERE", directory_.string()}},
                                         .directory = tmp.empty() ? directory_ : "/",
                                         .log = directory_ / "log"},
                                        {.isolated = GetParam(), .private_tmp = tmp});
        ASSERT_TRUE(started) << started.error().what;
        host_ = *started;
    }
    bool has(const char* name) const { return std::filesystem::exists(directory_ / name); }

    std::filesystem::path directory_;
    ProcessId host_;
};

// What a daemon does to get away from its parent: a session of its own, and an orphan's life.
constexpr const char* kWithRunaway =
    "(setsid sh -c 'touch runaway; while :; do sleep 0.05; date > alive; done' &) ; sleep 1000";

TEST_P(Host, KillingItLeavesNothingBehind) {
    start(kWithRunaway);
    ASSERT_TRUE(eventually([this] { return has("alive"); }));
    const auto below = descendants(host_);
    ASSERT_GE(below.size(), 2U);
    kill_tree(host_);
    ASSERT_TRUE(eventually([&] {
        for (const auto& process : below) {
            if (is_alive(process)) {
                return false;
            }
        }
        return true;
    }));
}

TEST_P(Host, EndsWithItsAgentAndTakesTheRestAlong) {
    start(
        "(setsid sh -c 'touch runaway; sleep 1000' &) ; while [ ! -e runaway ]; do sleep 0.01; "
        "done");
    int status = 0;
    ASSERT_EQ(waitpid(host_.pid, &status, 0), host_.pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(descendants(identify(getpid())).empty());
    host_ = {};
}

TEST_P(Host, HandsTerminationToTheAgentAndReturnsItsCode) {
    start("trap 'exit 7' TERM; touch ready; while :; do sleep 0.05; done");
    ASSERT_TRUE(eventually([this] { return has("ready"); }));
    send_signal(host_, SIGTERM);
    int status = 0;
    ASSERT_EQ(waitpid(host_.pid, &status, 0), host_.pid);
    EXPECT_EQ(WEXITSTATUS(status), 7);
    host_ = {};
}

TEST_P(Host, SaysInTheLogWhatWouldNotStart) {
    const auto started = spawn_host({.argv = {"/nonexistent/program"},
                                     .env = {},
                                     .directory = directory_,
                                     .log = directory_ / "log"},
                                    {.isolated = GetParam()});
    ASSERT_TRUE(started);
    int status = 0;
    ASSERT_EQ(waitpid(started->pid, &status, 0), started->pid);
    EXPECT_EQ(WEXITSTATUS(status), 127);
    EXPECT_NE(last_lines(directory_ / "log", 5).find("/nonexistent/program"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Host, Host, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Isolated" : "Plain"; });

class IsolatedHost : public Host {};

TEST_P(IsolatedHost, HasItsOwnTmp) {
    const auto tmp = directory_ / "tmp";
    ASSERT_TRUE(make_private_directory(tmp));
    start("touch /tmp/mine; sleep 1000", tmp);
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(tmp / "mine"); }));
}

INSTANTIATE_TEST_SUITE_P(Host, IsolatedHost, ::testing::Values(true));

TEST(Process, APidOfSomebodyElseIsNotTheProcess) {
    const ProcessId self = identify(getpid());
    EXPECT_TRUE(is_alive(self));
    EXPECT_FALSE(is_alive({self.pid, self.start + 1}));
    EXPECT_FALSE(is_alive({}));
}

}  // namespace
}  // namespace nbos::local
