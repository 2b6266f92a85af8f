// How fast a kernel's outputs may go to its clients.
//
// Above the limit of messages they are held, small stream messages that follow each other are
// merged into one, and all of them leave when there is room or the cell ends: nothing is lost.
// Above the limit of bytes the rest of the cell's output is left out, and the cell says so; but not
// before it has shown kOutputAllowance of them: one large output is shown whole, also in pieces.
//
// Units    Both limits are a second's, taken over kOutputWindow. 0: no limit.
// Limits   kHeldBytesMax of a cell.
// Threads  The loop thread. Time comes in.
// Source   jupyter_server's iopub_msg_rate_limit and iopub_data_rate_limit, which a gateway's
//          front server does not apply.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "base/ports.h"
#include "jupyter/message.h"

namespace nbos::gateway {

struct OutputLimits {
    std::uint32_t messages_per_s = 1000;
    std::uint32_t mib_per_s = 16;
};

constexpr std::chrono::seconds kOutputWindow{3};
constexpr std::chrono::seconds kOutputAllowance{6};
constexpr std::size_t kHeldBytesMax = 96U << 20U;
constexpr std::size_t kMergedBytesMax = 1U << 20U;  // of one stream message made of several

// What has come and gone within the window.
class OutputRate {
public:
    void came(Instant now, std::size_t bytes);
    void left(Instant now);
    void cell_begins();  // it does not pay for the bytes of the one before
    // `shown`: of the cell.
    bool too_many_bytes(Instant now, std::size_t shown, const OutputLimits& limits);
    bool too_many_messages(Instant now, const OutputLimits& limits);

private:
    static constexpr std::size_t kSlots = 30;
    struct Slot {
        std::int64_t number = -1;
        std::uint64_t bytes = 0;
        std::uint64_t messages = 0;
    };
    Slot& slot(Instant now);
    Slot sum(Instant now) const;
    std::array<Slot, kSlots> slots_{};
};

struct HeldOutput {
    std::string last_id;  // of the messages that it was merged from
    jupyter::Message message;
};

class HeldOutputs {
public:
    void add(const std::string& id, const jupyter::Message& message);
    std::optional<HeldOutput> take();
    bool empty() const { return held_.empty(); }
    std::size_t bytes() const { return bytes_; }

private:
    struct Held {
        std::string last_id;
        jupyter::Message message;
        std::string stream;  // its name, as JSON; empty: no stream message
        std::string text;    // of a stream, as the inside of a JSON string
    };
    std::deque<Held> held_;
    std::size_t bytes_ = 0;
};

}  // namespace nbos::gateway
