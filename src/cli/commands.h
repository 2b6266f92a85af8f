// The commands of `nbos`; each is defined in the file of its name.
#pragma once

#include "cli/command_line.h"

namespace nbos::cli {

void add_version(Command& root);

void add_all_commands(Command root);

}  // namespace nbos::cli
