// A Raft group as the gateway keeps it at its number of members: a kernel, or the system group.
#pragma once

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
};

}  // namespace nbos::gateway
