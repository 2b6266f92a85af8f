#include "tests/cluster/cell_sim_naive_log.h"

#include <algorithm>
#include <utility>

namespace nbos::testing {
namespace {

constexpr Ticks kElectionTicks = 10;
constexpr std::size_t kPendingMax = 64;

}  // namespace

NaiveLog::NaiveLog(std::size_t replicas, std::uint64_t seed) : rng_(seed) {
    for (std::size_t i = 0; i < replicas; ++i) {
        members_.voters.insert(ReplicaId{next_id_++});
    }
    for (const auto id : members_.voters) {
        nodes_[id].membership = members_;
    }
}

void NaiveLog::start(ConsensusListener& listener) {
    listener_ = &listener;
    for (const auto& [id, node] : nodes_) {
        listener.node_started(id);
    }
}

bool NaiveLog::leads(ReplicaId id) const {
    return alive(id) && leader_ == id && nodes_.at(id).believes == term_;
}

bool NaiveLog::caught_up(ReplicaId id) const {
    return nodes_.at(id).applied >= nodes_.at(id).committed_at_start;
}

const Membership& NaiveLog::membership(ReplicaId id) const { return nodes_.at(id).membership; }

bool NaiveLog::connected(ReplicaId a, ReplicaId b) const {
    const auto up = [this](ReplicaId id) { return id.value == 0 || (alive(id) && !is_cut(id)); };
    return up(a) && up(b);
}

std::vector<ReplicaId> NaiveLog::processes() const {
    std::vector<ReplicaId> ids;
    for (const auto& [id, node] : nodes_) {
        ids.push_back(id);
    }
    return ids;
}

bool NaiveLog::has_quorum() const {
    std::size_t working = 0;
    for (const auto id : members_.voters) {
        working += works(id) ? 1U : 0U;
    }
    return 2 * working > members_.voters.size();
}

void NaiveLog::tick(Ticks now) {
    now_ = now;
    for (auto& [id, node] : nodes_) {
        if (!node.alive && node.back_at != 0 && node.back_at <= now) {
            restart(id);
        }
    }
    elect();
    if (has_quorum() && works(leader_)) {
        append_pending();
    }
    for (auto& [id, node] : nodes_) {
        if (works(id) && (id == leader_ || works(leader_)) && rng_.chance(0.7)) {
            apply_some(id, node);
        }
    }
}

void NaiveLog::elect() {
    const bool led = leader_.value != 0 && works(leader_) && members_.is_voter(leader_);
    if (led || !has_quorum()) {
        leaderless_since_ = now_;
        return;
    }
    if (now_ - leaderless_since_ < kElectionTicks) {
        return;
    }
    std::vector<ReplicaId> able;
    for (const auto id : members_.voters) {
        if (works(id)) {
            able.push_back(id);
        }
    }
    transfer(able[rng_.below(able.size())]);
}

void NaiveLog::transfer(ReplicaId to) {
    if (!works(to) || !members_.is_voter(to) || !has_quorum()) {
        return;
    }
    leader_ = to;
    term_ = Term{term_.value + 1};
    nodes_.at(to).believes = term_;
    append(raft::EntryKind::kNoop, {});
}

void NaiveLog::append(raft::EntryKind kind, Bytes data) {
    log_.push_back(
        {.term = term_, .index = Index{log_.size() + 1}, .kind = kind, .data = std::move(data)});
}

void NaiveLog::append_pending() {
    for (auto& [id, node] : nodes_) {
        if (!works(id) || !members_.is_member(id)) {
            continue;
        }
        while (!node.pending.empty() && rng_.chance(0.5)) {
            // A forwarded proposal may overtake the one before it.
            const std::size_t at = id != leader_ && rng_.chance(0.1) ? node.pending.size() - 1 : 0;
            append(raft::EntryKind::kCommand, node.pending[at]);
            node.pending.erase(node.pending.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
}

void NaiveLog::apply_some(ReplicaId id, Node& node) {
    for (auto n = 1 + rng_.below(6); n > 0 && node.alive && node.applied < log_.size(); --n) {
        const auto entry = log_[node.applied++];
        node.believes = std::max(node.believes, entry.term);
        if (entry.kind == raft::EntryKind::kMembership) {
            Reader in(entry.data.view());
            node.membership = *decode_membership(in);
        }
        listener_->apply(id, entry);
    }
}

bool NaiveLog::propose(ReplicaId from, Bytes command) {
    auto& node = nodes_.at(from);
    if (node.pending.size() >= kPendingMax) {
        return false;
    }
    node.pending.push_back(std::move(command));
    return true;
}

void NaiveLog::compact(ReplicaId id, Index index, Bytes state) {
    nodes_.at(id).snapshot_at = index.value;
    nodes_.at(id).snapshot = std::move(state);
}

void NaiveLog::install(ReplicaId id, Node& node, std::size_t at, const Bytes& state) {
    node.applied = at;
    node.membership = members_;
    if (!state.empty()) {
        listener_->restore(id, Index{at}, state.view());
    }
}

void NaiveLog::crash(ReplicaId id) {
    auto& node = nodes_.at(id);
    if (!node.alive) {
        return;
    }
    node.alive = false;
    node.pending.clear();
    node.back_at = 0;
    if (leader_ == id) {
        leader_ = ReplicaId{};
    }
    listener_->node_crashed(id);
}

void NaiveLog::restart(ReplicaId id) {
    auto& node = nodes_.at(id);
    if (node.alive) {
        return;
    }
    node.alive = true;
    node.believes = Term{};
    node.committed_at_start = log_.size();
    listener_->node_started(id);
    install(id, node, node.snapshot_at, node.snapshot);
}

void NaiveLog::replace(ReplicaId removed) {
    if (!members_.is_voter(removed) || !has_quorum() || !works(leader_)) {
        return;
    }
    const ReplicaId added{next_id_++};
    // The removed one has still to learn of it, or never does.
    members_.voters.erase(removed);
    members_.voters.insert(added);
    Writer out;
    encode(out, members_);
    append(raft::EntryKind::kMembership, out.take_bytes());
    nodes_[added].membership = members_;
    listener_->node_started(added);
    const Node* donor = nullptr;  // with the newest snapshot
    for (const auto& [id, node] : nodes_) {
        if (donor == nullptr || node.snapshot_at > donor->snapshot_at) {
            donor = &node;
        }
    }
    nodes_[added].snapshot_at = donor->snapshot_at;
    nodes_[added].snapshot = donor->snapshot;
    install(added, nodes_[added], donor->snapshot_at, donor->snapshot);
}

void NaiveLog::disturb(const CellFaults& faults) {
    const auto ids = processes();
    const auto someone = ids[rng_.below(ids.size())];
    if (rng_.chance(faults.crash)) {
        crash(someone);
        nodes_.at(someone).back_at = now_ + 5 + rng_.below(200);
    }
    if (rng_.chance(faults.pause)) {
        pause(someone, 50 + rng_.below(300));
    }
    if (rng_.chance(faults.cut)) {
        cut(someone, 5 + rng_.below(200));
    }
    if (rng_.chance(faults.leader_change)) {
        transfer(someone);
    }
    if (rng_.chance(faults.member_change)) {
        replace(someone);
    }
    // A follower that is far behind gets a snapshot instead of entries.
    auto& node = nodes_.at(someone);
    const auto& other = nodes_.at(ids[rng_.below(ids.size())]);
    if (works(someone) && other.snapshot_at > node.applied) {
        node.snapshot_at = other.snapshot_at;
        node.snapshot = other.snapshot;
        install(someone, node, other.snapshot_at, other.snapshot);
    }
}

void NaiveLog::heal() {
    for (auto& [id, node] : nodes_) {
        node.paused_until = 0;
        node.cut_until = 0;
        if (members_.is_member(id)) {
            restart(id);
        }
    }
}

}  // namespace nbos::testing
