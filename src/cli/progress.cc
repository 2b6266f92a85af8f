#include "cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace nbos::cli {

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(int percent, std::string_view what) {
    if (terminal_) {
        constexpr int kWidth = 24;
        const int filled = std::clamp(percent, 0, 100) * kWidth / 100;
        fmt::print(stderr, "\r\033[K[{:<{}}] {:3}%  {}",
                   std::string(static_cast<std::size_t>(filled), '='), kWidth, percent,
                   what.substr(0, 70));
        std::fflush(stderr);
    } else if (what != last_) {
        fmt::print(stderr, "{}\n", what);
    }
    last_ = what;
}

void Progress::finish() {
    if (terminal_) {
        fmt::print(stderr, "\r\033[K");
        std::fflush(stderr);
    }
}

}  // namespace nbos::cli
