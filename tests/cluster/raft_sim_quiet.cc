// Quiescence in RaftSim: links between hosts, and what a quiet group must look like from outside.
#include <fmt/core.h>

#include <algorithm>

#include "tests/cluster/raft_sim.h"

namespace nbos::testing {
namespace {

constexpr int kLinkCheckMs = 5;

}  // namespace

HostId RaftSim::host_of(ReplicaId id) { return HostId{fmt::format("host-{}", id.value)}; }

void RaftSim::watch_links() {
    if (config_.options.quiet_after_ticks == 0) {
        return;  // nobody would ever be quiet
    }
    links_.emplace(
        SimLinks::World{
            .all = [this] { return replicas(); },
            .process = [this](ReplicaId id) { return is_up(id) ? at(id).process : 0; },
            .running = [this](ReplicaId id) { return is_up(id) && !is_paused(id); },
            .hears = [this](ReplicaId from, ReplicaId to) { return connected(from, to); },
            .tell = [this](auto self, auto peer, auto process) { tell_link(self, peer, process); }},
        config_.seed, config_.link_silence_ms);
    const auto check = [this](auto&& self) -> void {
        links_->check(now_);
        call(kLinkCheckMs, [self] { self(self); });
    };
    check(check);
}

void RaftSim::tell_link(ReplicaId id, ReplicaId peer, std::optional<std::uint64_t> process) {
    auto& r = at(id);
    if (!r.node) {
        return;
    }
    const auto host = host_of(peer);
    const auto change = process ? r.links.up(host, *process) : r.links.down(host);
    if (tracing_ && change != raft::HostLinks::Change::kNone) {
        trace(fmt::format("{} {} {}", id.value, process ? "hears the process of" : "has lost",
                          peer.value));
    }
    const bool is_new = change == raft::HostLinks::Change::kReborn;
    r.quiescence->link_changed(*r.node, host, change);
    if (is_new && is_quiet(id) && r.node->membership().is_member(peer)) {
        throw Violated{kQuietInvariant,
                       fmt::format("{} counts on what an earlier process of {} agreed to", id.value,
                                   peer.value)};
    }
    after_input(r);
}

void RaftSim::tell_death(ReplicaId dead) {
    for (auto& [id, r] : replicas_) {
        if (id != dead && r.node && rng_.chance(0.9)) {
            call_on(id, static_cast<int>(rng_.below(20)), [this, who = id, dead] {
                auto& told = at(who);
                told.quiescence->link_changed(*told.node, host_of(dead),
                                              raft::HostLinks::Change::kLost);
                told.node->peer_is_dead(dead);
            });
        }
    }
}

bool RaftSim::is_quiet(ReplicaId id) const { return is_up(id) && at(id).quiescence->quiet(); }

// Every member of the leader's configuration is quiet.
bool RaftSim::is_asleep() const {
    const auto id = leader();
    return id.value != 0 && std::all_of(replicas_.begin(), replicas_.end(), [&](const auto& other) {
               return !at(id).node->membership().is_member(other.first) || is_quiet(other.first);
           });
}

// A replica that believes itself a member, and is none, asks for votes for ever; one that is gone
// never agrees.
bool RaftSim::may_sleep() const {
    const auto id = leader();
    return config_.options.quiet_after_ticks > 0 && listener_ == nullptr && id.value != 0 &&
           std::all_of(replicas_.begin(), replicas_.end(), [&](const auto& other) {
               return at(id).node->membership().is_member(other.first) == !other.second.gone;
           });
}

// Nobody says anything to the sleeping group: it must notice by itself that its leader is gone for
// good, or that one of its members, a learner perhaps, was restarted within a blink.
std::optional<Violation> RaftSim::disturb_sleep() {
    if (!may_sleep()) {
        return std::nullopt;
    }
    auto victim = leader();
    const auto& members = at(victim).node->membership();
    const bool for_good = rng_.chance(0.5) && members.voters.size() >= 3;
    if (!for_good) {
        const auto all = replicas();
        victim = members.learners.empty() ? all[rng_.below(all.size())] : *members.learners.begin();
    }
    if (auto violation = guarded([&] { crash(victim, for_good ? std::optional<int>() : 1); })) {
        return violation;
    }
    if (auto violation = run_until([this] { return leader().value != 0; }, config_.calm_ms)) {
        return violation;
    }
    return guarded([&] {
        if (leader().value == 0) {
            throw Violated{"liveness", "nobody has noticed the death of a sleeping leader"};
        }
        restart(victim);
        if (auto violation = run_until_live()) {
            throw Violated{violation->invariant, "after a disturbed sleep: " + violation->detail};
        }
    });
}

void RaftSim::check_quiet(Replica& r) {
    const bool quiet = is_quiet(r.id);
    const bool leads = r.node->role() == raft::Role::kLeader;
    if (quiet != r.was_quiet && tracing_) {
        trace(fmt::format("{} {}", r.id.value, quiet ? "is quiet" : "is awake"));
    }
    sleeps_ += quiet && leads && !r.was_quiet ? 1U : 0U;
    r.was_quiet = quiet;
    if (!quiet) {
        return;
    }
    const auto& n = *r.node;
    if (n.has_output() || n.applied() != n.last_index() || n.leader().value == 0) {
        throw Violated{kQuietInvariant, fmt::format("{} is quiet, and not at rest", r.id.value)};
    }
    for (const auto& [id, other] : replicas_) {
        const bool behind = leads && n.membership().is_member(id) && !other.gone &&
                            !(other.node && other.node->applied() >= n.last_index()) &&
                            other.disk.durable.last() < n.last_index();
        if (behind) {
            throw Violated{kQuietInvariant, fmt::format("leader {} is quiet at {}; {} has {}",
                                                        r.id.value, n.last_index().value, id.value,
                                                        other.disk.durable.last().value)};
        }
        // Followers alone may differ: one has agreed, and its leader has gone on without it, or has
        // removed it.
        const bool settled = is_quiet(id) && !other.draining && other.node->term() == n.term();
        const bool follows = leads ? n.membership().is_member(id)
                                   : settled && other.node->role() == raft::Role::kLeader &&
                                         other.node->membership().is_member(r.id);
        if (settled && follows && other.node->last_index() != n.last_index()) {
            throw Violated{kQuietInvariant,
                           fmt::format("{} and {} are quiet in term {}, with {} and {} entries",
                                       r.id.value, id.value, n.term().value, n.last_index().value,
                                       other.node->last_index().value)};
        }
    }
}

}  // namespace nbos::testing
