#include "cli/relay_guardian.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/log.h"

namespace nbos::cli {
namespace {

constexpr std::chrono::seconds kSuccessorWithin{15};
constexpr std::chrono::seconds kPause{5};
constexpr int kAttempts = 24;  // then the gateway is not coming back

// What the relay said last: the kernel to guard, or nothing.
std::string last_word(int pipe) {
    std::string line;
    std::string kernel;
    std::array<char, 128> chunk{};
    while (true) {
        const auto got = read(pipe, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return kernel;
        }
        line.append(chunk.data(), static_cast<std::size_t>(got));
        for (auto end = line.find('\n'); end != std::string::npos; end = line.find('\n')) {
            kernel = line.substr(0, end);
            line.erase(0, end + 1);
        }
    }
}

void delete_unless_used(const RelayGateway& gateway, const std::string& kernel) {
    std::this_thread::sleep_for(kSuccessorWithin);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const auto connections = gateway.connections(kernel);
        if (connections ? *connections > 0 || gateway.remove(kernel)
                        : connections.error().code == Errc::kNotFound) {
            return;
        }
        std::this_thread::sleep_for(kPause);
    }
}

[[noreturn]] void stand_guard(const RelayGateway& gateway, int pipe) {
    setsid();  // a signal to the relay's process group is not for us
    prctl(PR_SET_NAME, "nbos-guardian");
    // Whoever reads the relay's output must see its end.
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        dup2(nothing, fd);
    }
    dup2(pipe, STDERR_FILENO + 1);
    close_range(STDERR_FILENO + 2, ~0U, 0);
    if (const auto kernel = last_word(STDERR_FILENO + 1); !kernel.empty()) {
        delete_unless_used(gateway, kernel);
    }
    std::_Exit(0);
}

}  // namespace

RelayGuardian::RelayGuardian(const RelayGateway& gateway) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
        log_warning("relay", "no pipe left: a kernel may outlive this relay if it is killed");
        return;
    }
    const auto child = fork();
    if (child == 0) {
        close(ends[1]);
        stand_guard(gateway, ends[0]);
    }
    close(ends[0]);
    pipe_ = ends[1];
    if (child < 0) {
        log_warning("relay", "no process left: a kernel may outlive this relay if it is killed");
    }
}

RelayGuardian::~RelayGuardian() {
    if (pipe_ >= 0) {
        close(pipe_);
    }
}

void RelayGuardian::guard(const std::string& kernel_id) { say(kernel_id + "\n"); }

void RelayGuardian::dismiss() { say("\n"); }

void RelayGuardian::say(const std::string& line) const {
    if (pipe_ >= 0 && write(pipe_, line.data(), line.size()) < 0) {
        log_warning("relay", "the guardian process is gone");
    }
}

}  // namespace nbos::cli
