#include "io/wal.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "io/wal_cleaner.h"
#include "io/wal_files.h"
#include "io/wal_recovery.h"

namespace nbos::io {
namespace {

using raft::GroupWrite;
using wal::Meta;
using wal::Place;

constexpr std::size_t kRestateBytes = 256U << 10U;  // beside one write
constexpr std::size_t kRecordBytes = 256;           // of a record without its entry's data, at most

std::size_t size_bound(const std::vector<GroupWrite>& writes) {
    std::size_t bytes = 0;
    for (const auto& write : writes) {
        bytes += 2 * kRecordBytes;
        for (const auto& entry : write.append) {
            bytes += kRecordBytes + entry.data.size();
        }
    }
    return bytes;
}

// The directory's lock; released by the kernel when the process ends.
Result<int> lock_directory(const std::string& directory) {
    const std::string path = directory + "/LOCK";
    const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return wal::file_error("cannot make", path, errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return Error{.code = Errc::kInvalid,
                     .what = fmt::format("{} is in use by another process; stop that one, or give "
                                         "this one a directory of its own",
                                         directory)};
    }
    return fd;
}

}  // namespace

class Wal::Impl {
public:
    Impl(EventLoop& event_loop, WalOptions given, int lock_fd, wal::Recovered recovered)
        : loop_(event_loop),
          options_(std::move(given)),
          lock_fd_(lock_fd),
          index_(std::move(recovered.index)),
          segments_(std::move(recovered.segments)),
          end_(recovered.end),
          next_batch_(recovered.next_batch),
          next_snapshot_(recovered.next_snapshot),
          pool_(options_.directory, options_.segment_bytes, options_.fault),
          segment_count_(segments_.size()) {
        thread_ = std::thread([this] { run(); });
    }
    ~Impl();

    void write(std::vector<GroupWrite> writes, std::function<void()> durable);
    Counters counters() const;

private:
    struct Request {
        std::vector<GroupWrite> writes;
        std::function<void()> durable;
        std::size_t bytes = 0;
    };
    using Requests = std::vector<Request>;

    void run();
    bool take(Requests& requests);
    Status commit(Requests& requests);
    Status make_room(std::size_t body_bytes);
    Status encode(GroupWrite& write, Writer& body, Place place);
    Status store_snapshot(GroupWrite& write, Meta& meta);
    Status put(std::string batch);
    Status free_segments();
    Result<wal::Cleaner::Portion> plan_cleaning();
    bool wants_cleaning() const;
    void announce(Requests& requests);
    void fail(const std::string& what);

    EventLoop& loop_;
    const WalOptions options_;
    const int lock_fd_;

    std::mutex mutex_;
    std::condition_variable wake_;
    Requests queue_;         // guarded by mutex_
    bool stopping_ = false;  // guarded by mutex_
    // On the loop thread only; shared with callbacks that are still posted when the log closes.
    std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);

    // The writer thread's own.
    wal::WalIndex index_;
    std::map<std::uint64_t, wal::Recovered::Segment> segments_;
    std::uint64_t end_;
    std::uint64_t next_batch_;
    std::uint64_t next_snapshot_;
    wal::SegmentPool pool_;
    wal::Cleaner cleaner_;
    std::vector<std::uint64_t> obsolete_snapshots_;
    std::string buffer_;
    bool failed_ = false;

    std::atomic<std::uint64_t> batches_{0};
    std::atomic<std::uint64_t> bytes_{0};
    std::atomic<std::uint64_t> segment_count_;
    std::atomic<std::uint64_t> restated_bytes_{0};
    std::thread thread_;
};

Wal::Impl::~Impl() {
    *closed_ = true;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
    close(lock_fd_);
}

void Wal::Impl::write(std::vector<GroupWrite> writes, std::function<void()> durable) {
    Request request{.writes = std::move(writes), .durable = std::move(durable), .bytes = 0};
    request.bytes = size_bound(request.writes);
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(request));
    }
    wake_.notify_one();
}

Wal::Counters Wal::Impl::counters() const {
    return {.batches = batches_,
            .bytes = bytes_,
            .segments = segment_count_,
            .restated_bytes = restated_bytes_};
}

void Wal::Impl::run() {
    Requests requests;
    while (take(requests)) {
        if (!failed_) {
            if (auto done = commit(requests); !done) {
                fail(done.error().what);
            } else {
                announce(requests);
            }
        }
        requests.clear();
    }
}

