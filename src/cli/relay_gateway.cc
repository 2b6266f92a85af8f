#include "cli/relay_gateway.h"

#include <fmt/core.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <thread>
#include <utility>

#include "base/log.h"
#include "cli/running_cluster.h"
#include "io/event_loop.h"
#include "io/http_client.h"
#include "jupyter/json_field.h"
#include "local/files.h"

namespace nbos::cli {
namespace {

namespace json = boost::json;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kStartFor{15};  // a gateway that is being started or replaced
constexpr std::chrono::milliseconds kStartPause{300};
constexpr std::chrono::seconds kCallLimit{10};
constexpr std::chrono::seconds kLongCallLimit{60};  // a restart waits for an interpreter

Error failed(Errc code, std::string what) {
    return {code, Certainty::kDidNotHappen, std::move(what)};
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread, start-up
    return value == nullptr ? std::string() : std::string(value);
}

std::string kernel_path(const std::string& id) { return "/api/kernels/" + id; }

std::string explanation(const std::string& body, int status) {
    auto message = jupyter::string_field(body, "message");
    return message.empty() ? fmt::format("the gateway answered with status {}", status) : message;
}

Result<std::string> token_in(const std::string& file) {
    auto text = local::read_small_file(file);
    if (!text) {
        return std::move(text).error();
    }
    if (!*text) {
        return failed(Errc::kNotFound, "there is no token file " + file);
    }
    auto token = (*text)->substr(0, (*text)->find('\n'));
    if (token.empty()) {
        return failed(Errc::kInvalid, file + " is empty; its first line must be the token");
    }
    return token;
}

}  // namespace

Result<GatewayPlace> find_gateway(const std::string& url, const std::string& token_file,
                                  const std::string& data) {
    GatewayPlace place{.url = url.empty() ? environment("NBOS_GATEWAY_URL") : url,
                       .token = environment("NBOS_TOKEN")};
    while (place.url.ends_with('/')) {
        place.url.pop_back();
    }
    if (!place.url.empty() && !io::parse_http_url(place.url)) {
        return failed(Errc::kInvalid,
                      place.url + " is no gateway's address; give http://HOST:PORT");
    }
    if (!token_file.empty()) {
        auto token = token_in(token_file);
        if (!token) {
            return std::move(token).error();
        }
        place.token = std::move(*token);
    }
    if (!place.url.empty() && !place.token.empty()) {
        return place;
    }
    const auto cluster = RunningCluster::find(data);
    if (place.url.empty()) {
        if (!cluster) {
            return cluster.error();
        }
        place.url = cluster->record().gateway_url;
    }
    // Only to its own gateway: another one must not learn this token.
    if (place.token.empty() && cluster && cluster->record().gateway_url == place.url) {
        place.token = cluster->token();
    }
    if (place.token.empty()) {
        return failed(Errc::kNotFound, "no token for " + place.url +
                                           "; put it in a file and give --token-file FILE, or set "
                                           "NBOS_TOKEN");
    }
    return place;
}

Result<RelayGateway::Answer> RelayGateway::call(const std::string& method, const std::string& path,
                                                const std::string& body,
                                                std::chrono::milliseconds limit) const {
    auto answer = io::http_call({.method = method,
                                 .url = place_.url + path,
                                 .token = place_.token,
                                 .body = body,
                                 .limit = limit});
    if (!answer) {
        return std::move(answer).error().in("ask the gateway at " + place_.url);
    }
    if (answer->status == 401 || answer->status == 403) {
        return failed(Errc::kInvalid,
                      fmt::format("the gateway at {} refuses the token; check --token-file or "
                                  "NBOS_TOKEN",
                                  place_.url));
    }
    return Answer{answer->status, std::move(answer->body)};
}

Result<RelayGateway::Answer> RelayGateway::patient_call(const std::string& method,
                                                        const std::string& path,
                                                        const std::string& body) const {
    const auto until = steady_clock::now() + kStartFor;
    while (true) {
        auto answer = call(method, path, body, kLongCallLimit);
        const bool passing = answer ? answer->status == 502 || answer->status == 503
                                    : answer.error().code == Errc::kIo;
        if (!passing || steady_clock::now() > until) {
            return answer;
        }
        std::this_thread::sleep_for(kStartPause);
    }
}

Result<std::string> RelayGateway::create(const KernelWanted& wanted) const {
    json::object env;
    for (const auto& [name, value] : wanted.env) {
        env[name] = value;
    }
    env["KERNEL_ID"] = wanted.id;
    json::object body{{"env", env}};
    if (!wanted.spec.empty()) {
        body["name"] = wanted.spec;
    }
    auto answer = patient_call("POST", "/api/kernels", json::serialize(body));
    if (!answer) {
        return std::move(answer).error();
    }
    auto id = jupyter::string_field(answer->body, "id");
    if (answer->status != 201 || id.empty()) {
        return failed(answer->status == 400 ? Errc::kInvalid : Errc::kIo,
                      explanation(answer->body, answer->status));
    }
    return id;
}

Result<relay::Kernel> RelayGateway::start(const KernelWanted& wanted) const {
    const auto known = patient_call("GET", kernel_path(wanted.id), "");
    if (!known) {
        return known.error();
    }
    relay::Kernel kernel{.id = wanted.id, .restarted_by_successor = !wanted.named};
    if (known->status == 200) {
        kernel.ends_with_relay = !wanted.named;
        if (!wanted.named) {
            if (const auto restarted = restart(wanted.id); !restarted) {
                return restarted.error();
            }
        }
        return kernel;
    }
    if (known->status != 404) {
        return failed(Errc::kIo, explanation(known->body, known->status));
    }
    auto created = create(wanted);
    if (!created && created.error().code == Errc::kInvalid && !wanted.named) {
        // A kernel of this connection file was deleted before; its id cannot be used again.
        auto other = wanted;
        other.id = io::random_uuid().str();
        created = create(other);
    }
    if (!created) {
        return std::move(created).error();
    }
    kernel.id = *created;
    return kernel;
}

Status RelayGateway::restart(const std::string& kernel_id) const {
    const auto answer = call("POST", kernel_path(kernel_id) + "/restart", "{}", kLongCallLimit);
    if (!answer) {
        return answer.error();
    }
    return answer->status == 200
               ? ok()
               : Status(failed(Errc::kIo, explanation(answer->body, answer->status)));
}

Status RelayGateway::remove(const std::string& kernel_id) const {
    const auto answer = call("DELETE", kernel_path(kernel_id), "", kCallLimit);
    if (!answer) {
        return answer.error();
    }
    return answer->status == 204 || answer->status == 404
               ? ok()
               : Status(failed(Errc::kIo, explanation(answer->body, answer->status)));
}

Result<std::uint64_t> RelayGateway::connections(const std::string& kernel_id) const {
    const auto answer = call("GET", kernel_path(kernel_id), "", kCallLimit);
    if (!answer) {
        return answer.error();
    }
    if (answer->status != 200) {
        return failed(answer->status == 404 ? Errc::kNotFound : Errc::kIo,
                      explanation(answer->body, answer->status));
    }
    return jupyter::uint_field(answer->body, "connections");
}

}  // namespace nbos::cli
