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

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "jupyter/message.h"

namespace nbos::jupyter {

inline constexpr std::string_view kWsSubprotocolV1 = "v1.kernel.websocket.jupyter.org";

enum class WsProtocol : std::uint8_t { kLegacy, kV1 };

struct WsPayload {
    Bytes bytes;
    bool binary = false;
};

// The frame kind is not trusted on a legacy connection: jupyter_server in gateway mode sends binary
// payloads as text. A missing channel means shell. kInvalid, with what is wrong with it.
Result<Message> decode_ws(std::string_view payload, bool binary, WsProtocol protocol);

WsPayload encode_ws(const Message& message, WsProtocol protocol);

// Whether `offered` (the value of Sec-WebSocket-Protocol) lists the v1 subprotocol.
bool offers_v1(std::string_view offered);

}  // namespace nbos::jupyter
