#include "replica/table_machine.h"

#include <algorithm>
#include <utility>

#include "base/wire.h"

namespace nbos::replica {
namespace {

constexpr std::uint8_t kVersion = 1;

std::size_t size_of(const std::string& key, const Bytes& value) {
    return key.size() + value.size();
}

}  // namespace

std::optional<TableMachine::Applied> TableMachine::apply(Index index, std::string_view entry) {
    const auto write = decode_table_write(entry);
    if (!write || !check(*write)) {
        return std::nullopt;
    }
    const auto before = writers_.find(write->writer);
    if (before != writers_.end() && write->sequence <= before->second.sequence) {
        return std::nullopt;
    }
    Applied applied{.writer = write->writer, .changes = {}};
    LastWrite last{.sequence = write->sequence, .outcomes = {}, .index = index};
    for (const auto& transaction : write->transactions) {
        const auto outcome = apply(index, transaction);
        last.outcomes.push_back(outcome);
        if (outcome == TableOutcome::kDone) {
            applied.changes.insert(applied.changes.end(), transaction.changes.begin(),
                                   transaction.changes.end());
        }
    }
    remember(write->writer, std::move(last));
    return applied;
}

Index TableMachine::version(const std::string& key) const {
    const auto row = rows_.find(key);
    return row == rows_.end() ? Index{} : row->second.version;
}

TableOutcome TableMachine::apply(Index index, const TableTransaction& transaction) {
    const bool holds = std::all_of(
        transaction.conditions.begin(), transaction.conditions.end(),
        [this](const auto& condition) { return version(condition.key) == condition.version; });
    if (!holds) {
        return TableOutcome::kConflict;
    }
    auto after = bytes_;
    bool grows = false;
    for (const auto& change : transaction.changes) {
        if (const auto row = rows_.find(change.key); row != rows_.end()) {
            after -= size_of(row->first, row->second.value);
        }
        after += change.value ? size_of(change.key, *change.value) : 0;
        grows = grows || change.value;
    }
    // Erasing is never refused. A key that is named twice counts twice: refused a little early.
    if (grows && after > kTableBytesMax && after > bytes_) {
        return TableOutcome::kFull;
    }
    for (const auto& change : transaction.changes) {
        if (const auto row = rows_.find(change.key); row != rows_.end()) {
            bytes_ -= size_of(row->first, row->second.value);
            rows_.erase(row);
        }
        if (change.value) {
            bytes_ += size_of(change.key, *change.value);
            rows_[change.key] = {*change.value, index};
        }
    }
    return TableOutcome::kDone;
}

void TableMachine::remember(const Uuid& writer, LastWrite last) {
    writers_[writer] = std::move(last);
    while (writers_.size() > kTableWritersMax) {
        writers_.erase(std::min_element(
            writers_.begin(), writers_.end(),
            [](const auto& a, const auto& b) { return a.second.index < b.second.index; }));
    }
}

Bytes TableMachine::snapshot() const {
    Writer out;
    out.put(kVersion).put(static_cast<std::uint32_t>(rows_.size()));
    for (const auto& [key, row] : rows_) {
        out.put(key).put(row.value).put(row.version);
    }
    out.put(static_cast<std::uint32_t>(writers_.size()));
    for (const auto& [writer, last] : writers_) {
        out.put(writer).put(last.sequence).put(last.index);
        encode(out, last.outcomes);
    }
    return out.take_bytes();
}

std::optional<TableMachine> TableMachine::restore(std::string_view bytes) {
    constexpr std::size_t kRowBytesMin = 2 * sizeof(std::uint32_t) + sizeof(std::uint64_t);
    constexpr std::size_t kWriterBytesMin = 4 * sizeof(std::uint64_t) + sizeof(std::uint32_t);
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    TableMachine machine;
    for (auto n = in.count(kRowBytesMin); n > 0 && in.ok(); --n) {
        auto key = in.string();
        auto value = in.bytes();
        machine.bytes_ += size_of(key, value);
        const auto version = in.id<Index>();
        if (!machine.rows_.emplace(std::move(key), Row{std::move(value), version}).second) {
            in.fail();  // twice: nobody writes that
        }
    }
    for (auto n = in.count(kWriterBytesMin); n > 0 && in.ok(); --n) {
        const auto writer = in.uuid();
        LastWrite last;
        last.sequence = in.get<std::uint64_t>();
        last.index = in.id<Index>();
        last.outcomes = decode_table_outcomes(in);
        machine.writers_[writer] = std::move(last);
    }
    return in.done() ? std::optional(std::move(machine)) : std::nullopt;
}

}  // namespace nbos::replica
