// Whose an interpreter process is, beside its sockets: owner.json. An agent that is started again
// finds by it the interpreters that outlived the one before.
//
// Errors  A record that cannot be written only costs the survival; one that cannot be read, or
// whose
//         process is gone, is none.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "model/ids.h"

namespace nbos::io {

struct InterpreterOwner {
    KernelId kernel;
    ReplicaId replica;
    std::string session;
    std::string spec;
    pid_t pid = -1;
};

void write_owner(const std::string& directory, const InterpreterOwner& owner);
std::optional<InterpreterOwner> read_owner(const std::string& directory);  // of a living process

}  // namespace nbos::io
