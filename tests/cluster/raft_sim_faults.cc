// The faults and clients of RaftSim that its configuration asks for.
#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "tests/cluster/raft_sim.h"

namespace nbos::testing {

void RaftSim::every(int mean_ms, std::function<void()> what) {
    if (mean_ms == 0) {
        return;
    }
    const auto wait = 1 + static_cast<int>(rng_.below(2 * static_cast<std::uint64_t>(mean_ms)));
    call(wait, [this, mean_ms, what = std::move(what)] {
        if (!healed_) {
            what();
            every(mean_ms, what);
        }
    });
}

void RaftSim::schedule_faults() {
    const auto on_one = [this](auto act) {
        return [this, act] {
            if (auto* r = pick_up()) {
                act(*r);
                poke(r->id);
            }
        };
    };
    const auto ms = [this](std::uint64_t low, std::uint64_t spread) {
        return static_cast<int>(low + rng_.below(spread));
    };
    every(config_.propose_every_ms, [this] { random_proposal(); });
    every(config_.read_every_ms, [this] { random_read(); });
    every(config_.crash_every_ms, [this] { random_crash(); });
    every(config_.power_loss_every_ms, [this] { power_loss(); });
    every(config_.partition_every_ms, [this] { random_partition(); });
    every(config_.compact_every_ms, [this] { random_compaction(); });
    every(config_.wipe_every_ms, [this] { random_wipe(); });
    every(config_.change_members_every_ms, [this] {
        if (const auto id = leader(); id.value != 0) {
            change_members(id);
        }
    });
    every(config_.pause_every_ms, on_one([this, ms](Replica& r) { pause(r.id, ms(5, 400)); }));
    every(config_.slow_disk_every_ms,
          on_one([this, ms](Replica& r) { r.slow_until = now_ + ms(50, 600); }));
    every(config_.skew_every_ms, on_one([this, ms](Replica& r) { r.tick_ms = ms(4, 25); }));
    every(config_.campaign_every_ms, on_one([](Replica& r) { r.node->campaign(); }));
    every(config_.transfer_every_ms, on_one([this](Replica& r) {
              if (const auto* target = pick_up()) {
                  r.node->transfer_leadership(target->id);
              }
          }));
    if (config_.false_deaths) {
        every(400, [this] {
            if (const auto* r = pick_up()) {
                tell_death(r->id);
            }
        });
    }
    if (listener_ != nullptr) {
        const auto act = [this](auto&& self) -> void {
            listener_->act(*this);
            call(config_.tick_ms, [self] { self(self); });
        };
        act(act);
    }
}

RaftSim::Replica* RaftSim::pick_up() {
    std::vector<Replica*> up;
    for (auto& [id, r] : replicas_) {
        if (r.node) {
            up.push_back(&r);
        }
    }
    return up.empty() ? nullptr : up[rng_.below(up.size())];
}

void RaftSim::random_proposal() {
    auto* r = pick_up();
    if (r == nullptr) {
        return;
    }
    const auto burst = rng_.chance(0.2) ? rng_.below(8) : 0;
    for (std::uint64_t i = 0; i <= burst; ++i) {
        const auto size = rng_.below(config_.command_bytes_max);
        propose(r->id, Bytes(std::string(size, static_cast<char>('a' + rng_.below(26)))));
    }
}

void RaftSim::random_read() {
    if (const auto* r = pick_up()) {
        read(r->id, ++reads_);
    }
}

void RaftSim::random_crash() {
    // Leaders more often than others: that is where it hurts.
    const auto id = rng_.chance(0.4) ? leader() : ReplicaId{};
    auto* r = id.value != 0 ? &at(id) : pick_up();
    if (r == nullptr) {
        return;
    }
    const auto victim = r->id;
    crash(victim, static_cast<int>(rng_.below(rng_.chance(0.5) ? 20 : 800)));
    if (config_.tell_deaths) {
        tell_death(victim);
    }
}

void RaftSim::power_loss() {
    for (const auto id : replicas()) {
        crash(id, static_cast<int>(rng_.below(300)));
    }
}

void RaftSim::random_partition() {
    const auto ms = static_cast<int>(20 + rng_.below(700));
    const auto all = replicas();
    const auto shape = rng_.below(4);
    if (shape == 0) {  // one alone, often the leader
        const auto id =
            rng_.chance(0.5) && leader().value != 0 ? leader() : all[rng_.below(all.size())];
        isolate(id, ms);
    } else if (shape == 1) {  // one direction of one pair
        cut(all[rng_.below(all.size())], all[rng_.below(all.size())], ms);
    } else if (shape == 2) {  // one hears nobody, or nobody hears it
        const auto id = all[rng_.below(all.size())];
        const bool deaf = rng_.chance(0.5);
        for (const auto other : all) {
            cut(deaf ? other : id, deaf ? id : other, ms);
        }
    } else {  // two halves
        std::map<ReplicaId, bool> side;
        for (const auto id : all) {
            side[id] = rng_.chance(0.5);
        }
        for (const auto a : all) {
            for (const auto b : all) {
                if (side[a] != side[b]) {
                    cut(a, b, ms);
                }
            }
        }
    }
}

void RaftSim::random_compaction() {
    auto* r = pick_up();
    if (r == nullptr || r->node->has_output()) {
        return;
    }
    if (rng_.chance(0.5)) {
        compact(r->id);
        return;
    }
    // A snapshot that takes a while to make: the log has moved on when it is ready.
    call_on(r->id, static_cast<int>(rng_.below(100)),
            [this, id = r->id, index = r->node->applied(), state = state_of(*r)] {
                compact_at(at(id), index, state);
            });
}

bool RaftSim::can_lose(ReplicaId id) const {
    auto configs = invariants_.configurations();
    for (const auto& [other, r] : replicas_) {
        if (r.node) {
            configs.push_back(r.node->membership());  // perhaps not written yet
        }
    }
    for (const auto& config : configs) {
        for (const auto* half : {&config.voters, &config.outgoing}) {
            std::size_t lost = 0;
            for (const auto voter : *half) {
                lost += voter == id || at(voter).gone ? 1U : 0U;
            }
            if (lost > 0 && 2 * lost >= half->size()) {
                return false;
            }
        }
    }
    return true;
}

void RaftSim::random_wipe() {
    const auto all = replicas();
    const auto id = all[rng_.below(all.size())];
    if (!at(id).gone && can_lose(id)) {
        if (tracing_) {
            trace(fmt::format("{} is wiped", id.value));
        }
        wipe(id);
    }
}

ReplicaId RaftSim::spare_learner() {
    return replicas_.size() < static_cast<std::size_t>(config_.replicas_max) ? add_replica()
                                                                             : ReplicaId{};
}

bool RaftSim::change_members(ReplicaId id) {
    auto& r = at(id);
    if (!r.node) {
        return false;
    }
    auto next = r.node->membership();  // also in the joint stage: the core must refuse
    next.outgoing.clear();
    const auto progress = r.node->progress();
    std::erase_if(next.voters, [&](ReplicaId voter) { return at(voter).gone; });
    if (next.voters.size() < 3 || rng_.chance(0.3)) {
        if (const auto spare = spare_learner(); spare.value != 0) {
            next.learners.insert(spare);
            next.hosts[spare] = host_of(spare);
        }
    }
    const auto learners = next.learners;
    for (const auto learner : learners) {
        const auto it = progress.find(learner);
        if (at(learner).gone) {
            next.learners.erase(learner);
        } else if (it != progress.end() && it->second.match.value > 0 && rng_.chance(0.6)) {
            next.learners.erase(learner);
            next.voters.insert(learner);
        }
    }
    const auto voters = next.voters;
    for (const auto voter : voters) {
        const auto left = next.voters.size();
        if (left > 1 && rng_.chance(left > 3 ? 0.3 : 0.08)) {
            next.voters.erase(voter);
            if (rng_.chance(0.3)) {
                next.learners.insert(voter);
            }
        }
    }
    std::erase_if(next.hosts, [&](const auto& at) { return !next.is_member(at.first); });
    if (next.voters.empty() || next == r.node->membership()) {
        return false;
    }
    const bool done = r.node->change_membership(next).has_value();
    if (tracing_ && done) {
        trace(fmt::format("{} changes members: {} voters, {} learners", id.value,
                          next.voters.size(), next.learners.size()));
    }
    poke(id);
    return done;
}

}  // namespace nbos::testing
