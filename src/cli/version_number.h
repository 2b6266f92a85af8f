// The version, as a release, the API and the command line say it. CMakeLists.txt's is compared
// with it by tools/tidy.py.
#pragma once

namespace nbos::cli {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace nbos::cli