// Everything that waits, up to the size of a write. False: closing, and nothing waits.
bool Wal::Impl::take(Requests& requests) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] {
        return stopping_ || !queue_.empty() ||
               (!failed_ && (cleaner_.active() || wants_cleaning()));
    });
    if (queue_.empty()) {
        return !stopping_;
    }
    std::size_t bytes = queue_.front().bytes;
    std::size_t n = 1;
    while (n < queue_.size() && bytes + queue_[n].bytes <= options_.batch_bytes_max) {
        bytes += queue_[n].bytes;
        ++n;
    }
    if (n == queue_.size()) {
        requests.swap(queue_);
        return true;
    }
    const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(n);
    requests.assign(std::move_iterator(queue_.begin()), std::move_iterator(end));
    queue_.erase(queue_.begin(), end);
    return true;
}

Status Wal::Impl::commit(Requests& requests) {
    auto portion = plan_cleaning();
    if (!portion) {
        return std::move(portion).error();
    }
    std::size_t bound = portion->bytes;
    for (const auto& request : requests) {
        bound += request.bytes;
    }
    if (bound > 0) {
        if (auto room = make_room(bound); !room) {
            return room;
        }
        const Place place{.segment = segments_.rbegin()->first, .batch = next_batch_};
        Writer body(std::move(buffer_));
        body.raw(std::string(wal::kBatchHeaderBytes, '\0'));
        for (auto& request : requests) {
            for (auto& write : request.writes) {
                if (auto encoded = encode(write, body, place); !encoded) {
                    return encoded;
                }
            }
        }
        const auto before = body.size();
        for (const auto& record : portion->records) {
            cleaner_.restate(record, index_, body, place);
        }
        restated_bytes_ += body.size() - before;
        if (body.size() == wal::kBatchHeaderBytes) {
            buffer_ = body.take();
        } else if (auto written = put(body.take()); !written) {
            return written;
        }
    }
    return free_segments();
}

Status Wal::Impl::make_room(std::size_t body_bytes) {
    const auto needed = wal::padded(wal::kBatchHeaderBytes + body_bytes);
    if (!segments_.empty() && end_ + needed <= segments_.rbegin()->second.file.size()) {
        return ok();
    }
    const auto sequence = segments_.empty() ? 1 : segments_.rbegin()->first + 1;
    auto file = pool_.take(wal::kSegmentHeaderBytes + needed, wal::segment_name(sequence));
    if (!file) {
        return std::move(file).error();
    }
    const wal::SegmentHeader header{
        .sequence = sequence, .salt = random_u64(), .first_batch = next_batch_};
    if (auto written = file->write(0, wal::encode_segment_header(header), options_.fault);
        !written) {
        return written;
    }
    segments_[sequence] = {.file = *std::move(file), .salt = header.salt};
    index_.add_segment(sequence);
    end_ = wal::kSegmentHeaderBytes;
    segment_count_ = segments_.size();
    return ok();
}

Status Wal::Impl::store_snapshot(GroupWrite& write, Meta& meta) {
    const auto file = next_snapshot_++;
    if (auto stored = wal::write_file(options_.directory, wal::snapshot_name(file),
                                      wal::encode_snapshot_file(write.group, *write.snapshot),
                                      options_.fault);
        !stored) {
        return stored;
    }
    if (meta.snapshot_file != 0) {
        obsolete_snapshots_.push_back(meta.snapshot_file);
    }
    meta.snapshot_file = file;
    meta.snapshot_index = write.snapshot->index;
    meta.snapshot_term = write.snapshot->term;
    return ok();
}

Status Wal::Impl::encode(GroupWrite& write, Writer& body, Place place) {
    if (write.remove) {
        if (const auto* group = index_.find(write.group); group != nullptr) {
            if (group->meta.snapshot_file != 0) {
                obsolete_snapshots_.push_back(group->meta.snapshot_file);
            }
            index_.remove(write.group);
            wal::put_remove(body, write.group);
        }
        if (!write.snapshot && !write.hard_state && write.append.empty()) {
            return ok();
        }
    }
    auto& group = index_.add(write.group);
    Meta meta = group.meta;
    bool changed = group.meta_place.batch == 0 || meta.self != write.self;
    meta.self = write.self;
    if (write.snapshot &&
        (meta.snapshot_file == 0 || meta.snapshot_index < write.snapshot->index)) {
        if (auto stored = store_snapshot(write, meta); !stored) {
            return stored;
        }
        meta.drops_log = index_.cut_to_snapshot(group, meta.snapshot_index, meta.snapshot_term);
        changed = true;
    }
    if (write.hard_state) {
        meta.hard_state = *write.hard_state;
        changed = true;
    }
    if (changed) {
        wal::put_meta(body, write.group, meta);
        meta.drops_log = false;  // once
        index_.set_meta(group, meta, place);
    }
    for (const auto& entry : write.append) {
        NBOS_CHECK(index_.append(group, entry, place), "an entry leaves a gap in its group's log");
        wal::put_entry(body, wal::RecordKind::kAppend, write.group, entry);
    }
    return ok();
}

