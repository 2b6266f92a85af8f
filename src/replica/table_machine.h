// The tables that gateways share, as the log of the system group says: rows from key to bytes,
// each with the index of the entry that wrote it last as its version.
//
// A value: apply() is a pure function of the log, so that all replicas hold the same rows. What
// the rows mean is the gateways' business (gateway/table_rows.h).
//
// Limits   Of replica/table_log.h. The writers whose last write is remembered are the latest
//          kTableWritersMax: a gateway's life ends long before so many others have begun.
// Errors   An entry that does not decode is void. Snapshots are checked like any input.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/uuid.h"
#include "model/ids.h"
#include "replica/table_log.h"

namespace nbos::replica {

class TableMachine {
public:
    struct Row {
        Bytes value;
        Index version;
        bool operator==(const Row&) const = default;
    };
    struct LastWrite {  // of a writer
        std::uint64_t sequence = 0;
        std::vector<TableOutcome> outcomes;  // one for each transaction
        Index index;
        bool operator==(const LastWrite&) const = default;
    };
    struct Applied {
        Uuid writer;
        std::vector<TableChange> changes;  // of the transactions that took effect, in order
    };

    // nullopt: void (malformed, or a repetition).
    std::optional<Applied> apply(Index index, std::string_view entry);

    const std::map<std::string, Row>& rows() const { return rows_; }
    const std::map<Uuid, LastWrite>& writers() const { return writers_; }
    std::size_t bytes() const { return bytes_; }

    Bytes snapshot() const;
    static std::optional<TableMachine> restore(std::string_view bytes);
    bool operator==(const TableMachine&) const = default;

private:
    TableOutcome apply(Index index, const TableTransaction& transaction);
    Index version(const std::string& key) const;
    void remember(const Uuid& writer, LastWrite last);

    std::map<std::string, Row> rows_;
    std::map<Uuid, LastWrite> writers_;
    std::size_t bytes_ = 0;  // of keys and values
};

}  // namespace nbos::replica
