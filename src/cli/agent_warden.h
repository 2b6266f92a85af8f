// Keeps one agent process going on a host, and what must survive it: the listening socket, the
// directory of the interpreters' sockets, and the interpreters themselves.
//
// The warden is the parent; the agent is its child and may crash. Because the warden holds the
// socket, connections to a crashed agent wait instead of being refused: a refusal proves that the
// warden is gone, and with it everything that ran here. Whatever way the warden ends, the agent
// dies with it (PR_SET_PDEATHSIG), and the interpreters do when its end of the lifeline closes.
//
// Threads  One; it forks, and the agent runs in the child without exec.
// Errors   An agent that ends by itself ends the warden with its code; one that crashes is started
//          again, unless it does so five times in a row within seconds.
#pragma once

#include <functional>
#include <string>

namespace nbos::cli {

struct AgentGround {
    std::string directory;  // 0700, short: socket paths end at 107 bytes
    int listener = -1;      // owned by the agent process
    int lifeline = -1;      // breaks when the warden ends
};

// The exit status. `agent` runs in the child process, again after each crash.
int guard_agent(const std::string& listen, const std::function<int(const AgentGround&)>& agent);

}  // namespace nbos::cli
