// `nbos version`: the version of this binary.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "cli/version_number.h"

namespace nbos::cli {

void add_version(Command& root) {
    auto json = std::make_shared<bool>(false);
    root.add("version", "Print the version.").flag("--json", *json, "print JSON").does([json] {
        if (*json) {
            fmt::print("{{\"version\":\"{}\"}}\n", kVersion);
        } else {
            fmt::print("nbos {}\n", kVersion);
        }
        return 0;
    });
}

}  // namespace nbos::cli
