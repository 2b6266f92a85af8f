// Could two replicas be elected by quorums that share no member?
//
// "In use" is what could decide something now: a replica's configuration counts if a quorum of it
// has logs no newer than the replica's own, so that it could win an election with it. In a correct
// Raft any two such quorums meet (thesis 4.1 and 4.3).
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "model/membership.h"

namespace nbos::testing {

struct Elector {
    ReplicaId id;
    Term last_term;
    Index last;
    const Membership* config = nullptr;
};

bool can_be_elected(const std::vector<Elector>& all, ReplicaId id);
std::optional<std::pair<ReplicaId, ReplicaId>> disjoint_quorums(const std::vector<Elector>& all);

}  // namespace nbos::testing
