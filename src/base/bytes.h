// An immutable, reference-counted byte string.
//
// Log entries, deltas and frames pass from queue to queue without being copied. shared_ptr because
// an entry is owned at once by the log view, the writer thread and several connections.
#pragma once

#include <compare>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace nbos {

class Bytes {
public:
    Bytes() = default;
    explicit Bytes(std::string text)
        : data_(text.empty() ? nullptr : std::make_shared<const std::string>(std::move(text))) {}
    static Bytes copy(std::string_view text) { return Bytes(std::string(text)); }

    std::string_view view() const { return data_ ? std::string_view(*data_) : std::string_view(); }
    std::size_t size() const { return data_ ? data_->size() : 0; }
    bool empty() const { return size() == 0; }

    friend bool operator==(const Bytes& a, const Bytes& b) { return a.view() == b.view(); }
    friend auto operator<=>(const Bytes& a, const Bytes& b) { return a.view() <=> b.view(); }

private:
    std::shared_ptr<const std::string> data_;
};

}  // namespace nbos
