#include "replica/table_log.h"

#include <fmt/core.h>

#include <utility>

#include "replica/cell_log.h"

namespace nbos::replica {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kConditionBytesMin = sizeof(std::uint32_t) + sizeof(std::uint64_t);
constexpr std::size_t kChangeBytesMin = sizeof(std::uint32_t) + 1;
constexpr std::size_t kTransactionBytesMin = 2 * sizeof(std::uint32_t);

Error too_large(std::string what) {
    return {Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}

void put(Writer& out, const TableTransaction& transaction) {
    out.put(static_cast<std::uint32_t>(transaction.conditions.size()));
    for (const auto& condition : transaction.conditions) {
        out.put(condition.key).put(condition.version);
    }
    out.put(static_cast<std::uint32_t>(transaction.changes.size()));
    for (const auto& change : transaction.changes) {
        out.put(change.key).put(change.value.has_value());
        if (change.value) {
            out.put(*change.value);
        }
    }
}

TableTransaction get_transaction(Reader& in) {
    TableTransaction transaction;
    for (auto n = in.count(kConditionBytesMin); n > 0 && in.ok(); --n) {
        auto key = in.string();
        transaction.conditions.push_back({std::move(key), in.id<Index>()});
    }
    for (auto n = in.count(kChangeBytesMin); n > 0 && in.ok(); --n) {
        TableChange change{.key = in.string(), .value = {}};
        if (get_bool(in)) {
            change.value = in.bytes();
        }
        transaction.changes.push_back(std::move(change));
    }
    return transaction;
}

}  // namespace

Status check(const TableWrite& write) {
    std::size_t bytes = 0;
    for (const auto& transaction : write.transactions) {
        for (const auto& condition : transaction.conditions) {
            bytes += condition.key.size();
        }
        for (const auto& change : transaction.changes) {
            const auto size = change.value ? change.value->size() : 0;
            if (change.key.empty() || change.key.size() > kTableKeyBytesMax) {
                return too_large(
                    fmt::format("a key of the cluster's tables has {} bytes; it may "
                                "have from 1 to {}",
                                change.key.size(), kTableKeyBytesMax));
            }
            if (size > kTableRowBytesMax) {
                return too_large(fmt::format(
                    "what the cluster would have to remember of {} has {} bytes; {} are the limit: "
                    "ask with a smaller environment, or with shorter names",
                    change.key, size, kTableRowBytesMax));
            }
            bytes += change.key.size() + size;
        }
    }
    if (bytes > kTableWriteBytesMax) {
        return too_large(
            fmt::format("a write of {} bytes into the cluster's tables; {} are the "
                        "limit",
                        bytes, kTableWriteBytesMax));
    }
    return ok();
}

void encode(Writer& out, const TableWrite& write) {
    out.put(write.writer).put(write.sequence);
    out.put(static_cast<std::uint32_t>(write.transactions.size()));
    for (const auto& transaction : write.transactions) {
        put(out, transaction);
    }
}

TableWrite decode_table_write(Reader& in) {
    TableWrite write;
    write.writer = in.uuid();
    write.sequence = in.get<std::uint64_t>();
    for (auto n = in.count(kTransactionBytesMin); n > 0 && in.ok(); --n) {
        write.transactions.push_back(get_transaction(in));
    }
    return write;
}

Bytes encode(const TableWrite& write) {
    Writer out;
    out.put(kVersion);
    encode(out, write);
    return out.take_bytes();
}

std::optional<TableWrite> decode_table_write(std::string_view bytes) {
    Reader in(bytes);
    if (in.get<std::uint8_t>() != kVersion) {
        return std::nullopt;
    }
    auto write = decode_table_write(in);
    return in.done() ? std::optional(std::move(write)) : std::nullopt;
}

void encode(Writer& out, const std::vector<TableOutcome>& outcomes) {
    out.put(static_cast<std::uint32_t>(outcomes.size()));
    for (const auto outcome : outcomes) {
        out.put(outcome);
    }
}

std::vector<TableOutcome> decode_table_outcomes(Reader& in) {
    std::vector<TableOutcome> outcomes;
    for (auto n = in.count(1); n > 0 && in.ok(); --n) {
        const auto outcome = in.get<TableOutcome>();
        if (outcome > TableOutcome::kFull) {
            in.fail();
            break;
        }
        outcomes.push_back(outcome);
    }
    return outcomes;
}

}  // namespace nbos::replica
