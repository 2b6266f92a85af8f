// The process that interpreters are forked from, one per kernelspec: Python with ipykernel loaded.
//
// Started when it is first needed and again when it ends (its children end with it). What it
// writes to standard error is kept, bounded, as the reason why a kernel does not start. With a
// lifeline it outlives this process for its children's sake; the next agent has zygotes of its own.
//
// Threads  Loop thread only.
// Source   docs/reference/interpreter-protocol.md
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/event_loop.h"

namespace nbos::io {

struct ZygoteCommand {
    std::vector<std::string> argv;           // without the socket argument
    std::map<std::string, std::string> env;  // beside and over the agent's, less NBOS_*
};

class Zygote {
public:
    struct Callbacks {
        // `tail`: the last lines on the standard error that all children share.
        std::function<void(const std::string& token, const std::string& why,
                           const std::string& tail)>
            child_ended;
        // Every child is gone; `why` has the last lines of its standard error.
        std::function<void(const std::string& why)> ended;
    };

    // `directory`: private, short path. `lifeline`: a descriptor, or -1.
    Zygote(EventLoop& loop, ZygoteCommand command, std::string directory, int lifeline,
           Callbacks callbacks);
    ~Zygote();
    Zygote(const Zygote&) = delete;
    Zygote& operator=(const Zygote&) = delete;

    void fork(const std::string& token, const std::string& directory,
              const std::string& state_socket);
    bool running() const;

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
