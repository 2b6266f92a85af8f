// The history checker as a program, for what clients of real processes wrote down:
//
//   history_check [--answer-ms-max N] FILE      FILE has one JSON record a line (history.h)
//
// Exit status: 0 every promise was kept, 1 some was not (one line each), 2 there is no verdict.
#include <charconv>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string_view>

#include "tests/cluster/history_checker.h"

namespace nbos::testing {
namespace {

int usage() {
    std::cerr << "usage: history_check [--answer-ms-max MILLISECONDS] FILE\n";
    return 2;
}

int check(const char* path, CheckerOptions options) {
    std::ifstream in(path);
    if (!in) {
        std::cerr << path << ": cannot be read\n";
        return 2;
    }
    const auto read = read_history(in);
    if (read.bad_line != 0) {
        std::cerr << path << ": line " << read.bad_line << " is no JSON object\n";
        return 2;
    }
    const auto figures = figures_of(read.history);
    std::cout << figures.asked << " requests, " << figures.ok << " ok, " << figures.lost
              << " lost, " << figures.aborted << " aborted, " << figures.observations
              << " states seen\n";
    if (figures.observations == 0) {
        std::cerr << path << ": shows no state of a kernel, so it proves nothing\n";
        return 2;
    }
    const auto broken = check_history(read.history, options);
    for (const auto& one : broken) {
        std::cout << one.str() << '\n';
    }
    return broken.empty() ? 0 : 1;
}

int run(int argc, char** argv) {
    CheckerOptions options;
    if (argc == 4 && std::strcmp(argv[1], "--answer-ms-max") == 0) {
        const std::string_view text = argv[2];
        const auto [end, error] =
            std::from_chars(text.data(), text.data() + text.size(), options.answer_ms_max);
        if (error != std::errc() || end != text.data() + text.size()) {
            return usage();
        }
        return check(argv[3], options);
    }
    return argc == 2 ? check(argv[1], options) : usage();
}

}  // namespace
}  // namespace nbos::testing

int main(int argc, char** argv) { return nbos::testing::run(argc, argv); }
