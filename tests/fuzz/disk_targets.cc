// What lies on disks: records, snapshot files and whole segments of the write-ahead log.
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "io/wal_format.h"
#include "io/wal_recovery.h"
#include "tests/fuzz/wire_targets.h"

namespace nbos::fuzz {
namespace {

namespace wal = io::wal;

const GroupId kGroup{Uuid{1, 2}};

raft::Snapshot snapshot() {
    raft::Snapshot out;
    out.index = Index{9};
    out.term = Term{2};
    out.membership.voters = {ReplicaId{1}};
    out.membership.hosts = {{ReplicaId{1}, HostId{"host-1"}}};
    out.state = Bytes::copy("state");
    return out;
}

std::vector<std::string> record_examples() {
    Writer out;
    wal::put_meta(out, kGroup, {.self = ReplicaId{1}, .snapshot_index = Index{1}});
    wal::put_entry(
        out, wal::RecordKind::kAppend, kGroup,
        {Term{1}, Index{2}, raft::EntryKind::kCommand, {ReplicaId{1}, 3}, Bytes::copy("command")});
    Writer removal;
    wal::put_remove(removal, kGroup);
    return {out.take(), removal.take()};
}

std::vector<std::string> snapshot_file_examples() {
    return {wal::encode_snapshot_file(kGroup, snapshot())};
}

// Of one process, on a file system in memory where there is one.
std::string scratch() {
    static const std::string kPath = [] {
        std::string path = std::filesystem::is_directory("/dev/shm") ? "/dev/shm/nbos-fuzz-XXXXXX"
                                                                     : "/tmp/nbos-fuzz-XXXXXX";
        NBOS_CHECK(mkdtemp(path.data()) != nullptr, "no directory to work in");
        return path;
    }();
    return kPath;
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

}  // namespace

void decode_wal_record(std::string_view bytes) {
    Reader in(bytes);
    while (in.ok() && in.left() > 0) {
        if (!wal::decode_record(in)) {
            return;
        }
    }
}

void decode_snapshot_file(std::string_view bytes) {
    if (const auto decoded = wal::decode_snapshot_file(kGroup, bytes)) {
        NBOS_CHECK(wal::decode_snapshot_file(kGroup, wal::encode_snapshot_file(kGroup, *decoded)),
                   "a snapshot file does not round-trip");
    }
}

// A segment whose one batch has these records and a right hash; then the same file as it stands.
void recover_wal(std::string_view bytes) {
    constexpr std::uint64_t kSalt = 5;
    const auto directory = scratch();
    const auto path = directory + "/" + wal::segment_name(1);
    std::string batch(wal::kBatchHeaderBytes, '\0');
    wal::put_batch_header(batch.data(),
                          {.number = 1,
                           .body_bytes = static_cast<std::uint32_t>(bytes.size()),
                           .body_hash = wal::body_hash(bytes, kSalt)},
                          kSalt);
    batch += bytes;
    batch.resize(wal::padded(batch.size()), '\0');
    const auto header =
        wal::encode_segment_header({.sequence = 1, .salt = kSalt, .first_batch = 1});
    for (const auto& text : {header + batch, header + std::string(bytes), std::string(bytes)}) {
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
            std::filesystem::remove_all(entry.path(), ignored);
        }
        write_file(path, text);
        (void)wal::recover(directory);  // an error is an answer, too
    }
}

const std::vector<Target>& disk_targets() {
    static const std::vector<Target> kTargets = {
        {"decode_wal_record", decode_wal_record, record_examples},
        {"decode_snapshot_file", decode_snapshot_file, snapshot_file_examples},
        {"recover_wal", recover_wal, record_examples, 50},
    };
    return kTargets;
}

}  // namespace nbos::fuzz
