// The one binary encoding of the project: log entries, peer messages, snapshots, state tables.
//
// Integers are little-endian and fixed-width; byte strings are a u32 length and the bytes. There
// are no tags: a format that must evolve starts with a version byte of its own.
//
// Reader is for hostile input. It never throws and never reads outside its view; after the first
// short or oversized read `ok()` is false, every later read returns zero or empty, and nothing is
// allocated from an unchecked length. Callers check `done()` once, at the end.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/bytes.h"
#include "base/strong.h"
#include "base/uuid.h"

namespace nbos {

static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");

class Writer {
public:
    Writer() = default;
    // Writes over `buffer`, whose memory is used again.
    explicit Writer(std::string&& buffer) : out_(std::move(buffer)) { out_.clear(); }

    template <class T>
        requires(std::is_integral_v<T> || std::is_enum_v<T>)
    Writer& put(T value) {
        out_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    Writer& put(std::string_view text) {
        put(static_cast<std::uint32_t>(text.size()));
        out_.append(text);
        return *this;
    }
    Writer& put(const std::string& text) { return put(std::string_view(text)); }
    Writer& put(const char* text) { return put(std::string_view(text)); }
    Writer& put(const Bytes& bytes) { return put(bytes.view()); }
    Writer& put(const Uuid& id) { return put(id.hi).put(id.lo); }
    template <class Tag, class T>
    Writer& put(const Strong<Tag, T>& id) {
        return put(id.value);
    }
    Writer& raw(std::string_view text) {
        out_.append(text);
        return *this;
    }

    std::size_t size() const { return out_.size(); }
    std::string take() { return std::move(out_); }
    Bytes take_bytes() { return Bytes(std::move(out_)); }

private:
    std::string out_;
};

class Reader {
public:
    explicit Reader(std::string_view in) : in_(in) {}

    template <class T>
        requires(std::is_integral_v<T> || std::is_enum_v<T>)
    T get() {
        T value{};
        if (const auto bytes = raw(sizeof(T)); bytes.size() == sizeof(T)) {
            std::memcpy(&value, bytes.data(), sizeof(T));
        }
        return value;
    }
    // A view into the input: valid as long as the input is.
    std::string_view text() { return raw(get<std::uint32_t>()); }
    std::string string() { return std::string(text()); }
    Bytes bytes() { return Bytes::copy(text()); }
    Uuid uuid() {
        Uuid id;
        id.hi = get<std::uint64_t>();
        id.lo = get<std::uint64_t>();
        return id;
    }
    template <class Id>
    Id id() {  // a Strong over an integer
        return Id{get<decltype(Id::value)>()};
    }
    std::string_view raw(std::size_t size) {
        if (!ok_ || size > in_.size()) {
            ok_ = false;
            return {};
        }
        const auto head = in_.substr(0, size);
        in_.remove_prefix(size);
        return head;
    }
    // The number of elements that follow, refused when the rest could not hold that many.
    std::uint32_t count(std::size_t element_size_min) {
        const auto n = get<std::uint32_t>();
        if (element_size_min * n > in_.size()) {
            ok_ = false;
            return 0;
        }
        return n;
    }

    void fail() { ok_ = false; }
    std::size_t left() const { return in_.size(); }
    bool ok() const { return ok_; }
    bool done() const { return ok_ && in_.empty(); }

private:
    std::string_view in_;
    bool ok_ = true;
};

}  // namespace nbos
