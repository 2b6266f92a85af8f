#include "tests/cluster/platform_interpreters.h"

#include <utility>
#include <vector>

namespace nbos::testing {
namespace {

constexpr milliseconds kSurvivorsWait{45'000};

}  // namespace

using agent::InterpreterId;

PlatformInterpreters::PlatformInterpreters(std::string host, InterpreterOptions options,
                                           SimInterpreter::Ports ports)
    : host_(std::move(host)), options_(options), ports_(std::move(ports)) {
    ports_.ended = [this](InterpreterId id, const std::string& why) { ended(id, why); };
}

SimInterpreter* PlatformInterpreters::find(InterpreterId id) const {
    const auto found = slots_.find(id);
    return found == slots_.end() ? nullptr : found->second.process.get();
}

InterpreterId PlatformInterpreters::start(const agent::Adoption& adoption) {
    if (const auto survivor = claim_survivor(adoption)) {
        return *survivor;
    }
    const InterpreterId id{++last_id_};
    auto process = std::make_shared<SimInterpreter>(id, host_ + "." + std::to_string(id.value),
                                                    adoption, options_, ports_);
    slots_[id] = {.process = process};
    process->start();
    return id;
}

// ---- agents come and go ----

void PlatformInterpreters::agent_gone() {
    ++life_;
    std::erase_if(slots_, [](const auto& entry) { return !entry.second.process->adopted(); });
    for (auto& [id, slot] : slots_) {
        slot = {.process = slot.process, .survives = true};
        slot.process->agent_gone();
    }
}

void PlatformInterpreters::agent_starts() {
    for (auto& [id, slot] : slots_) {
        slot.process->agent_listens(
            [this, id = id](const agent::Survivor& survivor) { came_back(id, survivor); });
    }
    ports_.time.after(kSurvivorsWait, [this, life = life_] {
        if (life == life_) {
            end_unclaimed();
        }
    });
}

std::optional<InterpreterId> PlatformInterpreters::claim_survivor(const agent::Adoption& adoption) {
    for (auto& [id, slot] : slots_) {
        const auto& owner = slot.process->adoption();
        if (slot.survives && !slot.claimed && owner.kernel == adoption.kernel &&
            owner.replica == adoption.replica) {
            slot.claimed = true;
            if (slot.back) {
                ports_.to_agent([id = id, back = *slot.back](auto& agent) {
                    agent.interpreter_resumed(id, back);
                });
            }
            return id;
        }
    }
    return std::nullopt;
}

void PlatformInterpreters::came_back(InterpreterId id, const agent::Survivor& survivor) {
    auto& slot = slots_.at(id);
    slot.back = survivor;
    if (slot.claimed) {
        ports_.to_agent([id, survivor](auto& agent) { agent.interpreter_resumed(id, survivor); });
    }
}

void PlatformInterpreters::end_unclaimed() {
    std::vector<InterpreterId> unclaimed;
    for (const auto& [id, slot] : slots_) {
        if (slot.survives && !(slot.claimed && slot.back)) {
            unclaimed.push_back(id);
        }
    }
    for (const auto id : unclaimed) {
        ended(id, "it outlived its agent, but did not answer the next one");
    }
}

void PlatformInterpreters::discard_survivors(KernelId kernel, ReplicaId replica) {
    std::vector<InterpreterId> orphans;
    for (const auto& [id, slot] : slots_) {
        const auto& owner = slot.process->adoption();
        if (slot.survives && !slot.claimed && owner.kernel == kernel && owner.replica == replica) {
            orphans.push_back(id);
        }
    }
    for (const auto id : orphans) {
        discard(id);
    }
}

bool PlatformInterpreters::survives(InterpreterId id) const {
    const auto found = slots_.find(id);
    return found != slots_.end() && found->second.survives;
}

void PlatformInterpreters::resume(InterpreterId id) {
    if (auto* process = find(id)) {
        slots_.at(id).survives = false;
        process->resume();
    }
}

// ---- ends ----

void PlatformInterpreters::ended(InterpreterId id, const std::string& why) {
    if (slots_.erase(id) > 0) {
        ports_.to_agent([id, why](auto& agent) { agent.interpreter_ended(id, why); });
    }
}

void PlatformInterpreters::kill_all(const std::string& why) {
    for (const auto& [id, slot] : std::map(slots_)) {
        ended(id, why);
    }
}

void PlatformInterpreters::end_all() {
    ++life_;
    slots_.clear();
}

void PlatformInterpreters::crash(InterpreterId id) {
    if (auto* process = find(id)) {
        process->crash();
    }
}

void PlatformInterpreters::discard(InterpreterId id) { slots_.erase(id); }

// ---- what the agent tells them ----

void PlatformInterpreters::settled(InterpreterId id, CellNumber cell) {
    if (auto* process = find(id)) {
        process->settled(cell);
    }
}

void PlatformInterpreters::expect(InterpreterId id, const agent::Survivor::Claim& claim) {
    if (auto* process = find(id)) {
        process->expect(claim);
    }
}

void PlatformInterpreters::load(InterpreterId id, Sequence sequence, Bytes table) {
    if (auto* process = find(id)) {
        process->load(sequence, std::move(table));
    }
}

void PlatformInterpreters::apply(InterpreterId id, Sequence base, Sequence sequence, Bytes delta) {
    if (auto* process = find(id)) {
        process->apply(base, sequence, std::move(delta));
    }
}

void PlatformInterpreters::run(InterpreterId id, const agent::RunOrder& order) {
    if (auto* process = find(id)) {
        process->run(order);
    }
}

void PlatformInterpreters::send(InterpreterId id, const jupyter::Message& message) {
    if (auto* process = find(id)) {
        process->send(message);
    }
}

void PlatformInterpreters::interrupt(InterpreterId id) {
    if (auto* process = find(id)) {
        process->interrupt();
    }
}

}  // namespace nbos::testing
