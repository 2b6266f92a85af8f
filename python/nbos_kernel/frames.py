"""Frames of the private socket between agent and interpreter.

frame := u32 length (of what follows), u8 type, u32 header length, header (JSON), body (bytes)

Integers are little-endian. See docs/reference/interpreter-protocol.md.
"""

import struct
from json import dumps, loads  # by name: user code may replace them in their module

HELLO, ADOPT, ADOPTED, LOAD, APPLY, APPLIED, RUN, DELTA, SHUTDOWN = range(1, 10)
RESUME, MESSAGE, SETTLED, EXPECT, REPEATED = range(10, 15)

FRAME_BYTES_MAX = (1 << 32) - 1
_HEAD = struct.Struct("<IBI")


class FrameError(Exception):
    """The peer sent something that is not a frame."""


def encode(kind, header, body=b""):
    """One frame as a list of byte strings, so that a large body is not copied."""
    text = dumps(header, separators=(",", ":")).encode()
    length = 5 + len(text) + len(body)
    if length > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {length} bytes is over the limit of {FRAME_BYTES_MAX} bytes")
    head = _HEAD.pack(length, kind, len(text)) + text
    return [head, body] if body else [head]


def send(sock, kind, header, body=b""):
    for part in encode(kind, header, body):
        sock.sendall(part)


def pack_parts(parts):
    """Byte strings as one body: u32 length and bytes, each."""
    out = []
    for part in parts:
        view = _flat(memoryview(part))
        out += [struct.pack("<I", len(view)), view]
    return b"".join(out)


def _flat(view):
    """Its bytes, in C order: a cast refuses what is empty in a dimension, or lies otherwise."""
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def receive(sock):
    """The next frame as (type, header, body), or None when the peer has closed the socket."""
    head = _receive_exactly(sock, 4)
    if head is None:
        return None
    (length,) = struct.unpack("<I", head)
    if length < 5:
        raise FrameError(f"a frame of {length} bytes is too short")
    rest = _receive_exactly(sock, length)
    if rest is None:
        return None
    kind, header_length = struct.unpack_from("<BI", rest)
    if header_length > length - 5:
        raise FrameError(f"a header of {header_length} bytes does not fit its frame of {length}")
    header = loads(bytes(rest[5 : 5 + header_length]) or b"{}")
    return kind, header, bytes(memoryview(rest)[5 + header_length :])


def _receive_exactly(sock, size):
    buffer = bytearray(size)
    view = memoryview(buffer)
    got = 0
    while got < size:
        n = sock.recv_into(view[got:])
        if n == 0:
            return None
        got += n
    return buffer
