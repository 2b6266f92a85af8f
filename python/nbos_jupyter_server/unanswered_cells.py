"""The cells of one connection that have been sent to the gateway and have no reply yet.

Reads only as much of a frame as tells what it is, and passes over frames that it does not understand:
they are the gateway's to refuse.

Source: "WebSocket kernel wire protocols" of jupyter_server's documentation.
"""
import json
import struct


class UnansweredCells:
    def __init__(self, bytes_max):
        """Above `bytes_max` bytes of frames further cells are not remembered."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._frames = {}   # msg_id -> frame (str or bytes), in the order of their sending

    def frames(self):
        return list(self._frames.values())

    def asked(self, frame):
        """`frame` has been given to the gateway."""
        if self._bytes + len(frame) > self._bytes_max:
            return
        header = _parts(frame).get("header", {})
        msg_id = header.get("msg_id")
        is_cell = header.get("msg_type") == "execute_request" and isinstance(msg_id, str)
        if is_cell and msg_id not in self._frames:
            self._frames[msg_id] = frame
            self._bytes += len(frame)

    def heard(self, frame):
        """`frame` has come from the gateway."""
        if not self._frames:
            return
        parts = _parts(frame, channel="shell")
        if parts.get("header", {}).get("msg_type") != "execute_reply":
            return
        answered = self._frames.pop(parts.get("parent_header", {}).get("msg_id"), None)
        self._bytes -= len(answered or "")


def _parts(frame, channel=None):
    """{"header": dict, "parent_header": dict}; {} when it is no such frame, or of another channel."""
    try:
        parts = _parts_of_v1(frame, channel) if isinstance(frame, bytes) else _parts_of_text(frame, channel)
    except (ValueError, struct.error, AttributeError):
        return {}
    return {name: part for name, part in parts.items() if isinstance(part, dict)}


def _parts_of_v1(frame, channel):
    (count,) = struct.unpack_from("<Q", frame)
    if not 6 <= count <= len(frame) // 8:
        return _parts_of_binary(frame, channel)
    offsets = struct.unpack_from("<6Q", frame, 8)
    texts = [frame[begin:end] for begin, end in zip(offsets, offsets[1:])]
    if channel and texts[0].decode() != channel:
        return {}
    return {"header": json.loads(texts[1]), "parent_header": json.loads(texts[2])}


def _parts_of_binary(frame, channel):
    """The legacy framing of a message with buffers."""
    (count,) = struct.unpack_from(">I", frame)
    begin, end = struct.unpack_from(">2I", frame, 4) if count > 1 else (8, len(frame))
    return _parts_of_text(frame[begin:end].decode(), channel)


def _parts_of_text(frame, channel):
    # Most frames are outputs: their texts are not read.
    if channel == "shell" and '"execute_reply"' not in frame:
        return {}
    message = json.loads(frame)
    if channel and message.get("channel") != channel:
        return {}
    return {name: message.get(name) for name in ("header", "parent_header")}
