// Time and chance come in through constructors. The real ones live in io/, the fake ones in tests.
#pragma once

#include <chrono>
#include <cstdint>

namespace nbos {

// Monotonic time since an arbitrary start. Never compared between processes.
using Instant = std::chrono::nanoseconds;

class Clock {
public:
    virtual ~Clock() = default;
    virtual Instant now() const = 0;
    // Wall-clock time since the Unix epoch, for what people and files see; never for decisions.
    virtual std::chrono::microseconds wall() const = 0;
};

// A small deterministic generator (SplitMix64): same seed, same sequence, on every machine.
class Rng {
public:
    explicit Rng(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31U);
    }
    // Uniform in [0, bound); 0 when bound is 0.
    std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
    bool chance(double probability) {
        return static_cast<double>(next() >> 11U) * 0x1.0p-53 < probability;
    }

private:
    std::uint64_t state_;
};

}  // namespace nbos
