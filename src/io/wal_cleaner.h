// Frees old segments: finds what still counts in the oldest one, so that it can be written again.
//
// Cold groups would pin a segment for ever; so the log is a ring, and what is old and alive moves
// to its head. Portions are small, because they ride along with writes that somebody waits for.
//
// Threads  The writer thread's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/wal_files.h"
#include "io/wal_index.h"

namespace nbos::io::wal {

class Cleaner {
public:
    bool active() const { return segment_ != 0; }
    void begin(std::uint64_t segment, std::uint64_t salt);
    void end() { *this = Cleaner(); }

    struct Portion {
        std::vector<Record> records;
        std::size_t bytes = 0;  // at most, once encoded
    };
    // The next live records of `file`, about `bytes_max` of them. Empty and active(): nothing is
    // left, end() it. kIo: the file cannot be read back.
    Result<Portion> next(const File& file, WalIndex& index, std::size_t bytes_max);
    // Writes `record` into the batch at `place`, if it still counts there where it was read.
    void restate(const Record& record, WalIndex& index, Writer& body, Place place) const;

private:
    Status read_batch(const File& file);
    bool live(const Record& record, WalIndex& index) const;

    std::uint64_t segment_ = 0;
    std::uint64_t salt_ = 0;
    std::uint64_t offset_ = kSegmentHeaderBytes;
    std::uint64_t batch_ = 0;  // of body_
    std::string body_;
    std::size_t body_at_ = 0;
    bool at_end_ = false;
};

}  // namespace nbos::io::wal
