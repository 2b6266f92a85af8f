#include "io/http_client.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace nbos::io {
namespace {

namespace http = boost::beast::http;
using std::chrono::steady_clock;

constexpr std::uint64_t kBodyBytesMax = 64U << 20U;

struct Socket {
    explicit Socket(int descriptor) : fd(descriptor) {}
    ~Socket() { close(fd); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    int fd;
};

Error failed(Errc code, std::string what) { return {code, Certainty::kUnknown, std::move(what)}; }

// False when the time is over.
bool wait_for(int fd, short events, steady_clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now());
    pollfd poller{.fd = fd, .events = events, .revents = 0};
    return left.count() > 0 && poll(&poller, 1, static_cast<int>(left.count())) > 0;
}

Result<sockaddr_in> resolve(const HttpUrl& target) {
    sockaddr_in address{};
    if (inet_pton(AF_INET, target.host.c_str(), &address.sin_addr) != 1) {
        addrinfo wanted{};
        wanted.ai_family = AF_INET;
        wanted.ai_socktype = SOCK_STREAM;
        addrinfo* list = nullptr;
        if (const int code = getaddrinfo(target.host.c_str(), nullptr, &wanted, &list); code != 0) {
            return failed(Errc::kIo, fmt::format("cannot find the host {}: {}", target.host,
                                                 gai_strerror(code)));
        }
        std::memcpy(&address, list->ai_addr, sizeof address);
        freeaddrinfo(list);
    }
    address.sin_family = AF_INET;
    address.sin_port = htons(target.port);
    return address;
}

Status connect_to(const Socket& socket, const HttpUrl& target, steady_clock::time_point deadline) {
    const auto found = resolve(target);
    if (!found) {
        return found.error();
    }
    const auto& address = *found;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API
    if (connect(socket.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno != EINPROGRESS) {
        return failed(Errc::kIo, fmt::format("connect: {}", std::strerror(errno)));
    }
    if (!wait_for(socket.fd, POLLOUT, deadline)) {
        return failed(Errc::kTimeout, "no connection in time");
    }
    int code = 0;
    socklen_t size = sizeof code;
    getsockopt(socket.fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (code != 0) {
        return failed(Errc::kIo, code == ECONNREFUSED
                                     ? "connection refused: nothing listens there"
                                     : fmt::format("connect: {}", std::strerror(code)));
    }
    return ok();
}

std::string request_text(const HttpCall& call, const HttpUrl& target) {
    std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n",
                                   call.method, target.path, target.host, target.port);
    if (!call.token.empty()) {
        text += "Authorization: token " + call.token + "\r\n";
    }
    if (!call.body.empty() || call.method == "POST") {
        text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n",
                            call.body.size());
    }
    return text + "\r\n" + call.body;
}

Status send_all(const Socket& socket, std::string_view text, steady_clock::time_point deadline) {
    while (!text.empty()) {
        if (!wait_for(socket.fd, POLLOUT, deadline)) {
            return failed(Errc::kTimeout, "the request was not taken in time");
        }
        const auto sent = send(socket.fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return failed(Errc::kIo, fmt::format("send: {}", std::strerror(errno)));
        }
        text.remove_prefix(sent > 0 ? static_cast<std::size_t>(sent) : 0);
    }
    return ok();
}

// The parser wants unread bytes given again; `pending` holds them.
Result<HttpAnswer> receive(const Socket& socket, steady_clock::time_point deadline) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(kBodyBytesMax);
    parser.eager(true);
    std::string pending;
    std::array<char, 16384> chunk{};
    boost::system::error_code error;
    while (!parser.is_done()) {
        if (!wait_for(socket.fd, POLLIN, deadline)) {
            return failed(Errc::kTimeout, "no answer in time");
        }
        const auto got = recv(socket.fd, chunk.data(), chunk.size(), 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (got < 0) {
            return failed(Errc::kIo, fmt::format("receive: {}", std::strerror(errno)));
        }
        if (got == 0) {
            parser.put_eof(error);
            if (error || !parser.is_done()) {
                return failed(Errc::kIo, "the connection closed before the whole answer");
            }
            break;
        }
        pending.append(chunk.data(), static_cast<std::size_t>(got));
        const auto used = parser.put(boost::asio::buffer(pending), error);
        pending.erase(0, used);
        if (error && error != http::error::need_more) {
            return failed(Errc::kInvalid, "the answer is no HTTP: " + error.message());
        }
    }
    return HttpAnswer{.status = static_cast<int>(parser.get().result_int()),
                      .body = std::move(parser.get().body())};
}

}  // namespace

std::optional<HttpUrl> parse_http_url(std::string_view url) {
    constexpr std::string_view kScheme = "http://";
    if (!url.starts_with(kScheme)) {
        return std::nullopt;
    }
    url.remove_prefix(kScheme.size());
    HttpUrl parsed;
    const auto slash = url.find('/');
    parsed.path = slash == std::string_view::npos ? "/" : std::string(url.substr(slash));
    auto authority = url.substr(0, slash);
    if (const auto colon = authority.find(':'); colon != std::string_view::npos) {
        const auto digits = authority.substr(colon + 1);
        const auto number =
            std::from_chars(digits.data(), digits.data() + digits.size(), parsed.port);
        if (number.ec != std::errc() || number.ptr != digits.data() + digits.size()) {
            return std::nullopt;
        }
        authority = authority.substr(0, colon);
    }
    parsed.host = authority == "localhost" ? "127.0.0.1" : std::string(authority);
    return parsed.host.empty() ? std::nullopt : std::optional(std::move(parsed));
}

Result<HttpAnswer> http_call(const HttpCall& call) {
    const auto target = parse_http_url(call.url);
    if (!target) {
        return failed(Errc::kInvalid, call.url + " is no http://HOST:PORT/PATH");
    }
    const auto deadline = steady_clock::now() + call.limit;
    const Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.fd < 0) {
        return failed(Errc::kIo, fmt::format("socket: {}", std::strerror(errno)));
    }
    if (auto connected = connect_to(socket, *target, deadline); !connected) {
        auto error = std::move(connected).error();
        error.certainty = Certainty::kDidNotHappen;
        return std::move(error).in(call.url);
    }
    if (auto sent = send_all(socket, request_text(call, *target), deadline); !sent) {
        return std::move(sent).error().in(call.url);
    }
    auto answer = receive(socket, deadline);
    return answer ? std::move(answer) : std::move(answer).error().in(call.url);
}

}  // namespace nbos::io
