#include "local/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nbos::local {
namespace {

// The port that was bound; nullopt when it cannot be.
std::optional<std::uint16_t> try_bind(const std::string& ip, std::uint16_t port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return std::nullopt;
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    // As servers do: connections of an earlier one that linger in TIME_WAIT do not matter.
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: the sockets API
    const bool bound = inet_pton(AF_INET, ip.c_str(), &address.sin_addr) == 1 &&
                       bind(fd, generic, size) == 0 && listen(fd, 1) == 0 &&
                       getsockname(fd, generic, &size) == 0;
    close(fd);
    return bound ? std::optional<std::uint16_t>(ntohs(address.sin_port)) : std::nullopt;
}

}  // namespace

bool can_listen(const std::string& ip, std::uint16_t port) {
    return try_bind(ip, port).has_value();
}

std::optional<std::uint16_t> unused_port(const std::string& ip) { return try_bind(ip, 0); }

}  // namespace nbos::local
