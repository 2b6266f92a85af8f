// A Raft group as the gateway keeps it at its number of members: a kernel, or the system group.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/ports.h"
#include "gateway/host_table.h"
#include "gateway/kernel_view.h"
#include "model/ids.h"
#include "model/membership.h"

namespace nbos::gateway {

struct ReplicaGroup {
    ReplicaGroup(KernelId group_id, const HostTable& hosts) : id(group_id), view(hosts) {}

    KernelId id;
    Instant created{};
    Membership first;  // the members it was created with; empty when it was found
    KernelView view;

    bool reported() const { return !view.replicas().empty(); }
    // The members that the group has, as far as is known; `first` before any report.
    const Membership& membership() const {
        const auto* best = view.best();
        return best == nullptr || best->membership.voters.empty() ? first : best->membership;
    }
    std::size_t hosts_away() const {
        const auto& members = membership();
        return static_cast<std::size_t>(
            std::count_if(members.voters.begin(), members.voters.end(), [&](ReplicaId voter) {
                const auto host = members.hosts.find(voter);
                return host != members.hosts.end() && !view.connected(host->second);
            }));
    }
    bool lacks_majority() const { return hosts_away() * 2 >= membership().voters.size(); }
};

}  // namespace nbos::gateway
