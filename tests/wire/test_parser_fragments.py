"""The parser finds the same replies however the bytes are cut, and looks at each byte about once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.wire.resp import DEPTH_MAX, ProtocolError, Push, Reply, ReplyError, ReplyParser

Encoded = tuple[bytes, Reply]


def _bulk(data: bytes) -> Encoded:
    return b"$%d\r\n%b\r\n" % (len(data), data), data


def _aggregate(marker: bytes, elements: list[Encoded]) -> Encoded:
    count = len(elements) // 2 if marker == b"%" else len(elements)
    elements = elements[: count * 2] if marker == b"%" else elements
    values = [value for _, value in elements]
    data = b"%b%d\r\n" % (marker, count) + b"".join(part for part, _ in elements)
    return data, Push(values) if marker == b">" else values


_LEAVES: st.SearchStrategy[Encoded] = st.one_of(
    st.binary(max_size=40).map(_bulk),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: (b":%d\r\n" % number, number)),
    st.sampled_from(
        [
            (b"+OK\r\n", b"OK"),
            (b"-ERR no\r\n", ReplyError("ERR no")),
            (b"!6\r\nERR no\r\n", ReplyError("ERR no")),
            (b"$-1\r\n", None),
            (b"*-1\r\n", None),
            (b"_\r\n", None),
            (b"#t\r\n", True),
            (b",1.5\r\n", 1.5),
            (b"(123\r\n", b"123"),
            (b"=6\r\ntxt:ab\r\n", b"ab"),
            (b"|1\r\n+key\r\n*1\r\n:1\r\n+after\r\n", b"after"),
            (b"|0\r\n:7\r\n", 7),
        ]
    ),
)
_REPLIES = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        _aggregate, st.sampled_from([b"*", b"~", b">", b"%"]), st.lists(inner, max_size=6)
    ),
    max_leaves=25,
)


@given(st.lists(_REPLIES, max_size=5), st.data())
def test_fragments_do_not_matter(replies: list[Encoded], data: st.DataObject) -> None:
    stream = b"".join(part for part, _ in replies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = ReplyParser()
    found: list[Reply] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parser.feed(stream[start:end])
        found += parser.replies()
    assert found == [value for _, value in replies]
    assert parser.buffered_bytes == 0


@pytest.mark.parametrize(
    "broken",
    [b"*1\r\nhello\r\n", b"$5\r\nhelloXX", b"$-2\r\n", b"*-2\r\n", b":1x\r\n", b"*1\r\n" * (DEPTH_MAX + 1)],
)
def test_broken_input_is_an_error(broken: bytes) -> None:
    parser = ReplyParser()
    parser.feed(broken)
    with pytest.raises(ProtocolError):
        parser.replies()


def test_a_large_aggregate_in_pieces_takes_time_in_proportion() -> None:
    element, pieces = b"$30\r\n" + b"x" * 30 + b"\r\n", 300
    stream = b"*200000\r\n" + element * 200_000
    size = len(stream) // pieces

    def seconds(piece_bytes: int) -> float:
        parser = ReplyParser()
        begin = time.process_time()
        found = 0
        for at in range(0, len(stream), piece_bytes):
            parser.feed(stream[at : at + piece_bytes])
            found += len(parser.replies())
        assert found == 1
        return time.process_time() - begin

    # Looking at everything again with each piece would take 150 times as long.
    assert seconds(size) < 15 * seconds(len(stream))
