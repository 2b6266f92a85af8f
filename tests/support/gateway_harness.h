// A gateway with everything around it faked: agents that record what they are told, clients that
// record what they hear, and a clock that stands still until it is moved.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/gateway.h"
#include "jupyter/json_field.h"
#include "jupyter/ws_frames.h"
#include "tests/support/fake_system_group.h"

namespace nbos::testing {

using std::chrono::milliseconds;

class FakeClock final : public Clock {
public:
    Instant now() const override { return now_; }
    std::chrono::microseconds wall() const override {
        return std::chrono::microseconds(1'700'000'000'000'000) +
               std::chrono::duration_cast<std::chrono::microseconds>(now_);
    }
    void advance(milliseconds by) { now_ += by; }

private:
    Instant now_{std::chrono::seconds(1000)};
};

class FakeLink final : public gateway::AgentLink {
public:
    void send(const HostId& host, const cluster::Rpc& rpc) override {
        if (const auto* write = std::get_if<cluster::WriteTable>(&rpc)) {
            system.take(*write);
        } else {
            sent.emplace_back(host.value, rpc);
        }
    }
    bool hesitates(const HostId& host) const override { return hesitating.contains(host.value); }

    // The messages of one kind, with where they went; forgets all of them.
    template <class T>
    std::vector<std::pair<std::string, T>> take() {
        std::vector<std::pair<std::string, T>> out;
        for (const auto& [host, rpc] : sent) {
            if (const auto* message = std::get_if<T>(&rpc)) {
                out.emplace_back(host, *message);
            }
        }
        std::erase_if(sent, [](const auto& one) { return std::holds_alternative<T>(one.second); });
        return out;
    }
    std::vector<std::pair<std::string, cluster::Rpc>> sent;
    FakeSystemGroup system{"h4"};
    std::set<std::string> hesitating;
};

class FakeWorkspace final : public gateway::Workspace {
public:
    std::string resolve(const std::string& folder) const override {
        return folder == "sub" ? "/ws/sub" : "/ws";
    }
};

// What a client heard, a line a message: "iopub status busy < m1".
class FakeSocket final : public jupyter::WebSocket {
public:
    explicit FakeSocket(jupyter::WsProtocol protocol) : protocol_(protocol) {}

    void send(Bytes payload, bool binary) override {
        auto message = jupyter::decode_ws(payload.view(), binary, protocol_);
        ASSERT_TRUE(message) << message.error().what;
        messages.push_back(std::move(*message));
    }
    void close(std::uint16_t code, std::string_view) override {
        closed = code;
        if (handler != nullptr) {
            handler->closed();
        }
    }

    std::vector<std::string> take() {
        std::vector<std::string> lines;
        for (const auto& message : messages) {
            lines.push_back(line(message));
        }
        messages.clear();
        return lines;
    }

    static std::string line(const jupyter::Message& message) {
        const auto header = *jupyter::parse_header(message.header);
        const auto parent = *jupyter::parse_header(message.parent_header);
        std::string detail;
        for (const auto* field : {"execution_state", "status", "text", "ename", "prompt"}) {
            const auto value = jupyter::string_field(message.content, field);
            detail += value.empty() ? "" : " " + value;
        }
        return std::string(name(message.channel)) + " " + header.msg_type + detail +
               (parent.msg_id.empty() ? "" : " < " + parent.msg_id);
    }

    std::vector<jupyter::Message> messages;
    std::optional<std::uint16_t> closed;
    jupyter::WebSocketHandler* handler = nullptr;

private:
    jupyter::WsProtocol protocol_;
};

struct FakeClient {
    std::shared_ptr<FakeSocket> socket;
    std::unique_ptr<jupyter::WebSocketHandler> handler;
    std::string session;
    jupyter::WsProtocol protocol;

    void send(const std::string& channel, const std::string& type, const std::string& msg_id,
              const std::string& content = "{}", const std::string& parent = "{}") {
        jupyter::Message message;
        message.channel = *jupyter::channel_named(channel);
        message.header = R"({"msg_id": ")" + msg_id + R"(", "msg_type": ")" + type +
                         R"(", "session": ")" + session + R"(", "username": "u"})";
        message.parent_header = parent;
        message.metadata = "{}";
        message.content = content;
        const auto payload = jupyter::encode_ws(message, protocol);
        handler->message(payload.bytes.view(), payload.binary);
    }
    void execute(const std::string& msg_id) {
        send("shell", "execute_request", msg_id, R"({"code": "1"})");
    }
    std::vector<std::string> take() { return socket->take(); }
    void drop() { handler->closed(); }
};

class GatewayHarness : public ::testing::Test {
protected:
    static constexpr const char* kToken = "secret";

    GatewayHarness() { restart_gateway(); }

    void restart_gateway_with(std::chrono::seconds parked_for) {
        parked_for_ = parked_for;
        restart_gateway();
    }

