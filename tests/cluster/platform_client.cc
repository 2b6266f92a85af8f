#include "tests/cluster/platform_client.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "jupyter/json_field.h"

namespace nbos::testing {
namespace {

constexpr milliseconds kReconnect{300};
constexpr milliseconds kRegroup{4000};  // what is replayed has come by then
constexpr milliseconds kSilence{30'000};

}  // namespace

PlatformClient::PlatformClient(int number, std::string kernel, ClientOptions options, Ports ports)
    : address_(fmt::format("client-{}", number)),
      session_(fmt::format("session-{}", number)),
      kernel_(std::move(kernel)),
      options_(options),
      ports_(std::move(ports)),
      left_(options.requests) {}

void PlatformClient::start() {
    connect();
    think();
}

void PlatformClient::think() {
    const auto pause = 1 + ports_.rng.below(static_cast<std::uint64_t>(options_.think_ms_max));
    ports_.time.after(milliseconds(pause), [this] { think(); });
    if (!ready_) {
        return;
    }
    const auto burst = ports_.rng.chance(0.3) ? options_.outstanding_max : 1;
    for (std::size_t i = 0; i < burst && left_ > 0; ++i) {
        if (pending_.size() < options_.outstanding_max) {
            --left_;
            ask(draw_op());
        }
    }
}

std::string PlatformClient::draw_op() {
    const auto drawn = [&](double probability) { return ports_.rng.chance(probability); };
    if (drawn(options_.fails)) {
        return "fail";
    }
    if (drawn(options_.dies)) {
        return "die";
    }
    if (drawn(options_.inputs)) {
        return "input";
    }
    if (drawn(options_.asks)) {
        return "ask";
    }
    if (drawn(options_.comms)) {
        return "comm";
    }
    const char* const ops[] = {"append", "append", "add", "read"};
    return ops[ports_.rng.below(4)];
}

void PlatformClient::ask(const std::string& op) {
    const auto number = ++last_msg_;
    Record asked{.kind = "asked",
                 .kernel = kernel_,
                 .client = session_,
                 .msg = fmt::format("{}-m{}", session_, number),
                 .op = op};
    if (op == "append" || op == "fail" || op == "input") {
        asked.name = ports_.rng.chance(0.7) ? "shared" : "own-" + session_;
    } else if (op == "add") {
        asked.name = "count";
    }
    asked.tag = fmt::format("{}.{}", session_, number);
    jupyter::Message message;
    const auto type = op == "ask"    ? "complete_request"
                      : op == "comm" ? "comm_msg"
                                     : "execute_request";
    message.header = fmt::format(
        R"({{"msg_id": "{}", "msg_type": "{}", "session": "{}", "username": "u", "version": "5.3"}})",
        asked.msg, type, session_);
    message.parent_header = message.metadata = "{}";
    message.content = fmt::format(R"({{"code": "{} {} {}"}})", op,
                                  asked.name.empty() ? "-" : asked.name, asked.tag);
    pending_.push_back({.message = std::move(message), .asked = std::move(asked)});
    if (ready_) {
        send(pending_.back());
    }
}

void PlatformClient::send(Pending& pending) {
    pending.sent = true;
    ports_.record(pending.asked);
    write(pending.message);
}

void PlatformClient::write(const jupyter::Message& message) {
    const auto payload = jupyter::encode_ws(message, options_.protocol);
    std::string framed(1, payload.binary ? 'b' : 't');
    framed.append(payload.bytes.view());
    ports_.network.send(stream_, Network::Side::kDialer, static_cast<int>(FrameKind::kWebSocket),
                        Bytes(std::move(framed)));
}

// ---- the connection ----

void PlatformClient::connect() { connect(some_gateway()); }

void PlatformClient::connect(PlatformGateway& through) {
    if (connecting_ || stream_ != 0) {
        return;
    }
    connecting_ = true;
    const auto connection = ++connection_;
    gateway_ = &through;
    StreamEnd end{.address = address_,
                  .silence_max = kSilence,
                  .frame =
                      [this, connection](int, std::string_view payload) {
                          if (connection == connection_) {
                              hear(payload);
                          }
                      },
                  .closed =
                      [this, connection] {
                          if (connection == connection_) {
                              closed();
                          }
                      }};
    gateway_->websocket(address_, channels_request(), std::move(end),
                        [this](Network::StreamId stream) { opened(stream); });
}

PlatformGateway& PlatformClient::some_gateway() {
    return *ports_.gateways[ports_.rng.below(ports_.gateways.size())];
}

PlatformGateway& PlatformClient::another_gateway() {
    if (ports_.gateways.size() == 1) {
        return *gateway_;
    }
    auto* other = ports_.gateways[ports_.rng.below(ports_.gateways.size() - 1)];
    return other == gateway_ ? *ports_.gateways.back() : *other;
}

jupyter::HttpRequest PlatformClient::channels_request() const {
    jupyter::HttpRequest request{.method = "GET",
                                 .target = "/api/kernels/" + kernel_ + "/channels",
                                 .headers = {},
                                 .body = {}};
    if (options_.names_session) {
        request.target += "?session_id=" + session_;
    }
    if (options_.protocol == jupyter::WsProtocol::kV1) {
        request.headers["sec-websocket-protocol"] = std::string(jupyter::kWsSubprotocolV1);
    }
    return request;
}

void PlatformClient::opened(Network::StreamId stream) {
    connecting_ = false;
    if (stream == 0) {
        ports_.time.after(kReconnect, [this] { connect(); });
        return;
    }
    stream_ = stream;
    ports_.record({.kind = "connected",
                   .kernel = kernel_,
                   .client = session_,
                   .state = options_.names_session ? "" : "unnamed",
                   .who = gateway_->address()});
    forget_what_is_not_repeated();
    if (pending_.empty()) {
        ready_ = true;
        return;
    }
    ports_.time.after(kRegroup, [this, connection = connection_] {
        if (connection == connection_ && stream_ != 0) {
            regroup();
        }
    });
}

void PlatformClient::regroup() {
    ready_ = true;
    for (auto& pending : pending_) {
        send(pending);
    }
}

void PlatformClient::closed() {
    stream_ = 0;
    ready_ = false;
    ports_.time.after(kReconnect, [this] { connect(); });
}

// What may have effects nobody asks for twice.
void PlatformClient::forget_what_is_not_repeated() {
    pending_.remove_if([](const Pending& one) { return one.sent && one.asked.op == "comm"; });
}

void PlatformClient::leave() {
    ++connection_;  // what still comes over the one before is not heard
    stream_ = 0;
    ready_ = false;
}

void PlatformClient::drop(milliseconds away) {
    if (stream_ == 0) {
        return;
    }
    ports_.network.close(stream_, Network::Side::kDialer);
    leave();
    ports_.time.after(away, [this] { connect(); });
}

void PlatformClient::move(milliseconds half_open) {
    if (stream_ == 0) {
        return;
    }
    ports_.time.after(half_open, [this, stream = stream_] {
        ports_.network.close(stream, Network::Side::kDialer);
    });
    leave();
    connect(another_gateway());
}

void PlatformClient::hear(std::string_view payload) {
    auto message = jupyter::decode_ws(payload.substr(1), payload.front() == 'b', options_.protocol);
    NBOS_CHECK(message.has_value(), "the gateway sent what no client can read");
    const auto header = jupyter::parse_header(message->header).value_or(jupyter::Header{});
    const auto parent = jupyter::parse_header(message->parent_header).value_or(jupyter::Header{});
    if (parent.msg_id.empty()) {
        return;
    }
    const auto& content = message->content;
    Record heard{
        .kind = "heard",
        .kernel = kernel_,
        .client = session_,
        .msg = parent.msg_id,
        .asker = parent.session,
        .speaker = header.session,
        .type = header.msg_type,
        .state = jupyter::string_field(content,
                                       header.msg_type == "status" ? "execution_state" : "status"),
        .ename = jupyter::string_field(content, "ename"),
        .text = jupyter::string_field(content, header.msg_type == "error" ? "evalue" : "text"),
        .count = jupyter::uint_field(content, "execution_count")};
    ports_.record(heard);
    if (heard.type == "input_request") {
        answer_question(*message);
    }
    const bool idle = heard.type == "status" && heard.state == "idle";
    if (heard.asker == session_ && (heard.type.ends_with("_reply") || idle)) {
        pending_.remove_if([&](const Pending& one) {
            return one.asked.msg == heard.msg && (!idle || one.asked.op == "comm");
        });
    }
}

// After a while, as people do; perhaps its agent is another one by then.
void PlatformClient::answer_question(const jupyter::Message& question) {
    const auto number = ++last_msg_;
    jupyter::Message answer{.channel = jupyter::Channel::kStdin};
    answer.header = fmt::format(
        R"({{"msg_id": "{}-i{}", "msg_type": "input_reply", "session": "{}", "username": "u", "version": "5.3"}})",
        session_, number, session_);
    answer.parent_header = question.header;
    answer.metadata = "{}";
    answer.content = R"({"value": "yes", "status": "ok"})";
    const auto pause = 1 + ports_.rng.below(static_cast<std::uint64_t>(options_.think_ms_max));
    ports_.time.after(milliseconds(pause), [this, answer] {
        if (stream_ != 0) {
            write(answer);
        }
    });
}

}  // namespace nbos::testing
