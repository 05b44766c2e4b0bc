"""Invalidations are cut the same by both twins, however the bytes come, and names do not wait for their push."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.capture.pushes import Cutter
from keyferry.capture.pushes_pure import REPLY_BYTES_MAX, PureCutter
from keyferry.model.build import wanted
from keyferry.wire.resp import ProtocolError, ReplyError

TWINS: list[Callable[[], Cutter]] = [PureCutter]
try:
    from keyferry.capture._pushes import CompiledCutter
except ImportError:
    if wanted() == "compiled":
        raise
else:
    TWINS.append(CompiledCutter)

HEAD = b">2\r\n$10\r\ninvalidate\r\n"
NULL = HEAD + b"_\r\n"
HELLO = (
    b"%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$1\r\nd\r\n,3.5\r\n$7\r\nmodules\r\n"
    b"~3\r\n#t\r\n(12345678901234567890\r\n_\r\n"
)
SUBSCRIBED = b">3\r\n$9\r\nsubscribe\r\n$13\r\nkeyferry:feed\r\n:1\r\n"


@pytest.fixture(params=TWINS, ids=lambda make: make.__name__)
def cutter(request: pytest.FixtureRequest) -> Cutter:
    made: Cutter = request.param()
    return made


def push(names: list[bytes]) -> bytes:
    strings = b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in names)
    return HEAD + b"*%d\r\n" % len(names) + strings


def test_names_replies_and_everything(cutter: Cutter) -> None:
    cutter.feed(HELLO + SUBSCRIBED + b"+OK\r\n" + push([b"a", b"", b"b\r\n$1"]) + b"+PONG\r\n")
    cutter.feed(NULL + b"-ERR no\r\n" + push([b"c", b"keyferry:record", b"keyferry", b"keyferry;"]))
    assert cutter.take_keys() == [b"a", b"", b"b\r\n$1", b"c", b"keyferry", b"keyferry;"]
    hello = [b"server", b"redis", b"proto", 3, b"d", 3.5, b"modules", [True, b"12345678901234567890", None]]
    assert cutter.take_replies() == [
        hello,
        [b"subscribe", b"keyferry:feed", 1],
        b"OK",
        b"PONG",
        ReplyError("ERR no"),
    ]
    assert cutter.take_everything()
    assert (cutter.take_keys(), cutter.take_replies(), cutter.take_everything()) == ([], [], False)


@pytest.mark.parametrize("null", [b"_\r\n", b"*-1\r\n", b"$-1\r\n"])
def test_every_null_means_everything(cutter: Cutter, null: bytes) -> None:
    cutter.feed(HEAD + null + push([]) + push([b"k"]))
    assert cutter.take_everything()
    assert cutter.take_keys() == [b"k"]


def test_names_come_before_their_push_is_complete(cutter: Cutter) -> None:
    whole = push([b"one", b"two", b"three"])
    cutter.feed(whole[:-8])
    assert cutter.take_keys() == [b"one", b"two"]
    cutter.feed(whole[-8:])
    assert cutter.take_keys() == [b"three"]


def test_an_attribute_belongs_to_the_reply_after_it(cutter: Cutter) -> None:
    cutter.feed(b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n+x\r\n")
    assert cutter.take_replies() == [[1, 2], b"x"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400\r\n",
        HEAD + b"+OK\r\n",
        HEAD + b"*x\r\n",
        HEAD + b"*-2\r\n",
        HEAD + b"*99999999999\r\n",
        HEAD + b"*1\r\n:1\r\n",
        HEAD + b"*1\r\n$-1\r\n",
        HEAD + b"*1\r\n$1\r\nabc\r\n",
        HEAD + b"*1\r\n$1_0\r\n",
        HEAD + b"*1\r\n$\r\n",
        HEAD + b"*1\r\n$3000000000\r\n",
        HEAD + b"*1\r\n" + b"$" * 16,
        b"*x\r\n",
        b"$1\r\nabc\r\n",
        b":x\r\n",
        b"|-1\r\n",
        b"+" * REPLY_BYTES_MAX,
        b"*1\r\n" * 100 + b"+x\r\n",
    ],
)
def test_nonsense_is_refused(cutter: Cutter, nonsense: bytes) -> None:
    with pytest.raises(ProtocolError):
        cutter.feed(nonsense)


MESSAGES = st.lists(
    st.lists(st.binary(max_size=12) | st.sampled_from([b"keyferry:x", b"\r\n"]), max_size=6).map(push)
    | st.sampled_from(
        [NULL, HELLO, SUBSCRIBED, b"+PONG\r\n", b"$5\r\nnonce\r\n", b"*-1\r\n", b"|0\r\n:1\r\n"]
    ),
    max_size=8,
).map(b"".join)
BROKEN = st.lists(
    st.sampled_from(
        [
            HEAD,
            HEAD[:9],
            b"*1\r\n",
            b"*2\r\n",
            b"$1\r\n",
            b"a\r\n",
            b"_\r\n",
            b"\r\n",
            b"$",
            b"|1\r\n",
            b"%1\r\n",
        ]
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
def test_pieces_make_no_difference(make: Callable[[], Cutter], data: bytes, size: int) -> None:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert _all(_heard(make(), pieces)) == _all(_heard(make(), [data]))


def _heard(cutter: Cutter, pieces: list[bytes]) -> list[object]:
    heard: list[object] = []
    for piece in pieces:
        try:
            cutter.feed(memoryview(piece))
        except ProtocolError as error:
            return [*heard, error.message, cutter.take_keys()]
        heard.append((cutter.take_keys(), cutter.take_everything(), cutter.take_replies()))
    return heard


def _all(heard: list[object]) -> tuple[list[bytes], bool, list[object]]:
    found: tuple[list[bytes], bool, list[object]] = [], False, []
    for part in heard:
        assert isinstance(part, tuple)
        found[0].extend(part[0])
        found = found[0], found[1] or part[1], found[2]
        found[2].extend(part[2])
    return found


def test_a_long_name_in_many_pieces_is_not_copied_again_and_again(cutter: Cutter) -> None:
    piece = b"x" * 65536
    began_s = time.process_time()
    cutter.feed(HEAD + b"*1\r\n$%d\r\n" % (1000 * len(piece)))
    for _ in range(1000):
        cutter.feed(piece)
    cutter.feed(b"\r\n")
    [key] = cutter.take_keys()
    assert len(key) == 1000 * len(piece)
    assert time.process_time() - began_s < 5  # copied again with each piece: 33 GB


@pytest.mark.skipif(len(TWINS) < 2, reason="the compiled twin was not built")
def test_the_compiled_twin_takes_a_million_names_a_second() -> None:
    data = b"".join(push([b"user:%09d" % (at + i) for i in range(50)]) for at in range(0, 100_000, 50))
    cutter = TWINS[1]()
    began_s = time.process_time()
    for at in range(0, len(data), 65536):
        cutter.feed(data[at : at + 65536])
    took_s = time.process_time() - began_s
    assert len(cutter.take_keys()) == 100_000
    assert took_s < 0.1
