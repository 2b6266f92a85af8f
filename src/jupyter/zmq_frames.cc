#include "jupyter/zmq_frames.h"

#include <algorithm>
#include <string_view>

namespace nbos::jupyter {
namespace {

constexpr std::string_view kDelimiter = "<IDS|MSG>";

}  // namespace

std::vector<Bytes> to_frames(const Message& message) {
    std::vector<Bytes> frames{Bytes::copy(kDelimiter),       Bytes(),
                              Bytes::copy(message.header),   Bytes::copy(message.parent_header),
                              Bytes::copy(message.metadata), Bytes::copy(message.content)};
    frames.insert(frames.end(), message.buffers.begin(), message.buffers.end());
    return frames;
}

std::optional<Message> from_frames(Channel channel, const std::vector<Bytes>& frames) {
    const auto at = std::find_if(frames.begin(), frames.end(),
                                 [](const Bytes& frame) { return frame.view() == kDelimiter; });
    if (frames.end() - at < 6) {
        return std::nullopt;
    }
    Message message;
    message.channel = channel;
    message.header = at[2].view();
    message.parent_header = at[3].view();
    message.metadata = at[4].view();
    message.content = at[5].view();
    message.buffers.assign(at + 6, frames.end());
    return message;
}

}  // namespace nbos::jupyter
