// Kernelspecs from folders, as Jupyter keeps them: DIR/NAME/kernel.json and its logo files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "jupyter/rest_models.h"

namespace nbos::io {

// Sorted by name; the first folder that has a name wins. A spec that cannot be read, or that is not
// for Python, is logged with the reason and left out.
std::vector<jupyter::KernelSpec> find_kernelspecs(const std::vector<std::string>& directories);

// A spec's env with each ${NAME} replaced by what this process has under that name; a name that it
// does not have stays as it is written, as Jupyter does it.
std::map<std::string, std::string> expanded(const std::map<std::string, std::string>& env);

}  // namespace nbos::io
