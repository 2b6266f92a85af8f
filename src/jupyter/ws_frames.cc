#include "jupyter/ws_frames.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "jupyter/json_text.h"

namespace nbos::jupyter {
namespace {

Error malformed(std::string what) {
    return Error{Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}

std::uint64_t little_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
        value = (value << 8U) | static_cast<std::uint8_t>(bytes[i]);
    }
    return value;
}

std::uint64_t big_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char byte : bytes) {
        value = (value << 8U) | static_cast<std::uint8_t>(byte);
    }
    return value;
}

void put_little_endian(std::string& out, std::uint64_t value) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
        out.push_back(static_cast<char>((value >> shift) & 0xFFU));
    }
}

void put_big_endian(std::string& out, std::uint32_t value) {
    for (unsigned shift = 32; shift > 0; shift -= 8) {
        out.push_back(static_cast<char>((value >> (shift - 8)) & 0xFFU));
    }
}

// A part that a client may leave out, or give as null, is an empty object.
Status set_part(std::string& part, std::string_view name, std::string_view text) {
    if (text.empty() || text == "null") {
        part = "{}";
        return ok();
    }
    if (!is_json_object(text)) {
        return malformed(std::string(name) + " is not a JSON object");
    }
    part = text;
    return ok();
}

Result<Message> checked(Message message, std::string_view channel, std::string_view header,
                        std::string_view parent, std::string_view metadata,
                        std::string_view content) {
    const auto known = channel_named(channel.empty() ? "shell" : channel);
    if (!known) {
        return malformed("unknown channel '" + std::string(channel.substr(0, 32)) + "'");
    }
    message.channel = *known;
    for (auto& [part, name, text] :
         std::array<std::tuple<std::string*, const char*, std::string_view>, 4>{
             {{&message.header, "header", header},
              {&message.parent_header, "parent_header", parent},
              {&message.metadata, "metadata", metadata},
              {&message.content, "content", content}}}) {
        if (auto set = set_part(*part, name, text); !set) {
            return std::move(set).error();
        }
    }
    const auto fields = parse_header(message.header);
    if (!fields || fields->msg_id.empty() || fields->msg_type.empty()) {
        return malformed("the header has no msg_id or no msg_type");
    }
    return message;
}

Result<Message> decode_json(std::string_view text, std::vector<Bytes> buffers) {
    const auto fields = object_fields(text);
    if (!fields) {
        return malformed("the payload is not a JSON object");
    }
    const auto field = [&](std::string_view name) {
        const auto found = fields->find(name);
        return found == fields->end() ? std::string_view() : found->second;
    };
    std::string_view channel = field("channel");
    if (channel.size() >= 2 && channel.front() == '"') {
        channel = channel.substr(1, channel.size() - 2);
    } else if (channel == "null") {
        channel = {};
    }
    Message message;
    message.buffers = std::move(buffers);
    return checked(std::move(message), channel, field("header"), field("parent_header"),
                   field("metadata"), field("content"));
}

// Whether `offsets` cut a payload whose table of offsets ends at `table_end` into parts in order.
bool in_order(const std::vector<std::uint64_t>& offsets, std::size_t table_end, std::size_t size) {
    return std::is_sorted(offsets.begin(), offsets.end()) && offsets.front() >= table_end &&
           offsets.back() <= size;
}

