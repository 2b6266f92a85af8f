// The replicated state of a kernel as agents see it: a table from key to blob.
//
// An interpreter describes what a cell changed as a list of operations on keys; an agent merges
// them, snapshots the table and loads a new interpreter from it without unpickling anything. What
// keys and blobs mean is between interpreters (docs/reference/state-format.md): "o:ID" an object,
// "n:NAME" a binding of the namespace, "x:ROOT" other process state, and so on.
//
// A value is a list of parts, so that part 3's chunk store can replace a large part by a reference:
//   value := u32 parts, then per part: u8 kind (0 inline; 1 is reserved for a chunk), u32 length,
//   bytes delta := u8 version (1), u32 operations, then per operation:
//            u8 op (1 put, 2 delete), key (u32 length, bytes), for put: value (u32 length, bytes)
// An empty string is a delta, too: it changes nothing.
//
// Threads  Owned by one loop thread; not synchronised. Copies share their blobs.
// Errors   A malformed delta changes nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/wire.h"

namespace nbos::state {

class StateTable {
public:
    // Applies a delta whole or not at all. kInvalid: malformed, or it deletes what is not there.
    Status apply(std::string_view delta);

    // The digest that apply(delta) would leave; the same errors.
    nbos::Result<std::uint64_t> digest_after(std::string_view delta) const;

    // Independent of the order of changes: equal tables have equal digests, on every machine.
    std::uint64_t digest() const { return digest_; }
    std::size_t bytes() const { return bytes_; }  // keys and values
    const std::map<std::string, Bytes, std::less<>>& entries() const { return entries_; }
    void clear();

    // The table as one delta from the empty table, which is also its form in a snapshot.
    Bytes as_delta() const;

private:
    struct Change {  // what a delta does, checked; views into the delta; nullopt: deleted
        std::map<std::string_view, std::optional<std::string_view>> values;
        std::uint64_t digest = 0;
        std::size_t bytes = 0;
    };
    nbos::Result<Change> change(std::string_view delta) const;

    std::map<std::string, Bytes, std::less<>> entries_;
    std::uint64_t digest_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace nbos::state
