#include "gateway/http_target.h"

#include <cstdint>

namespace nbos::gateway {
namespace {

int hex(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::optional<std::string> decoded(std::string_view text, bool plus_is_space) {
    std::string out;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] == '%') {
            const int high = at + 2 < text.size() ? hex(text[at + 1]) : -1;
            const int low = at + 2 < text.size() ? hex(text[at + 2]) : -1;
            if (high < 0 || low < 0) {
                return std::nullopt;
            }
            out.push_back(static_cast<char>(high * 16 + low));
            at += 2;
        } else {
            out.push_back(text[at] == '+' && plus_is_space ? ' ' : text[at]);
        }
    }
    return out;
}

bool parse_query(std::string_view text, std::map<std::string, std::string>& query) {
    while (!text.empty()) {
        const auto end = text.find('&');
        const auto pair = text.substr(0, end);
        const auto equals = pair.find('=');
        const auto name = decoded(pair.substr(0, equals), true);
        const auto value = decoded(
            equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1), true);
        if (!name || !value) {
            return false;
        }
        query[*name] = *value;
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return true;
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
    if (text.size() < prefix.size()) {
        return false;
    }
    for (std::size_t i = 0; i < prefix.size(); ++i) {
        const char c = text[i];
        if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != prefix[i]) {
            return false;
        }
    }
    return true;
}

bool equal_in_constant_time(std::string_view given, std::string_view token) {
    std::uint8_t difference = given.size() == token.size() ? 0 : 1;
    for (std::size_t i = 0; i < given.size(); ++i) {
        difference |= static_cast<std::uint8_t>(given[i] ^ token[i % token.size()]);
    }
    return difference == 0;
}

}  // namespace

std::string HttpTarget::rest(std::size_t from) const {
    std::string out;
    for (std::size_t i = from; i < path.size(); ++i) {
        out += (i == from ? "" : "/") + path[i];
    }
    return out;
}

std::optional<HttpTarget> parse_target(std::string_view target, std::string_view base) {
    HttpTarget out;
    const auto question = target.find('?');
    auto path = target.substr(0, question);
    auto query =
        question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
    // With KERNEL_USERNAME set, jupyter_server asks for ".../kernelspecs?user=bob/NAME".
    if (const auto slash = query.find('/');
        query.starts_with("user=") && slash != std::string_view::npos) {
        const auto name = decoded(query.substr(slash + 1), false);
        query = query.substr(0, slash);
        if (!name) {
            return std::nullopt;
        }
        out.path.push_back(*name);
    }
    if (!parse_query(query, out.query)) {
        return std::nullopt;
    }
    if (!base.empty()) {
        if (!path.starts_with(base) || (path.size() > base.size() && path[base.size()] != '/')) {
            return std::nullopt;
        }
        path.remove_prefix(base.size());
    }
    std::vector<std::string> segments;
    while (!path.empty()) {
        const auto end = path.find('/');
        const auto segment = decoded(path.substr(0, end), false);
        if (!segment) {
            return std::nullopt;
        }
        if (!segment->empty()) {
            segments.push_back(*segment);
        }
        path = end == std::string_view::npos ? std::string_view() : path.substr(end + 1);
    }
    segments.insert(segments.end(), out.path.begin(), out.path.end());
    out.prefix = base;
    if (segments.size() >= 2 && segments[0] == "t") {
        out.path_token = segments[1];
        out.prefix += "/t/" + segments[1];
        segments.erase(segments.begin(), segments.begin() + 2);
    }
    out.path = std::move(segments);
    return out;
}

std::vector<std::string> presented_tokens(const jupyter::HttpRequest& request,
                                          const HttpTarget& target) {
    std::vector<std::string> tokens;
    const auto header = request.header("authorization");
    for (const std::string_view scheme : {"token ", "bearer "}) {
        if (starts_with_ignoring_case(header, scheme)) {
            auto token = header.substr(scheme.size());
            const auto first = token.find_first_not_of(' ');
            tokens.emplace_back(first == std::string_view::npos ? std::string_view()
                                                                : token.substr(first));
        }
    }
    if (const auto found = target.query.find("token"); found != target.query.end()) {
        tokens.push_back(found->second);
    }
    if (!target.path_token.empty()) {
        tokens.push_back(target.path_token);
    }
    return tokens;
}

bool authorised(const std::vector<std::string>& presented, std::string_view token) {
    bool right = false;
    for (const auto& given : presented) {
        right = (!token.empty() && equal_in_constant_time(given, token)) || right;
    }
    return right;
}

}  // namespace nbos::gateway
