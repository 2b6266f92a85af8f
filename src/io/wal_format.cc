#include "io/wal_format.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <cstring>

namespace nbos::io::wal {
namespace {

constexpr std::uint64_t kSegmentMagic = 0x4745535F534F424EULL;   // "NBOS_SEG"
constexpr std::uint64_t kSnapshotMagic = 0x504E535F534F424EULL;  // "NBOS_SNP"
constexpr std::uint32_t kBatchMagic = 0x4348424EU;               // "NBHC"
constexpr std::uint64_t kVersion = 1;

std::uint64_t hash(std::string_view bytes, std::uint64_t seed) {
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace

std::string encode_segment_header(const SegmentHeader& header) {
    Writer out;
    out.put(kSegmentMagic).put(kVersion).put(header.sequence).put(header.salt);
    out.put(header.first_batch);
    std::string bytes = out.take();
    const auto check = hash(bytes, 0);
    bytes.append(reinterpret_cast<const char*>(&check), sizeof check);
    return bytes;
}

std::optional<SegmentHeader> decode_segment_header(std::string_view bytes) {
    if (bytes.size() < kSegmentHeaderBytes) {
        return std::nullopt;
    }
    Reader in(bytes.substr(0, kSegmentHeaderBytes));
    const auto magic = in.get<std::uint64_t>();
    const auto version = in.get<std::uint64_t>();
    SegmentHeader header;
    header.sequence = in.get<std::uint64_t>();
    header.salt = in.get<std::uint64_t>();
    header.first_batch = in.get<std::uint64_t>();
    const auto check = in.get<std::uint64_t>();
    if (magic != kSegmentMagic || version != kVersion || !in.done() ||
        check != hash(bytes.substr(0, kSegmentHeaderBytes - sizeof check), 0)) {
        return std::nullopt;
    }
    return header;
}

void put_batch_header(char* out, const BatchHeader& header, std::uint64_t salt) {
    std::memcpy(out, &kBatchMagic, 4);
    std::memcpy(out + 4, &header.body_bytes, 4);
    std::memcpy(out + 8, &header.number, 8);
    std::memcpy(out + 16, &header.body_hash, 8);
    const auto check = hash({out, 24}, salt);
    std::memcpy(out + 24, &check, 8);
}

std::optional<BatchHeader> decode_batch_header(std::string_view bytes, std::uint64_t salt) {
    // The quick test first: recovery asks at every place behind the end of a log.
    if (bytes.size() < kBatchHeaderBytes || std::memcmp(bytes.data(), &kBatchMagic, 4) != 0) {
        return std::nullopt;
    }
    Reader in(bytes.substr(4, kBatchHeaderBytes - 4));
    BatchHeader header;
    header.body_bytes = in.get<std::uint32_t>();
    header.number = in.get<std::uint64_t>();
    header.body_hash = in.get<std::uint64_t>();
    const auto check = in.get<std::uint64_t>();
    if (check != hash(bytes.substr(0, 24), salt)) {
        return std::nullopt;
    }
    return header;
}

std::uint64_t body_hash(std::string_view body, std::uint64_t salt) { return hash(body, salt); }

void put_meta(Writer& out, GroupId group, const Meta& meta) {
    out.put(RecordKind::kMeta).put(group.value).put(meta.self);
    raft::encode(out, meta.hard_state);
    out.put(meta.snapshot_file).put(meta.snapshot_index).put(meta.snapshot_term);
    out.put(static_cast<std::uint8_t>(meta.drops_log));
}

void put_entry(Writer& out, RecordKind kind, GroupId group, const raft::Entry& entry) {
    out.put(kind).put(group.value);
    raft::encode(out, entry);
}

void put_remove(Writer& out, GroupId group) { out.put(RecordKind::kRemove).put(group.value); }

std::optional<Record> decode_record(Reader& in) {
    Record record;
    record.kind = in.get<RecordKind>();
    record.group = GroupId{in.uuid()};
    switch (record.kind) {
        case RecordKind::kMeta:
            record.meta.self = in.id<ReplicaId>();
            record.meta.hard_state = raft::decode_hard_state(in);
            record.meta.snapshot_file = in.get<std::uint64_t>();
            record.meta.snapshot_index = in.id<Index>();
            record.meta.snapshot_term = in.id<Term>();
            record.meta.drops_log = in.get<std::uint8_t>() != 0;
            break;
        case RecordKind::kAppend:
        case RecordKind::kRestated:
            if (auto entry = raft::decode_entry(in)) {
                record.entry = *std::move(entry);
            }
            break;
        case RecordKind::kRemove:
            break;
        default:
            in.fail();
    }
    if (!in.ok()) {
        return std::nullopt;
    }
    return record;
}

std::string encode_snapshot_file(GroupId group, const raft::Snapshot& snapshot) {
    Writer body;
    body.put(group.value);
    raft::encode(body, snapshot);
    const std::string bytes = body.take();
    Writer out;
    out.put(kSnapshotMagic).put(kVersion).put(static_cast<std::uint64_t>(bytes.size()));
    out.put(hash(bytes, kVersion)).raw(bytes);
    return out.take();
}

std::optional<raft::Snapshot> decode_snapshot_file(GroupId group, std::string_view bytes) {
    Reader in(bytes);
    const auto magic = in.get<std::uint64_t>();
    const auto version = in.get<std::uint64_t>();
    const auto size = in.get<std::uint64_t>();
    const auto check = in.get<std::uint64_t>();
    const auto body = in.raw(in.left());
    if (magic != kSnapshotMagic || version != kVersion || size != body.size() ||
        check != hash(body, kVersion)) {
        return std::nullopt;
    }
    Reader content(body);
    const bool same_group = content.uuid() == group.value;
    auto snapshot = raft::decode_snapshot(content);
    if (!same_group || !snapshot || !content.done()) {
        return std::nullopt;
    }
    return snapshot;
}

std::string segment_name(std::uint64_t sequence) { return fmt::format("{:016}.wal", sequence); }
std::string snapshot_name(std::uint64_t file) { return fmt::format("{:016}.snap", file); }

}  // namespace nbos::io::wal
