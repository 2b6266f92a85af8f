// The cell that this host runs now: what has arrived of it, until it can be proposed as a Result.
//
// A cell is complete when three things have come over three sockets, in any order: its delta, its
// execute_reply, and the idle status that closes its outputs. Outputs are relayed to clients as
// they come; a bounded tail of them goes into the log, so that a client whose connection broke
// gets them again.
//
// Threads  Owned by the agent's loop thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "jupyter/message.h"
#include "model/ids.h"
#include "replica/cell_log.h"
#include "replica/cell_machine.h"

namespace nbos::agent {

struct CellRunLimits {
    std::size_t outputs_bytes_max = 1U << 20U;  // of the replicated tail
    std::size_t outputs_max = 1000;
    std::size_t slice_bytes = 1U << 20U;        // of a delta, in one log entry
    std::size_t delta_bytes_max = 2ULL << 30U;  // above it the cell's effects are not kept
};

class CellRun {
public:
    CellRun(replica::Standing claim, replica::QueuedCell cell, Sequence base,
            CellRunLimits limits = {});

    const replica::Standing& claim() const { return claim_; }
    const replica::QueuedCell& cell() const { return cell_; }
    Sequence base() const { return base_; }

    // Its interpreter outlived the agent before, and says again what it kept: what comes both ways
    // is taken once.
    void expect_repeats() { repeats_.emplace(); }

    // What to do with a message of the interpreter whose parent is this cell.
    enum class Relay : std::uint8_t { kNow, kHeld };
    Relay take(const jupyter::Message& message);
    void take_delta(Bytes delta) { delta_ = std::move(delta); }

    // The tail that is kept of them.
    std::vector<jupyter::Message> outputs() const;

    // What its code waits for: the input_request that has no answer yet.
    const std::optional<jupyter::Message>& question() const { return question_; }
    // Whether it may be passed on: the answer to another question than this one may not.
    bool take_answer(const jupyter::Message& input_reply);
    void interrupted() { question_.reset(); }

    bool idle() const { return idle_; }  // the interpreter has closed the cell's outputs
    bool complete() const { return delta_ && reply_ && idle_; }
    const std::optional<Bytes>& delta() const { return delta_; }
    // Once, when complete: the parts and the Result, in order. `digest` is of the table after it.
    std::vector<replica::CellEntry> entries(std::uint64_t digest);
    bool proposed() const { return proposed_; }

private:
    void keep_output(const jupyter::Message& message, const std::string& type);
    bool is_repeated(const jupyter::Message& message);

    replica::Standing claim_;
    replica::QueuedCell cell_;
    Sequence base_;
    CellRunLimits limits_;
    std::optional<Bytes> delta_;
    std::optional<jupyter::Message> reply_;
    std::optional<jupyter::Message> question_;
    bool idle_ = false;
    bool proposed_ = false;
    std::deque<std::string> outputs_;  // encoded
    std::size_t outputs_bytes_ = 0;
    std::optional<std::set<std::string>> repeats_;  // message ids, when they may come twice
};

// The status field of an execute_reply's content; kError when it has none.
replica::Outcome outcome_of(std::string_view reply_content);

}  // namespace nbos::agent
