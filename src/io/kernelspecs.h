// Kernelspecs from folders, as Jupyter keeps them: DIR/NAME/kernel.json and its logo files.
#pragma once

#include <string>
#include <vector>

#include "jupyter/rest_models.h"

namespace nbos::io {

// Sorted by name; the first folder that has a name wins. A spec that cannot be read is logged with
// the reason and left out.
std::vector<jupyter::KernelSpec> find_kernelspecs(const std::vector<std::string>& directories);

}  // namespace nbos::io
