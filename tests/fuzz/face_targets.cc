// What clients send: HTTP targets and bodies, WebSocket frames, and Jupyter messages in both
// framings, into the decoders and into a whole gateway.
#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "gateway/gateway.h"
#include "gateway/http_target.h"
#include "gateway/table_rows.h"
#include "io/websocket_frames.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "jupyter/ws_frames.h"
#include "jupyter/zmq_frames.h"
#include "tests/fuzz/wire_targets.h"
#include "tests/support/fake_system_group.h"

namespace nbos::fuzz {
namespace {

constexpr const char* kToken = "secret";

class StoppedClock final : public Clock {
public:
    Instant now() const override { return std::chrono::seconds(1000); }
    std::chrono::microseconds wall() const override {
        return std::chrono::microseconds(1'700'000'000'000'000);
    }
};

class Nobody final : public gateway::AgentLink, public gateway::Workspace {
public:
    void send(const HostId&, const cluster::Rpc& rpc) override {
        if (const auto* write = std::get_if<cluster::WriteTable>(&rpc)) {
            system.take(*write);
        }
    }
    std::string resolve(const std::string&) const override { return "/"; }
    nbos::testing::FakeSystemGroup system{"h1"};
};

class DeafSocket final : public jupyter::WebSocket {
public:
    void send(Bytes, bool) override {}
    void close(std::uint16_t, std::string_view) override {}
};

// A gateway with three hosts and one kernel, for the length of one input.
class FuzzedGateway {
public:
    FuzzedGateway()
        : gateway_({.token = kToken}, gateway::Kernelspecs(),
                   {clock_, [this] { return Uuid{7, ++last_uuid_}; }, nobody_, nobody_}) {
        std::map<HostId, std::string> addresses;
        for (const auto* host : {"h1", "h2", "h3"}) {
            addresses[HostId{host}] = "127.0.0.1:1";
        }
        gateway_.set_hosts(addresses);
        for (const auto& [host, address] : addresses) {
            gateway_.host_changed(host, gateway::HostState::kUp);
            gateway_.receive(host, cluster::encode(cluster::AgentInfo{host, "0", 1, 1}).view());
        }
        tell(nobody_.system.status());
        tell(nobody_.system.everything());
        kernel_ = jupyter::string_field(call("POST", "/api/kernels", R"({"name": "python3"})").body,
                                        "id");
        NBOS_CHECK(!kernel_.empty(), "the gateway makes a kernel");
    }

    jupyter::HttpResponse call(std::string method, std::string target, std::string body) {
        jupyter::HttpResponse answer;
        answer.status = 0;
        gateway_.handle(
            request(std::move(method), std::move(target), std::move(body)),
            [&answer](jupyter::HttpResponse response) { answer = std::move(response); });
        pump();
        return answer;
    }

    void speak(std::string_view payload, bool binary, bool v1) {
        auto handshake = request("GET", "/api/kernels/" + kernel_ + "/channels?session_id=s", "");
        if (v1) {
            handshake.headers.emplace("sec-websocket-protocol", jupyter::kWsSubprotocolV1);
        }
        auto accepted = gateway_.upgrade(handshake);
        auto* accept = std::get_if<jupyter::WebSocketAccept>(&accepted);
        NBOS_CHECK(accept != nullptr, "the gateway takes a WebSocket");
        const auto handler = accept->opened(std::make_shared<DeafSocket>());
        handler->message(payload, binary);
        gateway_.tick();
        handler->closed();
    }

    void hear(std::string_view rpc) {
        gateway_.receive(HostId{"h1"}, rpc);
        gateway_.tick();
    }

    void tell(const cluster::Rpc& rpc) {
        gateway_.receive(HostId{"h1"}, cluster::encode(rpc).view());
    }
    void pump() {
        for (const auto& rows : nobody_.system.pump()) {
            tell(rows);
        }
    }

    const std::string& kernel() const { return kernel_; }

private:
    static jupyter::HttpRequest request(std::string method, std::string target, std::string body) {
        jupyter::HttpRequest out;
        out.method = std::move(method);
        out.target = std::move(target);
        out.body = std::move(body);
        out.headers.emplace("authorization", std::string("token ") + kToken);
        return out;
    }

