// The interpreters of a simulated host: they compute, on a state table in the real delta format.
//
// They belong to the host and not to its agent, so that they can outlive an agent that is killed.
// A cell's code is `OP NAME TAG` (history.h); it takes a random time, speaks in the middle, and
// answers over three sockets whose messages overtake each other, as those of a real kernel do.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/ports.h"
#include "base/ports.h"
#include "jupyter/message_factory.h"
#include "state/state_table.h"
#include "tests/cluster/platform_time.h"

namespace nbos::testing {

struct InterpreterOptions {
    int start_ms_max = 400;
    int cell_ms_max = 400;
    int command_ms_max = 5;
    int socket_us_max = 3000;  // of a message on its way to the agent
    // Planted bugs.
    bool forgets_spent_counts = false;
    bool standby_skips_deltas = false;
};

class PlatformInterpreters final : public agent::Interpreters {
public:
    struct Ports {
        VirtualTime& time;
        Rng& rng;
        const jupyter::MessageFactory& factory;
        // Brings a call to the agent when it can take one; drops it when there is none.
        std::function<void(std::function<void(agent::InterpreterListener&)>)> to_agent;
        // User code of (session, msg_id) begins in the process that calls itself `who`.
        std::function<void(const std::string& session, const std::string& msg_id,
                           const std::string& who)>
            began;
        // A reply leaves the interpreter; for planted bugs.
        std::function<void(KernelId kernel, const jupyter::Message& reply)> replied;
    };
    PlatformInterpreters(std::string host, InterpreterOptions options, Ports ports)
        : host_(std::move(host)), options_(options), ports_(std::move(ports)) {}

    void kill_all(const std::string& why);   // each is reported
    void drop_all() { processes_.clear(); }  // the host is gone
    std::size_t running_cells() const;
    void set_cell_ms_max(int ms) { options_.cell_ms_max = ms; }

    agent::InterpreterId start(const agent::Adoption& adoption) override;
    void load(agent::InterpreterId id, Sequence sequence, Bytes table) override;
    void apply(agent::InterpreterId id, Sequence base, Sequence sequence, Bytes delta) override;
    void run(agent::InterpreterId id, const agent::RunOrder& order) override;
    void send(agent::InterpreterId id, const jupyter::Message& message) override;
    void interrupt(agent::InterpreterId id) override;
    void crash(agent::InterpreterId id) override;
    void discard(agent::InterpreterId id) override;

private:
    struct Running {
        std::uint64_t number = 0;
        std::string parent;
        std::string op;
        std::string name;
        std::string tag;
        std::uint64_t count = 0;
        bool changed = false;
    };
    struct Process {
        agent::InterpreterId id;
        KernelId kernel;
        std::string session;
        state::StateTable table;
        std::deque<std::function<void(Process&)>> commands;
        bool works = true;  // until it has started
        agent::RunOrder order;
        std::optional<Running> running;
        Instant said[3] = {};  // when the last message left: state socket, iopub, shell
    };
    enum Socket : int { kState, kIopub, kShell };
    using Report = std::function<void(agent::InterpreterListener&)>;

    void with(agent::InterpreterId id, const std::function<void(Process&)>& work);
    void later(agent::InterpreterId id, milliseconds delay, std::function<void(Process&)> work);
    void command(agent::InterpreterId id, std::function<void(Process&)> work);
    void next_command(Process& process);
    void done(Process& process);  // with the command under way
    void report(Process& process, Socket socket, Report report);
    void say(Process& process, Socket socket, std::string_view type, const std::string& parent,
             std::string content);
    void begin(Process& process, const jupyter::Message& request);
    void answer(Process& process, const jupyter::Message& request, const std::string& type);
    void middle(Process& process);
    void end(Process& process, std::string_view ename);
    std::string holds(const Process& process, const Running& cell) const;
    std::string value(const Process& process, const std::string& key) const;
    std::string who(const Process& process) const {
        return host_ + "." + std::to_string(process.id.value);
    }

    std::string host_;
    InterpreterOptions options_;
    Ports ports_;
    std::map<agent::InterpreterId, Process> processes_;
    std::uint64_t last_id_ = 0;
    std::uint64_t last_cell_ = 0;
};

}  // namespace nbos::testing
