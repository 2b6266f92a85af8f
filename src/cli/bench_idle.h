// `nbos bench idle`: what kernels cost that nobody uses, and what it takes to wake one.
//
// Three processes on loopback, each a real agent with its log (fdatasync) and transport (TLS), and
// with interpreters that are only played, so that the figures are those of the groups. The groups
// fall asleep, are left alone, are woken by a cell each, and lose a host.
//
// Errors   1 and a line on standard error when a process ends, or the groups do not sleep or wake.
#pragma once

#include <cstdint>
#include <string>

namespace nbos::cli {

struct BenchIdleOptions {
    std::string directory;  // for the three logs; empty: a new one below the current directory
    std::uint32_t groups = 1000;
    std::uint32_t seconds = 20;  // left alone
    std::uint32_t wakes = 100;   // cells on each host, one after the other
    bool json = false;           // one closing line of JSON
};

// Prints the figures beside the aims; the exit code. Forks: call it before any thread is started.
int bench_idle(const BenchIdleOptions& options);

}  // namespace nbos::cli
