// Messages that the logical kernel itself says: status, errors, replies without an interpreter.
//
// They carry the kernel's one session id, so that clients see one kernel whichever replica runs.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ports.h"
#include "base/uuid.h"
#include "jupyter/message.h"

namespace nbos::jupyter {

// "2026-11-22T20:34:03.000123Z": always with a fraction and Z, since clients parse exactly that.
std::string iso_time(std::chrono::microseconds since_epoch);

class MessageFactory {
public:
    MessageFactory(const Clock& clock, std::function<Uuid()> new_uuid)
        : clock_(&clock), new_uuid_(std::move(new_uuid)) {}

    // `parent_header` and `content` are JSON objects as text.
    Message make(Channel channel, std::string_view type, std::string_view session,
                 std::string_view parent_header, std::string content) const;

    Message status(std::string_view session, std::string_view parent_header,
                   std::string_view state) const;  // busy, idle, starting, restarting, dead
    Message stream(std::string_view session, std::string_view parent_header,
                   std::string_view text) const;  // to stderr
    Message error(std::string_view session, std::string_view parent_header, std::string_view ename,
                  std::string_view evalue) const;  // on iopub
    // A reply of `type` with status "error"; for execute_reply with the fields that clients want.
    // `execution_count` is for an execute_reply; 0: the cell never got one.
    Message error_reply(Channel channel, std::string_view type, std::string_view session,
                        std::string_view parent_header, std::string_view ename,
                        std::string_view evalue, std::uint64_t execution_count = 0) const;
    Message aborted_reply(std::string_view session, std::string_view parent_header) const;

    Uuid new_uuid() const { return new_uuid_(); }

private:
    const Clock* clock_;
    std::function<Uuid()> new_uuid_;
};

// A stream message with more than `bytes_max` of text as several, in order, cut between
// characters; any other message as it is. The first part keeps the message id.
std::vector<Message> split_stream(Message message, std::size_t bytes_max,
                                  const std::function<Uuid()>& new_uuid);

}  // namespace nbos::jupyter
