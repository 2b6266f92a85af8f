#include "cli/agent_warden.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "io/listener.h"

namespace nbos::cli {
namespace {

using std::chrono::steady_clock;

constexpr int kQuickCrashesMax = 5;        // in a row
constexpr std::chrono::seconds kQuick{2};  // an agent that lived longer did not crash at its start
constexpr std::chrono::milliseconds kRestartPause{50};  // times the quick crashes

class RuntimeDirectory {
public:
    RuntimeDirectory() {
        const char* base = getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): at start-up
        std::string path = std::string(base != nullptr ? base : "/tmp") + "/nbos-XXXXXX";
        if (path.size() > 60) {
            path = "/tmp/nbos-XXXXXX";
        }
        path_ = mkdtemp(path.data()) != nullptr ? path : std::string();
    }
    ~RuntimeDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    RuntimeDirectory(const RuntimeDirectory&) = delete;
    RuntimeDirectory& operator=(const RuntimeDirectory&) = delete;
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

sigset_t watched_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) {
        sigaddset(&signals, signal);
    }
    return signals;
}

pid_t start(const std::function<int(const AgentGround&)>& agent, const AgentGround& ground,
            int lifeline_end) {
    const pid_t warden = getpid();
    const pid_t child = fork();
    if (child != 0) {
        return child;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != warden) {
        _exit(1);  // it died before the line above
    }
    prctl(PR_SET_NAME, "nbos-agent");
    close(lifeline_end);
    const sigset_t signals = watched_signals();
    sigprocmask(SIG_UNBLOCK, &signals, nullptr);
    std::exit(agent(ground));  // NOLINT(concurrency-mt-unsafe)
}

// The status with which the agent has ended; a request to stop is handed on to it.
int wait_for(pid_t agent, bool& asked_to_stop) {
    const sigset_t signals = watched_signals();
    for (;;) {
        int status = 0;
        for (pid_t ended = waitpid(-1, &status, WNOHANG); ended > 0;
             ended = waitpid(-1, &status, WNOHANG)) {
            if (ended == agent) {
                return status;
            }
        }
        int signal = 0;
        sigwait(&signals, &signal);
        if (signal != SIGCHLD) {
            asked_to_stop = true;
            kill(agent, SIGTERM);
        }
    }
}

std::string why_given_up() {
    return fmt::format(
        ", {} times in a row within {} s of its start; it is given up, and its interpreters end",
        kQuickCrashesMax, kQuick.count());
}

}  // namespace

int guard_agent(const std::string& listen, const std::function<int(const AgentGround&)>& agent) {
    const RuntimeDirectory directory;
    const auto listener = io::listen_on(listen);
    std::array<int, 2> lifeline{};
    if (!listener || directory.path().empty() || pipe2(lifeline.data(), O_CLOEXEC) != 0) {
        log_error("agent", "{}",
                  listener ? "cannot make a directory for sockets or a pipe: " +
                                 std::string(std::strerror(errno))  // NOLINT(concurrency-mt-unsafe)
                           : listener.error().what);
        return 1;
    }
    const AgentGround ground{
        .directory = directory.path(), .listener = *listener, .lifeline = lifeline[0]};
    const sigset_t signals = watched_signals();
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // interpreters whose zygote has ended come here
    int quick_crashes = 0;
    bool asked_to_stop = false;
    for (;;) {
        const auto started = steady_clock::now();
        const pid_t child = start(agent, ground, lifeline[1]);
        if (child < 0) {
            log_error("agent", "cannot fork");
            return 1;
        }
        const int status = wait_for(child, asked_to_stop);
        if (WIFEXITED(status)) {
            return WEXITSTATUS(status);
        }
        const int signal = WTERMSIG(status);
        quick_crashes = steady_clock::now() - started < kQuick ? quick_crashes + 1 : 0;
        if (asked_to_stop || quick_crashes == kQuickCrashesMax) {
            log_error("agent", "the agent was killed by signal {}{}", signal,
                      asked_to_stop ? std::string() : why_given_up());
            return 128 + signal;
        }
        log_warning("agent", "the agent was killed by signal {}; starting it again", signal);
        std::this_thread::sleep_for(kRestartPause * quick_crashes);
    }
}

}  // namespace nbos::cli
