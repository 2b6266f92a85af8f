#include "local/control.h"

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace nbos::local {
namespace {

constexpr std::size_t kLineBytesMax = 64U << 10U;
constexpr std::chrono::milliseconds kPeerLimit{2000};

Error failed(Errc code, const std::string& what) {
    return {code, Certainty::kUnknown,
            fmt::format("{}: {}", what, std::strerror(errno))};  // NOLINT(concurrency-mt-unsafe)
}

std::optional<sockaddr_un> address_of(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.size() >= sizeof address.sun_path) {
        return std::nullopt;
    }
    std::memcpy(static_cast<char*>(address.sun_path), text.c_str(), text.size() + 1);
    return address;
}

Error too_long(const std::filesystem::path& path) {
    return {
        Errc::kInvalid, Certainty::kDidNotHappen,
        fmt::format("{} is too long for a socket's name; choose a data directory with a shorter "
                    "path (--data)",
                    path.string())};
}

void set_limit(int fd, std::chrono::milliseconds limit) {
    timeval time{.tv_sec = limit.count() / 1000, .tv_usec = (limit.count() % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

bool send_line(int fd, std::string line) {
    line += '\n';
    return send(fd, line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size());
}

std::optional<std::string> receive_line(int fd) {
    std::string line;
    std::array<char, 4096> chunk{};
    while (line.size() < kLineBytesMax) {
        const auto got = recv(fd, chunk.data(), chunk.size(), 0);
        if (got <= 0) {
            return std::nullopt;
        }
        line.append(chunk.data(), static_cast<std::size_t>(got));
        if (const auto end = line.find('\n'); end != std::string::npos) {
            return line.substr(0, end);
        }
    }
    return std::nullopt;
}

}  // namespace

Result<ControlServer> ControlServer::open(const std::filesystem::path& socket) {
    const auto address = address_of(socket);
    if (!address) {
        return too_long(socket);
    }
    std::error_code ignored;
    std::filesystem::remove(socket, ignored);  // of a supervisor that was killed
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const mode_t before = umask(0177);
    const bool bound =
        fd >= 0 &&
        // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API
        bind(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0 &&
        listen(fd, 16) == 0;
    umask(before);
    if (!bound) {
        auto error = failed(Errc::kIo, "listen on " + socket.string());
        close(fd);
        return error;
    }
    return ControlServer(fd);
}

ControlServer::ControlServer(ControlServer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

ControlServer& ControlServer::operator=(ControlServer&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

ControlServer::~ControlServer() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

void ControlServer::serve_one(const std::function<std::string(std::string_view)>& answer) {
    const int peer = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (peer < 0) {
        return;
    }
    set_limit(peer, kPeerLimit);
    if (const auto line = receive_line(peer)) {
        send_line(peer, answer(*line));
    }
    close(peer);
}

Result<std::string> control_call(const std::filesystem::path& socket, std::string_view request,
                                 std::chrono::milliseconds limit) {
    const auto address = address_of(socket);
    if (!address) {
        return too_long(socket);
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_limit(fd, limit);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API
    if (connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
        auto error = failed(Errc::kNotFound, "no supervisor answers at " + socket.string());
        close(fd);
        return error;
    }
    std::optional<std::string> line;
    if (send_line(fd, std::string(request))) {
        line = receive_line(fd);
    }
    close(fd);
    if (!line) {
        return Error{Errc::kTimeout, Certainty::kUnknown, "the supervisor did not answer in time"};
    }
    return *line;
}

}  // namespace nbos::local
