// The system group as a gateway sees it: where its members are, who begins it, and which of the
// gateways looks after the cluster.
//
// Begun    Once, by whichever gateway: with the first hosts of the list, in their order, so that
//          all gateways choose the same; only when every host has reported (or, for a new cluster
//          with a host that does not start, all but a minority of the members), and none has a
//          member. Anew when a person says so, as a later generation; members of earlier ones are
//          stopped.
// Acts     Repairs, expiry and the like are one gateway's work at a time: a gateway leaves them to
//          one with a smaller id as long as most of the hosts that it hears see that one connected,
//          and the leader of the group hears it, too. Two may act at once while hosts disagree;
//          every action stands that.
// Time     tick(); nothing happens between ticks.
// Source   docs/design/0009-system-group.md
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

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

    // False: it is of an earlier generation, and must be stopped.
    bool take(const cluster::KernelStatus& status);
    void gone(const cluster::ReplicaGone& gone);
    void connected(const cluster::ConnectedGateways& news);
    void forget(const HostId& host);  // it says everything again
    // `unused`: no host has a replica of any kernel.
    void tick(bool unused);

    // A later generation, on the hosts that are up. kInvalid, with a sentence: it is not lost.
    Status begin_anew();
    std::uint64_t generation() const { return id.value.lo; }

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
    bool may_begin(bool unused) const;
    bool is_fresh() const;
    std::uint32_t wanted_of(std::size_t hosts) const;
    Membership first_members() const;
    Membership members_of(const std::vector<HostId>& hosts) const;
    bool leader_hears(const std::string& gateway) const;
    void enter(KernelId generation);
    bool has_reported(const Host& host) const;
    std::size_t lost() const;  // members whose host is away, or has come back without them
    void start(const Membership& members);

    const Clock& clock_;
    const HostTable& hosts_;
    RpcCalls& calls_;
    SystemOptions options_;
    const std::string self_;
    bool saw_another_ = false;
    std::map<HostId, std::set<std::string>> connected_;
    std::set<HostId> starting_;
    Membership anew_;  // of the generation that this gateway begins; until it has a leader
};

}  // namespace nbos::gateway
