// The write-ahead log of a host: one file sequence for all its Raft groups.
//
// A writer thread takes everything that gathered while its last fdatasync ran, and makes it durable
// with one write and one fdatasync: many busy groups cost little more than one. Snapshots go to
// files of their own, before the record that names them. Segments whose records do not count any
// more are used again; what cold groups still need of an old segment is written anew, in small
// portions beside the other writes. The bytes: docs/reference/wal-format.md.
//
// Threads  open(), write(), ~Wal and the callbacks: the loop thread. on_fatal: any thread.
// Errors   open(): kIo or kExhausted, with the file, the offset and what to do; kInvalid when
//          another process has the directory. Afterwards a failed write or fsync is final: it goes
//          to on_fatal, nothing is reported durable any more, and a process that goes on must stop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/event_loop.h"
#include "raft/group_host.h"

namespace nbos::io {

struct WalOptions {
    std::string directory;  // made when it is not there
    std::uint64_t segment_bytes = 64U << 20U;
    std::size_t batch_bytes_max = 32U << 20U;  // of one write; one call's part may be larger
    std::function<void(const std::string& what)> on_fatal;  // empty: log and abort
    std::function<int(std::string_view operation)> fault;   // tests only, see io/wal_files.h
};

class Wal final : public raft::LogStore {
public:
    struct Opened;
    static Result<Opened> open(EventLoop& loop, WalOptions options);
    ~Wal() override;  // after everything written so far is durable; calls no callback any more

    void write(std::vector<raft::GroupWrite> writes, std::function<void()> durable) override;

    struct Counters {
        std::uint64_t batches = 0;
        std::uint64_t bytes = 0;
        std::uint64_t segments = 0;        // now
        std::uint64_t restated_bytes = 0;  // written again to free a segment
    };
    Counters counters() const;

private:
    class Impl;
    explicit Wal(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

struct Wal::Opened {
    std::unique_ptr<Wal> wal;
    std::vector<raft::RestoredGroup> groups;
};

}  // namespace nbos::io
