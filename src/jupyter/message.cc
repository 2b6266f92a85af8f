#include "jupyter/message.h"

#include <array>
#include <boost/json.hpp>

namespace nbos::jupyter {
namespace {

constexpr std::array<std::string_view, 4> kChannels = {"shell", "control", "stdin", "iopub"};
// A header is a few hundred bytes and flat; a client may not make us build a tree of megabytes.
constexpr std::size_t kHeaderBytesMax = 64U << 10U;

std::string text_of(const boost::json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    const auto* text = value == nullptr ? nullptr : value->if_string();
    return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

}  // namespace

std::string_view name(Channel channel) { return kChannels.at(static_cast<std::size_t>(channel)); }

std::optional<Channel> channel_named(std::string_view name) {
    for (std::size_t i = 0; i < kChannels.size(); ++i) {
        if (kChannels[i] == name) {
            return static_cast<Channel>(i);
        }
    }
    return std::nullopt;
}

std::optional<Header> parse_header(std::string_view json) {
    if (json.size() > kHeaderBytesMax) {
        return std::nullopt;
    }
    boost::json::error_code error;
    const auto value =
        boost::json::parse(boost::json::string_view(json.data(), json.size()), error);
    if (error || !value.is_object()) {
        return std::nullopt;
    }
    const auto& object = value.get_object();
    return Header{.msg_id = text_of(object, "msg_id"),
                  .msg_type = text_of(object, "msg_type"),
                  .session = text_of(object, "session"),
                  .username = text_of(object, "username")};
}

void encode(Writer& out, const Message& message) {
    out.put(message.channel).put(message.header).put(message.parent_header);
    out.put(message.metadata).put(message.content);
    out.put(static_cast<std::uint32_t>(message.buffers.size()));
    for (const auto& buffer : message.buffers) {
        out.put(buffer);
    }
}

std::optional<Message> decode_message(Reader& in) {
    Message message;
    message.channel = in.get<Channel>();
    if (static_cast<std::size_t>(message.channel) >= kChannels.size()) {
        in.fail();
        return std::nullopt;
    }
    message.header = in.string();
    message.parent_header = in.string();
    message.metadata = in.string();
    message.content = in.string();
    const auto n = in.count(sizeof(std::uint32_t));
    for (std::uint32_t i = 0; i < n && in.ok(); ++i) {
        message.buffers.push_back(in.bytes());
    }
    if (!in.ok()) {
        return std::nullopt;
    }
    return message;
}

}  // namespace nbos::jupyter
