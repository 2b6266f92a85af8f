// Changes of members: one at a time, joint when voters change (thesis 4.3).
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "raft/node_impl.h"

namespace nbos::raft {
namespace {

// A learner this close to the commit index counts as caught up: under load it never is exactly.
constexpr std::uint64_t kCaughtUpEntries = 64;
constexpr int kHandOversMax = 3;

Error invalid(std::string what) {
    return Error{Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}
Error busy(const char* what) { return Error{Errc::kExhausted, Certainty::kDidNotHappen, what}; }

Bytes encoded(const Membership& membership) {
    Writer out;
    nbos::encode(out, membership);
    return out.take_bytes();
}

Membership joint_of(const Membership& now, const Membership& next) {
    auto joint = next;
    joint.outgoing = now.voters;
    for (const auto& [id, host] : now.hosts) {
        joint.hosts.emplace(id, host);
    }
    return joint;
}

// A newcomer's id that is not above all earlier ones.
std::optional<ReplicaId> used_before(const Membership& now, const Membership& next) {
    for (const auto* ids : {&next.voters, &next.learners}) {
        for (const auto id : *ids) {
            if (!now.is_member(id) && id <= now.newest()) {
                return id;
            }
        }
    }
    return std::nullopt;
}

Membership left_joint(Membership joint) {
    joint.outgoing.clear();
    std::erase_if(joint.hosts, [&](const auto& at) { return !joint.is_member(at.first); });
    return joint;
}

}  // namespace

Result<Index> Node::Impl::change_membership(Membership next) {
    const auto& now = log.membership();
    next.past = now.past;
    if (role != Role::kLeader) {
        return Error{Errc::kNotLeader, Certainty::kDidNotHappen,
                     "only the leader changes members; it is replica " +
                         std::to_string(leader.value) + " (0: unknown)"};
    }
    if (next.voters.empty() || next.joint()) {
        return invalid("a configuration needs voters, and no outgoing ones");
    }
    const bool mixed = std::any_of(next.learners.begin(), next.learners.end(),
                                   [&](ReplicaId id) { return next.voters.contains(id); });
    if (mixed) {
        return invalid("a replica is either a voter or a learner");
    }
    if (next == now) {
        return log.membership_index();
    }
    // Rule 2 of consensus.md 7 (Ongaro, raft-dev 2015): an entry of this term must be committed
    // first, or two leaders could each change the same old configuration by one step and not
    // overlap.
    const bool settled = has_committed_own_term() && membership_settled();
    if ((!settled && !NBOS_MUTANT(mutants, change_before_own_commit)) ||
        transfer_target_.value != 0) {
        return busy("another change, or the start of this term, is not committed yet; try again");
    }
    for (const auto id : next.voters) {
        if (!now.voters.contains(id) && !is_caught_up_learner(id)) {
            return invalid("a new voter must first be a learner that has caught up");
        }
    }
    if (const auto used = used_before(now, next)) {
        return invalid("replica " + std::to_string(used->value) +
                       " cannot be added: its id, or a greater one, was a member's before");
    }
    next.past = now.newest();
    append_membership(next.voters == now.voters ? next : joint_of(now, next));
    return log.last();
}

bool Node::Impl::is_caught_up_learner(ReplicaId id) const {
    const auto it = followers_.find(id);
    return log.membership().learners.contains(id) && it != followers_.end() &&
           it->second.mode == Follower::Mode::kReplicate &&
           it->second.match.value + kCaughtUpEntries >= commit.value;
}

void Node::Impl::append_membership(const Membership& membership) {
    append_own(EntryKind::kMembership, {}, encoded(membership));
    refresh_members();
}

void Node::Impl::refresh_members() {
    const auto& members = log.membership();
    std::erase_if(followers_, [&](const auto& f) { return !members.is_member(f.first); });
    const auto add = [&](const std::set<ReplicaId>& ids) {
        for (const auto id : ids) {
            if (id != self) {
                followers_.try_emplace(id).first->second.start_at(log.last());
            }
        }
    };
    add(members.voters);
    add(members.outgoing);
    add(members.learners);
    if (transfer_target_.value != 0 && !members.is_voter(transfer_target_)) {
        stop_transfer();
    }
}

void Node::Impl::maybe_leave_joint() {
    const auto& members = log.membership();
    const bool may_change =
        has_committed_own_term() || NBOS_MUTANT(mutants, change_before_own_commit);
    if (role != Role::kLeader || !members.joint() || log.membership_index() > commit ||
        !may_change) {
        return;
    }
    if (!members.voters.contains(self) && hand_over_before_leaving()) {
        return;
    }
    append_membership(left_joint(members));
}

// A leader that is about to leave lets one that stays lead, and that one ends the joint stage: the
// group is not without a leader for an election timeout. True while that is being tried.
bool Node::Impl::hand_over_before_leaving() {
    if (transfer_target_.value != 0) {
        return true;
    }
    if (hand_overs_ >= kHandOversMax) {
        return false;
    }
    std::vector<std::pair<Index, ReplicaId>> heirs;
    for (const auto id : log.membership().voters) {
        if (const auto it = followers_.find(id);
            it != followers_.end() && it->second.recently_active) {
            heirs.emplace_back(it->second.match, id);
        }
    }
    if (heirs.empty()) {
        return false;
    }
    std::sort(heirs.rbegin(), heirs.rend());
    start_transfer(heirs[static_cast<std::size_t>(hand_overs_) % heirs.size()].second);
    ++hand_overs_;
    return true;
}

}  // namespace nbos::raft
