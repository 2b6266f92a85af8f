// One libFuzzer program per target: NBOS_FUZZ_TARGET is a function of wire_targets.h.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/wire_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    nbos::fuzz::NBOS_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
    return 0;
}
