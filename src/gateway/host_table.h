// The hosts of the cluster as the gateway sees them: configured, connected, reported.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/ports.h"
#include "cluster/rpc.h"
#include "model/ids.h"

namespace nbos::gateway {

enum class HostState : std::uint8_t {
    kUnknown,  // not tried yet
    kUp,
    kDown,     // the connection is lost; nothing is proven
    kRefused,  // its address refuses connections: the agent's process is gone
};

std::string_view name(HostState state);  // "unknown", "up", "silent", "gone"

struct Host {
    std::string address;
    HostState state = HostState::kUnknown;
    Instant since{};        // of the state
    bool reported = false;  // AgentInfo has come on this connection
    Instant reported_at{};
    std::uint64_t connection = 0;  // counts connections: what was sent on an older one may be lost
    cluster::AgentInfo info;
};

class HostTable {
public:
    // Hosts that are not listed any more are forgotten; new ones start as kUnknown.
    void configure(const std::map<HostId, std::string>& addresses, Instant now);
    void set_state(const HostId& id, HostState state, Instant now);
    void report(const cluster::AgentInfo& info, Instant now);

    const std::map<HostId, Host>& hosts() const { return hosts_; }
    const Host* find(const HostId& id) const;
    bool up(const HostId& id) const;
    std::uint64_t connection(const HostId& id) const;  // 0: unknown host, or never connected
    // How long it has been without a connection; zero when it is up.
    Instant absent(const HostId& id, Instant now) const;
    bool refused(const HostId& id) const;

private:
    std::map<HostId, Host> hosts_;
};

}  // namespace nbos::gateway