Result<Message> decode_v1(std::string_view payload) {
    constexpr std::size_t kWord = 8;
    constexpr std::size_t kParts = 5;  // channel, header, parent_header, metadata, content
    if (payload.size() < kWord) {
        return malformed("a v1 frame of less than 8 bytes");
    }
    const auto count = little_endian(payload.substr(0, kWord));
    if (count < kParts + 1 || count > (payload.size() - kWord) / kWord) {
        return malformed("a v1 frame with an impossible number of offsets");
    }
    std::vector<std::uint64_t> offsets(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = little_endian(payload.substr((i + 1) * kWord, kWord));
    }
    if (!in_order(offsets, (offsets.size() + 1) * kWord, payload.size())) {
        return malformed("a v1 frame whose offsets are not in order or point outside");
    }
    const auto part = [&](std::size_t i) {
        return payload.substr(static_cast<std::size_t>(offsets[i]),
                              static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
    };
    Message message;
    for (std::size_t i = kParts; i + 1 < offsets.size(); ++i) {
        message.buffers.push_back(Bytes::copy(part(i)));
    }
    return checked(std::move(message), part(0), part(1), part(2), part(3), part(4));
}

Result<Message> decode_legacy_binary(std::string_view payload) {
    constexpr std::size_t kWord = 4;
    if (payload.size() < kWord) {
        return malformed("a legacy binary frame of less than 4 bytes");
    }
    const auto count = big_endian(payload.substr(0, kWord));
    if (count < 1 || count > (payload.size() - kWord) / kWord) {
        return malformed("a legacy binary frame with an impossible number of parts");
    }
    std::vector<std::uint64_t> offsets(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = big_endian(payload.substr((i + 1) * kWord, kWord));
    }
    if (!in_order(offsets, (offsets.size() + 1) * kWord, payload.size())) {
        return malformed("a legacy binary frame whose offsets are not in order or point outside");
    }
    offsets.push_back(payload.size());
    const auto part = [&](std::size_t i) {
        return payload.substr(static_cast<std::size_t>(offsets[i]),
                              static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
    };
    std::vector<Bytes> buffers;
    for (std::size_t i = 1; i + 1 < offsets.size(); ++i) {
        buffers.push_back(Bytes::copy(part(i)));
    }
    return decode_json(part(0), std::move(buffers));
}

std::string legacy_json(const Message& message) {
    const auto header = parse_header(message.header).value_or(Header{});
    std::string text;
    text.reserve(message.header.size() + message.parent_header.size() + message.metadata.size() +
                 message.content.size() + 256);
    text.append("{\"channel\": \"").append(name(message.channel));
    text.append("\", \"msg_id\": ").append(json_quoted(header.msg_id));
    text.append(", \"msg_type\": ").append(json_quoted(header.msg_type));
    text.append(", \"header\": ").append(message.header);
    text.append(", \"parent_header\": ").append(message.parent_header);
    text.append(", \"metadata\": ").append(message.metadata);
    text.append(", \"content\": ").append(message.content);
    text.append(", \"buffers\": []}");
    return text;
}

std::string legacy_binary(const Message& message) {
    const std::string json = legacy_json(message);
    std::string out;
    const std::size_t parts = message.buffers.size() + 1;
    put_big_endian(out, static_cast<std::uint32_t>(parts));
    std::size_t offset = 4 * (parts + 1);
    put_big_endian(out, static_cast<std::uint32_t>(offset));
    offset += json.size();
    for (const auto& buffer : message.buffers) {
        put_big_endian(out, static_cast<std::uint32_t>(offset));
        offset += buffer.size();
    }
    out += json;
    for (const auto& buffer : message.buffers) {
        out += buffer.view();
    }
    return out;
}

std::string v1(const Message& message) {
    std::vector<std::string_view> parts = {name(message.channel), message.header,
                                           message.parent_header, message.metadata,
                                           message.content};
    for (const auto& buffer : message.buffers) {
        parts.push_back(buffer.view());
    }
    std::size_t offset = 8 * (parts.size() + 2);
    std::string out;
    put_little_endian(out, parts.size() + 1);
    for (const auto& part : parts) {
        put_little_endian(out, offset);
        offset += part.size();
    }
    put_little_endian(out, offset);
    out.reserve(offset);
    for (const auto& part : parts) {
        out += part;
    }
    return out;
}

}  // namespace

Result<Message> decode_ws(std::string_view payload, bool binary, WsProtocol protocol) {
    const auto first = payload.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) {
        return malformed("an empty payload");
    }
    if (protocol == WsProtocol::kV1 && binary) {
        return decode_v1(payload);
    }
    return payload[first] == '{' ? decode_json(payload, {}) : decode_legacy_binary(payload);
}

WsPayload encode_ws(const Message& message, WsProtocol protocol) {
    if (protocol == WsProtocol::kV1) {
        return {Bytes(v1(message)), true};
    }
    if (message.buffers.empty() || protocol == WsProtocol::kLegacyText) {
        return {Bytes(legacy_json(message)), false};
    }
    return {Bytes(legacy_binary(message)), true};
}

namespace {

// Whether `offered` (the value of Sec-WebSocket-Protocol) lists the v1 subprotocol.
bool offers_v1(std::string_view offered) {
    while (!offered.empty()) {
        const auto comma = offered.find(',');
        auto one = offered.substr(0, comma);
        one.remove_prefix(std::min(one.find_first_not_of(' '), one.size()));
        if (const auto end = one.find_last_not_of(' '); end != std::string_view::npos) {
            one = one.substr(0, end + 1);
        }
        if (one == kWsSubprotocolV1) {
            return true;
        }
        offered = comma == std::string_view::npos ? std::string_view() : offered.substr(comma + 1);
    }
    return false;
}

}  // namespace

WsProtocol choose_protocol(std::string_view offered, std::string_view user_agent) {
    if (offers_v1(offered)) {
        return WsProtocol::kV1;
    }
    return user_agent.starts_with("Tornado/") ? WsProtocol::kLegacyText : WsProtocol::kLegacy;
}

}  // namespace nbos::jupyter