    void restart_gateway() {
        gateway_.reset();
        gateway::GatewayConfig config;
        config.token = kToken;
        config.kernels.parked_for = parked_for_;
        config.kernels.outputs = outputs_;
        config.system.replicas = 1;
        gateway_ = std::make_unique<gateway::Gateway>(
            config, gateway::Kernelspecs(),
            gateway::Gateway::Ports{clock_, [this] { return Uuid{0xABC, ++last_uuid_}; }, link_,
                                    workspace_});
        std::map<HostId, std::string> addresses;
        for (const auto* host : {"h1", "h2", "h3", "h4"}) {
            addresses[HostId{host}] = std::string(host) + ":1";
        }
        gateway_->set_hosts(addresses);
    }

    void up(const std::string& host) {
        gateway_->host_changed(HostId{host}, gateway::HostState::kUp);
        tell(host, cluster::AgentInfo{.host = HostId{host}, .version = "1", .cpus = 2});
        if (host == link_.system.host()) {
            tell(host, link_.system.status());
            tell(host, link_.system.everything());
        }
    }
    void all_up() {
        for (const auto* host : {"h1", "h2", "h3", "h4"}) {
            up(host);
        }
        advance(milliseconds(300));
    }
    void lose(const std::string& host, gateway::HostState state = gateway::HostState::kRefused) {
        gateway_->host_changed(HostId{host}, state);
    }
    void tell(const std::string& host, const cluster::Rpc& rpc) {
        gateway_->receive(HostId{host}, cluster::encode(rpc).view());
        pump_tables();
    }
    // What has been written into the shared tables is applied and told.
    void pump_tables() {
        for (auto news = link_.system.pump(); !news.empty(); news = link_.system.pump()) {
            for (const auto& rows : news) {
                gateway_->receive(HostId{link_.system.host()}, cluster::encode(rows).view());
            }
        }
    }
    void advance(milliseconds by) {
        for (milliseconds left = by; left.count() > 0; left -= milliseconds(100)) {
            clock_.advance(std::min(left, milliseconds(100)));
            gateway_->tick();
            pump_tables();
        }
    }

    jupyter::HttpResponse rest(const std::string& method, const std::string& target,
                               const std::string& body = "",
                               const std::string& authorization = "token secret") {
        jupyter::HttpRequest request{
            .method = method, .target = target, .headers = {}, .body = body};
        if (!authorization.empty()) {
            request.headers["authorization"] = authorization;
        }
        return *rest_later(std::move(request));
    }
    // Its status is 0 until it has come.
    std::shared_ptr<const jupyter::HttpResponse> rest_later(jupyter::HttpRequest request) {
        const auto answer = std::make_shared<jupyter::HttpResponse>();
        answer->status = 0;
        gateway_->handle(std::move(request), [answer](jupyter::HttpResponse response) {
            *answer = std::move(response);
        });
        pump_tables();
        return answer;
    }
    std::shared_ptr<const jupyter::HttpResponse> rest_later(const std::string& method,
                                                            const std::string& target) {
        return rest_later({.method = method,
                           .target = target,
                           .headers = {{"authorization", "token secret"}},
                           .body = ""});
    }

    FakeClient connect(const std::string& kernel, const std::string& session, bool v1 = false) {
        jupyter::HttpRequest request{
            .method = "GET",
            .target = "/api/kernels/" + kernel + "/channels?session_id=" + session,
            .headers = {{"authorization", "token secret"}},
            .body = {}};
        if (v1) {
            request.headers["sec-websocket-protocol"] = std::string(jupyter::kWsSubprotocolV1);
        }
        auto answer = gateway_->upgrade(request);
        auto* accept = std::get_if<jupyter::WebSocketAccept>(&answer);
        EXPECT_NE(nullptr, accept);
        EXPECT_EQ(v1 ? jupyter::kWsSubprotocolV1 : "", accept->subprotocol);
        FakeClient client;
        client.session = session;
        client.protocol = v1 ? jupyter::WsProtocol::kV1 : jupyter::WsProtocol::kLegacy;
        client.socket = std::make_shared<FakeSocket>(client.protocol);
        client.handler = accept->opened(client.socket);
        client.socket->handler = client.handler.get();
        return client;
    }

    // ---- a kernel of three replicas on h1, h2, h3 ----

    std::string create(const std::string& body = R"({"name": "python3"})") {
        const auto response = rest("POST", "/api/kernels", body);
        EXPECT_EQ(201, response.status) << response.body;
        return jupyter::string_field(response.body, "id");
    }

    struct Replica {
        std::uint64_t id = 1;
        std::string host = "h1";
        std::string interpreter = "ready";
        std::string process = "";
    };
    struct Group {
        std::string kernel;
        std::uint64_t leader = 1;
        std::uint64_t executor = 0;
        std::uint64_t term = 1;
        std::uint64_t incarnation = 0;
        std::uint32_t queued = 0;
        std::string session = "kernel-session";
        std::vector<Replica> replicas = {{1, "h1"}, {2, "h2"}, {3, "h3"}};
        std::set<std::uint64_t> learners;
        std::set<std::uint64_t> strangers;  // replicas that are no members
    };

