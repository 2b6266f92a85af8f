#include "state/state_table.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <optional>
#include <utility>
#include <vector>

namespace nbos::state {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kInlinePart = 0;

enum class Op : std::uint8_t { kPut = 1, kDelete = 2 };

struct Operation {
    Op op = Op::kPut;
    std::string_view key;
    std::string_view value;  // kPut
};

Error malformed(std::string_view why) {
    return {Errc::kInvalid, Certainty::kDidNotHappen, fmt::format("state delta: {}", why)};
}

bool value_is_well_formed(std::string_view value) {
    Reader in(value);
    const auto parts = in.count(sizeof(std::uint8_t) + sizeof(std::uint32_t));
    for (std::uint32_t i = 0; i < parts; ++i) {
        if (in.get<std::uint8_t>() != kInlinePart) {
            return false;
        }
        in.text();
    }
    return in.done();
}

nbos::Result<std::vector<Operation>> parse(std::string_view delta) {
    std::vector<Operation> operations;
    if (delta.empty()) {
        return operations;
    }
    Reader in(delta);
    if (const auto version = in.get<std::uint8_t>(); version != kVersion) {
        return malformed(fmt::format("version {} is not known here", version));
    }
    const auto n = in.count(sizeof(Op) + sizeof(std::uint32_t));
    operations.reserve(n);
    for (std::uint32_t i = 0; i < n && in.ok(); ++i) {
        Operation operation;
        operation.op = in.get<Op>();
        operation.key = in.text();
        if (operation.op == Op::kPut) {
            operation.value = in.text();
            if (in.ok() && !value_is_well_formed(operation.value)) {
                return malformed(fmt::format("operation {} has a malformed value", i));
            }
        } else if (operation.op != Op::kDelete) {
            return malformed(fmt::format("operation {} is neither put nor delete", i));
        }
        operations.push_back(operation);
    }
    if (!in.done()) {
        return malformed("its length does not match what it says it holds");
    }
    return operations;
}

// The key is hashed on its own, so that moving a byte between key and value changes the result.
std::uint64_t digest_of(std::string_view key, std::string_view value) {
    return XXH3_64bits_withSeed(value.data(), value.size(), XXH3_64bits(key.data(), key.size()));
}

}  // namespace

nbos::Result<StateTable::Change> StateTable::change(std::string_view delta) const {
    auto operations = parse(delta);
    if (!operations) {
        return std::move(operations).error();
    }
    // A sum of entry hashes does not depend on order, and an entry leaves it by subtraction.
    Change change{.digest = digest_, .bytes = bytes_};
    for (const auto& [op, key, value] : *operations) {
        const auto pending = change.values.find(key);
        std::optional<std::string_view> old;
        if (pending != change.values.end()) {
            old = pending->second;
        } else if (const auto entry = entries_.find(key); entry != entries_.end()) {
            old = entry->second.view();
        }
        if (op == Op::kDelete && !old) {
            return malformed(fmt::format("it deletes the key '{}', which is not there", key));
        }
        if (old) {
            change.digest -= digest_of(key, *old);
            change.bytes -= key.size() + old->size();
        }
        std::optional<std::string_view> next;
        if (op == Op::kPut) {
            next = value;
            change.digest += digest_of(key, value);
            change.bytes += key.size() + value.size();
        }
        change.values[key] = next;
    }
    return change;
}

Status StateTable::apply(std::string_view delta) {
    auto checked = change(delta);
    if (!checked) {
        return std::move(checked).error();
    }
    for (const auto& [key, value] : checked->values) {
        if (value) {
            entries_.insert_or_assign(std::string(key), Bytes::copy(*value));
        } else if (const auto entry = entries_.find(key); entry != entries_.end()) {
            entries_.erase(entry);
        }
    }
    digest_ = checked->digest;
    bytes_ = checked->bytes;
    return ok();
}

nbos::Result<std::uint64_t> StateTable::digest_after(std::string_view delta) const {
    auto checked = change(delta);
    if (!checked) {
        return std::move(checked).error();
    }
    return checked->digest;
}

void StateTable::clear() {
    entries_.clear();
    digest_ = 0;
    bytes_ = 0;
}

Bytes StateTable::as_delta() const {
    Writer out;
    out.put(kVersion).put(static_cast<std::uint32_t>(entries_.size()));
    for (const auto& [key, value] : entries_) {
        out.put(Op::kPut).put(key).put(value);
    }
    return out.take_bytes();
}

}  // namespace nbos::state
