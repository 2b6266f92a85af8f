// Did the cluster keep its promises to these clients? Pure: records in, broken rules out.
//
//   exactly once     user code of a cell, or of a comm message, begins at most once, and its
//                    effect is there once
//   durability       the effect of a cell that was answered is in every later state
//   no effect        a cell that ended with ExecutorLost, or was cancelled, left nothing behind
//   order            effects are in the order of the cells; a cell asked for after another one's
//                    answer comes after it, and so does a later cell of the same client
//   one executor     all outputs of a cell come from one process
//   answers          each request: busy, outputs, one reply, idle, in this order and in pairs;
//                    again only for a client that asked again, or after its gateway lost its
//                    memory. A client that comes to another gateway is told the rest: nothing of a
//                    cell whose end it has heard, and no execute_input twice
//   counts           an execution count is shown for one cell only, and grows
//   one session      a kernel speaks with one session id per incarnation
//   liveness         every request is answered in the end; after healing, within `answer_ms_max`
//
// What a broken connection may have swallowed is never held against anybody: a client is judged by
// what it heard within a connection. What a gateway's word to the hosts may not have survived is
// not held against the next gateway: a cell may be told again there when something broke since
// shortly before it was heard (`word_ms_max`), or that gateway was gone right behind it. The
// numbers of answers to a question that is no cell are not promised to a client that has changed
// gateways since: the other one does not know of how many replicas it was asked. A client that
// names no session id when it connects is promised the order of what it asks for in that
// connection, not of what it missed before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cluster/history.h"

namespace nbos::testing {

struct BrokenRule {
    std::string rule;
    std::string what;
    std::uint64_t at_ms = 0;
    std::string str() const;
};

struct CheckerOptions {
    std::uint64_t answer_ms_max = 60'000;  // from the later of asking and healing
    // What broke is forgotten after this: gateways are connected to all hosts again.
    std::uint64_t word_ms_max = 10'000;
};

// Empty: all is well.
std::vector<BrokenRule> check_history(const History& history, CheckerOptions options = {});

// How much the history shows: a run that met nothing proves nothing.
struct HistoryFigures {
    std::size_t asked = 0;
    std::size_t ok = 0;
    std::size_t lost = 0;  // ExecutorLost
    std::size_t aborted = 0;
    std::size_t observations = 0;  // states that clients saw
};
HistoryFigures figures_of(const History& history);

}  // namespace nbos::testing
