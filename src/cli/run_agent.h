// `nbos agent`: one host of a cluster, until it is told to stop. An agent that crashes is started
// again under the interpreters that it had (agent_warden.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "raft/node.h"

namespace nbos::cli {

inline constexpr std::chrono::milliseconds kAgentTick{50};
inline constexpr raft::Options kAgentRaft{
    .election_ticks = 20,  // a second, doubled at most: a silent leader
    .heartbeat_ticks = 2,
    .quiet_after_ticks = 20,  // a second without anything to say
};

struct AgentOptions {
    std::string host;        // the id in the certificate: "host-1"
    std::string listen;      // "ip:port"
    std::string data_dir;    // the log and what else must survive
    std::string pki_dir;     // authority, and this host's certificate and key (io/pki.h)
    std::string hosts_file;  // who else there is (io/hosts_file.h); empty: gateways say so
    std::string python;      // the interpreter of the builtin kernelspec
    std::vector<std::string> kernelspec_dirs;  // further kernelspecs: DIR/NAME/kernel.json
    std::string workspace;                     // where kernels start
    std::uint32_t interpreter_mib = 0;         // that user code may take; 0: no limit
    int warm = 2;                              // interpreters kept ready
};

// The exit status. Runs the event loop on the calling thread.
int run_agent(const AgentOptions& options);

}  // namespace nbos::cli
