// The interpreter of one replica: started, loaded, kept equal to the log, replaced when it fails.
//
// It answers one question for the replica: has a live interpreter applied everything up to this
// sequence? An interpreter that dies, refuses a delta or diverges is discarded and a new one is
// loaded from the agent's own table, with growing pauses when it keeps failing. One that outlived
// the agent before is left as it is until the replica knows from the log whether it is of use.
//
// Threads  Owned by the agent's loop thread. Time comes in through tick().
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "agent/ports.h"
#include "base/ports.h"

namespace nbos::agent {

class ReplicaInterpreter {
public:
    struct State {
        Sequence sequence;
        Bytes table;  // empty at sequence 0
    };
    // Asked for when a new interpreter starts (whose it is), and when it is ready (what to load).
    struct Source {
        std::function<Adoption()> adoption;
        std::function<State()> state;
    };

    ReplicaInterpreter(Interpreters& port, Source source);
    ~ReplicaInterpreter();
    ReplicaInterpreter(const ReplicaInterpreter&) = delete;
    ReplicaInterpreter& operator=(const ReplicaInterpreter&) = delete;

    void start();  // now; the present one, if any, is discarded
    void start_or_keep_survivor();
    void stop();  // for good
    bool started() const { return id_.has_value() || retry_at_.has_value(); }
    std::optional<InterpreterId> id() const { return id_; }

    // Ready, and its state is that of `sequence`.
    bool current(Sequence sequence) const { return ready_ && applied_ == sequence; }
    // It outlived the agent before; not decided yet what becomes of it.
    bool survives() const { return survives_; }
    // It outlived that one, and the cell of this claim had not begun in it, nor in any other.
    bool never_began(const Survivor::Claim& claim) const { return expected_ == claim; }
    // What it has; empty until it has said so.
    const std::optional<Survivor>& survivor() const { return survivor_; }
    void resume(Sequence sequence);  // the survivor is good, and has the state of `sequence`
    bool failed() const { return failures_ >= kFailuresMax; }
    std::string describe(Sequence sequence) const;  // KernelStatus::interpreter

    void apply(Sequence base, Sequence sequence, Bytes delta);  // a standby follows
    void executed(CellNumber cell, Sequence sequence);  // its own cell was accepted as this one

    void on_ready();
    void on_resumed(const Survivor& survivor) { survivor_ = survivor; }
    // False: the delta was refused; the interpreter has been discarded and will be replaced.
    bool on_applied(Sequence sequence, bool ok, const std::string& error);
    void on_ended(const std::string& why);
    void tick(Instant now);
    bool waits_for_time() const { return retry_at_.has_value(); }
    void set_time(Instant now) { now_ = now; }

private:
    static constexpr int kFailuresMax = 3;
    void fail(const std::string& why);

    Interpreters& port_;
    Source source_;
    std::optional<InterpreterId> id_;
    bool survives_ = false;
    std::optional<Survivor::Claim> expected_;  // under the agent before
    std::optional<Survivor> survivor_;
    bool ready_ = false;
    bool stopped_ = false;
    Sequence applied_;
    Sequence sent_;  // loaded or applied, perhaps not answered yet
    int failures_ = 0;
    std::string last_error_;
    std::optional<Instant> retry_at_;  // in the past: at the next tick
    Instant now_{};
};

}  // namespace nbos::agent
