// One simulated interpreter: it computes, on a state table in the real delta format.
//
// It does what docs/reference/interpreter-protocol.md says of the real one. Frames of the private
// socket and messages of Jupyter's sockets come and go each at their own pace, a cell occupies it,
// and its answers overtake each other. When its agent is gone it goes on, keeps what it said of
// its cell, says hello to the next agent, repeats on resume; after the grace it ends.
//
// A cell's code is `OP NAME TAG` (history.h); it takes a random time, and speaks in the middle.
#pragma once

#include <deque>
#include <functional>
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
    int question_ms_max = 5;   // of the main thread, for a request that is no cell
    int socket_us_max = 3000;  // of a message on its way
    int hello_ms_max = 300;    // from an agent that listens to a survivor that is back
    // Planted bugs.
    bool forgets_spent_counts = false;
    bool standby_skips_deltas = false;
    bool repeats_nothing = false;    // on resume
    bool forgets_its_cell = false;   // says hello without the cell that it runs
    bool obeys_void_frames = false;  // of a connection that is gone
    bool obeys_gone_agents = false;  // begins what one allowed that is gone by now
};

class SimInterpreter : public std::enable_shared_from_this<SimInterpreter> {
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
        // The process ends by itself; this object is destroyed in there.
        std::function<void(agent::InterpreterId, const std::string& why)> ended;
    };
    SimInterpreter(agent::InterpreterId id, std::string who, agent::Adoption adoption,
                   InterpreterOptions options, Ports& ports);

    void start();
    agent::InterpreterId id() const { return id_; }
    const agent::Adoption& adoption() const { return adoption_; }
    bool adopted() const { return adopted_; }

    // ---- from the agent ----
    void load(Sequence sequence, Bytes table);
    void apply(Sequence base, Sequence sequence, Bytes delta);
    void run(const agent::RunOrder& order);
    void send(const jupyter::Message& message);
    void interrupt();
    void crash();
    void resume();
    void settled(CellNumber cell);
    void expect(const agent::Survivor::Claim& claim);

    // ---- its agent comes and goes ----
    void agent_gone();
    void agent_listens(std::function<void(const agent::Survivor&)> back);

private:
    enum class Link : std::uint8_t { kServed, kGone, kBack };
    enum Socket : int { kState, kIopub, kShell, kStdin, kSockets };
    using Report = std::function<void(agent::InterpreterListener&)>;
    struct Running {
        std::uint64_t number = 0;
        agent::RunOrder order;
        std::string parent;
        std::string op;
        std::string name;
        std::string tag;
        std::uint64_t count = 0;
        bool changed = false;
        bool asks = false;  // on stdin
        milliseconds rest{0};
    };
    struct Kept {  // of the cell that began last, until its end is in the log
        agent::RunOrder order;
        std::deque<jupyter::Message> messages;
        std::optional<Bytes> delta;
    };

    void later(milliseconds delay, std::function<void()> work);
    std::chrono::microseconds on_its_way();
    milliseconds up_to(int most_ms);
    void frame(std::function<void()> serve);  // from the agent, on the private socket
    void work_on();
    void occupied(milliseconds duration, std::function<void()> then);

    void report(Socket socket, Report report);
    void say(Socket socket, std::string_view type, const std::string& parent, std::string content);
    void publish(Socket socket, jupyter::Message message);
    void report_applied(Sequence sequence, bool ok);
    void report_delta(const agent::RunOrder& order, const Bytes& delta, const std::string& error);
    std::optional<agent::Survivor::Run> kept_run() const;
    agent::Survivor survivor() const;

    void serve(const jupyter::Message& request);
    void answer(const jupyter::Message& request, const std::string& type);
    void expect_run(const jupyter::Message& request);
    void refuse(const jupyter::Message& request);
    void drop(const jupyter::Message& request);
    void begin(const jupyter::Message& request);
    void middle();
    void end(std::string_view ename);
    std::string delta_of(const Running& cell) const;
    std::string holds(const Running& cell) const;
    std::string value(const std::string& key) const;

    agent::InterpreterId id_;
    std::string who_;
    agent::Adoption adoption_;
    InterpreterOptions options_;
    Ports& ports_;
    Link link_ = Link::kServed;
    std::uint64_t connection_ = 0;
    bool adopted_ = false;
    bool busy_ = true;  // the main thread; until it has started
    std::deque<std::pair<std::uint64_t, std::function<void()>>> frames_;  // with their connection
    std::deque<jupyter::Message> shell_;
    std::optional<jupyter::Message> awaits_run_;  // a cell's request, before its run frame
    std::optional<agent::RunOrder> ordered_;
    std::optional<agent::Survivor::Claim> expects_;
    std::optional<Sequence> sequence_;  // empty: in the middle of a change
    state::StateTable table_;
    std::optional<Running> running_;
    std::optional<Kept> kept_;
    std::uint64_t last_cell_ = 0;
    std::uint64_t waits_ = 0;      // for run frames, so far
    Instant said_[kSockets] = {};  // when the last message arrives
    Instant heard_[kSockets] = {};
    bool transit_survives_ = true;  // what was on its way when the agent went away
};

}  // namespace nbos::testing
