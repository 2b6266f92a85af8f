// Builds state deltas (state/state_table.h) for tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/wire.h"

namespace nbos::testing {

class Delta {
public:
    // A value of one inline part.
    static std::string value(std::string_view text) {
        return Writer().put(std::uint32_t{1}).put(std::uint8_t{0}).put(text).take();
    }

    Delta& put(std::string_view key, std::string_view text) { return raw_put(key, value(text)); }
    Delta& raw_put(std::string_view key, std::string_view encoded_value) {
        operations_.put(std::uint8_t{1}).put(key).put(encoded_value);
        ++count_;
        return *this;
    }
    Delta& del(std::string_view key) {
        operations_.put(std::uint8_t{2}).put(key);
        ++count_;
        return *this;
    }
    std::string str() const {
        return Writer().put(std::uint8_t{1}).put(count_).raw(Writer(operations_).take()).take();
    }

private:
    Writer operations_;
    std::uint32_t count_ = 0;
};

}  // namespace nbos::testing
