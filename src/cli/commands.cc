#include "cli/commands.h"

namespace nbos::cli {

void add_all_commands(Command root) { add_version(root); }

}  // namespace nbos::cli
