// A Jupyter message as a value: four JSON texts and buffers, forwarded without being parsed.
//
// Source   jupyter_client documentation, "Messaging in Jupyter" 5.3; frames in wire_protocol.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/wire.h"

namespace nbos::jupyter {

enum class Channel : std::uint8_t { kShell, kControl, kStdin, kIopub };

std::string_view name(Channel channel);  // "shell", "control", "stdin", "iopub"
std::optional<Channel> channel_named(std::string_view name);

struct Message {
    Channel channel = Channel::kShell;
    std::string header;  // JSON objects, as text; never empty ("{}" when there is nothing)
    std::string parent_header;
    std::string metadata;
    std::string content;
    std::vector<Bytes> buffers;
    bool operator==(const Message&) const = default;
};

// What routing needs to know of a header. Fields that are absent or no strings are empty.
struct Header {
    std::string msg_id;
    std::string msg_type;
    std::string session;
    std::string username;
};

// nullopt when `json` is no JSON object.
std::optional<Header> parse_header(std::string_view json);

void encode(Writer& out, const Message& message);
std::optional<Message> decode_message(Reader& in);

}  // namespace nbos::jupyter
