#include "io/wal_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/log.h"

namespace nbos::io::wal {
namespace {

constexpr std::uint64_t kFirstSegmentBytes = 4U << 20U;
constexpr std::size_t kSparesMax = 2;

int injected(const Fault& fault, std::string_view operation) {
    return fault ? fault(operation) : 0;
}

// Past the page cache where the file system allows it: many megabytes of dirty zeros would hold up
// the next fdatasync of everybody else.
Status zero(File& file, std::uint64_t size, Zeros pace, const Fault& fault,
            const std::atomic<bool>* stop) {
    constexpr std::size_t kChunkBytes = 1U << 20U;
    constexpr std::chrono::milliseconds kPause{20};  // so that the disk serves others, too
    const std::unique_ptr<void, decltype(&std::free)> zeros(
        std::aligned_alloc(kPageBytes, kChunkBytes), std::free);
    std::memset(zeros.get(), 0, kChunkBytes);
    File direct(::open(file.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC), file.path(), size);
    for (std::uint64_t at = 0; at < size; at += kChunkBytes) {
        const std::string_view part(static_cast<const char*>(zeros.get()),
                                    std::min<std::uint64_t>(kChunkBytes, size - at));
        if (!(direct.is_open() && direct.write(at, part, fault))) {
            if (auto written = file.write(at, part, fault); !written) {
                return written;
            }
        }
        if (stop != nullptr && *stop) {
            return ok();  // the file is deleted anyway
        }
        if (pace == Zeros::kSlowly && at + kChunkBytes < size) {
            std::this_thread::sleep_for(kPause);
        }
    }
    return ok();
}

}  // namespace

Error file_error(std::string_view what, std::string_view path, int number) {
    const char* advice = number == ENOSPC || number == EDQUOT
                             ? "; make room on that disk and start again, nothing is lost"
                         : number == EACCES || number == EPERM || number == EROFS
                             ? "; make it writable for this user"
                             : "";
    return {.code = number == ENOSPC ? Errc::kExhausted : Errc::kIo,
            .what = fmt::format("{} {}: {}{}", what, path, std::strerror(number), advice)};
}

File::~File() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), size_(other.size_) {}

File& File::operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    std::swap(size_, other.size_);
    return *this;
}

Result<File> File::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct stat info{};
    if (fd < 0 || fstat(fd, &info) != 0) {
        return file_error("cannot open", path, errno);
    }
    return File(fd, path, static_cast<std::uint64_t>(info.st_size));
}

Result<File> File::make(const std::string& path, std::uint64_t size, Zeros zeros,
                        const Fault& fault, const std::atomic<bool>* stop) {
    if (const int number = injected(fault, "make"); number != 0) {
        return file_error("cannot make", path, number);
    }
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return file_error("cannot make", path, errno);
    }
    File file(fd, path, size);
    const int number = posix_fallocate(fd, 0, static_cast<off_t>(size));
    auto made = number == 0 ? ok() : Status(file_error("cannot make", path, number));
    if (made && zeros != Zeros::kNone) {
        made = zero(file, size, zeros, fault, stop);
    }
    if (!made) {
        unlink(path.c_str());
        return std::move(made).error();
    }
    if (fsync(fd) != 0) {
        return file_error("cannot sync", path, errno);
    }
    return file;
}

Status File::write(std::uint64_t offset, std::string_view bytes, const Fault& fault) {
    if (const int number = injected(fault, "write"); number != 0) {
        return file_error("cannot write", path_, number);
    }
    while (!bytes.empty()) {
        const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return file_error("cannot write", path_, written < 0 ? errno : EIO);
        }
        offset += static_cast<std::uint64_t>(written);
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return ok();
}

Status File::sync(const Fault& fault) {
    if (const int number = injected(fault, "fdatasync"); number != 0) {
        return file_error("cannot sync", path_, number);
    }
    return fdatasync(fd_) == 0 ? ok() : Status(file_error("cannot sync", path_, errno));
}

