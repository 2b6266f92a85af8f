// One of the three processes of `nbos bench idle`, and what it says to its parent.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/pki.h"
#include "model/ids.h"

namespace nbos::cli {

// Commands, a byte each. Every one is answered by an IdleReport; kWake by the number of its samples
// (u64) and as many u32, in microseconds, before that.
enum class IdleCommand : char { kReport = 'r', kCreate = 'c', kWake = 'w' };

struct IdleReport {
    std::uint32_t linked = 0;    // hosts with a connection
    std::uint32_t groups = 0;    // of kernels that have an options entry applied here
    std::uint32_t awake = 0;     // groups that get ticks
    std::uint32_t restless = 0;  // replicas that do
    std::uint32_t leading = 0;
    std::uint64_t frames = 0;  // sent to other hosts, of Raft
    std::uint64_t bytes = 0;
    std::uint64_t cpu_us = 0;  // of this process, user and system
    std::uint64_t anonymous_bytes = 0;
    std::uint64_t heap_bytes = 0;  // in use
};

struct BenchIdleHost {
    std::uint32_t number = 0;  // 1, 2 or 3
    std::string directory;
    io::TlsFiles tls;
    std::map<HostId, std::string> addresses;  // of all three
    std::uint32_t groups = 0;
    std::uint32_t wakes = 0;
    int from_parent = -1;  // end of file: stop
    int to_parent = -1;
};

// Runs until `from_parent` ends. The exit code.
int run_idle_host(const BenchIdleHost& host);

}  // namespace nbos::cli
