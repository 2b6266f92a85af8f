// The files under the write-ahead log: plain calls with their errors as values, and segments made
// ready ahead of time.
//
// A spare segment is zeroed slowly in the background and synced, so that later an fdatasync need
// not touch metadata; a freed one is used again as it is. Who writes faster gets one that is only
// allocated.
//
// Threads  File and the free functions: any one thread. SegmentPool: its own thread prepares, the
//          writer thread takes and gives back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/result.h"

namespace nbos::io::wal {

// Called before each operation with its name ("write", "fdatasync", "make"); what it returns, if
// not 0, is the errno that the operation fails with. Tests only.
using Fault = std::function<int(std::string_view operation)>;

constexpr std::size_t kPageBytes = 4096;
constexpr std::uint64_t whole_pages(std::uint64_t bytes) {
    return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

// Whether a new file's blocks are written once. Without it, the first fdatasync of each place also
// commits metadata (twice the time for 4 KB); writing them takes the disk from others meanwhile.
enum class Zeros : std::uint8_t { kNone, kNow, kSlowly };

class File {
public:
    File() = default;
    File(int fd, std::string path, std::uint64_t size)
        : fd_(fd), path_(std::move(path)), size_(size) {}
    ~File();
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;

    static Result<File> open(const std::string& path);  // for reading and writing
    // Of `size`, synced; reads as zeros. `stop` cuts the zeroing short.
    static Result<File> make(const std::string& path, std::uint64_t size, Zeros zeros,
                             const Fault& fault, const std::atomic<bool>* stop = nullptr);

    Status write(std::uint64_t offset, std::string_view bytes, const Fault& fault);
    Status sync(const Fault& fault);                                         // fdatasync
    Result<std::string> read(std::uint64_t offset, std::size_t size) const;  // less at the end
    Status rename(const std::string& path);

    bool is_open() const { return fd_ >= 0; }
    const std::string& path() const { return path_; }
    std::uint64_t size() const { return size_; }

private:
    int fd_ = -1;
    std::string path_;
    std::uint64_t size_ = 0;
};

Error file_error(std::string_view what, std::string_view path, int number);
Result<std::string> read_file(const std::string& path);
// Written under another name, synced, renamed; then the directory is synced.
Status write_file(const std::string& directory, const std::string& name, std::string_view bytes,
                  const Fault& fault);
Status sync_directory(const std::string& directory);

class SegmentPool {
public:
    // The first segments are smaller than `segment_bytes`: a laptop's cluster stays small.
    SegmentPool(std::string directory, std::uint64_t segment_bytes, Fault fault);
    ~SegmentPool();
    SegmentPool(const SegmentPool&) = delete;
    SegmentPool& operator=(const SegmentPool&) = delete;

    // A file of at least `bytes`, already named `name`; the rename is durable.
    Result<File> take(std::uint64_t bytes, const std::string& name);
    void give_back(File file);

private:
    void prepare();
    std::uint64_t next_size();
    std::string spare_name();

    const std::string directory_;
    const std::uint64_t segment_bytes_;
    const Fault fault_;

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<File> spares_;  // guarded by mutex_, as all below
    std::uint64_t taken_ = 0;
    std::uint64_t named_ = 0;
    bool failed_ = false;
    std::atomic<bool> stopping_{false};  // set under mutex_, read without it while zeroing
    std::thread thread_;
};

}  // namespace nbos::io::wal
