#include "io/wal_recovery.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/log.h"

namespace nbos::io::wal {
namespace {

struct Held {
    raft::Entry entry;
    Place place;
};

struct Group {
    std::optional<Meta> meta;
    Place meta_place;
    std::map<Index, Held> entries;
};

class Recovery {
public:
    explicit Recovery(const std::string& directory) : directory_(directory) {}

    Result<Recovered> run();

private:
    Status list();
    Status read_segment(std::uint64_t sequence, bool last);
    Status replay(std::string_view body, Place place);
    void replay_one(Record record, Place place);
    Status restore();
    Status restore_one(GroupId id, Group& group);
    Error damaged(const std::string& name, std::uint64_t offset, std::string_view what) const;

    const std::string directory_;
    std::set<std::uint64_t> sequences_;
    std::set<std::uint64_t> snapshots_;
    std::set<std::uint64_t> named_snapshots_;
    std::map<GroupId, Group> groups_;
    std::uint64_t next_batch_ = 0;  // 0: not known yet
    Recovered out_;
};

std::optional<std::uint64_t> number_in(std::string_view name, std::string_view extension) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const auto digits = static_cast<std::size_t>(end - name.data());
    if (error != std::errc() || name.substr(digits) != extension) {
        return std::nullopt;
    }
    return number;
}

Error Recovery::damaged(const std::string& name, std::uint64_t offset,
                        std::string_view what) const {
    return {.code = Errc::kIo,
            .what = fmt::format(
                "{}/{} is damaged at offset {}: {}. What this host acknowledged would be lost, so "
                "it does not start. Restore the whole directory from a copy, or move it away and "
                "start the host again: its replicas are then made anew from those of other hosts",
                directory_, name, offset, what)};
}

Status Recovery::list() {
    std::error_code failure;
    for (const auto& file : std::filesystem::directory_iterator(directory_, failure)) {
        const std::string name = file.path().filename();
        if (const auto segment = number_in(name, ".wal")) {
            sequences_.insert(*segment);
        } else if (const auto snapshot = number_in(name, ".snap")) {
            snapshots_.insert(*snapshot);
        } else if (name.ends_with(".new") || name.starts_with("spare-")) {
            unlink(file.path().c_str());
        }
    }
    if (failure) {
        return file_error("cannot list", directory_, failure.value());
    }
    if (!sequences_.empty() &&
        *sequences_.rbegin() - *sequences_.begin() + 1 != sequences_.size()) {
        auto missing = *sequences_.begin();
        while (sequences_.contains(missing)) {
            ++missing;
        }
        return damaged(segment_name(missing), 0, "the file is missing");
    }
    return ok();
}

// Whether something that was written after `offset` proves that the batch there had been synced: a
// write begins only when the sync of the one before it has ended.
bool later_batch_follows(std::string_view bytes, std::size_t offset, std::uint64_t salt,
                         std::uint64_t expected) {
    for (auto at = offset + kAlignment; at + kBatchHeaderBytes <= bytes.size(); at += kAlignment) {
        const auto header = decode_batch_header(bytes.substr(at), salt);
        if (header && header->number > expected) {
            return true;
        }
    }
    return false;
}

Status Recovery::read_segment(std::uint64_t sequence, bool last) {
    const std::string name = segment_name(sequence);
    auto file = File::open(directory_ + "/" + name);
    if (!file) {
        return std::move(file).error();
    }
    const auto read = file->read(0, file->size());
    if (!read) {
        return read.error();
    }
    const std::string_view bytes = *read;
    const auto header = decode_segment_header(bytes);
    const bool begun = header && header->sequence == sequence;
    // New (zeros), or used before under a lower number: the header's one sector is not torn.
    const bool untouched =
        header ? header->sequence < sequence
               : bytes.find_first_not_of('\0') >= std::min(kSegmentHeaderBytes, bytes.size());
    if (!begun && !(last && untouched)) {
        return damaged(name, 0, "its header is not valid");
    }
    if (!begun) {
        // Made or taken from the pool, and nothing durable written to it yet.
        unlink(file->path().c_str());
        return ok();
    }
    if (next_batch_ == 0) {
        next_batch_ = header->first_batch;
    }
    if (header->first_batch != next_batch_) {
        return damaged(segment_name(sequence - 1), out_.end,
                       fmt::format("batch {} is not valid, and {} follows in {}", next_batch_,
                                   header->first_batch, name));
    }
    std::size_t at = kSegmentHeaderBytes;
    while (const auto batch =
               decode_batch_header(bytes.substr(std::min(at, bytes.size())), header->salt)) {
        const auto body = bytes.substr(at + kBatchHeaderBytes, batch->body_bytes);
        if (batch->number != next_batch_ || body.size() != batch->body_bytes ||
            body_hash(body, header->salt) != batch->body_hash) {
            break;
        }
        if (auto replayed = replay(body, {.segment = sequence, .batch = next_batch_}); !replayed) {
            return damaged(name, at, replayed.error().what);
        }
        ++next_batch_;
        at += padded(kBatchHeaderBytes + batch->body_bytes);
    }
    if (later_batch_follows(bytes, at, header->salt, next_batch_)) {
        return damaged(name, at,
                       fmt::format("batch {} is not valid, and later ones follow", next_batch_));
    }
    out_.end = at;
    out_.segments[sequence] = {.file = *std::move(file), .salt = header->salt};
    out_.index.add_segment(sequence);
    return ok();
}

Status Recovery::replay(std::string_view body, Place place) {
    Reader in(body);
    while (in.left() > 0) {
        auto record = decode_record(in);
        if (!record) {
            return Error{
                .code = Errc::kIo,
                .what = fmt::format("batch {} holds a record that cannot be read", place.batch)};
        }
        replay_one(*std::move(record), place);
    }
    return ok();
}

void Recovery::replay_one(Record record, Place place) {
    if (record.kind == RecordKind::kRemove) {
        groups_.erase(record.group);
        return;
    }
    Group& group = groups_[record.group];
    if (record.kind == RecordKind::kMeta) {
        if (record.meta.drops_log) {
            group.entries.clear();
        }
        group.meta = record.meta;
        group.meta_place = place;
        return;
    }
    const Index index = record.entry.index;
    if (record.kind == RecordKind::kAppend) {
        group.entries.erase(group.entries.lower_bound(index), group.entries.end());
    }
    group.entries[index] = {.entry = std::move(record.entry), .place = place};
}

Status Recovery::restore_one(GroupId id, Group& group) {
    const auto incomplete = [&](std::string_view what) {
        return Error{.code = Errc::kIo, .what = fmt::format("group {}: {}", id.value.str(), what)};
    };
    if (!group.meta) {
        return incomplete("its first records are missing");
    }
    const Meta& meta = *group.meta;
    raft::RestoredGroup restored{.group = id, .self = meta.self, .state = {}};
    restored.state.hard_state = meta.hard_state;
    if (meta.snapshot_file != 0) {
        const std::string name = snapshot_name(meta.snapshot_file);
        const auto bytes = read_file(directory_ + "/" + name);
        if (!bytes) {
            return bytes.error();
        }
        auto snapshot = decode_snapshot_file(id, *bytes);
        if (!snapshot || snapshot->index != meta.snapshot_index) {
            return damaged(name, 0, "its contents are not what was written");
        }
        restored.state.snapshot = *std::move(snapshot);
        named_snapshots_.insert(meta.snapshot_file);
    }
    auto& indexed = out_.index.add(id);
    out_.index.set_meta(indexed, meta, group.meta_place);
    indexed.first = Index{meta.snapshot_index.value + 1};
    group.entries.erase(group.entries.begin(), group.entries.lower_bound(indexed.first));
    for (auto& [index, held] : group.entries) {
        if (!out_.index.append(indexed, held.entry, held.place)) {
            return incomplete(fmt::format("entry {} is missing", indexed.last().value + 1));
        }
        restored.state.log.push_back(std::move(held.entry));
    }
    out_.groups.push_back(std::move(restored));
    return ok();
}

Status Recovery::restore() {
    for (auto& [id, group] : groups_) {
        if (auto restored = restore_one(id, group); !restored) {
            return restored;
        }
    }
    for (const auto file : snapshots_) {
        out_.next_snapshot = std::max(out_.next_snapshot, file + 1);
        if (!named_snapshots_.contains(file)) {
            unlink((directory_ + "/" + snapshot_name(file)).c_str());
        }
    }
    return ok();
}

Result<Recovered> Recovery::run() {
    if (auto listed = list(); !listed) {
        return std::move(listed).error();
    }
    for (const auto sequence : sequences_) {
        if (auto done = read_segment(sequence, sequence == *sequences_.rbegin()); !done) {
            return std::move(done).error();
        }
    }
    if (auto restored = restore(); !restored) {
        return std::move(restored).error().in("open " + directory_);
    }
    out_.next_batch = std::max<std::uint64_t>(next_batch_, 1);
    // A killed process leaves written what was not synced yet: nothing may rest on it before.
    if (!out_.segments.empty()) {
        if (auto synced = out_.segments.rbegin()->second.file.sync({}); !synced) {
            return std::move(synced).error();
        }
    }
    return std::move(out_);
}

}  // namespace

Result<Recovered> recover(const std::string& directory) { return Recovery(directory).run(); }

}  // namespace nbos::io::wal
