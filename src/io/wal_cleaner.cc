#include "io/wal_cleaner.h"

#include <fmt/core.h>

namespace nbos::io::wal {
namespace {

constexpr std::size_t kRecordOverhead = 256;  // of anything but an entry's data

}  // namespace

void Cleaner::begin(std::uint64_t segment, std::uint64_t salt) {
    *this = Cleaner();
    segment_ = segment;
    salt_ = salt;
}

Status Cleaner::read_batch(const File& file) {
    const auto head = file.read(offset_, kBatchHeaderBytes);
    if (!head) {
        return head.error();
    }
    const auto header = decode_batch_header(*head, salt_);
    // A recycled file ends with what it held before: batches with another salt.
    if (!header) {
        at_end_ = true;
        return ok();
    }
    auto body = file.read(offset_ + kBatchHeaderBytes, header->body_bytes);
    if (!body) {
        return std::move(body).error();
    }
    if (body->size() != header->body_bytes || body_hash(*body, salt_) != header->body_hash) {
        return Error{.code = Errc::kIo,
                     .what = fmt::format("{} is damaged at offset {}", file.path(), offset_)};
    }
    body_ = *std::move(body);
    body_at_ = 0;
    batch_ = header->number;
    offset_ += padded(kBatchHeaderBytes + header->body_bytes);
    return ok();
}

bool Cleaner::live(const Record& record, WalIndex& index) const {
    const Place here{.segment = segment_, .batch = batch_};
    auto* group = index.find(record.group);
    if (group == nullptr) {
        return false;
    }
    if (record.kind == RecordKind::kMeta) {
        return group->meta_place == here;
    }
    const Slot* slot = index.slot(*group, record.entry.index);
    return slot != nullptr && slot->place == here && slot->term == record.entry.term;
}

Result<Cleaner::Portion> Cleaner::next(const File& file, WalIndex& index, std::size_t bytes_max) {
    Portion portion;
    // One batch at most, so that all records of a portion have one place.
    while (portion.records.empty() && !at_end_) {
        if (body_at_ == body_.size()) {
            if (auto read = read_batch(file); !read) {
                return std::move(read).error();
            }
            continue;
        }
        while (body_at_ < body_.size() && portion.bytes < bytes_max) {
            Reader in(std::string_view(body_).substr(body_at_));
            auto record = decode_record(in);
            if (!record) {
                return Error{.code = Errc::kIo, .what = file.path() + " holds a bad record"};
            }
            body_at_ = body_.size() - in.left();
            if (record->kind != RecordKind::kRemove && live(*record, index)) {
                portion.bytes += kRecordOverhead + record->entry.data.size();
                portion.records.push_back(*std::move(record));
            }
        }
    }
    return portion;
}

void Cleaner::restate(const Record& record, WalIndex& index, Writer& body, Place place) const {
    if (!live(record, index)) {
        return;  // the writes of this very batch have replaced it
    }
    auto& group = *index.find(record.group);
    if (record.kind == RecordKind::kMeta) {
        put_meta(body, record.group, group.meta);
        index.set_meta(group, group.meta, place);
        return;
    }
    put_entry(body, RecordKind::kRestated, record.group, record.entry);
    index.move(*index.slot(group, record.entry.index), place);
}

}  // namespace nbos::io::wal
