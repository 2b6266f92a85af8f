// Sees to it that a kernel does not outlive a relay that was killed.
//
// jupyter_client ends a local kernel with SIGKILL when it is in a hurry, and a killed relay cannot
// delete its kernel. So a small second process, which shares no process group with the relay, waits
// at the end of a pipe. When the relay has gone without a word, it waits a moment for a successor
// (a restart), and deletes the kernel unless somebody is connected to it.
//
// Threads  Fork it while the process has one thread.
#pragma once

#include <string>

#include "cli/relay_gateway.h"

namespace nbos::cli {

class RelayGuardian {
public:
    explicit RelayGuardian(const RelayGateway& gateway);  // forks
    ~RelayGuardian();
    RelayGuardian(const RelayGuardian&) = delete;
    RelayGuardian& operator=(const RelayGuardian&) = delete;

    void guard(const std::string& kernel_id);
    void dismiss();  // the kernel is deleted, or is to live

private:
    void say(const std::string& line) const;

    int pipe_ = -1;
};

}  // namespace nbos::cli
