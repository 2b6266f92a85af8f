// Who is in a Raft group, and where each member runs.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/wire.h"
#include "model/ids.h"

namespace nbos {

// A configuration of a group. While `outgoing` is not empty the group is in a joint stage and every
// decision needs a majority of `voters` and a majority of `outgoing` (Ongaro's thesis, 4.3).
//
// `hosts` names the host of every member of any of the three sets; consensus carries it along and
// never looks at it, so that whoever reads the log can find the members.
//
// An id is never used twice: a replica that comes back under the id of a removed one would have
// forgotten its votes. `past` remembers that beyond the removals.
struct Membership {
    std::set<ReplicaId> voters;
    std::set<ReplicaId> outgoing;
    std::set<ReplicaId> learners;
    std::map<ReplicaId, HostId> hosts;
    ReplicaId past;  // the greatest id of a member before the last change; 0: there was none

    // The greatest id that any member has, or ever had: newcomers have greater ones.
    ReplicaId newest() const;
    bool joint() const { return !outgoing.empty(); }
    bool is_voter(ReplicaId id) const { return voters.contains(id) || outgoing.contains(id); }
    bool is_member(ReplicaId id) const { return is_voter(id) || learners.contains(id); }

    bool operator==(const Membership&) const = default;
};

void encode(Writer& out, const Membership& membership);
// nullopt when malformed; leaves `in` failed then.
std::optional<Membership> decode_membership(Reader& in);

}  // namespace nbos
