#include "base/uuid.h"

#include <fmt/core.h>

namespace nbos {
namespace {

std::optional<std::uint64_t> hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return static_cast<std::uint64_t>(c - '0');
    }
    const char lower = static_cast<char>(c | 0x20);
    if (lower >= 'a' && lower <= 'f') {
        return static_cast<std::uint64_t>(lower - 'a' + 10);
    }
    return std::nullopt;
}

bool is_dash_position(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

}  // namespace

std::string Uuid::str() const {
    return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", hi >> 32U, (hi >> 16U) & 0xFFFFU,
                       hi & 0xFFFFU, lo >> 48U, lo & 0xFFFFFFFFFFFFULL);
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 36) {
        return std::nullopt;
    }
    Uuid id;
    int digits = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (is_dash_position(i)) {
            if (text[i] != '-') {
                return std::nullopt;
            }
            continue;
        }
        const auto digit = hex_digit(text[i]);
        if (!digit) {
            return std::nullopt;
        }
        auto& half = digits < 16 ? id.hi : id.lo;
        half = (half << 4U) | *digit;
        ++digits;
    }
    return id;
}

}  // namespace nbos
