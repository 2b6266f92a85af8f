// The commands of `nbos`; each is defined in the file of its name.
#pragma once

#include "cli/command_line.h"

namespace nbos::cli {

void add_agent(Command& root);
void add_bench(Command& root);
void add_down(Command& root);
void add_gateway(Command& root);
void add_host(Command& root);
void add_kernel(Command& root);
void add_kernel_relay(Command& root);
void add_kernelspec(Command& root);
void add_status(Command& root);
void add_system(Command& root);
void add_up(Command& root);
void add_version(Command& root);

void add_all_commands(Command root);

}  // namespace nbos::cli
