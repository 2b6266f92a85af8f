"""The two framings of Jupyter messages on a WebSocket, as pure functions.

Source: jupyter_server's base/handlers and websocket documentation ("v1.kernel.websocket.jupyter.org"
and the older JSON framing). A message is a dict with channel, header, parent_header, metadata,
content (dicts) and buffers (list of bytes).
"""
import json
import struct

V1 = "v1.kernel.websocket.jupyter.org"
PARTS = ("header", "parent_header", "metadata", "content")


def encode_v1(message):
    parts = [message["channel"].encode()]
    parts += [json.dumps(message[name]).encode() for name in PARTS]
    parts += [bytes(buffer) for buffer in message.get("buffers", ())]
    count = len(parts) + 1
    offsets = [8 * (count + 1)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{count + 1}Q", count, *offsets) + b"".join(parts)


def decode_v1(frame):
    (count,) = struct.unpack_from("<Q", frame)
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(frame):
        raise ValueError(f"offsets {offsets} do not fit a frame of {len(frame)} bytes")
    parts = [frame[a:b] for a, b in zip(offsets, offsets[1:])]
    message = {"channel": parts[0].decode(), "buffers": parts[5:]}
    for name, part in zip(PARTS, parts[1:5]):
        message[name] = json.loads(part)
    return message


def encode_legacy(message):
    """Text without buffers, bytes with them."""
    header = message["header"]
    plain = {name: message[name] for name in ("channel", *PARTS)}
    plain.update(msg_id=header["msg_id"], msg_type=header["msg_type"], buffers=[])
    text = json.dumps(plain)
    buffers = message.get("buffers") or ()
    if not buffers:
        return text
    parts = [text.encode(), *buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f">{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def decode_legacy(frame):
    if isinstance(frame, str):
        message = json.loads(frame)
        message.setdefault("buffers", [])
        return message
    (count,) = struct.unpack_from(">I", frame)
    offsets = [*struct.unpack_from(f">{count}I", frame, 4), len(frame)]
    parts = [frame[a:b] for a, b in zip(offsets, offsets[1:])]
    message = json.loads(parts[0])
    message["buffers"] = parts[1:]
    return message
