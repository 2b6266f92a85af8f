// Ids, counts and indices as types of their own: two of them cannot be mixed up by accident.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace nbos {

// Tag is an incomplete type that only names the id; T is how it is stored.
template <class Tag, class T = std::uint64_t>
struct Strong {
    T value{};
    auto operator<=>(const Strong&) const = default;
};

}  // namespace nbos

template <class Tag, class T>
struct std::hash<nbos::Strong<Tag, T>> {
    std::size_t operator()(const nbos::Strong<Tag, T>& id) const noexcept {
        return std::hash<T>{}(id.value);
    }
};