    static cluster::KernelStatus status_of(const Group& group, const Replica& replica) {
        cluster::KernelStatus status{.kernel = KernelId{*Uuid::parse(group.kernel)},
                                     .replica = ReplicaId{replica.id},
                                     .host = HostId{replica.host}};
        status.role = replica.id == group.leader ? raft::Role::kLeader : raft::Role::kFollower;
        status.term = Term{group.term};
        status.leader = ReplicaId{group.leader};
        for (const auto& member : group.replicas) {
            if (group.strangers.contains(member.id)) {
                continue;
            }
            const bool learns = group.learners.contains(member.id);
            (learns ? status.membership.learners : status.membership.voters)
                .insert(ReplicaId{member.id});
            status.membership.hosts[ReplicaId{member.id}] = HostId{member.host};
        }
        status.settled = true;
        status.options.spec = "python3";
        status.options.session = group.session;
        status.incarnation = group.incarnation;
        status.executor = ReplicaId{group.executor};
        status.queued = group.queued;
        status.interpreter = replica.interpreter;
        status.process = replica.process;
        status.state = replica.interpreter.starts_with("failed") ? cluster::ExecutionState::kDead
                       : group.queued > 0                        ? cluster::ExecutionState::kBusy
                                                                 : cluster::ExecutionState::kIdle;
        return status;
    }
    void report(const Group& group) {
        for (const auto& replica : group.replicas) {
            tell(replica.host, status_of(group, replica));
        }
    }
    // Started, reported, and with nothing left to look at.
    Group running_kernel() {
        Group group{.kernel = create()};
        for (const auto& [host, start] : link_.take<cluster::StartReplica>()) {
            tell(host, cluster::Reply{.request = start.request});
        }
        report(group);
        link_.sent.clear();
        return group;
    }

    static KernelId id_of(const Group& group) { return KernelId{*Uuid::parse(group.kernel)}; }

    static jupyter::Message said(const std::string& channel, const std::string& type,
                                 const std::string& msg_id, const std::string& session,
                                 const std::string& parent, const std::string& content) {
        jupyter::Message message;
        message.channel = *jupyter::channel_named(channel);
        message.header = R"({"msg_id": ")" + msg_id + R"(", "msg_type": ")" + type +
                         R"(", "session": "kernel-session"})";
        message.parent_header = R"({"msg_id": ")" + parent + R"(", "session": ")" + session +
                                R"(", "msg_type": "execute_request"})";
        message.metadata = "{}";
        message.content = content;
        return message;
    }
    static jupyter::Message stream(const std::string& msg_id, const std::string& session,
                                   const std::string& parent, const std::string& text) {
        return said("iopub", "stream", msg_id, session, parent,
                    R"({"name": "stdout", "text": ")" + text + R"("})");
    }
    // To agents since the last look: the host and the message id of each.
    std::vector<std::string> cells_sent() {
        std::vector<std::string> out;
        for (const auto& [host, message] : link_.take<cluster::ClientMessage>()) {
            out.push_back(host + " " + jupyter::parse_header(message.message.header)->msg_id);
        }
        return out;
    }
    void started(const Group& group, const std::string& host, const std::string& session,
                 const std::string& msg_id, std::uint64_t index = 5) {
        tell(host,
             cluster::CellStarted{id_of(group), {Term{group.term}, Index{index}}, session, msg_id});
    }
    void output(const Group& group, const std::string& host, jupyter::Message message,
                std::uint64_t index = 5) {
        tell(host, cluster::KernelOutput{
                       id_of(group), {Term{group.term}, Index{index}}, std::move(message)});
    }
    void spoken(const Group& group, const std::string& host, jupyter::Message message) {
        tell(host, cluster::KernelOutput{id_of(group), {}, std::move(message)});
    }
    cluster::CellEnded end_of(const Group& group, const std::string& session,
                              const std::string& msg_id) {
        return {.kernel = id_of(group),
                .fence = {},
                .session = session,
                .msg_id = msg_id,
                .ending = replica::Ending::kResult,
                .reply = said("shell", "execute_reply", "r-" + msg_id, session, msg_id,
                              R"({"status": "ok", "execution_count": 1})")};
    }

    std::chrono::seconds parked_for_{0};
    gateway::OutputLimits outputs_;
    FakeClock clock_;
    FakeLink link_;
    FakeWorkspace workspace_;
    std::uint64_t last_uuid_ = 0;
    std::unique_ptr<gateway::Gateway> gateway_;
};

// With one kernel, for tests that look at nothing else.
class RunningKernel : public GatewayHarness {
protected:
    void SetUp() override {
        all_up();
        group_ = running_kernel();
    }
    Group group_;
};

}  // namespace nbos::testing
