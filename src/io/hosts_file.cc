#include "io/hosts_file.h"

#include <boost/json.hpp>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/log.h"

namespace nbos::io {
namespace {

std::optional<std::string> slurp(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        return std::nullopt;
    }
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

Result<HostAddresses> parse(const std::string& path, const std::string& text) {
    const Error malformed{.code = Errc::kInvalid,
                          .what = path + R"( is not of the form {"hosts": {"host-1": "ip:port"}})"};
    boost::system::error_code error;
    const auto parsed = boost::json::parse(text, error);
    if (error || !parsed.is_object()) {
        return malformed;
    }
    const auto* hosts = parsed.get_object().if_contains("hosts");
    if (hosts == nullptr || !hosts->is_object()) {
        return malformed;
    }
    HostAddresses out;
    for (const auto& [name, address] : hosts->get_object()) {
        if (!address.is_string()) {
            return malformed;
        }
        out[HostId{std::string(name)}] = std::string(address.get_string());
    }
    return out;
}

}  // namespace

Result<HostAddresses> read_hosts_file(const std::string& path) {
    const auto text = slurp(path);
    if (!text) {
        return Error{.code = Errc::kIo, .what = "cannot read the hosts file " + path};
    }
    return parse(path, *text);
}

std::optional<HostAddresses> HostsFile::changed() {
    auto text = slurp(path_);
    if (!text || *text == last_) {
        return std::nullopt;
    }
    last_ = std::move(*text);
    auto hosts = parse(path_, last_);
    if (!hosts) {
        log_warning("hosts", "{}; keeping the hosts known before", hosts.error().what);
        return std::nullopt;
    }
    return std::move(*hosts);
}

}  // namespace nbos::io
