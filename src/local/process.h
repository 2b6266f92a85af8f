// Processes by identity: a pid alone may belong to somebody else by now, a pid with its start time
// cannot.
//
// Threads  One. Errors are values; a process that is gone is not an error.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace nbos::local {

struct ProcessId {
    pid_t pid = 0;
    std::uint64_t start = 0;  // clock ticks since boot, field 22 of /proc/PID/stat

    bool operator==(const ProcessId&) const = default;
};

ProcessId identify(pid_t pid);            // start == 0 when there is no such process
bool is_alive(const ProcessId& process);  // zombies are not
void send_signal(const ProcessId& process, int signal);

// All processes below `process`, parents before children; not itself.
std::vector<ProcessId> descendants(const ProcessId& process);

// Kills the process and everything below it at once. A process that was made the reaper of its
// descendants (as a host's init is) leaves none behind, however they were forked.
void kill_tree(const ProcessId& process);

// True when it has ended in time. A child of the caller stays for it to reap.
bool wait_until_gone(const ProcessId& process, std::chrono::milliseconds limit);

}  // namespace nbos::local
