// Jupyter's face of the cluster, without sockets: HTTP requests, WebSockets and agents' messages
// come in, answers and messages go out through the ports.
//
// Threads  The loop thread. tick() about every 50 ms drives repetition, timeouts and repair.
// Errors   Every HTTP error has the body {"reason", "message"}.
// Source   docs/reference/rest.md, docs/design/0005-gateway.md
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ports.h"
#include "base/result.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/http_target.h"
#include "gateway/kernel_service.h"
#include "gateway/kernelspecs.h"
#include "gateway/ports.h"
#include "gateway/replica_reconciler.h"
#include "gateway/rpc_calls.h"
#include "gateway/session_table.h"
#include "gateway/system_group.h"
#include "gateway/system_table.h"
#include "jupyter/http.h"
#include "policy/placement.h"

namespace nbos::gateway {

struct GatewayConfig {
    std::string id = "gateway-1";
    std::string version = "0.1.0";
    std::string token;      // never empty: without it nobody is let in
    std::string base_path;  // "" or "/base"
    std::string allow_origin =
        "*";  // for browsers of other origins; they need the token all the same
    KernelServiceOptions kernels;
    ReconcilerOptions reconciler;
    SystemOptions system;
    std::chrono::milliseconds catch_up_max{5'000};  // then lists are answered without silent hosts
    std::chrono::milliseconds catch_up_after_report{200};
};

class Gateway final : public jupyter::HttpHandler {
public:
    struct Ports {
        const Clock& clock;
        std::function<Uuid()> new_uuid;
        AgentLink& link;
        const Workspace& workspace;
    };

    Gateway(GatewayConfig config, Kernelspecs specs, Ports ports);
    ~Gateway() override;

    void set_hosts(const std::map<HostId, std::string>& addresses);
    void host_changed(const HostId& host, HostState state);
    void receive(const HostId& from, std::string_view rpc);
    void tick();

    bool wants_body(const jupyter::HttpRequest& request) override;
    void handle(jupyter::HttpRequest request, Respond respond) override;
    std::variant<jupyter::HttpResponse, jupyter::WebSocketAccept> upgrade(
        const jupyter::HttpRequest& request) override;

private:
    friend class ChannelSocket;
    struct Call {  // one request, taken apart
        jupyter::HttpRequest request;
        HttpTarget target;
        Respond respond;
        bool is(std::string_view method) const { return request.method == method; }
    };

    void route(Call call);
    void route_kernels(Call call);
    void route_kernel(Call call, Kernel& kernel);
    void route_kernelspecs(Call call);
    void send_resource(const Call& call);
    void create_kernel(const Call& call);
    void route_sessions(Call call);
    void create_session(const Call& call);
    Kernel* kernel_for(const std::string& named, const std::string& spec, const std::string& path);
    void patch_session(const Call& call, const Session& session);
    void put_session(const Call& call, const Session& session, int status,
                     const std::optional<KernelId>& left);
    void kernel_changed(const Call& call, const Session& session, int status,
                        const std::optional<KernelId>& left);
    void route_cluster(Call call);
    void send_cluster_kernels(const Call& call);
    void route_cluster_kernel(Call call, Kernel& kernel);
    void migrate(const Call& call, Kernel& kernel);
    void kill_replica(const Call& call, Kernel& kernel);
    void read_outputs(const Call& call, const Kernel& kernel);
    void watch_kills();
    void send_status(const Call& call);
    void send_me(const Call& call);

    std::string hosts_json() const;
    std::string cluster_kernel_json(const Kernel& kernel) const;
    std::string cluster_status_json() const;

    // Answers with an error and returns nullptr when there is no such kernel (or not yet known).
    Kernel* kernel_or_answer(const Call& call, const std::string& id, bool parked_too = false);
    void start_kernel(const std::string& spec, const std::string& kernel_id,
                      const std::string& path, std::map<std::string, std::string> env,
                      KernelService::Created done);
    Result<KernelRequest> kernel_request(const std::string& spec, const std::string& kernel_id,
                                         const std::string& path,
                                         std::map<std::string, std::string> env) const;
    void send_created(const Call& call, const Kernel& kernel);
    std::string kernel_json(const Kernel& kernel) const;
    std::string session_json(const Session& session) const;
    std::vector<const Session*> live_sessions();
    // Every host that can has reported since this gateway began, and the shared tables are known:
    // before that a list would be too short. Looked at in tick().
    bool caught_up() const { return asked_enough_ && table_.known(); }
    std::string why_not_caught_up() const;
    bool has_asked_enough() const;
    bool all_reported() const;
    void row_changed(const std::string& key);
    std::vector<replica::TableChange> belongings(KernelId kernel) const;
    std::string system_json() const;
    std::string gateways_json() const;

    void answer(const Call& call, int status, std::string body);
    void refuse(const Call& call, int status, std::string_view message);
    void refuse(const Call& call, const Error& error);
    void refuse(const Call& call, KernelId id, Error error);  // of a call about this kernel

    void handle_rpc(const HostId& from, const cluster::AgentInfo& info);
    void handle_rpc(const HostId& from, const cluster::Reply& reply);
    void handle_rpc(const HostId& from, const cluster::KernelOutput& output);
    void handle_rpc(const HostId& from, const cluster::CellStarted& started);
    void handle_rpc(const HostId& from, const cluster::CellEnded& ended);
    void handle_rpc(const HostId& from, const cluster::KernelStatus& status);
    void handle_rpc(const HostId& from, const cluster::ReplicaGone& gone);
    void handle_rpc(const HostId& from, const cluster::CatchUp& news);
    void handle_rpc(const HostId& from, const cluster::TableRows& rows);
    void handle_rpc(const HostId& from, const cluster::ConnectedGateways& connected);
    void handle_rpc(const HostId& from, const cluster::CellOutputs& outputs);

    struct Kill {  // ordered; not reported by the host yet
        KernelId kernel;
        HostId host;
        Instant deadline{};
        Call call;
    };

    GatewayConfig config_;
    Kernelspecs specs_;
    Ports ports_;
    jupyter::MessageFactory factory_;
    HostTable hosts_;
    RpcCalls calls_;
    std::unique_ptr<policy::PlacementPolicy> placement_;
    SystemGroup system_;
    SystemTable table_;
    KernelService kernels_;
    ReplicaReconciler reconciler_;
    SessionTable sessions_;
    Instant started_;
    bool asked_enough_ = false;
    std::chrono::microseconds started_wall_;
    std::list<Kill> kills_;
    std::map<std::uint64_t, Call> reads_;  // of outputs, by the request's number
    std::uint64_t last_client_ = 0;
};

}  // namespace nbos::gateway
