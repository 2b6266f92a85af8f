// Seeded mutations of valid inputs into every decoder that hears strangers. The libFuzzer programs
// (NBOS_FUZZ) dig deeper; this runs everywhere. NBOS_SEEDS=first:count for more.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/log.h"
#include "base/ports.h"
#include "tests/cluster/seeds.h"
#include "tests/fuzz/wire_targets.h"

namespace nbos::fuzz {
namespace {

void mutate_once(std::string& bytes, Rng& rng, const std::string& other) {
    const auto at = rng.below(bytes.size() + 1);
    const auto length = rng.below(std::min<std::uint64_t>(bytes.size() - at, 16) + 1);
    const auto interesting = std::string("\x00\x01\x7f\x80\xff\xff\xff\xff", 8);
    switch (rng.below(6)) {
        case 0:  // a bit
            if (at < bytes.size()) {
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.below(8)));
            }
            break;
        case 1:
            bytes.erase(at, length);
            break;
        case 2:
            bytes.insert(at, bytes.substr(at, length));
            break;
        case 3:  // a value at which lengths and kinds go wrong
            if (at < bytes.size()) {
                bytes.replace(at, length, interesting.substr(rng.below(8)));
            }
            break;
        case 4:
            bytes.resize(at);
            break;
        default:
            bytes.replace(at, length, other.substr(rng.below(other.size() + 1), 16));
            break;
    }
}

class WireMutation : public ::testing::TestWithParam<Target> {};

TEST_P(WireMutation, HarmsNothing) {
    set_log_level(LogLevel::kError);
    const auto range = nbos::testing::seeds({1, 20'000 / GetParam().cost});
    const auto examples = known_inputs(GetParam());
    for (const auto& example : examples) {
        GetParam().run(example);
    }
    for (auto seed = range.first; seed < range.first + range.count; ++seed) {
        // A failure stops the process by NBOS_CHECK or a sanitizer: say which seed it was.
        SCOPED_TRACE(seed);
        Rng rng(seed);
        auto bytes = examples[rng.below(examples.size())];
        for (auto n = 1 + rng.below(4); n > 0; --n) {
            mutate_once(bytes, rng, examples[rng.below(examples.size())]);
        }
        ASSERT_NO_THROW(GetParam().run(bytes)) << "seed " << seed;
    }
}

std::string name_of(const ::testing::TestParamInfo<Target>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(Wire, WireMutation, ::testing::ValuesIn(wire_targets()), name_of);
INSTANTIATE_TEST_SUITE_P(Face, WireMutation, ::testing::ValuesIn(face_targets()), name_of);
INSTANTIATE_TEST_SUITE_P(Disk, WireMutation, ::testing::ValuesIn(disk_targets()), name_of);

}  // namespace
}  // namespace nbos::fuzz
