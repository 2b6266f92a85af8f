// The entries of the system group's log: what gateways write into the tables that they share
// (docs/design/0009-system-group.md). Whether a write takes effect is decided when it is applied,
// by TableMachine, the same on every replica.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/uuid.h"
#include "base/wire.h"
#include "model/ids.h"

namespace nbos::replica {

struct TableChange {
    std::string key;
    std::optional<Bytes> value;  // empty: the row is erased, if there is one
    bool operator==(const TableChange&) const = default;
};

struct TableCondition {
    std::string key;
    Index version;  // of the row; 0: there is none
    bool operator==(const TableCondition&) const = default;
};

// All of its changes, if every condition holds; else none.
struct TableTransaction {
    std::vector<TableCondition> conditions;
    std::vector<TableChange> changes;
    bool operator==(const TableTransaction&) const = default;
};

// One entry. A writer numbers its writes from 1 and has one under way at a time: a write that is
// not above the last one applied of its writer is a repetition, and void.
struct TableWrite {
    Uuid writer;  // one life of a gateway
    std::uint64_t sequence = 0;
    std::vector<TableTransaction> transactions;
    bool operator==(const TableWrite&) const = default;
};

enum class TableOutcome : std::uint8_t {
    kDone,
    kConflict,  // a condition did not hold
    kFull,      // the table would be larger than kTableBytesMax
};

constexpr std::size_t kTableKeyBytesMax = 1U << 10U;
constexpr std::size_t kTableRowBytesMax = 256U << 10U;
constexpr std::size_t kTableWriteBytesMax = 4U << 20U;
constexpr std::size_t kTableBytesMax = 16U << 20U;
constexpr std::size_t kTableWritersMax = 64;  // whose last write is remembered

// kInvalid, with a sentence, when a limit of a key, a row or the whole write is exceeded.
Status check(const TableWrite& write);

Bytes encode(const TableWrite& write);
std::optional<TableWrite> decode_table_write(std::string_view bytes);  // hostile input is fine

// Pieces that other formats hold, too. Readers of hostile input: check `in` afterwards.
void encode(Writer& out, const TableWrite& write);
TableWrite decode_table_write(Reader& in);
void encode(Writer& out, const std::vector<TableOutcome>& outcomes);
std::vector<TableOutcome> decode_table_outcomes(Reader& in);

}  // namespace nbos::replica