Result<std::string> File::read(std::uint64_t offset, std::size_t size) const {
    std::string bytes(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const ssize_t got =
            pread(fd_, bytes.data() + have, size - have, static_cast<off_t>(offset + have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return file_error("cannot read", path_, errno);
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
}

Status File::rename(const std::string& path) {
    if (::rename(path_.c_str(), path.c_str()) != 0) {
        return file_error("cannot rename", path_, errno);
    }
    path_ = path;
    return ok();
}

Result<std::string> read_file(const std::string& path) {
    const auto file = File::open(path);
    if (!file) {
        return file.error();
    }
    return file->read(0, file->size());
}

Status sync_directory(const std::string& directory) {
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool good = fd >= 0 && fsync(fd) == 0;
    const int number = errno;
    if (fd >= 0) {
        close(fd);
    }
    return good ? ok() : Status(file_error("cannot sync", directory, number));
}

Status write_file(const std::string& directory, const std::string& name, std::string_view bytes,
                  const Fault& fault) {
    const std::string temporary = directory + "/" + name + ".new";
    if (const int number = injected(fault, "make"); number != 0) {
        return file_error("cannot make", temporary, number);
    }
    const int fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return file_error("cannot make", temporary, errno);
    }
    File file(fd, temporary, bytes.size());
    if (auto written = file.write(0, bytes, fault); !written) {
        return written;
    }
    if (auto synced = file.sync(fault); !synced) {
        return synced;
    }
    if (auto renamed = file.rename(directory + "/" + name); !renamed) {
        return renamed;
    }
    return sync_directory(directory);
}

SegmentPool::SegmentPool(std::string directory, std::uint64_t segment_bytes, Fault fault)
    : directory_(std::move(directory)), segment_bytes_(segment_bytes), fault_(std::move(fault)) {
    thread_ = std::thread([this] { prepare(); });
}

SegmentPool::~SegmentPool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
    for (const auto& spare : spares_) {
        unlink(spare.path().c_str());
    }
}

std::uint64_t SegmentPool::next_size() {
    return whole_pages(
        std::min(segment_bytes_, kFirstSegmentBytes << std::min<std::uint64_t>(2 * taken_, 16)));
}

std::string SegmentPool::spare_name() { return fmt::format("{}/spare-{}", directory_, ++named_); }

void SegmentPool::prepare() {
    std::unique_lock lock(mutex_);
    while (true) {
        // Only once a segment is in use: a host that never writes needs no spare.
        wake_.wait(lock, [&] { return stopping_ || (spares_.empty() && taken_ > 0 && !failed_); });
        if (stopping_) {
            return;
        }
        const auto size = next_size();
        const auto name = spare_name();
        lock.unlock();
        auto made = File::make(name, size, Zeros::kSlowly, fault_, &stopping_);
        lock.lock();
        if (made) {
            spares_.push_back(*std::move(made));
        } else {
            // Not fatal yet: take() tries again when the segment is really needed.
            log_warning("wal", "no segment in reserve: {}", made.error().what);
            failed_ = true;
        }
    }
}

Result<File> SegmentPool::take(std::uint64_t bytes, const std::string& name) {
    std::unique_lock lock(mutex_);
    const auto fits = std::find_if(spares_.begin(), spares_.end(),
                                   [&](const File& spare) { return spare.size() >= bytes; });
    File file;
    if (fits != spares_.end()) {
        file = std::move(*fits);
        spares_.erase(fits);
    } else {
        const auto size = whole_pages(std::max(next_size(), bytes));
        const auto path = spare_name();
        lock.unlock();
        const auto zeros = size <= kFirstSegmentBytes ? Zeros::kNow : Zeros::kNone;
        auto made = File::make(path, size, zeros, fault_);
        if (!made) {
            return std::move(made).error();
        }
        file = *std::move(made);
        lock.lock();
    }
    ++taken_;
    failed_ = false;
    lock.unlock();
    wake_.notify_all();
    if (auto renamed = file.rename(directory_ + "/" + name); !renamed) {
        return std::move(renamed).error();
    }
    if (auto synced = sync_directory(directory_); !synced) {
        return std::move(synced).error();
    }
    return file;
}

void SegmentPool::give_back(File file) {
    const std::lock_guard lock(mutex_);
    const bool useful = spares_.size() < kSparesMax && file.size() >= next_size() &&
                        file.size() <= whole_pages(segment_bytes_);
    if (!useful || !file.rename(spare_name())) {
        unlink(file.path().c_str());
        return;
    }
    spares_.push_back(std::move(file));
}

}  // namespace nbos::io::wal
