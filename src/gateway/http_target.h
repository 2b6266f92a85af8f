// The target of a request taken apart: token, path segments, query.
//
// A token may come in the path, as /t/TOKEN/api/...: in-process clients of a gateway open their
// WebSocket without headers, and have no other way to authenticate.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jupyter/http.h"

namespace nbos::gateway {

struct HttpTarget {
    std::string prefix;  // base path and /t/TOKEN, for links in answers; no slash at the end
    std::vector<std::string> path;  // decoded segments behind the prefix, empty ones left out
    std::map<std::string, std::string> query;
    std::string path_token;

    // "a/b/c" of the segments from `from` on.
    std::string rest(std::size_t from) const;
};

// `base` is "" or "/base". nullopt: outside of it, or not decodable.
std::optional<HttpTarget> parse_target(std::string_view target, std::string_view base);

// Every token that the request presents: Authorization (token or Bearer), ?token=, the path.
std::vector<std::string> presented_tokens(const jupyter::HttpRequest& request,
                                          const HttpTarget& target);

// Whether one of them is `token`, in a time that does not depend on how much of it is right.
bool authorised(const std::vector<std::string>& presented, std::string_view token);

}  // namespace nbos::gateway
