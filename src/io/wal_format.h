// The bytes of the write-ahead log (docs/reference/wal-format.md).
//
// A segment is a header and batches. A batch is what one write and one fdatasync made durable: it
// counts whole or not at all. Its records carry the parts of several groups.
//
// Every hash is seeded with the segment's random salt. So what a recycled file still holds from
// its former life is never taken for a batch, nor are the contents of a user's entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/wire.h"
#include "model/ids.h"
#include "raft/messages.h"

namespace nbos::io::wal {

constexpr std::size_t kSegmentHeaderBytes = 48;
constexpr std::size_t kBatchHeaderBytes = 32;
constexpr std::size_t kAlignment = 8;  // of batches

struct SegmentHeader {
    std::uint64_t sequence = 0;  // as in the file's name
    std::uint64_t salt = 0;
    std::uint64_t first_batch = 0;  // number of the first batch in it
};
std::string encode_segment_header(const SegmentHeader& header);
std::optional<SegmentHeader> decode_segment_header(std::string_view bytes);

struct BatchHeader {
    std::uint64_t number = 0;  // counts on over all segments, without gaps
    std::uint32_t body_bytes = 0;
    std::uint64_t body_hash = 0;
};
void put_batch_header(char* out, const BatchHeader& header, std::uint64_t salt);
std::optional<BatchHeader> decode_batch_header(std::string_view bytes, std::uint64_t salt);
std::uint64_t body_hash(std::string_view body, std::uint64_t salt);
constexpr std::size_t padded(std::size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

enum class RecordKind : std::uint8_t {
    kMeta = 1,      // all about a group but its entries; the last one counts
    kAppend = 2,    // an entry; replaces all at or after its index
    kRestated = 3,  // an entry again, from a segment that is about to be freed; replaces only it
    kRemove = 4,    // nothing of the group before this counts
};

struct Meta {
    ReplicaId self;
    raft::HardState hard_state;
    // The file of the snapshot in force; 0: none. Entries up to its index do not count.
    std::uint64_t snapshot_file = 0;
    Index snapshot_index;
    Term snapshot_term;
    bool drops_log = false;  // entries before this record do not count: a foreign snapshot came
};

struct Record {
    RecordKind kind = RecordKind::kMeta;
    GroupId group;
    Meta meta;          // kMeta
    raft::Entry entry;  // kAppend, kRestated
};

void put_meta(Writer& out, GroupId group, const Meta& meta);
void put_entry(Writer& out, RecordKind kind, GroupId group, const raft::Entry& entry);
void put_remove(Writer& out, GroupId group);
// nullopt: malformed. Reads one record.
std::optional<Record> decode_record(Reader& in);

// A snapshot has a file of its own: header, then encode(raft::Snapshot).
std::string encode_snapshot_file(GroupId group, const raft::Snapshot& snapshot);
std::optional<raft::Snapshot> decode_snapshot_file(GroupId group, std::string_view bytes);

std::string segment_name(std::uint64_t sequence);
std::string snapshot_name(std::uint64_t file);

}  // namespace nbos::io::wal
