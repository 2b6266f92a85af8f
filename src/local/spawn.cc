#include "local/spawn.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace nbos::local {
namespace {

constexpr int kCannotStart = 127;

Error io_error(const std::string& what) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    return {Errc::kIo, Certainty::kDidNotHappen, fmt::format("{}: {}", what, std::strerror(errno))};
}

// For what goes wrong after the fork: the log is all there is.
[[noreturn]] void stop(const std::string& what) {
    const std::string line = io_error(what).what + "\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
    _exit(kCannotStart);
}

// As fork(), with namespaces.
pid_t fork_with(unsigned long flags) {
    return static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
}

void use_log(const std::filesystem::path& log) {
    const int in = open("/dev/null", O_RDONLY);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0) {
        stop("open " + log.string());
    }
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    close_range(STDERR_FILENO + 1, UINT_MAX, 0);
}

void unblock_signals() {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::signal(SIGPIPE, SIG_DFL);
}

[[noreturn]] void become(const Program& program) {
    unblock_signals();
    for (const auto& [name, value] : program.env) {
        setenv(name.c_str(), value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): after a fork
    }
    if (chdir(program.directory.c_str()) != 0) {
        stop("enter " + program.directory.string());
    }
    std::vector<char*> argv;
    argv.reserve(program.argv.size() + 1);
    for (const auto& argument : program.argv) {
        argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    stop("start " + program.argv[0]);
}

// Inside the new namespaces: /proc must show them, and nothing mounted here may be seen outside.
bool enter_namespaces(const std::filesystem::path& private_tmp) {
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
        return false;
    }
    return private_tmp.empty() ||
           mount(private_tmp.c_str(), "/tmp", nullptr, MS_BIND | MS_REC, nullptr) == 0;
}

// Reaps until the agent has ended; hands SIGTERM on to it. Returns the agent's exit code.
int watch(pid_t agent, const sigset_t& signals) {
    for (;;) {
        int signal = 0;
        sigwait(&signals, &signal);
        if (signal != SIGCHLD) {
            kill(agent, SIGTERM);
            continue;
        }
        int status = 0;
        while (const pid_t ended = waitpid(-1, &status, WNOHANG)) {
            if (ended == agent) {
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            }
            if (ended < 0) {
                break;
            }
        }
    }
}

// Without a pid namespace nobody else would.
void end_what_is_left() {
    const ProcessId self = identify(getpid());
    for (auto below = descendants(self); !below.empty(); below = descendants(self)) {
        for (const auto& process : below) {
            kill(process.pid, SIGKILL);
        }
        usleep(2000);
        while (waitpid(-1, nullptr, WNOHANG) > 0) {
        }
    }
}

[[noreturn]] void be_host(const Program& agent, const HostShell& shell) {
    setsid();
    use_log(agent.log);
    prctl(PR_SET_NAME, "nbos-host");
    if (shell.isolated) {
        if (!enter_namespaces(shell.private_tmp)) {
            stop("set up the host's namespaces");
        }
    } else {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    }
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) {
        sigaddset(&signals, signal);
    }
    sigprocmask(SIG_SETMASK, &signals, nullptr);
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // somebody may kill the init by hand
        become(agent);
    }
    if (child < 0) {
        stop("fork");
    }
    const int code = watch(child, signals);
    if (!shell.isolated) {
        end_what_is_left();
    }
    _exit(code);
}

}  // namespace

bool can_isolate() {
    const pid_t child = fork_with(CLONE_NEWPID | CLONE_NEWNS);
    if (child == 0) {
        _exit(enter_namespaces({}) ? 0 : 1);
    }
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

Result<ProcessId> spawn(const Program& program) {
    const pid_t child = fork();
    if (child == 0) {
        setsid();
        use_log(program.log);
        become(program);
    }
    return child > 0 ? Result<ProcessId>(identify(child)) : io_error("start " + program.argv[0]);
}

Result<ProcessId> spawn_host(const Program& agent, const HostShell& shell) {
    const pid_t child = shell.isolated ? fork_with(CLONE_NEWPID | CLONE_NEWNS) : fork_with(0);
    if (child == 0) {
        be_host(agent, shell);
    }
    return child > 0 ? Result<ProcessId>(identify(child)) : io_error("start a host");
}

}  // namespace nbos::local
