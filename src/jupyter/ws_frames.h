// Jupyter messages in WebSocket payloads: the v1 framing and both legacy ones.
//
//   v1      binary: u64 LE n, n x u64 LE offsets from the start, then channel, header,
//   parent_header,
//           metadata, content, buffers...; n = parts + 1, the last offset is the end.
//   legacy  text: one JSON object with "channel", the four parts, and msg_id and msg_type on top.
//   legacy with buffers  binary: u32 BE n, n x u32 BE offsets, the JSON object, buffers...
//
// Decoding is for hostile input: it never crashes, never allocates from an unchecked length, and
// passes on only parts that are JSON objects. The texts of the parts are forwarded as they came.
//
// Source   jupyter_server, "WebSocket kernel wire protocols" (v1.kernel.websocket.jupyter.org).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "jupyter/message.h"

namespace nbos::jupyter {

inline constexpr std::string_view kWsSubprotocolV1 = "v1.kernel.websocket.jupyter.org";

// kLegacyText: the peer dies of a binary frame, so a message goes to it without its buffers.
enum class WsProtocol : std::uint8_t { kLegacy, kV1, kLegacyText };
inline constexpr std::size_t kWsProtocols = 3;

struct WsPayload {
    Bytes bytes;
    bool binary = false;
};

// The frame kind is not trusted on a legacy connection: jupyter_server in gateway mode sends binary
// payloads as text. A missing channel means shell. kInvalid, with what is wrong with it.
Result<Message> decode_ws(std::string_view payload, bool binary, WsProtocol protocol);

WsPayload encode_ws(const Message& message, WsProtocol protocol);

// What to speak with a client, from its Sec-WebSocket-Protocol and its User-Agent. A jupyter_server
// with a gateway (its GatewayWebSocketConnection) offers no subprotocol, decodes what comes as
// UTF-8 and stops to read when it is not; only tornado's name tells it from clients that can read
// both.
WsProtocol choose_protocol(std::string_view offered, std::string_view user_agent);

}  // namespace nbos::jupyter
