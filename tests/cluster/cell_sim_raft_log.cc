#include "tests/cluster/cell_sim_raft_log.h"

#include <fmt/core.h>

#include <utility>

namespace nbos::testing {

SimConfig raft_config(std::uint64_t seed) {
    auto config = SimConfig::draw(seed);
    config.propose_every_ms = 0;  // the clients are the drivers
    config.read_every_ms = 0;
    config.tick_ms = 10;
    return config;
}

void RaftLog::start(ConsensusListener& listener) {
    listener_ = &listener;
    sim_ = std::make_unique<RaftSim>(config_, this);
}

void RaftLog::tick(Ticks now) {
    now_ = now;
    if (violation_) {
        return;
    }
    if (const auto broken = sim_->run_for(config_.tick_ms)) {
        violation_ = "Raft: " + broken->str();
        return;
    }
    for (auto& [id, wait] : catch_up_) {
        const bool again = !wait.until && (!wait.asked || wait.asked_at + 20 < now);
        if (again && alive(id) && !paused(id)) {
            wait.asked = ++contexts_;
            wait.asked_at = now;
            sim_->read(id, *wait.asked);
        }
    }
}

// RaftSim's own faults come from its configuration. These are the ones that a cell makes special.
void RaftLog::disturb(const CellFaults& faults) {
    auto& rng = sim_->rng();
    if (rng.chance(faults.cut)) {
        const auto ids = processes();
        cut(ids[rng.below(ids.size())], 5 + rng.below(100));
    }
    if (rng.chance(faults.leader_change)) {
        const auto ids = processes();
        transfer(ids[rng.below(ids.size())]);
    }
}

// ---- what the drivers use ----

bool RaftLog::propose(ReplicaId from, Bytes command) {
    return sim_->propose(from, std::move(command)).has_value();
}

void RaftLog::compact(ReplicaId id, Index, Bytes) {
    sim_->call_on(id, 0, [this, id] { sim_->compact(id); });  // not from within an apply
}

void RaftLog::transfer(ReplicaId to) {
    if (auto* asked = alive(to) ? node(to) : nullptr) {
        asked->transfer_leadership(to);
        sim_->poke(to);
    }
}

std::string RaftLog::describe(ReplicaId id) const {
    const auto* found = node(id);
    if (found == nullptr) {
        return {};
    }
    const auto term = found->term_at(found->last_index());
    return fmt::format(", {} of {} in term {}, committed {}, last {} of term {}, from {}{}",
                       found->role() == raft::Role::kFollower ? "follower" : "candidate or leader",
                       found->leader().value, found->term().value, found->committed().value,
                       found->last_index().value, term ? term->value : 0,
                       found->first_index().value, sim_->is_quiet(id) ? ", quiet" : "");
}

bool RaftLog::leads(ReplicaId id) const {
    const auto* found = node(id);
    return found != nullptr && found->role() == raft::Role::kLeader;
}

const Membership& RaftLog::membership(ReplicaId id) const {
    static const Membership kNone;
    const auto* found = node(id);
    return found == nullptr ? kNone : found->membership();
}

bool RaftLog::caught_up(ReplicaId id) const {
    const auto* found = node(id);
    if (found == nullptr) {
        return false;
    }
    if (leads(id) && found->term_at(found->applied()) == found->term()) {
        return true;
    }
    const auto wait = catch_up_.find(id);
    return wait != catch_up_.end() && wait->second.until && *wait->second.until <= found->applied();
}

bool RaftLog::connected(ReplicaId a, ReplicaId b) const {
    const auto reaches_gateway = [this](ReplicaId id) {
        const auto cut = cut_until_.find(id);
        return alive(id) && (cut == cut_until_.end() || cut->second <= now_ || sim_->healing());
    };
    if (a.value == 0 || b.value == 0) {
        return reaches_gateway(a.value == 0 ? b : a);
    }
    return alive(a) && alive(b) && sim_->connected(a, b) && sim_->connected(b, a);
}

void RaftLog::cut(ReplicaId id, Ticks ticks) {
    sim_->isolate(id, ms(ticks));
    cut_until_[id] = now_ + ticks;
}

void RaftLog::replace(ReplicaId removed) {
    const auto lead = sim_->leader();
    if (lead.value == 0) {
        return;
    }
    auto next = node(lead)->membership();
    next.voters.erase(removed);
    next.learners.erase(removed);
    if (node(lead)->change_membership(next)) {
        sim_->poke(lead);
    }
}

// ---- SimListener ----

void RaftLog::node_started(RaftSim&, ReplicaId id) {
    catch_up_[id] = {};
    listener_->node_started(id);
}

void RaftLog::node_crashed(RaftSim&, ReplicaId id) {
    catch_up_.erase(id);
    listener_->node_crashed(id);
}

void RaftLog::restore(RaftSim&, ReplicaId id, const raft::Snapshot& snapshot) {
    listener_->restore(id, snapshot.index, snapshot.state.view());
}

void RaftLog::apply(RaftSim&, ReplicaId id, const raft::Entry& entry) {
    listener_->apply(id, entry);
}

void RaftLog::read_ready(RaftSim&, ReplicaId id, std::uint64_t context, Index index) {
    auto& wait = catch_up_[id];
    if (wait.asked == context && !wait.until) {
        wait.until = index;
    }
}

void RaftLog::read_lost(RaftSim&, ReplicaId id, std::uint64_t context) {
    auto& wait = catch_up_[id];
    if (wait.asked == context) {
        wait.asked.reset();
    }
}

}  // namespace nbos::testing
