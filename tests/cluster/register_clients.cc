#include "tests/cluster/register_clients.h"

#include <algorithm>
#include <utility>

namespace nbos::testing {
namespace {

constexpr RegisterKey kKeys = 3;
constexpr int kQuietAfterHealingMs = 400;

bool chance_of_seed(std::uint64_t seed) { return Rng(seed ^ 0x5245474953544552ULL).chance(0.5); }

}  // namespace

SimConfig register_config(std::uint64_t seed) {
    auto config = SimConfig::draw(seed);
    config.propose_every_ms = 0;
    config.read_every_ms = 0;
    return config;
}

RegisterClients::RegisterClients(std::uint64_t seed, RegisterFault fault)
    : rng_(seed * 0xD1342543DE82EF95ULL + 7),
      fault_(fault),
      asks_again_(chance_of_seed(seed)),
      clients_(3 + rng_.below(4)),
      seen_(kKeys) {
    for (std::size_t i = 0; i < clients_.size(); ++i) {
        clients_[i].id = static_cast<std::uint32_t>(i + 1);
    }
}

// --- The nodes -----------------------------------------------------------------------------------

void RegisterClients::node_started(RaftSim&, ReplicaId id) {
    const bool once = asks_again_ && fault_ != RegisterFault::kRepeatsTakeEffect;
    machines_.insert_or_assign(id, RegisterMachine(once));
}

void RegisterClients::node_crashed(RaftSim& sim, ReplicaId id) {
    machines_.erase(id);
    for (auto& c : clients_) {
        if (!c.request) {
            continue;
        }
        c.request->asked.erase(id);
        if (c.request->at == id) {
            leave(sim, c);
        }
    }
}

void RegisterClients::restore(RaftSim& sim, ReplicaId id, const raft::Snapshot& snapshot) {
    auto& machine = machines_.at(id);
    machine.restore(snapshot, fault_ != RegisterFault::kSnapshotForgetsSessions);
    for (auto& c : clients_) {
        if (c.request && !is_read(c) && c.request->asked.contains(id)) {
            if (const auto result = machine.answer(c.id, c.request->number)) {
                answer(sim, c, *result);
            }
        }
    }
    answer_reads(sim, id);
}

void RegisterClients::apply(RaftSim& sim, ReplicaId id, const raft::Entry& entry) {
    if (const auto applied = machines_.at(id).apply(entry)) {
        counts_.repeats += applied->is_repeat ? 1U : 0U;
        auto& c = clients_.at(applied->command.client - 1);
        if (c.request && c.request->number == applied->command.number &&
            c.request->asked.contains(id)) {
            answer(sim, c, applied->result);
        }
    }
    answer_reads(sim, id);
}

Bytes RegisterClients::snapshot(RaftSim&, ReplicaId id) { return machines_.at(id).snapshot(); }

void RegisterClients::answer_reads(RaftSim& sim, ReplicaId id) {
    const auto& machine = machines_.at(id);
    for (auto& c : clients_) {
        if (c.request && c.request->at == id && c.request->read_at &&
            *c.request->read_at <= machine.applied()) {
            answer(sim, c, {machine.value(c.request->call.key), false});
        }
    }
}

RegisterClients::Client* RegisterClients::reader(ReplicaId id, std::uint64_t context) {
    const auto it = std::find_if(clients_.begin(), clients_.end(), [&](const Client& c) {
        return c.request && c.request->at == id && c.request->context == context;
    });
    return it == clients_.end() ? nullptr : &*it;
}

void RegisterClients::read_ready(RaftSim& sim, ReplicaId id, std::uint64_t context, Index index) {
    if (auto* c = reader(id, context)) {
        c->request->read_at = fault_ == RegisterFault::kReadWithoutWaiting ? Index{} : index;
        answer_reads(sim, id);
    }
}

void RegisterClients::read_lost(RaftSim& sim, ReplicaId id, std::uint64_t context) {
    if (auto* c = reader(id, context)) {
        leave(sim, *c);
    }
}

// --- The clients ---------------------------------------------------------------------------------

// Microseconds: every event has one of its own, in the order in which they happened.
HistoryTime RegisterClients::time(const RaftSim& sim) {
    last_time_ = std::max<HistoryTime>(last_time_ + 1, HistoryTime{sim.now()} * 1000);
    return last_time_;
}

ReplicaId RegisterClients::somebody(RaftSim& sim) {
    const auto all = sim.replicas();
    return all[rng_.below(all.size())];
}

// Most of the time a client is told; otherwise it asks a node whom it follows, or guesses.
void RegisterClients::believe(RaftSim& sim, Client& c) {
    c.believed = somebody(sim);
    if (rng_.chance(0.4)) {
        if (const auto leader = sim.leader(); leader.value != 0) {
            c.believed = leader;
        }
    } else if (const auto* node = sim.node(c.believed); node != nullptr && rng_.chance(0.7)) {
        if (const auto leader = node->leader(); leader.value != 0) {
            c.believed = leader;
        }
    }
}

void RegisterClients::act(RaftSim& sim) {
    for (auto& c : clients_) {
        if (!c.request) {
            const bool is_quiet = quiet_at_ && *quiet_at_ <= sim.now();
            if (!is_quiet && c.idle_until <= sim.now()) {
                begin(sim, c);
            }
        } else if (c.request->give_up_at <= sim.now()) {
            abandon(sim, c);
        } else if (c.request->at.value == 0 || c.request->ask_again_at <= sim.now()) {
            if (c.request->at.value != 0) {
                leave(sim, c);
            }
            if (c.request) {
                ask(sim, c);
            }
        }
    }
}

void RegisterClients::healed(RaftSim& sim) { quiet_at_ = sim.now() + kQuietAfterHealingMs; }

RegisterCall RegisterClients::next_call(const RaftSim& sim) {
    RegisterCall call;
    call.key = static_cast<RegisterKey>(rng_.below(kKeys));
    if (rng_.chance(sim.healing() ? 0.8 : 0.5)) {
        return call;
    }
    call.value = ++values_;
    call.action = rng_.chance(0.6) ? RegisterAction::kWrite : RegisterAction::kCompareAndSet;
    call.expected = call.action == RegisterAction::kCompareAndSet ? seen_[call.key] : 0;
    return call;
}

void RegisterClients::begin(RaftSim& sim, Client& c) {
    c.request = Request{};
    c.request->call = next_call(sim);
    c.request->number = ++c.requests;
    c.request->operation = history_.size();
    c.request->give_up_at = sim.now() + 300 + static_cast<int>(rng_.below(700));
    history_.push_back({c.id, c.request->call, time(sim), std::nullopt, std::nullopt});
    if (c.believed.value == 0 || rng_.chance(0.05)) {
        believe(sim, c);
    }
    ask(sim, c);
}

// The request takes a moment to arrive; a paused node gets it when it goes on, a crashed one never.
void RegisterClients::ask(RaftSim& sim, Client& c) {
    auto& request = *c.request;
    request.ask_again_at = sim.now() + 40 + static_cast<int>(rng_.below(200));
    if (!sim.is_up(c.believed)) {
        believe(sim, c);
        return;
    }
    request.at = c.believed;
    sim.call_on(
        request.at, static_cast<int>(rng_.below(10)),
        [this, &sim, &c, number = request.number, id = request.at] { arrive(sim, c, number, id); });
}

void RegisterClients::arrive(RaftSim& sim, Client& c, std::uint32_t number, ReplicaId id) {
    if (!c.request || c.request->number != number || c.request->at != id) {
        return;  // answered, or asked elsewhere, meanwhile
    }
    if (is_read(c)) {
        c.request->context = ++contexts_;
        if (fault_ == RegisterFault::kReadWithoutAsking) {
            answer(sim, c, {machines_.at(id).value(c.request->call.key), false});
        } else {
            sim.read(id, c.request->context);
        }
        return;
    }
    const auto call = c.request->call;
    if (!c.request->asked.insert(id).second) {
        return;  // that node has it, and proposes it until it is committed
    }
    if (fault_ == RegisterFault::kAnswerBeforeCommit && call.action == RegisterAction::kWrite) {
        sim.propose(id, encode({c.id, number, call}));
        if (c.request && c.request->number == number) {
            answer(sim, c, {0, true});
        }
        return;
    }
    const bool was_proposed = std::exchange(c.request->is_proposed, true);
    if (!sim.propose(id, encode({c.id, number, call}))) {
        c.request->is_proposed = was_proposed;
        c.request->asked.erase(id);
        leave(sim, c);
    }
}

// No answer from there.
void RegisterClients::leave(RaftSim& sim, Client& c) {
    auto& request = *c.request;
    const bool may_ask_again = is_read(c) || asks_again_ || !request.is_proposed;
    if (!may_ask_again && !sim.is_up(request.at)) {
        abandon(sim, c);
        return;
    }
    if (!may_ask_again) {
        request.ask_again_at = request.give_up_at;
        return;
    }
    request.at = {};
    request.context = 0;
    request.read_at.reset();
    ++counts_.asked_again;
    if (rng_.chance(0.6)) {
        believe(sim, c);
    }
}

void RegisterClients::abandon(RaftSim& sim, Client& c) {
    ++counts_.unknown;
    c.request.reset();
    c.idle_until = sim.now() + static_cast<int>(rng_.below(50));
}

void RegisterClients::answer(RaftSim& sim, Client& c, RegisterResult result) {
    const auto& call = c.request->call;
    if (is_read(c)) {
        ++counts_.reads;
        seen_[call.key] = result.value;
    } else {
        ++counts_.updates;
        seen_[call.key] = result.is_set ? call.value : seen_[call.key];
    }
    auto& operation = history_[c.request->operation];
    operation.returned_at = time(sim);
    operation.result = result;
    c.request.reset();
    c.idle_until = sim.now() + static_cast<int>(rng_.below(30));
}

void RegisterClients::finish(RaftSim&) {
    std::erase_if(history_, [](const auto& operation) {  // they say nothing
        return operation.call.action == RegisterAction::kRead && !operation.result;
    });
    const auto verdict = check_linearizable<RegisterModel>(history_);
    counts_.steps = verdict.steps;
    if (verdict.outcome == Linearizability::kViolated) {
        throw Violated{"linearizability", verdict.text};
    }
    if (verdict.outcome == Linearizability::kUndecided) {
        throw Violated{"linearizability was not decided", verdict.text};
    }
}

}  // namespace nbos::testing
