// The interpreter of one replica: started, loaded, kept equal to the log, replaced when it fails.
//
// It answers one question for the replica: has a live interpreter applied everything up to this
// sequence? An interpreter that dies, refuses a delta or diverges is discarded and a new one is
// loaded from the agent's own table, with growing pauses when it keeps failing.
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
    // Asked for when a new interpreter starts: whose it is, and the state to load.
    struct Image {
        Adoption adoption;
        Sequence sequence;
        Bytes table;  // empty at sequence 0
    };
    using MakeImage = std::function<Image()>;

    ReplicaInterpreter(Interpreters& port, MakeImage image);
    ~ReplicaInterpreter();
    ReplicaInterpreter(const ReplicaInterpreter&) = delete;
    ReplicaInterpreter& operator=(const ReplicaInterpreter&) = delete;

    void start();  // now; the present one, if any, is discarded
    void stop();   // for good
    bool started() const { return id_.has_value() || retry_at_.has_value(); }
    std::optional<InterpreterId> id() const { return id_; }

    // Ready, and its state is that of `sequence`.
    bool current(Sequence sequence) const { return ready_ && applied_ == sequence; }
    bool failed() const { return failures_ >= kFailuresMax; }
    std::string describe(Sequence sequence) const;  // KernelStatus::interpreter

    void apply(Sequence base, Sequence sequence, Bytes delta);  // a standby follows
    void executed(Sequence sequence);  // its own cell was accepted as this sequence

    void on_ready();
    // False: the delta was refused; the interpreter has been discarded and will be replaced.
    bool on_applied(Sequence sequence, bool ok, const std::string& error);
    void on_ended(const std::string& why);
    void tick(Instant now);

private:
    static constexpr int kFailuresMax = 3;
    void fail(const std::string& why);

    Interpreters& port_;
    MakeImage image_;
    std::optional<InterpreterId> id_;
    bool ready_ = false;
    bool stopped_ = false;
    Sequence applied_;
    Sequence loaded_from_;
    int failures_ = 0;
    std::string last_error_;
    std::optional<Instant> retry_at_;  // in the past: at the next tick
    Instant now_{};
};

}  // namespace nbos::agent
