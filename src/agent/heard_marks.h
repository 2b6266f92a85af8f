// How far the clients of a kernel have heard its cells, as gateways say while they pass outputs on:
// what a client that comes back through another gateway missed is told from what it has.
//
// Kept in memory on every host of the kernel, not in the log: lost with all of them at once, and
// then a client may hear an output or an answer twice, never too little.
//
// Limits   kCellsMax cells; older ones count as heard.
// Threads  Owned by the agent's loop thread.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace nbos::agent {

class HeardMarks {
public:
    using Cell = std::pair<std::string, std::string>;    // session that asked, message id
    using Outputs = std::map<std::string, std::string>;  // client's session -> last output heard

    // Empty `output`: only that the cell runs. `done`: its reply and idle, too.
    void mark(const Cell& cell, const std::string& session, const std::string& output, bool done);
    const Outputs& of(const Cell& cell) const;
    bool done(const Cell& cell, const std::string& session) const;
    std::vector<Cell> done_by(const std::string& session) const;  // oldest first

private:
    static constexpr std::size_t kCellsMax = 256;
    struct Marks {
        Outputs outputs;
        std::set<std::string> done;
    };
    std::map<Cell, Marks> cells_;
    std::deque<Cell> order_;
};

}  // namespace nbos::agent
