#include "jupyter/connection_file.h"

#include <fmt/core.h>

#include <array>
#include <boost/json.hpp>
#include <optional>
#include <set>
#include <utility>

namespace nbos::jupyter {
namespace {

constexpr std::size_t kFileBytesMax = 64U << 10U;
constexpr std::string_view kScheme = "hmac-sha256";

Error wrong(std::string what) {
    return {Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}

// `otherwise` when the field is absent; kInvalid when it is no text.
Result<std::string> text(const boost::json::object& file, std::string_view field,
                         std::string_view otherwise) {
    const auto* value = file.if_contains(field);
    if (value == nullptr) {
        return std::string(otherwise);
    }
    if (!value->is_string()) {
        return wrong(fmt::format("\"{}\" must be a string", field));
    }
    return std::string(value->get_string().data(), value->get_string().size());
}

Result<std::uint16_t> port(const boost::json::object& file, std::string_view field) {
    const auto* value = file.if_contains(field);
    if (value == nullptr) {
        return wrong(fmt::format("\"{}\" is missing", field));
    }
    if (!value->is_int64() || value->get_int64() < 1 || value->get_int64() > 65'535) {
        return wrong(
            fmt::format("\"{}\" must be a port from 1 to 65535: whoever starts the "
                        "kernel chooses it",
                        field));
    }
    return static_cast<std::uint16_t>(value->get_int64());
}

Status set_texts(ConnectionFile& out, const boost::json::object& file) {
    auto scheme = text(file, "signature_scheme", kScheme);
    if (!scheme) {
        return std::move(scheme).error();
    }
    if (*scheme != kScheme) {
        return wrong(fmt::format("the signature_scheme '{}' is not supported; use {}",
                                 scheme->substr(0, 40), kScheme));
    }
    for (auto [member, field] : {std::pair(&out.transport, "transport"), std::pair(&out.ip, "ip"),
                                 std::pair(&out.key, "key")}) {
        auto value = text(file, field, *member);
        if (!value) {
            return std::move(value).error();
        }
        *member = std::move(*value);
    }
    if (out.transport != "tcp" && out.transport != "ipc") {
        return wrong(fmt::format("the transport '{}' is not supported; use tcp or ipc",
                                 out.transport.substr(0, 40)));
    }
    if (out.ip.empty()) {
        return wrong("\"ip\" is empty");
    }
    if (file.contains("curve_secretkey") || file.contains("curve_publickey")) {
        return wrong(
            "CurveZMQ is not supported: set transport_encryption to \"disabled\" in the "
            "client");
    }
    return ok();
}

}  // namespace

std::string ConnectionFile::endpoint(std::uint16_t port) const {
    return fmt::format("{}://{}{}{}", transport, ip, transport == "tcp" ? ':' : '-', port);
}

Result<ConnectionFile> parse_connection_file(std::string_view json) {
    if (json.size() > kFileBytesMax) {
        return wrong("it is far too large");
    }
    boost::json::error_code error;
    const auto value =
        boost::json::parse(boost::json::string_view(json.data(), json.size()), error);
    if (error || !value.is_object()) {
        return wrong("it is no JSON object");
    }
    ConnectionFile out;
    if (auto set = set_texts(out, value.get_object()); !set) {
        return std::move(set).error();
    }
    std::set<std::uint16_t> used;
    for (auto [member, field] :
         {std::pair(&out.shell_port, "shell_port"), std::pair(&out.iopub_port, "iopub_port"),
          std::pair(&out.stdin_port, "stdin_port"), std::pair(&out.control_port, "control_port"),
          std::pair(&out.hb_port, "hb_port")}) {
        const auto number = port(value.get_object(), field);
        if (!number) {
            return number.error();
        }
        *member = *number;
        if (!used.insert(*number).second) {
            return wrong(fmt::format("\"{}\" is the same port as another socket's", field));
        }
    }
    return out;
}

}  // namespace nbos::jupyter
