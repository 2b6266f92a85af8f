// The interpreters of a simulated host, and what its warden keeps of them: they belong to the host
// and not to its agent, so that they outlive one that is killed.
//
// An agent that starts finds those that are some replica's; the first replica that starts one and
// is that replica gets it (io/interpreter_host.cc does the same with real processes).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "tests/cluster/platform_interpreter.h"

namespace nbos::testing {

class PlatformInterpreters final : public agent::Interpreters {
public:
    PlatformInterpreters(std::string host, InterpreterOptions options, SimInterpreter::Ports ports);

    void agent_gone();                      // its process was killed
    void agent_starts();                    // the next one: survivors come back to it
    void end_all();                         // the warden, or the whole host, is gone
    void kill_all(const std::string& why);  // each is reported

    agent::InterpreterId start(const agent::Adoption& adoption) override;
    bool survives(agent::InterpreterId id) const override;
    void resume(agent::InterpreterId id) override;
    void settled(agent::InterpreterId id, CellNumber cell) override;
    void expect(agent::InterpreterId id, const agent::Survivor::Claim& claim) override;
    void load(agent::InterpreterId id, Sequence sequence, Bytes table) override;
    void apply(agent::InterpreterId id, Sequence base, Sequence sequence, Bytes delta) override;
    void run(agent::InterpreterId id, const agent::RunOrder& order) override;
    void send(agent::InterpreterId id, const jupyter::Message& message) override;
    void interrupt(agent::InterpreterId id) override;
    void crash(agent::InterpreterId id) override;
    void discard(agent::InterpreterId id) override;
    void discard_survivors(KernelId kernel, ReplicaId replica) override;

private:
    struct Slot {
        std::shared_ptr<SimInterpreter> process;
        bool survives = false;                     // and was not resumed yet
        bool claimed = false;                      // by its replica
        std::optional<agent::Survivor> back = {};  // has said what it has
    };
    SimInterpreter* find(agent::InterpreterId id) const;
    std::optional<agent::InterpreterId> claim_survivor(const agent::Adoption& adoption);
    void came_back(agent::InterpreterId id, const agent::Survivor& survivor);
    void end_unclaimed();
    void ended(agent::InterpreterId id, const std::string& why);

    std::string host_;
    InterpreterOptions options_;
    SimInterpreter::Ports ports_;
    std::map<agent::InterpreterId, Slot> slots_;
    std::uint64_t last_id_ = 0;
    std::uint64_t life_ = 0;  // of agents
};

}  // namespace nbos::testing
