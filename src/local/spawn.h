// Starts the processes of a local cluster: plain ones, and hosts.
//
// A host is a small init process with the agent below it. Where the user may (root), it has a pid
// namespace and a mount namespace of its own: killing the init is then like pulling a server's
// plug, the kernel ends everything on it at once. Elsewhere the init adopts what its descendants
// leave behind, and kill_tree() ends it all.
//
// The init ends when its agent ends, and nothing on the host outlives it. On SIGTERM it asks the
// agent to end.
//
// Threads  The caller must be single-threaded: the init goes on after a fork, without exec.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "local/process.h"

namespace nbos::local {

struct Program {
    std::vector<std::string> argv;           // argv[0] is a path
    std::map<std::string, std::string> env;  // besides the caller's
    std::filesystem::path directory;         // where it starts
    std::filesystem::path log;               // appended to; standard output and error
};

struct HostShell {
    bool isolated = false;              // namespaces of its own; see can_isolate()
    std::filesystem::path private_tmp;  // mounted on /tmp when isolated and not empty
};

// Whether this user can give a host namespaces of its own. Tries it, for a few milliseconds.
bool can_isolate();

// kIo with the reason when it cannot be started. A program that ends at once is not an error here.
Result<ProcessId> spawn(const Program& program);
Result<ProcessId> spawn_host(const Program& agent, const HostShell& shell);

}  // namespace nbos::local