    StoppedClock clock_;
    Nobody nobody_;
    std::uint64_t last_uuid_ = 0;
    gateway::Gateway gateway_;
    std::string kernel_;
};

std::uint8_t take_byte(std::string_view& bytes) {
    if (bytes.empty()) {
        return 0;
    }
    const auto first = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    return first;
}

jupyter::Message execute_request() {
    return {.header = R"({"msg_id":"m1","msg_type":"execute_request","session":"s"})",
            .parent_header = "{}",
            .metadata = "{}",
            .content = R"({"code":"1+1","silent":false})",
            .buffers = {Bytes::copy("buffer")}};
}

std::string framed(jupyter::Message message, jupyter::WsProtocol protocol) {
    return std::string(jupyter::encode_ws(message, protocol).bytes.view());
}

// The first byte: bit 0 the protocol, bit 1 whether the frame was binary.
std::vector<std::string> ws_examples() {
    auto plain = execute_request();
    plain.buffers.clear();
    return {"\x03" + framed(execute_request(), jupyter::WsProtocol::kV1),
            "\x02" + framed(execute_request(), jupyter::WsProtocol::kLegacy),
            std::string(1, '\0') + framed(plain, jupyter::WsProtocol::kLegacy)};
}

std::vector<std::string> frame_examples() {
    using io::WebSocketOpcode;
    const auto masked = [](WebSocketOpcode opcode, std::string payload) {
        auto out = io::websocket_frame_head(opcode, payload.size());
        out[1] = static_cast<char>(out[1] | 0x80);
        return out + std::string(4, '\0') + payload;
    };
    auto fragment = masked(WebSocketOpcode::kText, "half");
    fragment[0] = static_cast<char>(fragment[0] & 0x7f);
    return {
        "\x05" + masked(WebSocketOpcode::kText, "hello"),
        "\x01" + masked(WebSocketOpcode::kBinary, std::string(200, 'x')),
        "\x30" + fragment + masked(WebSocketOpcode::kContinuation, "rest"),
        "\x07" + masked(WebSocketOpcode::kPing, "p") + masked(WebSocketOpcode::kClose, "\x03\xe8")};
}

std::vector<std::string> target_examples() {
    return {"/api/kernels", "/t/secret/api/kernels/a-b-c-d-e/channels?session_id=s&token=secret",
            "/api/kernelspecs?user=bob/NAME", "/kernelspecs/python3/logo-64x64.png", "/%41%zz?a=%"};
}

struct Route {
    const char* method;
    const char* target;  // KERNEL stands for the id of one
};
constexpr std::array<Route, 8> kRoutes = {{{"POST", "/api/kernels"},
                                           {"POST", "/api/sessions"},
                                           {"PATCH", "/api/sessions/x"},
                                           {"POST", "/api/kernels/KERNEL/interrupt"},
                                           {"POST", "/api/kernels/KERNEL/restart"},
                                           {"POST", "/api/nbos/kernels/KERNEL/migrate"},
                                           {"POST", "/api/nbos/kernels/KERNEL/kill-replica"},
                                           {"DELETE", "/api/kernels/KERNEL"}}};

// The first byte chooses the route, the rest is the body.
std::vector<std::string> body_examples() {
    std::vector<std::string> out = {
        std::string(1, '\0') + R"({"name":"python3","env":{"KERNEL_ID":"x","A":"1"},"path":"a/b"})",
        "\x01"
        R"({"path":"a.ipynb","type":"notebook","name":"","kernel":{"name":"python3"}})",
        "\x05"
        R"({"to":"h2"})"};
    for (std::size_t route = 2; route < kRoutes.size(); ++route) {
        out.push_back(std::string(1, static_cast<char>(route)) + "{}");
    }
    return out;
}

std::vector<std::string> json_examples() {
    return {R"({"a":1,"b":{"c":[true,null,"\u00e9\\"]},"a":2})", "{}", R"({"x": "y"} )"};
}

std::vector<std::string> heard_examples() {
    const KernelId kernel{Uuid{7, 1}};
    return {
        std::string(cluster::encode(cluster::KernelOutput{kernel, {}, execute_request()}).view()),
        std::string(cluster::encode(cluster::KernelStatus{.kernel = kernel}).view()),
        std::string(cluster::encode(cluster::CellEnded{.kernel = kernel}).view())};
}

std::vector<std::string> zmq_examples() {
    std::string out;
    for (const auto& frame : jupyter::to_frames(execute_request())) {
        out += static_cast<char>(frame.size());
        out += frame.view();
    }
    return {out};
}

}  // namespace

void decode_ws(std::string_view bytes) {
    const auto choice = take_byte(bytes);
    const auto protocol =
        (choice & 1) != 0 ? jupyter::WsProtocol::kV1 : jupyter::WsProtocol::kLegacy;
    const auto message = jupyter::decode_ws(bytes, (choice & 2) != 0, protocol);
    if (!message) {
        return;
    }
    for (const auto again : {jupyter::WsProtocol::kV1, jupyter::WsProtocol::kLegacy}) {
        const auto payload = jupyter::encode_ws(*message, again);
        const auto back = jupyter::decode_ws(payload.bytes.view(), payload.binary, again);
        NBOS_CHECK(back && back->header == message->header && back->content == message->content,
                   "a message does not round-trip through a WebSocket");
    }
}

// In pieces of any length a stream gives the same messages.
void feed_websocket(std::string_view bytes) {
    const auto piece = std::max<std::size_t>(1, take_byte(bytes));
    constexpr std::size_t kMax = 1U << 16U;
    io::WebSocketParser whole(kMax);
    io::WebSocketParser pieces(kMax);
    const auto expected = whole.feed(bytes);
    std::size_t count = 0;
    for (auto rest = bytes; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
        for (const auto& message : pieces.feed(rest.substr(0, piece))) {
            NBOS_CHECK(count < expected.size() && message.payload == expected[count].payload,
                       "frames depend on how they are cut");
            ++count;
        }
    }
    NBOS_CHECK(pieces.fault().has_value() == whole.fault().has_value(), "faults depend on cuts");
}

void parse_http_target(std::string_view bytes) {
    for (const auto* base : {"", "/base"}) {
        if (const auto target = gateway::parse_target(bytes, base)) {
            target->rest(1);
            jupyter::HttpRequest request;
            gateway::authorised(gateway::presented_tokens(request, *target), kToken);
        }
    }
    FuzzedGateway().call("GET", std::string(bytes), "");
}

void handle_http_body(std::string_view bytes) {
    const auto& route = kRoutes[take_byte(bytes) % kRoutes.size()];
    FuzzedGateway gateway;
    std::string target = route.target;
    if (const auto at = target.find("KERNEL"); at != std::string::npos) {
        target.replace(at, 6, gateway.kernel());
    }
    const auto status = gateway.call(route.method, target, std::string(bytes)).status;
    NBOS_CHECK(status == 0 || (status >= 200 && status < 600), "an answer without a status");
}

void speak_to_gateway(std::string_view bytes) {
    const auto choice = take_byte(bytes);
    FuzzedGateway().speak(bytes, (choice & 2) != 0, (choice & 1) != 0);
}

void tell_gateway(std::string_view bytes) { FuzzedGateway().hear(bytes); }

namespace {

std::vector<std::string> row_examples() {
    gateway::KernelRow row{.state = gateway::KernelRow::State::kParked, .spec = "python3"};
    row.start.emplace();
    row.start->members.voters = {ReplicaId{1}};
    row.start->members.hosts = {{ReplicaId{1}, HostId{"h1"}}};
    row.start->options = {.spec = "python3", .session = "s", .env = {{"A", "1"}}};
    return {std::string(gateway::encode(row).view()),
            std::string(gateway::encode(gateway::KernelRow{.spec = "python3"}).view()),
            std::string(
                gateway::encode(gateway::Session{
                                    {.id = "1", .path = "a.ipynb", .name = "a", .type = "notebook"},
                                    KernelId{Uuid{1, 2}}})
                    .view())};
}

}  // namespace

void take_json_apart(std::string_view bytes) {
    const auto fields = jupyter::object_fields(bytes);
    NBOS_CHECK(fields.has_value() == jupyter::is_json_object(bytes), "is it an object or not");
    if (!fields) {
        return;
    }
    for (const auto& [name, value] : *fields) {
        NBOS_CHECK(value.data() >= bytes.data() &&
                       value.data() + value.size() <= bytes.data() + bytes.size(),
                   "a field outside of its object");
        jupyter::object_field_text(bytes, name);
        jupyter::string_field(bytes, name);
    }
}

void decode_table_rows(std::string_view bytes) {
    if (const auto row = gateway::decode_kernel_row(bytes)) {
        NBOS_CHECK(gateway::decode_kernel_row(gateway::encode(*row).view()) == row,
                   "a kernel's row does not round-trip");
    }
    if (const auto session = gateway::decode_session_row("s", bytes)) {
        NBOS_CHECK(gateway::encode(*session).view() == bytes, "a session's row has two encodings");
    }
}

void decode_zmq_frames(std::string_view bytes) {
    std::vector<Bytes> frames;
    while (!bytes.empty()) {
        const std::size_t size = take_byte(bytes);
        frames.push_back(Bytes::copy(bytes.substr(0, size)));
        bytes.remove_prefix(std::min(size, bytes.size()));
    }
    if (const auto message = jupyter::from_frames(jupyter::Channel::kShell, frames)) {
        NBOS_CHECK(jupyter::from_frames(jupyter::Channel::kShell, jupyter::to_frames(*message)),
                   "a message does not round-trip through ZeroMQ");
    }
}

const std::vector<Target>& face_targets() {
    static const std::vector<Target> kTargets = {
        {"decode_ws", decode_ws, ws_examples},
        {"feed_websocket", feed_websocket, frame_examples},
        {"parse_http_target", parse_http_target, target_examples, 20},
        {"handle_http_body", handle_http_body, body_examples, 20},
        {"speak_to_gateway", speak_to_gateway, ws_examples, 20},
        {"tell_gateway", tell_gateway, heard_examples, 20},
        {"take_json_apart", take_json_apart, json_examples},
        {"decode_table_rows", decode_table_rows, row_examples},
        {"decode_zmq_frames", decode_zmq_frames, zmq_examples},
    };
    return kTargets;
}

}  // namespace nbos::fuzz
