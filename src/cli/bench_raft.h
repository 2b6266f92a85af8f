// `nbos bench raft`: what a commit costs on this machine, next to what its disk costs.
//
// Three processes on loopback, each with its own data directory, with the transport (TLS) and the
// log (fdatasync) that agents use. Leaders are spread evenly; every group has `depth` proposals in
// flight all the time. A latency is the time from the proposal to its application on the leader.
// For scale: one write and fdatasync of the same size, on a file that is already allocated.
//
// Errors   1 and a line on standard error when a process or the directory fails.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbos::cli {

struct BenchRaftOptions {
    std::string directory;  // for the three logs; empty: a new one below the current directory
    std::vector<std::uint32_t> bytes{100, 4096, 1U << 20U};  // of a proposal
    std::vector<std::uint32_t> groups{1, 10, 200};
    std::uint32_t depth = 1;    // proposals in flight per group
    std::uint32_t seconds = 3;  // measured, a row
    bool json = false;          // one closing line of JSON
};

// Prints a table; the exit code. Forks: call it before any thread is started.
int bench_raft(const BenchRaftOptions& options);

}  // namespace nbos::cli
