// Which seeds a simulated test runs: NBOS_SEEDS=first:count, or the test's own default.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

namespace nbos::testing {

struct SeedRange {
    std::uint64_t first;
    std::uint64_t count;
};

inline SeedRange seeds(SeedRange otherwise) {
    const char* text = std::getenv("NBOS_SEEDS");
    if (text == nullptr) {
        return otherwise;
    }
    const std::string range(text);
    const auto colon = range.find(':');
    const auto count = colon == std::string::npos ? std::string("1") : range.substr(colon + 1);
    return {std::stoull(range.substr(0, colon)), std::stoull(count)};
}

}  // namespace nbos::testing
