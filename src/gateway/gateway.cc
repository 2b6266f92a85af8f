#include "gateway/gateway.h"

#include <fmt/core.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "jupyter/message_factory.h"
#include "jupyter/rest_models.h"
#include "jupyter/ws_frames.h"

namespace nbos::gateway {
namespace {

std::string_view reason_phrase(int status) {
    switch (status) {
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 409:
            return "Conflict";
        case 410:
            return "Gone";
        case 501:
            return "Not Implemented";
        case 503:
            return "Service Unavailable";
        default:
            return "Internal Server Error";
    }
}

std::unique_ptr<policy::PlacementPolicy> default_placement() {
    auto made = policy::make_placement_policy("least-subscribed");
    NBOS_CHECK(made.has_value(), "the default placement policy is unknown");
    return std::move(*made);
}

// Answers go to every gateway: no two of them may use the same numbers.
std::uint64_t first_request(const Uuid& random) { return random.hi ^ random.lo; }

}  // namespace

// One client's WebSocket to one kernel.
class ChannelSocket final : public jupyter::WebSocketHandler {
public:
    ChannelSocket(Gateway& gateway, KernelId kernel, ClientId client)
        : gateway_(gateway), kernel_(kernel), client_(client) {}

    void message(std::string_view payload, bool binary) override {
        if (auto* kernel = gateway_.kernels_.find(kernel_)) {
            kernel->channels.receive(client_, payload, binary);
        }
    }
    void drained() override {
        if (auto* kernel = gateway_.kernels_.find(kernel_)) {
            kernel->channels.drained(client_);
        }
    }
    void closed() override {
        if (auto* kernel = gateway_.kernels_.find(kernel_)) {
            kernel->channels.close(client_);
        }
    }

private:
    Gateway& gateway_;
    KernelId kernel_;
    ClientId client_;
};

Gateway::Gateway(GatewayConfig config, Kernelspecs specs, Ports ports)
    : config_(std::move(config)),
      specs_(std::move(specs)),
      ports_(std::move(ports)),
      factory_(ports_.clock, ports_.new_uuid),
      calls_(hosts_, ports_.link, first_request(ports_.new_uuid())),
      placement_(default_placement()),
      system_(ports_.clock, hosts_, calls_, config_.system, config_.id),
      table_({ports_.clock, hosts_, ports_.link, [this] { return system_.view.leader(); },
              [this] { return system_.problem(); }},
             ports_.new_uuid()),
      kernels_(
          {ports_.clock, hosts_, ports_.link, calls_, factory_, specs_, *placement_, table_,
           [this](KernelId id) { return belongings(id); }, [this] { return system_.together(); }},
          config_.kernels),
      reconciler_(ports_.clock, hosts_, calls_, kernels_, system_, *placement_, config_.reconciler,
                  config_.id),
      started_(ports_.clock.now()),
      started_wall_(ports_.clock.wall()) {}

Gateway::~Gateway() = default;

// ---- the shared tables ----

void Gateway::row_changed(const std::string& key) {
    if (const auto kernel = kernel_of(key)) {
        kernels_.row_changed(*kernel);
    } else if (const auto id = session_of(key)) {
        const auto* row = table_.find(key);
        auto session = row == nullptr ? std::nullopt : decode_session_row(*id, row->value.view());
        if (session) {
            sessions_.put(std::move(*session));
        } else {
            sessions_.remove(*id);
        }
    }
}

std::vector<replica::TableChange> Gateway::belongings(KernelId kernel) const {
    std::vector<replica::TableChange> erased;
    for (const auto& [id, session] : sessions_.all()) {
        if (session.kernel == kernel) {
            erased.push_back({session_key(id), std::nullopt});
        }
    }
    return erased;
}

std::string Gateway::why_not_caught_up() const {
    return !asked_enough_ ? "this gateway has just started and is still asking the hosts for their "
                            "kernels; try again in a moment"
                          : "this gateway does not know all kernels yet: " + system_.problem();
}

// ---- agents ----

void Gateway::set_hosts(const std::map<HostId, std::string>& addresses) {
    hosts_.configure(addresses, ports_.clock.now());
    for (const auto& [id, host] : hosts_.hosts()) {
        if (host.state == HostState::kUp) {
            ports_.link.send(id, cluster::HostDirectory{addresses});
        }
    }
}

void Gateway::host_changed(const HostId& id, HostState state) {
    hosts_.set_state(id, state, ports_.clock.now());
    log_info("gateway", "host {} is {}", id.value, name(state));
    if (state == HostState::kUp) {
        std::map<HostId, std::string> addresses;
        for (const auto& [other, host] : hosts_.hosts()) {
            addresses[other] = host.address;
        }
        ports_.link.send(id, cluster::HostDirectory{addresses});
        ports_.link.send(id, cluster::Hello{config_.id});
    }
    tick();  // what waited for it, or has to go elsewhere now, goes at once
}

void Gateway::receive(const HostId& from, std::string_view bytes) {
    const auto rpc = cluster::decode_rpc(bytes);
    if (!rpc) {
        log_warning("gateway", "a malformed message of {} bytes from {} was dropped", bytes.size(),
                    from.value);
        return;
    }
    std::visit(
        [&](const auto& message) {
            if constexpr (requires { this->handle_rpc(from, message); }) {
                handle_rpc(from, message);
            }
        },
        *rpc);
}

void Gateway::handle_rpc(const HostId& from, const cluster::AgentInfo& info) {
    if (info.host == from) {
        hosts_.report(info, ports_.clock.now());
        kernels_.host_begins_to_report(from);
        system_.forget(from);
    }
}

void Gateway::handle_rpc(const HostId&, const cluster::Reply& reply) {
    table_.replied(reply);
    calls_.replied(reply, ports_.clock.now());
}

void Gateway::handle_rpc(const HostId& from, const cluster::KernelOutput& output) {
    if (auto* kernel = kernels_.find(output.kernel)) {
        kernel->channels.output(from, output);
    }
}

void Gateway::handle_rpc(const HostId& from, const cluster::CellStarted& started) {
    if (auto* kernel = kernels_.find(started.kernel)) {
        kernel->channels.started(from, started);
    }
}

void Gateway::handle_rpc(const HostId& from, const cluster::CellEnded& ended) {
    if (auto* kernel = kernels_.find(ended.kernel)) {
        kernel->channels.ended(from, ended);
    }
}

void Gateway::handle_rpc(const HostId& from, const cluster::KernelStatus& status) {
    if (status.host != from) {
        return;
    }
    if (cluster::is_system_group(status.kernel)) {
        if (!system_.take(status)) {
            kernels_.stop_replica(status.kernel, status.replica, status.host);
        }
        table_.tick();  // what waits for a leader goes at once
    } else {
        kernels_.status(status);
    }
}

void Gateway::handle_rpc(const HostId&, const cluster::ReplicaGone& gone) {
    if (cluster::is_system_group(gone.kernel)) {
        system_.gone(gone);
    } else {
        kernels_.gone(gone);
    }
}

void Gateway::handle_rpc(const HostId&, const cluster::CatchUp& news) {
    if (auto* kernel = kernels_.find(news.kernel)) {
        kernel->channels.catch_up(news);
    }
}

void Gateway::handle_rpc(const HostId&, const cluster::TableRows& rows) {
    table_.rows_came(rows, [this](const std::string& key) { row_changed(key); });
}

void Gateway::handle_rpc(const HostId& from, const cluster::ConnectedGateways& connected) {
    if (connected.host == from) {
        system_.connected(connected);
    }
}

bool Gateway::all_reported() const {
    const auto now = ports_.clock.now();
    return std::all_of(hosts_.hosts().begin(), hosts_.hosts().end(), [&](const auto& entry) {
        const auto& host = entry.second;
        return host.state == HostState::kUp && host.reported &&
               now - host.reported_at >= config_.catch_up_after_report;
    });
}

bool Gateway::has_asked_enough() const {
    const auto now = ports_.clock.now();
    if (now - started_ >= config_.catch_up_max) {
        return true;
    }
    return std::all_of(hosts_.hosts().begin(), hosts_.hosts().end(), [&](const auto& entry) {
        const auto& host = entry.second;
        return host.state == HostState::kRefused ||
               (host.state == HostState::kUp && host.reported &&
                now - host.reported_at >= config_.catch_up_after_report);
    });
}

void Gateway::tick() {
    calls_.tick(ports_.clock.now());
    system_.tick(kernels_.none_reported());
    table_.tick();
    watch_kills();
    const bool acts = system_.acts();
    kernels_.tick(acts);
    // For good: what goes down later was known before.
    asked_enough_ = asked_enough_ || has_asked_enough();
    if (asked_enough_) {
        reconciler_.tick(acts);
    }
}

// ---- HTTP ----

void Gateway::answer(const Call& call, int status, std::string body) {
    jupyter::HttpResponse response;
    response.status = status;
    response.body = std::move(body);
    if (!config_.allow_origin.empty()) {
        response.headers.emplace_back("Access-Control-Allow-Origin", config_.allow_origin);
    }
    response.headers.emplace_back("Cache-Control", "no-cache");
    call.respond(std::move(response));
}

void Gateway::refuse(const Call& call, int status, std::string_view message) {
    answer(call, status, jupyter::error_json(reason_phrase(status), message));
}

void Gateway::refuse(const Call& call, const Error& error) {
    const auto status = [&] {
        switch (error.code) {
            case Errc::kInvalid:
                return 400;
            case Errc::kNotFound:
                return 404;
            case Errc::kTimeout:
            case Errc::kExhausted:
            case Errc::kNotLeader:
                return 503;
            case Errc::kIo:
                break;
        }
        return 500;
    }();
    refuse(call, status, error.what);
}

// Why nobody has answered: the kernel knows more than whoever waited.
void Gateway::refuse(const Call& call, KernelId id, Error error) {
    const auto* kernel = kernels_.find(id);
    if (error.code == Errc::kTimeout && kernel != nullptr && !kernel->reason().empty()) {
        error.what += ": " + kernel->reason();
    }
    refuse(call, error);
}

void Gateway::handle(jupyter::HttpRequest request, Respond respond) {
    auto target = parse_target(request.target, config_.base_path);
    const bool readable = target.has_value();
    Call call{std::move(request), readable ? std::move(*target) : HttpTarget{}, std::move(respond)};
    if (call.is("OPTIONS")) {
        jupyter::HttpResponse response;
        response.status = 204;
        if (!config_.allow_origin.empty()) {
            response.headers = {
                {"Access-Control-Allow-Origin", config_.allow_origin},
                {"Access-Control-Allow-Headers",
                 "accept, content-type, authorization, x-xsrftoken"},
                {"Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}};
        }
        call.respond(std::move(response));
        return;
    }
    if (!readable) {
        refuse(call, 404,
               config_.base_path.empty() ? std::string("the address cannot be decoded")
                                         : "this server answers below " + config_.base_path);
        return;
    }
    if (call.is("HEAD")) {
        call.request.method = "GET";  // the server leaves the body out
    }
    const auto& path = call.target.path;
    if (path.size() == 1 && path[0] == "api" && call.is("GET")) {
        answer(call, 200,
               fmt::format(R"({{"version": "2.14.0", "gateway_version": "{}"}})", config_.version));
        return;
    }
    if (!authorised(presented_tokens(call.request, call.target), config_.token)) {
        refuse(call, 401,
               "the token is missing or wrong; give it as the header "
               "'Authorization: token TOKEN', as ?token=TOKEN, or in the path as "
               "/t/TOKEN/api/...");
        return;
    }
    route(std::move(call));
}

// Of somebody without the token not a byte is kept.
bool Gateway::wants_body(const jupyter::HttpRequest& request) {
    const auto target = parse_target(request.target, config_.base_path);
    return target && authorised(presented_tokens(request, *target), config_.token);
}

void Gateway::route(Call call) {
    const auto& path = call.target.path;
    if (path.size() >= 3 && path[0] == "kernelspecs" && call.is("GET")) {
        send_resource(call);
        return;
    }
    const std::string_view area =
        path.size() >= 2 && path[0] == "api" ? std::string_view(path[1]) : std::string_view();
    if (area == "kernels") {
        route_kernels(std::move(call));
    } else if (area == "kernelspecs") {
        route_kernelspecs(std::move(call));
    } else if (area == "sessions") {
        route_sessions(std::move(call));
    } else if (area == "nbos") {
        route_cluster(std::move(call));
    } else if (area == "status" && path.size() == 2 && call.is("GET")) {
        send_status(call);
    } else if (area == "me" && path.size() == 2 && call.is("GET")) {
        send_me(call);
    } else {
        refuse(call, 404,
               "there is nothing at " + call.request.target.substr(0, 200) + " on this gateway");
    }
}

// ---- WebSockets ----

namespace {

// "a,b,c", a client's own claim: bounded.
std::set<std::string, std::less<>> listed(std::string_view text) {
    std::set<std::string, std::less<>> names;
    while (!text.empty() && names.size() < ClientLimits{}.spoken_for_max) {
        const auto comma = text.find(',');
        names.emplace(text.substr(0, comma));
        text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    }
    names.erase("");
    return names;
}

}  // namespace

std::variant<jupyter::HttpResponse, jupyter::WebSocketAccept> Gateway::upgrade(
    const jupyter::HttpRequest& request) {
    const auto refusal = [](int status, std::string_view message) {
        jupyter::HttpResponse response;
        response.status = status;
        response.body = jupyter::error_json(reason_phrase(status), message);
        return response;
    };
    const auto target = parse_target(request.target, config_.base_path);
    if (!target) {
        return refusal(404, "there is no WebSocket at this address");
    }
    if (!authorised(presented_tokens(request, *target), config_.token)) {
        return refusal(401, "the token is missing or wrong");
    }
    const auto& path = target->path;
    if (path.size() != 4 || path[0] != "api" || path[1] != "kernels" || path[3] != "channels") {
        return refusal(404, "there is no WebSocket at this address");
    }
    const auto id = Uuid::parse(path[2]);
    if (!id || kernels_.find_open(KernelId{*id}) == nullptr) {
        return caught_up() ? refusal(404, "no kernel has the id " + path[2])
                           : refusal(503, why_not_caught_up());
    }
    const auto protocol = jupyter::choose_protocol(request.header("sec-websocket-protocol"),
                                                   request.header("user-agent"));
    const auto session = target->query.find("session_id");
    std::set<std::string, std::less<>> speaks_for;
    if (const auto sessions = target->query.find("sessions"); sessions != target->query.end()) {
        speaks_for = listed(sessions->second);
    }
    jupyter::WebSocketAccept accept;
    if (protocol == jupyter::WsProtocol::kV1) {
        accept.subprotocol = jupyter::kWsSubprotocolV1;
    }
    accept.opened = [this, kernel_id = KernelId{*id}, protocol, speaks_for,
                     session_id = session == target->query.end() ? std::string() : session->second](
                        std::shared_ptr<jupyter::WebSocket> socket)
        -> std::unique_ptr<jupyter::WebSocketHandler> {
        const ClientId client{++last_client_};
        if (auto* kernel = kernels_.find(kernel_id)) {
            kernel->channels.open(client, {.session = session_id,
                                           .protocol = protocol,
                                           .socket = std::move(socket),
                                           .speaks_for = speaks_for});
        }
        return std::make_unique<ChannelSocket>(*this, kernel_id, client);
    };
    return accept;
}

}  // namespace nbos::gateway
