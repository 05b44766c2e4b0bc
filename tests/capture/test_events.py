"""Keyspace notifications are cut the same by both twins, however the bytes come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.capture.pushes import EventCutter
from keyferry.capture.pushes_pure import PureEventCutter
from keyferry.model.build import wanted
from keyferry.wire.resp import ProtocolError, encode_command

TWINS: list[Callable[[], EventCutter]] = [PureEventCutter]
try:
    from keyferry.capture._pushes import CompiledEventCutter
except ImportError:
    if wanted() == "compiled":
        raise
else:
    TWINS.append(CompiledEventCutter)

HEAD = b"*4\r\n$8\r\npmessage\r\n"
PATTERN = b"__keyspace@*__:*"
SUBSCRIBED = b"*3\r\n$10\r\npsubscribe\r\n$16\r\n__keyspace@*__:*\r\n:1\r\n"
PONG = encode_command("pong", "nonce:1")


@pytest.fixture(params=TWINS, ids=lambda make: make.__name__)
def cutter(request: pytest.FixtureRequest) -> EventCutter:
    made: EventCutter = request.param()
    return made


def message(database: int, key: bytes, event: bytes = b"set") -> bytes:
    return encode_command("pmessage", PATTERN, b"__keyspace@%d__:%b" % (database, key), event)


def test_names_by_database_in_their_order(cutter: EventCutter) -> None:
    cutter.feed(
        SUBSCRIBED + message(0, b"a") + message(0, b"b__:c") + PONG + message(12, b"") + message(0, b"a")
    )
    assert cutter.take_keys() == [(0, [b"a", b"b__:c"]), (12, [b""]), (0, [b"a"])]
    assert cutter.take_replies() == [[b"psubscribe", PATTERN, 1], [b"pong", b"nonce:1"]]
    cutter.feed(message(0, b"d"))
    assert cutter.take_keys() == [(0, [b"d"])]
    assert (cutter.take_keys(), cutter.take_replies()) == ([], [])


def test_misses_and_our_own_names_are_left_out(cutter: EventCutter) -> None:
    cutter.feed(message(0, b"a", b"keymiss") + message(0, b"keyferry:record") + message(3, b"keymiss"))
    assert cutter.take_keys() == [(3, [b"keymiss"])]


@pytest.mark.parametrize(
    "channel", [b"__keyevent@0__:set", b"__keyspace@__:a", b"__keyspace@x__:a", b"__keyspace@0", b"", b"news"]
)
def test_another_channel_is_refused(cutter: EventCutter, channel: bytes) -> None:
    with pytest.raises(ProtocolError):
        cutter.feed(encode_command("pmessage", PATTERN, channel, "set"))


MESSAGES = st.lists(
    st.builds(
        message,
        st.integers(0, 2),
        st.binary(max_size=9) | st.sampled_from([b"keyferry:x", b"__:", b"\r\n"]),
        st.sampled_from([b"set", b"del", b"keymiss"]),
    )
    | st.sampled_from([SUBSCRIBED, PONG, b"-ERR no\r\n", b"*4\r\n$8\r\npmessagx\r\n:1\r\n:2\r\n:3\r\n"]),
    max_size=8,
).map(b"".join)
BROKEN = st.lists(
    st.sampled_from(
        [HEAD, HEAD[:9], b"$1\r\n", b"a\r\n", b"$16\r\n__keyspace@1__:x\r\n", b"$", b"*4\r\n", b"\r\n"]
    )
    | st.binary(max_size=5),
    max_size=9,
).map(b"".join)


@pytest.mark.skipif(len(TWINS) < 2, reason="the compiled twin was not built")
@given(data=MESSAGES | BROKEN, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_the_twins_agree_on_anything_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    ends = sorted(min(cut, len(data)) for cut in cuts)
    pieces = [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    pure, compiled = (_heard(make(), pieces) for make in TWINS)
    assert pure == compiled


@pytest.mark.parametrize("make", TWINS, ids=lambda make: make.__name__)
@given(data=MESSAGES, size=st.integers(1, 40))
def test_pieces_make_no_difference(make: Callable[[], EventCutter], data: bytes, size: int) -> None:
    whole, pieces = make(), make()
    whole.feed(data)
    for at in range(0, len(data), size):
        pieces.feed(data[at : at + size])
    assert pieces.take_keys() == whole.take_keys()
    assert pieces.take_replies() == whole.take_replies()


def _heard(cutter: EventCutter, pieces: list[bytes]) -> list[object]:
    heard: list[object] = []
    for piece in pieces:
        try:
            cutter.feed(memoryview(piece))
        except ProtocolError as error:
            return [*heard, error.message, cutter.take_keys()]
        heard.append((cutter.take_keys(), cutter.take_replies()))
    return heard


def test_a_long_name_in_many_pieces(cutter: EventCutter) -> None:
    whole = message(7, b"x" * 5_000_000)
    for at in range(0, len(whole), 9973):
        cutter.feed(whole[at : at + 9973])
    assert cutter.take_keys() == [(7, [b"x" * 5_000_000])]
