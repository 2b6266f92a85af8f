// Requests to agents that must be answered: numbered, repeated until they are, timed out.
//
// A repeated request has the same number, so that an agent can answer it the same way. Numbers
// start at random: a restarted gateway must not reuse those of its predecessor.
//
// Time     tick() drives repetition and timeouts.
// Errors   kTimeout after `deadline`; what the agent said otherwise. kNotLeader is not an answer:
//          the call is sent again, to where `route` points then.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "base/ports.h"
#include "base/result.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/ports.h"

namespace nbos::gateway {

class RpcCalls {
public:
    using Make = std::function<cluster::Rpc(std::uint64_t request)>;
    using Route = std::function<std::optional<HostId>()>;  // nullopt: nobody now, ask again
    using Done = std::function<void(Status)>;

    RpcCalls(const HostTable& hosts, AgentLink& link, std::uint64_t first)
        : hosts_(hosts), link_(link), next_(first) {}

    // `done` is called once, never from inside call(). Returns the request's number.
    std::uint64_t call(Route route, const Make& make, Instant now,
                       std::chrono::milliseconds timeout, Done done);
    // Forgets it, without a `done`. Whether it may have reached somebody.
    bool cancel(std::uint64_t request);
    void replied(const cluster::Reply& reply, Instant now);
    void tick(Instant now);
    bool waits_for(std::uint64_t request) const { return calls_.contains(request); }
    std::size_t pending() const { return calls_.size(); }

private:
    struct Call {
        Route route;
        cluster::Rpc rpc;
        Instant deadline{};
        Instant not_before{};  // for a host that it was not sent to yet
        Instant repeat_at{};   // to the same host
        HostId sent_to;
        bool sent = false;  // to anybody, ever
        std::uint64_t connection = 0;
        Done done;
    };

    void send(Call& call, Instant now);

    const HostTable& hosts_;
    AgentLink& link_;
    std::uint64_t next_;
    std::map<std::uint64_t, Call> calls_;
};

// A route that always leads to one host.
inline RpcCalls::Route to_host(HostId host) {
    return [host = std::move(host)] { return std::optional(host); };
}

}  // namespace nbos::gateway
