#include "cli/running_cluster.h"

#include <fmt/core.h>

#include <boost/json.hpp>
#include <chrono>
#include <utility>
#include <vector>

#include "local/control.h"
#include "local/files.h"

namespace nbos::cli {
namespace {

namespace json = boost::json;

// A migration or a restart may have to wait for an interpreter.
constexpr std::chrono::seconds kCallLimit{60};
constexpr std::chrono::seconds kSupervisorLimit{30};

Error said(Errc code, std::string what) {
    return {code, Certainty::kDidNotHappen, std::move(what)};
}

// What an error body says; Jupyter's have "message", or "reason", or neither.
std::string explanation(const io::HttpAnswer& answer) {
    boost::system::error_code malformed;
    const auto value = json::parse(answer.body, malformed);
    if (!malformed && value.is_object()) {
        for (const char* field : {"message", "reason"}) {
            if (auto text = text_of(value, field); !text.empty()) {
                return text;
            }
        }
    }
    return fmt::format("the gateway answered with status {}", answer.status);
}

}  // namespace

Result<RunningCluster> RunningCluster::find(const std::string& data) {
    RunningCluster found;
    found.layout_ = local::layout_of(data);
    auto record = local::read_run_record(found.layout_.run_file());
    if (!record) {
        return std::move(record).error();
    }
    if (!*record) {
        return said(Errc::kNotFound,
                    fmt::format("nothing is running from {}. Start it with `nbos up`, or name its "
                                "directory with --data DIR (or NBOS_DATA).",
                                found.layout_.data.string()));
    }
    found.record_ = std::move(**record);
    const auto* gateway = found.record_.find("gateway");
    if (gateway == nullptr || !local::is_alive(gateway->id)) {
        const auto* supervisor = found.record_.find("supervisor");
        if (supervisor == nullptr || !local::is_alive(supervisor->id)) {
            return said(Errc::kNotFound,
                        "the cluster was killed. Run `nbos up` again (kernels come back), or `nbos "
                        "down` to end what is left of it.");
        }
    }
    auto token = local::read_small_file(found.layout_.token_file());
    if (!token || !*token) {
        return said(Errc::kIo, "cannot read " + found.layout_.token_file().string() +
                                   ": run this as the user who ran `nbos up`");
    }
    found.token_ = (*token)->substr(0, (*token)->find('\n'));
    return found;
}

Result<io::HttpAnswer> RunningCluster::ask(const std::string& gateway, const std::string& method,
                                           const std::string& path, const std::string& body) const {
    return io::http_call({.method = method,
                          .url = gateway + path,
                          .token = token_,
                          .body = body,
                          .limit = kCallLimit});
}

Result<json::value> RunningCluster::call(const std::string& method, const std::string& path,
                                         const std::string& body) const {
    auto answer = ask(record_.gateway_url, method, path, body);
    for (const auto& process : record_.processes) {
        const bool not_done =
            !answer && (method == "GET" || answer.error().certainty == Certainty::kDidNotHappen);
        if (not_done && process.name.starts_with("gateway-")) {
            answer = ask("http://" + process.address, method, path, body);  // any of them serves
        }
    }
    if (!answer) {
        auto error = std::move(answer).error();
        error.what += ". See " + layout_.log("gateway").string();
        return std::move(error).in("ask the gateway");
    }
    if (answer->status >= 400) {
        return said(Errc::kIo, explanation(*answer));
    }
    if (answer->body.empty()) {
        return json::value();
    }
    boost::system::error_code malformed;
    auto value = json::parse(answer->body, malformed);
    if (malformed) {
        return said(Errc::kInvalid, "the gateway's answer is no JSON: " + malformed.message());
    }
    return value;
}

Result<json::value> RunningCluster::get(const std::string& path) const {
    return call("GET", path, "");
}

Result<json::value> RunningCluster::post(const std::string& path, const json::value& body) const {
    return call("POST", path, json::serialize(body));
}

Status RunningCluster::remove(const std::string& path) const {
    auto answer = call("DELETE", path, "");
    return answer ? ok() : Status(std::move(answer).error());
}

Result<json::value> RunningCluster::supervisor(const json::value& request) const {
    auto line = local::control_call(layout_.socket(), json::serialize(request), kSupervisorLimit);
    if (!line) {
        auto error = std::move(line).error();
        error.what +=
            ". If it was killed, `nbos up` starts everything again and keeps the kernels.";
        return error;
    }
    boost::system::error_code malformed;
    auto value = json::parse(*line, malformed);
    if (malformed || !value.is_object()) {
        return said(Errc::kInvalid, "the supervisor's answer is malformed");
    }
    const auto* accepted = value.get_object().if_contains("ok");
    if (accepted == nullptr || *accepted != true) {
        return said(Errc::kIo, text_of(value, "error"));
    }
    return value;
}

Result<std::string> RunningCluster::kernel_id(const std::string& beginning, bool parked_too) const {
    const auto kernels = get(parked_too ? "/api/nbos/kernels?parked=all" : "/api/kernels");
    if (!kernels) {
        return kernels.error();
    }
    std::vector<std::string> matching;
    if (kernels->is_array()) {
        for (const auto& kernel : kernels->get_array()) {
            if (auto id = text_of(kernel, "id"); id.starts_with(beginning)) {
                matching.push_back(std::move(id));
            }
        }
    }
    if (matching.empty()) {
        return said(Errc::kNotFound, fmt::format("there is no kernel {}; `nbos kernel list` names "
                                                 "them",
                                                 beginning));
    }
    if (matching.size() > 1) {
        return said(Errc::kInvalid,
                    fmt::format("{} kernels begin with {}: {}, {} ...; write more "
                                "of the id",
                                matching.size(), beginning, matching[0], matching[1]));
    }
    return matching.front();
}

std::string text_of(const json::value& object, std::string_view field) {
    const auto* fields = object.if_object();
    const auto* value = fields == nullptr ? nullptr : fields->if_contains(field);
    if (value == nullptr || value->is_null()) {
        return {};
    }
    if (value->is_double()) {
        return fmt::format("{:.1f}", value->get_double());
    }
    return value->is_string() ? std::string(value->get_string().c_str()) : json::serialize(*value);
}

}  // namespace nbos::cli
