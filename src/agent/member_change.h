// Moving a replica: the leader adds the newcomer as a learner, waits until it has caught up, swaps
// it for the one that goes, in one joint change, and answers the gateway.
//
// Decisions only: each step looks at the node and does at most one thing; the replica calls it
// whenever something may have changed. A change that lost its leader is dropped with kNotLeader:
// the gateway asks the next leader, and what is already done is seen to be done.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cluster/rpc.h"
#include "raft/node.h"

namespace nbos::agent {

class MemberChange {
public:
    explicit MemberChange(cluster::ChangeMembers wish) : wish_(std::move(wish)) {}

    std::uint64_t request() const { return wish_.request; }
    // nullopt: not finished yet. `executor` runs a cell, or has asked to: when the wish says that
    // the cell may end, it is not taken out before, because the cell would be lost.
    std::optional<Status> step(raft::Node& node, std::optional<ReplicaId> executor);
    bool removes(ReplicaId replica) const { return wish_.remove == replica; }

private:
    Membership with_learner(const Membership& now) const;
    Membership swapped(const Membership& now) const;
    bool done(const Membership& now) const;

    cluster::ChangeMembers wish_;
};

}  // namespace nbos::agent
