#include "cli/bench_processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>

namespace nbos::cli {

BenchProcesses::~BenchProcesses() {
    for (std::size_t n = 0; n < children_.size(); ++n) {
        kill(n);
    }
}

void BenchProcesses::fork(const Body& body) {
    std::array<int, 2> down{};
    std::array<int, 2> up{};
    if (pipe2(down.data(), O_CLOEXEC) != 0 || pipe2(up.data(), O_CLOEXEC) != 0) {
        return;
    }
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
        for (const auto& other : children_) {
            close(other.to_child);
            close(other.from_child);
        }
        close(down[1]);
        close(up[0]);
        _exit(body(down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    children_.push_back({.pid = pid, .to_child = down[1], .from_child = up[0]});
}

void BenchProcesses::kill(std::size_t n) {
    auto& child = children_[n];
    if (child.pid <= 0) {
        return;
    }
    close(child.to_child);
    close(child.from_child);
    ::kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
    child = {};
}

bool BenchProcesses::write(std::size_t n, char command) {
    return ::write(children_[n].to_child, &command, 1) == 1;
}

bool BenchProcesses::read(std::size_t n, void* data, std::size_t size) {
    char* at = static_cast<char*>(data);
    while (size > 0) {
        const ssize_t got = ::read(children_[n].from_child, at, size);
        if (got <= 0) {
            return false;
        }
        at += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

bool write_all(int fd, const void* data, std::size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size > 0) {
        const ssize_t written = ::write(fd, at, size);
        if (written <= 0) {
            return false;
        }
        at += written;
        size -= static_cast<std::size_t>(written);
    }
    return true;
}

std::string free_loopback_address() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    close(fd);
    return fmt::format("127.0.0.1:{}", ntohs(address.sin_port));
}

}  // namespace nbos::cli
