"""Bulk strings as bytes: both twins, on what servers send and on what they never should."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.build import wanted
from keyferry.payload import bulks
from keyferry.wire.resp import ReplyParser, encode_command

try:
    from keyferry.payload import _bulks
except ImportError:
    if wanted() == "compiled":
        raise
    TWINS: list[ModuleType | None] = [None]
else:
    TWINS = [None, _bulks]


class Twin:
    """The four functions of one implementation."""

    def __init__(self, module: ModuleType | None) -> None:
        self.cut = bulks.cut_pure if module is None else module.cut
        self.longest = bulks.longest_pure if module is None else module.longest
        self.swapped = bulks.swapped_pure if module is None else module.swapped
        self.xadds = bulks.xadds_pure if module is None else module.xadds


@pytest.fixture(params=TWINS, ids=lambda module: "pure" if module is None else "compiled", scope="module")
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)


STRINGS = st.lists(
    st.binary(max_size=30) | st.sampled_from([b"", b"\r\n", b"$1\r\n", b"*2\r\n", bytes(range(256))]),
    max_size=12,
)
PAIRS = STRINGS.map(lambda strings: strings[: len(strings) // 2 * 2])
PREFIX = b"*2\r\n$1\r\n0\r\n"


def framed(strings: list[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(string), string) for string in strings)


def read(data: bytes) -> list[object]:
    parser = ReplyParser()
    parser.feed(data)
    assert parser.buffered_bytes == len(data)
    found = parser.replies()
    assert not parser.buffered_bytes
    return list(found)


@given(
    strings=PAIRS, unit=st.sampled_from([1, 2]), strings_max=st.integers(2, 6), bytes_max=st.integers(1, 90)
)
def test_pieces_are_bounded_and_hold_everything(
    twin: Twin, strings: list[bytes], unit: int, strings_max: int, bytes_max: int
) -> None:
    data = PREFIX + framed(strings)
    pieces = twin.cut(data, len(PREFIX), len(strings), unit, strings_max, bytes_max)
    start, found = len(PREFIX), []
    for end, count in pieces:
        assert 0 < count <= strings_max
        assert count % unit == 0
        assert end - start <= bytes_max or count == unit
        inside = read(data[start:end])
        assert len(inside) == count
        found += inside
        start = end
    assert found == strings


def test_pieces_are_as_large_as_they_may_be(twin: Twin) -> None:
    data = framed([b"12345"] * 10)
    each = len(data) // 10
    assert twin.cut(data, 0, 10, 1, 4, 1000) == [(4 * each, 4), (8 * each, 4), (10 * each, 2)]
    assert twin.cut(data, 0, 10, 2, 1000, each * 5) == [(4 * each, 4), (8 * each, 4), (10 * each, 2)]
    assert twin.cut(data, 0, 10, 2, 1000, 1) == [(2 * n * each, 2) for n in range(1, 6)]


@given(strings=STRINGS)
def test_the_longest(twin: Twin, strings: list[bytes]) -> None:
    data = PREFIX + framed(strings)
    assert twin.longest(data, len(PREFIX), len(strings)) == max(map(len, strings), default=0)


@given(strings=PAIRS)
def test_pairs_are_swapped(twin: Twin, strings: list[bytes]) -> None:
    expected = [part for pair in zip(strings[1::2], strings[::2], strict=True) for part in pair]
    assert twin.swapped(PREFIX + framed(strings), len(PREFIX), len(strings)) == framed(expected)


ENTRIES = st.lists(st.tuples(st.binary(min_size=1, max_size=20), PAIRS), max_size=5)


@given(entries=ENTRIES, name=st.binary(max_size=20))
def test_entries_become_commands(twin: Twin, entries: list[tuple[bytes, list[bytes]]], name: bytes) -> None:
    listed = b"".join(
        b"*2\r\n%b*%d\r\n%b" % (framed([entry_id]), len(parts), framed(parts)) for entry_id, parts in entries
    )
    commands, last, longest_bytes = twin.xadds(PREFIX + listed, len(PREFIX), len(entries), name)
    assert commands == b"".join(encode_command("XADD", name, entry_id, *parts) for entry_id, parts in entries)
    assert last == (entries[-1][0] if entries else b"")
    assert longest_bytes == max((len(part) for _, parts in entries for part in parts), default=0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"$",
        b"$1",
        b"$\r\n\r\n",
        b"$1\r\n",
        b"$1\r\na",
        b"$1\r\na\r",
        b"$1\r\nab\r",
        b"$2\r\na\r\n",
        b"$-1\r\n",
        b"$+1\r\na\r\n",
        b"$ 1\r\na\r\n",
        b":1\r\n",
        b"$1\na\n\n",
        b"$1\r\na\r\n$1\r\na\r\n",
        b"$1\r\na\r\nx",
        b"$99999999999\r\na\r\n",
        b"$9999999999\r\na\r\n",
    ],
)
def test_other_bytes_are_refused(twin: Twin, data: bytes) -> None:
    with pytest.raises(ValueError, match="announced"):
        twin.cut(data, 0, 1, 1, 10, 10)
    with pytest.raises(ValueError, match="announced"):
        twin.swapped(data, 0, 4)
    with pytest.raises(ValueError, match="announced"):
        twin.xadds(b"*2\r\n$3\r\n1-1\r\n*1\r\n" + data, 0, 1, b"name")
    with pytest.raises(ValueError, match="announced"):
        twin.longest(data, 0, 3)


@pytest.mark.parametrize("start", [0, 1, 8, 9])
def test_half_a_pair_is_refused(twin: Twin, start: int) -> None:
    data = framed([b"a"])
    for refused in (lambda: twin.cut(data, start, 1, 2, 9, 9), lambda: twin.swapped(data, start, 1)):
        with pytest.raises(ValueError, match="announced"):
            refused()


@pytest.mark.skipif(len(TWINS) < 2, reason="the compiled twin was not built")
@given(
    data=st.binary(max_size=40)
    | st.lists(
        st.sampled_from([b"$1\r\na\r\n", b"$0\r\n\r\n", b"*2\r\n", b"*0\r\n", b"\r\n", b"$"]), max_size=9
    ).map(b"".join),
    start=st.integers(0, 3),
    count=st.integers(0, 5),
)
def test_the_twins_agree_on_anything(data: bytes, start: int, count: int) -> None:
    pure, compiled = map(Twin, TWINS)
    for name, arguments in {
        "cut": (data, start, count, 1, 2, 20),
        "longest": (data, start, count),
        "swapped": (data, start, count),
        "xadds": (data, start, count, b"name"),
    }.items():
        assert _outcome(pure, name, arguments) == _outcome(compiled, name, arguments), name


def _outcome(twin: Twin, name: str, arguments: tuple[object, ...]) -> object:
    try:
        return getattr(twin, name)(*arguments)
    except ValueError as error:
        return str(error)