// `batch` begins with room for its header.
Status Wal::Impl::put(std::string batch) {
    auto& segment = segments_.rbegin()->second;
    const auto body = std::string_view(batch).substr(wal::kBatchHeaderBytes);
    const wal::BatchHeader header{.number = next_batch_,
                                  .body_bytes = static_cast<std::uint32_t>(body.size()),
                                  .body_hash = wal::body_hash(body, segment.salt)};
    wal::put_batch_header(batch.data(), header, segment.salt);
    // To the end of the page: a part of one that is not in memory would first be read from disk.
    const auto bytes = batch.size();
    batch.resize(std::min(wal::whole_pages(end_ + bytes), segment.file.size()) - end_);
    if (auto written = segment.file.write(end_, batch, options_.fault); !written) {
        return written;
    }
    if (auto synced = segment.file.sync(options_.fault); !synced) {
        return synced;
    }
    end_ += wal::padded(bytes);
    ++next_batch_;
    ++batches_;
    bytes_ += bytes;
    buffer_ = std::move(batch);
    return ok();
}

// All that the last batch made superfluous.
Status Wal::Impl::free_segments() {
    for (const auto file : std::exchange(obsolete_snapshots_, {})) {
        unlink((options_.directory + "/" + wal::snapshot_name(file)).c_str());
    }
    // From the oldest on only: a record may say that older ones do not count any more.
    while (segments_.size() > 1 && index_.live_in(segments_.begin()->first) == 0) {
        const auto oldest = segments_.begin();
        index_.drop_segment(oldest->first);
        pool_.give_back(std::move(oldest->second.file));
        segments_.erase(oldest);
        segment_count_ = segments_.size();
        cleaner_.end();
        if (auto synced = wal::sync_directory(options_.directory); !synced) {
            return synced;
        }
    }
    return ok();
}

bool Wal::Impl::wants_cleaning() const {
    if (segments_.size() < 3) {
        return false;
    }
    std::uint64_t bytes = 0;
    for (const auto& [sequence, segment] : segments_) {
        bytes += segment.file.size();
    }
    return bytes > 2 * index_.live_bytes() + 2 * options_.segment_bytes;
}

Result<wal::Cleaner::Portion> Wal::Impl::plan_cleaning() {
    if (!cleaner_.active() && wants_cleaning()) {
        cleaner_.begin(segments_.begin()->first, segments_.begin()->second.salt);
    }
    if (!cleaner_.active()) {
        return wal::Cleaner::Portion{};
    }
    auto portion = cleaner_.next(segments_.begin()->second.file, index_, kRestateBytes);
    if (portion && portion->records.empty()) {
        cleaner_.end();
        NBOS_CHECK(index_.live_in(segments_.begin()->first) == 0,
                   "records count in a segment that does not hold them");
    }
    return portion;
}

void Wal::Impl::announce(Requests& requests) {
    if (requests.empty()) {
        return;
    }
    std::vector<std::function<void()>> calls;
    calls.reserve(requests.size());
    for (auto& request : requests) {
        calls.push_back(std::move(request.durable));
    }
    loop_.post([closed = closed_, calls = std::move(calls)] {
        for (const auto& call : calls) {
            if (!*closed && call) {
                call();
            }
        }
    });
}

// What the kernel does with dirty pages after a failed fsync is unknown, so it is never repeated.
void Wal::Impl::fail(const std::string& what) {
    failed_ = true;
    const auto line = fmt::format("the log cannot be written, this process stops: {}", what);
    if (options_.on_fatal) {
        options_.on_fatal(line);
        return;
    }
    log_error("wal", "{}", line);
    std::abort();
}

Wal::Wal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Wal::~Wal() = default;

void Wal::write(std::vector<GroupWrite> writes, std::function<void()> durable) {
    impl_->write(std::move(writes), std::move(durable));
}
Wal::Counters Wal::counters() const { return impl_->counters(); }

Result<Wal::Opened> Wal::open(EventLoop& loop, WalOptions options) {
    std::error_code failure;
    std::filesystem::create_directories(options.directory, failure);
    if (failure) {
        return wal::file_error("cannot make", options.directory, failure.value());
    }
    auto lock = lock_directory(options.directory);
    if (!lock) {
        return std::move(lock).error();
    }
    auto recovered = wal::recover(options.directory);
    if (!recovered) {
        close(*lock);
        return std::move(recovered).error();
    }
    Opened opened;
    opened.groups = std::move(recovered->groups);
    opened.wal.reset(
        new Wal(std::make_unique<Impl>(loop, std::move(options), *lock, *std::move(recovered))));
    return opened;
}

}  // namespace nbos::io
