#include "agent/member_change.h"

namespace nbos::agent {
namespace {

// A learner this close is caught up: the rest arrives while the joint stage commits.
constexpr std::uint64_t kLagMax = 16;

bool caught_up(const raft::Node& node, ReplicaId learner) {
    const auto progress = node.progress();
    const auto found = progress.find(learner);
    return found != progress.end() && !found->second.snapshotting &&
           found->second.match.value > 0 &&
           found->second.match.value + kLagMax >= node.committed().value;
}

}  // namespace

std::optional<Status> MemberChange::step(raft::Node& node, std::optional<ReplicaId> executor) {
    if (node.role() != raft::Role::kLeader) {
        return Error{.code = Errc::kNotLeader, .what = "this replica does not lead the kernel"};
    }
    if (!node.membership_settled()) {
        return std::nullopt;
    }
    const auto& now = node.membership();
    if (done(now)) {
        return ok();
    }
    const bool wants_learner = wish_.add && !now.is_member(wish_.add->first);
    if (wants_learner && wish_.remove && !now.is_member(*wish_.remove)) {
        return Error{.code = Errc::kInvalid,
                     .what = "the replica to be exchanged is no member any more"};
    }
    if (!wants_learner && wish_.add && !now.is_voter(wish_.add->first) &&
        !caught_up(node, wish_.add->first)) {
        return std::nullopt;
    }
    if (!wants_learner && wish_.cell_may_end && executor && removes(*executor)) {
        return std::nullopt;
    }
    const auto changed = node.change_membership(wants_learner ? with_learner(now) : swapped(now));
    // kExhausted passes by itself: a change under way, or no entry of this term committed yet.
    if (!changed && changed.error().code != Errc::kExhausted) {
        return changed.error();
    }
    return std::nullopt;
}

bool MemberChange::done(const Membership& now) const {
    const bool added = !wish_.add || now.is_voter(wish_.add->first);
    const bool removed = !wish_.remove || !now.is_member(*wish_.remove);
    return added && removed;
}

Membership MemberChange::with_learner(const Membership& now) const {
    auto next = now;
    next.learners.insert(wish_.add->first);
    next.hosts[wish_.add->first] = wish_.add->second;
    return next;
}

Membership MemberChange::swapped(const Membership& now) const {
    auto next = now;
    if (wish_.add) {
        next.learners.erase(wish_.add->first);
        next.voters.insert(wish_.add->first);
        next.hosts[wish_.add->first] = wish_.add->second;
    }
    if (wish_.remove) {
        next.voters.erase(*wish_.remove);
        next.learners.erase(*wish_.remove);
        next.hosts.erase(*wish_.remove);
    }
    return next;
}

}  // namespace nbos::agent
