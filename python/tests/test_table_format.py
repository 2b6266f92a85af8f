"""The encodings that agents read without unpickling, byte by byte (src/state/state_table.h)."""

import struct

import pytest

from nbos_kernel.engine import table_format as fmt


def test_a_value_is_a_list_of_parts():
    value = fmt.encode_value([b"ab", memoryview(b"c")])
    assert value == bytes.fromhex("02000000" "00" "02000000") + b"ab" + bytes.fromhex("00" "01000000") + b"c"
    assert [bytes(part) for part in fmt.decode_value(value)] == [b"ab", b"c"]


def test_a_delta_is_a_list_of_operations():
    writer = fmt.DeltaWriter()
    writer.put("n:x", b"v")
    writer.delete("o:1")
    delta = writer.take()
    assert delta == (
        bytes.fromhex("01" "02000000" "01" "03000000") + b"n:x" + bytes.fromhex("01000000") + b"v"
        + bytes.fromhex("02" "03000000") + b"o:1"
    )
    assert [(k, v and bytes(v)) for k, v in fmt.read_delta(delta)] == [("n:x", b"v"), ("o:1", None)]


def test_nothing_changed_is_an_empty_delta():
    assert fmt.DeltaWriter().take() == b""
    assert fmt.read_delta(b"") == []


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_delta_is_refused(cut):
    writer = fmt.DeltaWriter()
    writer.put("n:x", b"value")
    delta = writer.take()
    if cut < len(delta):
        with pytest.raises(fmt.FormatError):
            fmt.read_delta(delta[:cut])


def test_a_version_of_the_future_is_refused():
    with pytest.raises(fmt.FormatError, match="version 9"):
        fmt.read_delta(struct.pack("<BI", 9, 0))


def test_bytes_after_the_end_are_refused():
    with pytest.raises(fmt.FormatError):
        fmt.read_delta(struct.pack("<BI", 1, 0) + b"x")
    with pytest.raises(fmt.FormatError):
        fmt.decode_value(fmt.encode_value([b"a"]) + b"x")
