// A 128-bit identifier in the usual 8-4-4-4-12 spelling. Made at random by io/, never here.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace nbos {

struct Uuid {
    std::uint64_t hi = 0;
    std::uint64_t lo = 0;
    auto operator<=>(const Uuid&) const = default;

    std::string str() const;  // lower-case, with dashes
    // nullopt unless `text` is exactly 8-4-4-4-12 hexadecimal digits, either case.
    static std::optional<Uuid> parse(std::string_view text);
};

}  // namespace nbos

template <>
struct std::hash<nbos::Uuid> {
    std::size_t operator()(const nbos::Uuid& id) const noexcept {
        return static_cast<std::size_t>(id.hi ^ (id.lo * 0x9E3779B97F4A7C15ULL));
    }
};
