"""The delta and value encodings of the replicated table (src/state/state_table.h, byte-exact).

value := u32 parts, then per part: u8 kind (0 inline), u32 length, bytes
delta := u8 version (1), u32 operations, then per operation:
         u8 op (1 put, 2 delete), key (u32 length, bytes), for put: value (u32 length, bytes)
"""

import struct

VERSION = 1
PUT, DELETE = 1, 2
PART_BYTES_MAX = (1 << 32) - 1

_U32 = struct.Struct("<I")
_PART = struct.Struct("<BI")
_OP = struct.Struct("<BI")


class FormatError(Exception):
    """Bytes that are not a delta, or do not fit one."""


def encode_value(parts):
    """`parts` is a sequence of bytes-like objects."""
    out = [_U32.pack(len(parts))]
    for part in parts:
        size = part.nbytes if isinstance(part, memoryview) else len(part)
        if size > PART_BYTES_MAX:
            raise FormatError(f"a part of {size} bytes is over the limit of {PART_BYTES_MAX} bytes")
        out.append(_PART.pack(0, size))
        out.append(part)
    return b"".join(out)


def decode_value(value):
    """The parts of a value, as views into it."""
    view = memoryview(value)
    (count,) = _U32.unpack_from(view)
    at, parts = 4, []
    for _ in range(count):
        kind, size = _PART.unpack_from(view, at)
        at += 5
        if kind != 0:
            raise FormatError(f"a part of kind {kind}, which this engine does not know")
        if at + size > len(view):
            raise FormatError("a part is longer than its value")
        parts.append(view[at : at + size])
        at += size
    if at != len(view):
        raise FormatError("bytes after the last part of a value")
    return parts


class DeltaWriter:
    def __init__(self):
        self._out = []
        self._operations = 0

    def put(self, key, value):
        name = key.encode()
        self._out += (_OP.pack(PUT, len(name)), name, _U32.pack(len(value)), value)
        self._operations += 1

    def delete(self, key):
        name = key.encode()
        self._out += (_OP.pack(DELETE, len(name)), name)
        self._operations += 1

    def take(self):
        """The delta; empty when nothing was written."""
        if not self._operations:
            return b""
        head = struct.pack("<BI", VERSION, self._operations)
        return head + b"".join(self._out)


def read_delta(delta):
    """All operations as (key, value view), (key, None) for a delete; checked whole before any is used."""
    if not delta:
        return []
    view = memoryview(delta)
    try:
        version, count = struct.unpack_from("<BI", view)
        if version != VERSION:
            raise FormatError(f"a delta of version {version}; this engine reads version {VERSION}")
        at, operations = 5, []
        for _ in range(count):
            op, size = _OP.unpack_from(view, at)
            at += 5
            key = bytes(view[at : at + size]).decode()
            at += size
            if op == DELETE:
                operations.append((key, None))
                continue
            if op != PUT:
                raise FormatError(f"operation {op}, which this engine does not know")
            (size,) = _U32.unpack_from(view, at)
            at += 4
            if at + size > len(view):
                raise FormatError("a value is longer than its delta")
            operations.append((key, view[at : at + size]))
            at += size
    except (struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"a malformed delta: {error}") from None
    if at != len(view):
        raise FormatError("bytes after the last operation of a delta")
    return operations
