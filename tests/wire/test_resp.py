"""The RESP codec: any reply, cut anywhere, reads the same; anything else is one clear error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.wire.resp import ProtocolError, Push, Reply, ReplyError, ReplyParser, Status, encode_command

CUTS = st.lists(st.integers(1, 20), min_size=1, max_size=5)


def encode(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case bool():
            return b"#t\r\n" if reply else b"#f\r\n"
        case int():
            return b":%d\r\n" % reply
        case float():
            return b",%b\r\n" % repr(reply).encode()
        case Status():
            return b"+%b\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case ReplyError(message):
            return b"-%b\r\n" % message.encode()
        case Push(items):
            return b">%d\r\n" % len(items) + b"".join(map(encode, items))
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=40),
    st.text("abc XYZ", max_size=9).map(lambda text: ReplyError(f"ERR {text}")),
)
REPLIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


def feed_in_pieces(parser: ReplyParser, data: bytes, cuts: list[int]) -> list[Reply]:
    found: list[Reply] = []
    position = turn = 0
    while position < len(data):
        size = cuts[turn % len(cuts)]
        parser.feed(data[position : position + size])
        found += parser.replies()
        position += size
        turn += 1
    return found


@given(st.lists(st.one_of(REPLIES, st.lists(REPLIES, max_size=3).map(Push)), max_size=6), CUTS)
def test_replies_read_the_same_however_they_are_cut(replies: list[Reply], cuts: list[int]) -> None:
    parser = ReplyParser()
    assert feed_in_pieces(parser, b"".join(map(encode, replies)), cuts) == replies
    assert parser.buffered_bytes == 0


@given(st.binary(max_size=100), CUTS)
def test_any_bytes_are_replies_or_a_clear_error(data: bytes, cuts: list[int]) -> None:
    try:
        feed_in_pieces(ReplyParser(), data, cuts)
    except ProtocolError as error:
        assert str(error).startswith("The server")


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6))
def test_a_command_is_an_array_of_its_arguments(arguments: list[bytes]) -> None:
    parser = ReplyParser()
    parser.feed(encode_command(*arguments))
    assert parser.replies() == [arguments]


def test_maps_sets_and_attributes_of_resp3() -> None:
    parser = ReplyParser()
    parser.feed(
        b"%1\r\n+a\r\n:1\r\n~2\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n=7\r\ntxt:abc\r\n(12345678901234567890\r\n_\r\n"
    )
    assert parser.replies() == [[b"a", 1], [1, 2], b"x", b"abc", b"12345678901234567890", None]


def test_infinities() -> None:
    parser = ReplyParser()
    parser.feed(b",inf\r\n,-inf\r\n")
    assert parser.replies() == [math.inf, -math.inf]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"$x\r\n",
        b"$3\r\nabcde",
        b"*-2\r\n",
        b":1.5\r\n",
        b"*1\r\n" * 100 + b":1\r\n",
        b"+" + b"x" * (1 << 21),
    ],
)
def test_broken_input_is_told(data: bytes) -> None:
    parser = ReplyParser()
    parser.feed(data)
    with pytest.raises(ProtocolError):
        parser.replies()


def test_an_error_repeats_neither_names_nor_values() -> None:
    parser = ReplyParser()
    parser.feed(b"-ERR unknown command 'RESTORE', with args beginning with: 'user:42' '0' 'secret' \r\n")
    assert list(parser.replies()) == [ReplyError("ERR unknown command 'RESTORE'")]
