// One libFuzzer program per target: NBOS_FUZZ_TARGET is a function of wire_targets.h.
//
// NBOS_FUZZ_INPUTS=DIRECTORY  writes the inputs that are known already there, before anything else
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "base/log.h"
#include "tests/fuzz/wire_targets.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    using namespace nbos::fuzz;  // NOLINT: a C function has no better place
    nbos::set_log_level(nbos::LogLevel::kError);
    const char* directory = std::getenv("NBOS_FUZZ_INPUTS");
    for (const auto* list : {&wire_targets(), &face_targets(), &disk_targets()}) {
        for (const auto& target : *list) {
            if (directory == nullptr || target.run != &NBOS_FUZZ_TARGET) {
                continue;
            }
            std::size_t number = 0;
            for (const auto& input : known_inputs(target)) {
                std::ofstream(directory + ("/known-" + std::to_string(number++)), std::ios::binary)
                    << input;
            }
        }
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    nbos::fuzz::NBOS_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
    return 0;
}
