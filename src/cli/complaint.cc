#include "cli/complaint.h"

#include <fmt/core.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>

namespace nbos::cli {
namespace {

bool in_json = false;

}  // namespace

void complain_in_json(bool json) { in_json = json; }

void complain_of_usage(std::string_view what) {
    if (in_json) {
        fmt::print("{}\n", boost::json::serialize(boost::json::object{{"error", what}}));
        std::fflush(stdout);
    }
}

int complain(const Error& error) {
    complain_of_usage(error.what);
    fmt::print(stderr, "nbos: {}\n", error.what);
    return 1;
}

}  // namespace nbos::cli
