// What a command says when it fails: a sentence on standard error and, when --json was asked for, a
// JSON object with that sentence as "error" on standard output, where the answer would have been.
//
// Threads  One: commands are single-threaded when they fail.
#pragma once

#include <string_view>

#include "base/result.h"

namespace nbos::cli {

// Set by CommandLine, before anything can fail, for every command that was given --json.
void complain_in_json(bool json);

// The exit code of a failed command.
int complain(const Error& error);
void complain_of_usage(std::string_view what);  // its sentence is on standard error already

}  // namespace nbos::cli
