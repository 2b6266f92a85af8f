// A blocking HTTP/1.1 client for the command line: one request, one connection, no redirects.
//
// Plain TCP to a cluster's gateway; not for the wide world.
//
// Threads  Any; a call blocks its own, at most for the time limit.
// Errors   kIo: nothing answered (the text says whether the connection was refused); kTimeout;
//          kInvalid: the URL or the answer is malformed. A status of 400 or more is no error here.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nbos::io {

struct HttpCall {
    std::string method = "GET";
    std::string url;    // http://HOST:PORT/PATH; HOST is a name or an IPv4 address
    std::string token;  // sent as `Authorization: token ...` unless empty
    std::string body;   // JSON, unless empty
    std::chrono::milliseconds limit{10'000};
};

struct HttpAnswer {
    int status = 0;
    std::string body;
};

struct HttpUrl {
    std::string host;
    std::uint16_t port = 80;
    std::string path;  // begins with a slash
};

// nullopt for anything but http://HOST[:PORT][/PATH].
std::optional<HttpUrl> parse_http_url(std::string_view url);

Result<HttpAnswer> http_call(const HttpCall& call);

}  // namespace nbos::io
