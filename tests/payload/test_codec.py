"""What is written is read back; what is broken is refused with a PayloadError and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.model.identity import Family
from keyferry.model.values import (
    Consumer,
    HashValue,
    ListValue,
    ModuleValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload import encode as primitives
from keyferry.payload import footer, modules, packed
from keyferry.payload.cursor import Cursor
from keyferry.payload.equal import same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.reader import decode, decode_body
from keyferry.payload.streams import read_stream, with_tail_for
from keyferry.payload.types import TYPES
from keyferry.payload.writer import encode

U64_MAX = 2**64 - 1
BYTES = st.binary(max_size=40) | st.integers(4085, 4100).map(lambda size: b"x" * size)
IDS = st.tuples(st.integers(0, U64_MAX), st.integers(0, U64_MAX))
TIMES = st.integers(0, 2**62)
SCORES = st.floats(allow_nan=False)

STRINGS = st.builds(StringValue, BYTES)
LISTS = st.builds(ListValue, st.lists(BYTES, max_size=30))
SETS = st.builds(SetValue, st.lists(BYTES, max_size=30, unique=True))
ZSETS = st.builds(ZSetValue, st.lists(st.tuples(BYTES, SCORES), max_size=30, unique_by=lambda pair: pair[0]))
HASHES = st.builds(HashValue, st.lists(st.tuples(BYTES, BYTES), max_size=30, unique_by=lambda pair: pair[0]))


@st.composite
def groups(draw: st.DrawFn) -> StreamGroup:
    names = draw(st.lists(st.binary(max_size=10), max_size=4, unique=True))
    consumers = [Consumer(name, draw(TIMES), draw(TIMES | st.just(-1))) for name in names]
    ids = sorted(draw(st.sets(IDS, max_size=8))) if names else []
    pending = [
        PendingEntry(entry_id, draw(st.sampled_from(names)), draw(TIMES), draw(st.integers(0, U64_MAX)))
        for entry_id in ids
    ]
    return StreamGroup(
        draw(st.binary(max_size=10)), draw(IDS), draw(st.integers(-1, 2**63)), consumers, pending
    )


@st.composite
def streams(draw: st.DrawFn) -> StreamValue:
    fields = st.lists(st.tuples(st.binary(max_size=6), BYTES), min_size=1, max_size=4)
    usual = draw(fields)
    ids = sorted(draw(st.sets(IDS, max_size=12)))
    entries = [(entry_id, draw(st.just(usual) | fields)) for entry_id in ids]
    many = draw(st.booleans())
    if entries and many:  # More than fit into one node.
        ms, seq = entries[0][0]
        more = [((ms, seq + i), usual) for i in range(1, 150) if seq + i <= U64_MAX]
        entries = sorted(dict([*more, *entries]).items())
    named = {group.name: group for group in draw(st.lists(groups(), max_size=3))}
    return StreamValue(entries, draw(IDS), draw(st.integers(0, U64_MAX)), draw(IDS), list(named.values()))


ENCODINGS: list[tuple[int, st.SearchStrategy[Value]]] = [
    (0, STRINGS),
    (1, LISTS),
    (2, SETS),
    (3, ZSETS),
    (4, HASHES),
    (5, ZSETS),
    (21, streams()),
]


@given(st.data(), st.sampled_from(ENCODINGS), st.sampled_from(list(Family)))
@settings(deadline=None)
def test_a_written_value_is_read_back_exactly(
    data: st.DataObject, encoding: tuple[int, st.SearchStrategy[Value]], family: Family
) -> None:
    type_byte, values = encoding
    value = data.draw(values)
    payload = footer.sign(encode(value, type_byte), 11)
    assert decode(payload, family) == value
    assert same_value(decode(payload, family), value, consumer_times=True)


@given(streams())
@settings(deadline=None, max_examples=50)
def test_an_older_stream_type_says_less_and_nothing_else(value: StreamValue) -> None:
    without_active = [
        StreamGroup(
            group.name,
            group.last_id,
            group.entries_read,
            [Consumer(consumer.name, consumer.seen_ms) for consumer in group.consumers],
            group.pending,
        )
        for group in value.groups
    ]
    type_19 = StreamValue(
        value.entries, value.last_id, value.entries_added, value.max_deleted_id, without_active
    )
    type_15 = StreamValue(
        value.entries,
        value.last_id,
        None,
        None,
        [StreamGroup(g.name, g.last_id, -1, g.consumers, g.pending) for g in without_active],
    )
    assert decode_body(encode(value, 19), Family.REDIS) == type_19
    assert decode_body(encode(value, 15), Family.REDIS) == type_15


@given(streams(), st.sampled_from([15, 19]))
@settings(deadline=None, max_examples=50)
def test_a_new_tail_gives_what_writing_anew_gives(value: StreamValue, type_byte: int) -> None:
    body, tail = with_tail_for(encode(value, 21), type_byte)
    assert body == encode(value, type_byte)
    assert tail.groups == value.groups
    assert tail.entry_count == len(value.entries)


def test_a_value_that_a_type_cannot_say_is_not_written() -> None:
    with pytest.raises(ValueError, match="HashValue cannot be written as type 4"):
        encode(HashValue([(b"f", b"v")], {b"f": 1}), 4)
    with pytest.raises(ValueError, match="ListValue cannot be written as type 2"):
        encode(ListValue([b"a"]), 2)


# --- Primitives


@given(st.integers(0, U64_MAX))
def test_a_length_is_read_back(size: int) -> None:
    cursor = Cursor(primitives.length(size) + b"rest")
    assert cursor.length() == size
    assert cursor.raw(4) == b"rest"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xc0\x80", b"-128"),
        (b"\xc1\xff\x7f", b"32767"),
        (b"\xc2\x00\x00\x00\x80", b"-2147483648"),
        (b"\x40\x03abc", b"abc"),
        (b"\x80\x00\x00\x00\x01a", b"a"),
        (b"\x81" + bytes(7) + b"\x01a", b"a"),
        (b"\xc3\x05\x08\x01ab\x80\x01", b"abababab"),
    ],
)
def test_every_form_of_a_string(data: bytes, text: bytes) -> None:
    cursor = Cursor(data)
    assert cursor.string() == text
    assert cursor.pos == len(data)
    skipping = Cursor(data)
    skipping.skip_string()
    assert skipping.pos == len(data)
    for end in range(len(data)):
        with pytest.raises((PayloadError, IndexError)):
            Cursor(data[:end]).string()
        with pytest.raises((PayloadError, IndexError)):
            Cursor(data[:end]).skip_string()


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | BYTES))
def test_a_listpack_is_read_back(items: list[int | bytes]) -> None:
    blob = primitives.listpack_of(
        [primitives.listpack_int(i) if isinstance(i, int) else primitives.listpack_string(i) for i in items]
    )
    assert packed.listpack(blob) == [b"%d" % i if isinstance(i, int) else i for i in items]


def test_the_longest_backward_lengths_of_a_listpack() -> None:
    items = [b"x" * size for size in (16_380, 2_097_140, 2_097_150)]
    assert packed.listpack(primitives.listpack_of(list(map(primitives.listpack_string, items)))) == items


@given(st.sampled_from([2, 4, 8]), st.data())
def test_an_intset_is_read_in_each_width(width: int, data: st.DataObject) -> None:
    limit = 1 << 8 * width - 1
    numbers = data.draw(st.lists(st.integers(-limit, limit - 1), max_size=20))
    raw = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
    blob = struct.pack("<II", width, len(numbers)) + raw
    assert packed.intset(blob) == [b"%d" % number for number in numbers]
    with pytest.raises(PayloadError):
        packed.intset(blob + b"x")


def test_the_name_of_a_module_type() -> None:
    # Of a vector set that Redis 8.2.3 dumped.
    payload = bytes.fromhex("0781bde72da2bb1eb400") + b"anything"
    value = decode_body(payload, Family.REDIS)
    assert value == ModuleValue("vectorset")
    assert modules.type_name(0) == "AAAAAAAAA"


# --- Broken input


@given(st.sampled_from(sorted(TYPES[Family.REDIS])), st.sampled_from(list(Family)), st.binary(max_size=200))
@settings(max_examples=600, deadline=None)
def test_random_bytes_are_a_value_or_a_payload_error(type_byte: int, family: Family, rest: bytes) -> None:
    _value_or_error(lambda: decode_body(bytes((type_byte,)) + rest, family))


@given(
    st.binary(max_size=100), st.sampled_from([packed.listpack, packed.ziplist, packed.intset, packed.zipmap])
)
@settings(max_examples=400)
def test_random_blobs_are_items_or_a_payload_error(blob: bytes, read: Callable[[bytes], object]) -> None:
    _value_or_error(lambda: read(blob))


@given(st.data(), st.sampled_from(ENCODINGS))
@settings(deadline=None)
def test_a_value_that_breaks_off_is_refused(
    data: st.DataObject, encoding: tuple[int, st.SearchStrategy[Value]]
) -> None:
    type_byte, values = encoding
    body = encode(data.draw(values), type_byte)
    end = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(PayloadError):
        decode_body(body[:end], Family.REDIS)
    with pytest.raises(PayloadError):
        decode_body(body + b"\x00", Family.REDIS)


@pytest.mark.parametrize("type_byte", sorted(TYPES[Family.REDIS].keys() | TYPES[Family.VALKEY].keys()))
@pytest.mark.parametrize("family", list(Family))
def test_a_huge_count_is_refused_before_anything_is_allocated(type_byte: int, family: Family) -> None:
    for bomb in (b"\x81" + b"\xff" * 8, b"\x80" + b"\xff" * 4, b"\xc3\x04\x81" + b"\x7f" * 8 + b"\x00aaa"):
        for lead in (b"", bytes(8)):
            body = bytes((type_byte,)) + lead + bomb
            if type_byte == 7:
                continue  # Only the module knows its bytes; we read no further than its name.
            with pytest.raises(PayloadError):
                decode_body(body, family)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x06\x00", "type 6, which is not known"),
        (b"\xff\x00", "type 255, which is not known"),
        (b"\x03\x01\x01a\xfd", "not a number"),
        (b"\x03\x01\x01a\x03abc", "not a number"),
        (b"\x05\x01\x01a" + struct.pack("<d", float("nan")), "not a number"),
        (b"\x12\x01\x03\x01a", "unknown kind 3"),
        (b"\x10" + primitives.string(primitives.listpack_of([b"\x01\x01"])), "odd number"),
        (b"\x0b" + primitives.string(struct.pack("<II", 3, 0)), "integers of 3 bytes"),
        (b"\x0f\x01\x01a\x07" + bytes(7), "not of 16 bytes"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decode_body(body, Family.REDIS)


def test_a_pending_entry_must_be_its_groups_and_a_consumers() -> None:
    entry = PendingEntry((77, 99), b"c", 5, 1)
    group = StreamGroup(b"g", (1, 1), 1, [Consumer(b"c", 1, 1)], [entry])
    body = encode(StreamValue([], (1, 1), 1, (0, 0), [group]), 21)
    raw_id = struct.pack(">QQ", 77, 99)
    assert body.count(raw_id) == 2
    for at in (body.index(raw_id), body.rindex(raw_id)):
        broken = body[:at] + struct.pack(">QQ", 77, 98) + body[at + 16 :]
        with pytest.raises(PayloadError, match="its group does not have"):
            decode_body(broken, Family.REDIS)
    unowned = body[: body.rindex(raw_id) - 1] + b"\x00"
    with pytest.raises(PayloadError, match="no consumer has"):
        decode_body(unowned, Family.REDIS)


def test_a_cursor_does_not_go_past_its_end() -> None:
    with pytest.raises((PayloadError, IndexError)):
        read_stream(Cursor(b"\x00\x00"), 15)


def _value_or_error(read: Callable[[], Any]) -> None:
    try:
        read()
    except PayloadError as error:
        assert str(error).endswith(".")
