// The system group as a gateway sees it: where its members are, who begins it, and which of the
// gateways looks after the cluster.
//
// Begun    Once, by whichever gateway: with the first hosts of the list, in their order, so that
// all
//          gateways choose the same; only when every host has reported (or, for a new cluster with
//          a host that does not start, all but a minority of the members), and none has a member.
// Acts     Repairs, expiry and the like are one gateway's work at a time: a gateway leaves them to
//          one with a smaller id as long as most of the hosts that it hears see that one connected.
//          Two may act at once while hosts disagree; every action stands that.
// Time     tick(); nothing happens between ticks.
// Source   docs/design/0009-system-group.md
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "base/ports.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/replica_group.h"
#include "gateway/rpc_calls.h"

namespace nbos::gateway {

struct SystemOptions {
    std::uint32_t replicas = 3;  // 1, 3 or 5; fewer on fewer hosts
    // A new cluster does not wait longer for hosts that may never come.
    std::chrono::milliseconds begin_without{5'000};
};

class SystemGroup : public ReplicaGroup {
public:
    // `self`: this gateway's id.
    SystemGroup(const Clock& clock, const HostTable& hosts, RpcCalls& calls, SystemOptions options,
                std::string self);

    void connected(const cluster::ConnectedGateways& news);
    void forget(const HostId& host);  // it says everything again
    void tick();

    // What the number of members should be, with the hosts that there are.
    std::uint32_t wanted() const;
    // Why nobody can write, or nothing is known yet; for users.
    std::string problem() const;

    // By the id of a gateway: how many of the hosts that are connected see it.
    std::map<std::string, std::size_t> gateways() const;
    bool acts(const std::string& gateway) const;
    bool acts() const { return acts(self_); }
    bool alone() const;                             // no host sees another gateway
    bool together() const { return saw_another_; }  // one has been there in this one's life

private:
    std::size_t away() const;
    bool may_begin() const;
    bool is_fresh() const;
    Membership first_members() const;
    void start(const Membership& members);

    const Clock& clock_;
    const HostTable& hosts_;
    RpcCalls& calls_;
    SystemOptions options_;
    const std::string self_;
    bool saw_another_ = false;
    std::map<HostId, std::set<std::string>> connected_;
    std::set<HostId> starting_;
};

}  // namespace nbos::gateway
