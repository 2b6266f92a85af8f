#include "tests/cluster/cell_sim.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <utility>
#include <variant>

namespace nbos::testing {
namespace {

constexpr Ticks kDelayMax = 8;

}  // namespace

CellSimOptions swarm(std::uint64_t seed) {
    Rng rng(seed * 0x9E3779B97F4A7C15ULL + 1);
    CellSimOptions options{.seed = seed};
    const auto maybe = [&rng](double often) {
        const double strength = static_cast<double>(1 + rng.below(4)) / 4;
        return rng.chance(0.5) ? often * strength : 0.0;
    };
    options.faults = {.message_loss = maybe(0.3),
                      .message_repeat = maybe(0.2),
                      .crash = maybe(0.01),
                      .pause = maybe(0.008),
                      .cut = maybe(0.01),
                      .leader_change = maybe(0.02),
                      .member_change = maybe(0.008),
                      .interpreter_crash = maybe(0.01),
                      .spurious_loss = maybe(0.01),
                      .yield = maybe(0.3),
                      .race = maybe(0.1),
                      .cell_error = maybe(0.3),
                      .parts = maybe(1.0),
                      .restart = maybe(0.003),
                      .cancel = maybe(0.01),
                      .gateway_restart = maybe(0.01)};
    options.silence_grace = 20 + rng.below(100);
    options.compact_every = rng.chance(0.6) ? 5 + rng.below(60) : 0;
    options.cell_ticks_max = 1 + rng.below(120);
    options.cells = 8 + rng.below(20);
    return options;
}

CellSim::CellSim(CellSimOptions options, std::unique_ptr<Consensus> consensus)
    : options_(options),
      rng_(options.seed),
      consensus_(std::move(consensus)),
      gateway_(*this, checker_, options.planted, options.seed ^ 0x6A7E) {
    consensus_->start(*this);
}

// ---- consensus ----

void CellSim::node_started(ReplicaId id) {
    const DriverOptions driver{.faults = healed_ ? CellFaults{} : options_.faults,
                               .planted = options_.planted,
                               .silence_grace = options_.silence_grace,
                               .cell_ticks_min = options_.cell_ticks_min,
                               .cell_ticks_max = options_.cell_ticks_max,
                               .compact_every = options_.compact_every};
    drivers_[id] = std::make_unique<CellDriver>(id, *this, checker_, driver, rng_.next());
}

void CellSim::node_crashed(ReplicaId id) {
    drivers_.erase(id);
    checker_.crashed(id);
}

void CellSim::restore(ReplicaId id, Index index, std::string_view state) {
    drivers_.at(id)->restore(index, state);
}

void CellSim::apply(ReplicaId id, const raft::Entry& entry) { drivers_.at(id)->apply(entry); }

Bytes CellSim::snapshot(ReplicaId id) { return drivers_.at(id)->machine().snapshot(); }

bool CellSim::propose(ReplicaId from, Bytes command) {
    return consensus_->propose(from, std::move(command));
}

void CellSim::compact(ReplicaId self, Index index, Bytes state) {
    consensus_->compact(self, index, std::move(state));
}

PeerHealth CellSim::health(ReplicaId self, ReplicaId other) const {
    const auto processes = consensus_->processes();
    const bool exists = std::find(processes.begin(), processes.end(), other) != processes.end();
    if (!exists || !consensus_->connected(self, other)) {
        // A crash is proven only to who can reach the host.
        return exists && !consensus_->alive(other) ? PeerHealth::kDead : PeerHealth::kSilent;
    }
    return consensus_->paused(other) ? PeerHealth::kSilent : PeerHealth::kAlive;
}

// ---- letters between gateway and drivers ----

void CellSim::to_gateway(ReplicaId from, ToGateway message) {
    post({.from = from, .to_gateway = std::move(message)});
}

void CellSim::to_some_driver(ToDriver message) {
    const auto ids = consensus_->processes();
    const auto lead = leader();
    const auto to = lead.value != 0 && rng_.chance(0.7) ? lead : ids[rng_.below(ids.size())];
    post({.to = to, .to_driver = std::move(message)});
}

void CellSim::post(Letter letter) {
    if (rng_.chance(options_.faults.message_loss)) {
        return;
    }
    if (rng_.chance(options_.faults.message_repeat)) {
        letters_.emplace(now_ + 1 + rng_.below(20 * kDelayMax), letter);
    }
    letters_.emplace(now_ + 1 + rng_.below(kDelayMax), std::move(letter));
}

void CellSim::deliver() {
    while (!letters_.empty() && letters_.begin()->first <= now_) {
        const auto letter = std::move(letters_.extract(letters_.begin()).mapped());
        const auto peer = letter.to.value != 0 ? letter.to : letter.from;
        if (letter.to.value == 0) {
            // What has left a process arrives also when that process is gone by then.
            std::visit([this](const auto& message) { gateway_.handle(message); },
                       letter.to_gateway);
        } else if (!consensus_->connected(peer, ReplicaId{})) {
            continue;
        } else if (consensus_->paused(peer)) {
            letters_.emplace(now_ + 10, letter);
        } else {
            drivers_.at(peer)->handle(letter.to_driver);
        }
    }
}

// ---- time ----

void CellSim::disturb() {
    consensus_->disturb(options_.faults);
    if (rng_.chance(options_.faults.restart)) {
        gateway_.restart_kernel();
    }
    if (rng_.chance(options_.faults.cancel)) {
        gateway_.interrupt();
    }
    if (rng_.chance(options_.faults.gateway_restart)) {
        gateway_.crash_and_restart();
    }
}

void CellSim::tick() {
    ++now_;
    if (!healed_) {
        disturb();
    }
    consensus_->tick(now_);
    deliver();
    gateway_.tick(now_);
    for (const auto id : consensus_->processes()) {
        if (consensus_->alive(id) && !consensus_->paused(id)) {
            drivers_.at(id)->tick(now_);
        }
    }
}

std::optional<std::string> CellSim::run() {
    const Ticks pace = options_.chaos_ticks / (options_.cells + 1);
    std::size_t submitted = 0;
    while (now_ < options_.chaos_ticks && !violation()) {
        if (submitted < options_.cells && now_ >= submitted * pace) {
            gateway_.submit();
            ++submitted;
            if (rng_.chance(0.3) && submitted < options_.cells) {
                gateway_.submit();  // "run all"
                ++submitted;
            }
        }
        tick();
    }
    return finish();
}

void CellSim::heal() {
    healed_ = true;
    options_.faults = {};
    consensus_->heal();
    for (const auto& [id, driver] : drivers_) {
        driver->heal();
    }
}

std::optional<std::string> CellSim::finish() {
    heal();
    run_until([this] { return gateway_.waiting().empty() && everyone_agrees(); },
              options_.healing_ticks_max);
    if (!violation()) {
        checker_.finish(gateway_.submitted(), gateway_.waiting());
    }
    if (!violation() && !everyone_agrees()) {
        return "liveness: the members did not come to one state";
    }
    return violation();
}

std::optional<std::string> CellSim::violation() const {
    const auto own = checker_.violation();
    return own ? own : consensus_->violation();
}

bool CellSim::everyone_agrees() const {
    std::set<Index> applied;
    const auto lead = leader();
    if (lead.value == 0) {
        return false;
    }
    for (const auto id : consensus_->membership(lead).voters) {
        // After healing only a replica whose disk was lost is still down.
        if (const auto found = drivers_.find(id); found != drivers_.end()) {
            applied.insert(found->second->applied());
        }
    }
    return applied.size() == 1;
}

CellDriver* CellSim::driver(ReplicaId id) {
    const auto found = drivers_.find(id);
    return found == drivers_.end() ? nullptr : found->second.get();
}

std::string CellSim::describe() const {
    std::string text;
    for (const auto id : consensus_->processes()) {
        const auto found = drivers_.find(id);
        text += fmt::format(
            "replica {}{}: {}{}; knows", id.value, consensus_->leads(id) ? " leads" : "",
            found == drivers_.end() ? "dead" : found->second->describe(), consensus_->describe(id));
        const auto& members = consensus_->membership(id);
        const auto list = [&text](const char* what, const std::set<ReplicaId>& ids) {
            text += ids.empty() ? "" : what;
            for (const auto one : ids) {
                text += fmt::format(" {}", one.value);
            }
        };
        list(" voters", members.voters);
        list(", outgoing", members.outgoing);
        list(", learners", members.learners);
        text += '\n';
    }
    return text;
}

ReplicaId CellSim::leader() const {
    for (const auto id : consensus_->processes()) {
        if (consensus_->alive(id) && consensus_->leads(id)) {
            return id;
        }
    }
    return {};
}

ReplicaId CellSim::executor() const {
    for (const auto& [id, driver] : drivers_) {
        if (driver->running()) {
            return id;
        }
    }
    return {};
}

}  // namespace nbos::testing
