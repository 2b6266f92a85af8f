#include "cli/commands.h"

namespace nbos::cli {

// In the order of the help.
void add_all_commands(Command root) {
    for (auto* add :
         {add_up, add_down, add_status, add_kernel, add_host, add_system, add_kernelspec,
          add_kernel_relay, add_agent, add_gateway, add_bench, add_version}) {
        add(root);
    }
}

}  // namespace nbos::cli
