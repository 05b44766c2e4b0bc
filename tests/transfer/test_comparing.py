"""Answers of two servers side by side: what is in doubt, by both twins, on what servers send and what they never should."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_script import bulk, payload

from keyferry.model.build import wanted
from keyferry.transfer import comparing
from keyferry.transfer.comparing_config import FAR_MS, Doubt, Pair, PairRules
from keyferry.wire.resp import ProtocolError

try:
    from keyferry.transfer import _comparing
except ImportError:
    if wanted() == "compiled":
        raise
    TWINS: list[ModuleType | None] = [None]
else:
    TWINS = [None, _comparing]

needs_both = pytest.mark.skipif(len(TWINS) < 2, reason="the compiled data path was not built")
SHORT = 20
ALL = b"\x01" * 256
RULES = PairRules(
    ranged=False,
    short_bytes=SHORT,
    expiring=False,
    clock_offset_ms=0,
    tolerance_ms=1000,
    wanted=ALL,
    streams=bytes(kind == 15 for kind in range(256)),
    same_types_max=21,
)
RANGED = RULES._replace(ranged=True)
WRONG = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NEVER = (0, 0)


class Twin:
    """The functions of one implementation."""

    def __init__(self, module: ModuleType | None) -> None:
        self._pairs = comparing.pairs_in_doubt_pure if module is None else module.pairs_in_doubt
        self.sizes = comparing.sizes_in_doubt_pure if module is None else module.sizes_in_doubt
        self.walked = comparing.walked_pure if module is None else module.walked

    def pairs(
        self,
        source: list[bytes],
        target: list[bytes],
        rules: PairRules,
        source_ms: tuple[int, int] = NEVER,
        target_ms: tuple[int, int] = NEVER,
    ) -> list[Pair]:
        count = len(source) // (2 if rules.expiring else 1)
        found, _ = self._pairs(b"".join(source), b"".join(target), count, rules, source_ms, target_ms)
        return list(found)

    def doubt(self, source: bytes, target: bytes, rules: PairRules) -> Doubt | None:
        found = self.pairs([source], [target], rules)
        return found[0].doubt if found else None


@pytest.fixture(params=TWINS, ids=lambda module: "pure" if module is None else "compiled", scope="module")
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)


@pytest.mark.parametrize(
    ("source", "target", "doubt"),
    [
        (bulk(b"same"), bulk(b"same"), None),
        (bulk(b"same"), bulk(b"sane"), Doubt.DIFFERS),
        (bulk(b"short"), bulk(b"shorter"), Doubt.DIFFERS),
        (bulk(b""), bulk(b"there"), Doubt.DIFFERS),
        (bulk(b"there"), bulk(b""), Doubt.DIFFERS),
        (bulk(b""), bulk(b""), Doubt.LOOK),
        (bulk(b"x" * SHORT), bulk(b"x" * SHORT), Doubt.LOOK),
        (bulk(b"x" * SHORT), bulk(b"y" * SHORT), Doubt.DIFFERS),
        (bulk(b"x" * SHORT), bulk(b"x"), Doubt.DIFFERS),
        (bulk(b"x" * SHORT), bulk(b""), Doubt.DIFFERS),
        (WRONG, WRONG, Doubt.LOOK),
        (WRONG, bulk(b""), Doubt.LOOK),
        (WRONG, bulk(b"text"), Doubt.DIFFERS),
        (WRONG, bulk(b"x" * SHORT), Doubt.DIFFERS),
        (b"-NOPERM no\r\n", bulk(b"text"), Doubt.SOURCE_ERROR),
        (bulk(b"text"), b"-MOVED 1 h:1\r\n", Doubt.TARGET_ERROR),
        (b"-LOADING\r\n", b"-MOVED 1 h:1\r\n", Doubt.SOURCE_ERROR),
    ],
)
def test_first_bytes(twin: Twin, source: bytes, target: bytes, doubt: Doubt | None) -> None:
    assert twin.doubt(source, target, RANGED) == doubt


@pytest.mark.parametrize(
    ("source", "target", "doubt"),
    [
        (payload(0, b"x"), payload(0, b"x"), None),
        (payload(0, b"x", 9), payload(0, b"x", 11), None),
        (payload(0, b"x"), payload(0, b"y"), Doubt.DECODE),
        (payload(0, b"x"), payload(0, b"xy"), Doubt.DECODE),
        (payload(22, b"x"), payload(22, b"x"), Doubt.DECODE),
        (None, None, None),
        (payload(0, b"x"), None, Doubt.DIFFERS),
        (None, payload(0, b"x"), Doubt.DIFFERS),
        (payload(3, b"x"), payload(0, b"x"), Doubt.UNSELECTED),
        (None, payload(3, b"x"), Doubt.UNSELECTED),
        (payload(0, b"x"), payload(3, b"x"), Doubt.DECODE),
    ],
)
def test_dumps(twin: Twin, source: bytes | None, target: bytes | None, doubt: Doubt | None) -> None:
    rules = RULES._replace(wanted=bytes(kind != 3 for kind in range(256)))
    assert twin.doubt(bulk(source), bulk(target), rules) == doubt


def test_a_stream_is_named_before_what_else_is_wrong_with_it(twin: Twin) -> None:
    one, other = payload(15, b"a"), payload(15, b"b")
    found = twin.pairs([bulk(one), bulk(one)], [bulk(one), bulk(other)], RULES)
    assert found == [
        Pair(0, Doubt.STREAM),
        Pair(1, Doubt.STREAM),
        Pair(1, Doubt.DECODE, one, other),
    ]


@pytest.mark.parametrize(
    ("source_ms", "target_ms", "same"),
    [
        (-1, -1, True),
        (-1, 5_000, False),
        (5_000, -1, False),
        (5_000, 5_500, True),
        (5_000, 6_500, True),
        (5_000, 6_501, False),
        (5_000, 4_500, True),
        (5_000, 4_499, False),
        (-2, 5_000, False),
        (5_000, -2, False),
        (-2, -2, True),
        (FAR_MS + 7, FAR_MS + 7_000_000, True),
        ((1 << 63) - 1, 5_000, False),
    ],
)
@pytest.mark.parametrize("ranged", [False, True])
def test_expiries_within_the_tolerance(
    twin: Twin, source_ms: int, target_ms: int, same: bool, ranged: bool
) -> None:
    """The target's clock is half a second ahead: the middle of what is still equal."""
    rules = RULES._replace(expiring=True, clock_offset_ms=500, ranged=ranged)
    if source_ms > FAR_MS:
        rules = rules._replace(clock_offset_ms=0)
    value = bulk(b"text") if ranged else bulk(payload(0, b"x"))
    found = twin.pairs([value, b":%d\r\n" % source_ms], [value, b":%d\r\n" % target_ms], rules)
    assert [pair.doubt for pair in found] == ([] if same else [Doubt.DIFFERS])


@pytest.mark.parametrize(
    ("remaining_ms", "same"), [(4_000, True), (4_900, True), (4_901, False), (3_000, True), (2_999, False)]
)
def test_an_expiry_that_is_not_known_exactly_must_be_surely_within_the_tolerance(
    twin: Twin, remaining_ms: int, same: bool
) -> None:
    """The source expires at 5,000; the target answered PTTL between 1,000 and 1,100."""
    rules = RULES._replace(expiring=True)
    value = bulk(payload(0, b"x"))
    source, target = [value, b":5000\r\n"], [value, b":%d\r\n" % remaining_ms]
    found = twin.pairs(source, target, rules, NEVER, (1_000, 1_100))
    assert [pair.doubt for pair in found] == ([] if same else [Doubt.DIFFERS])


def test_short_strings_are_counted(twin: Twin) -> None:
    given = [bulk(b"a"), bulk(b""), WRONG, bulk(b"x" * SHORT), bulk(b"b")]
    assert twin._pairs(b"".join(given), b"".join(given), 5, RANGED, NEVER, NEVER)[1] == 2
    dumps = [payload(0, b"\x01x"), payload(0, b"\xc3x"), payload(4, b"x"), payload(0, b"x" * 40)]
    data = b"".join(map(bulk, dumps))
    assert twin._pairs(data, data, 4, RULES, NEVER, NEVER)[1] == 1


@pytest.mark.parametrize(
    ("data", "count", "rules"),
    [
        (b":1\r\n", 1, RULES),
        (bulk(b"no payload"), 1, RULES),
        (bulk(payload(0, b"x")), 2, RULES),
        (bulk(payload(0, b"x")) * 2, 1, RULES),
        (bulk(payload(0, b"x"))[:-3], 1, RULES),
        (bulk(None), 1, RANGED),
        (bulk(b"x" * (SHORT + 1)), 1, RANGED),
        (bulk(b"x") + b"+OK\r\n", 1, RANGED._replace(expiring=True)),
        (b"-no end", 1, RANGED),
        (b"", 1, RANGED),
    ],
)
def test_what_is_no_answer_is_no_comparison(twin: Twin, data: bytes, count: int, rules: PairRules) -> None:
    with pytest.raises(ProtocolError):
        twin._pairs(data, data, count, rules, NEVER, NEVER)


def test_sizes(twin: Twin) -> None:
    source = [
        b":50\r\n",
        b":50\r\n",
        b":101\r\n",
        b"$-1\r\n",
        b"$-1\r\n",
        b"-NOPERM no\r\n",
        b":9\r\n",
        b":100\r\n",
    ]
    target = [
        b":60\r\n",
        b":500\r\n",
        b":7\r\n",
        b":7\r\n",
        b"$-1\r\n",
        b":7\r\n",
        b"-ASK 1 h:1\r\n",
        b":100\r\n",
    ]
    sizes, found = twin.sizes(b"".join(source), b"".join(target), 8, 100)
    assert list(sizes) == [60, -1, -1, -1, -1, -1, -1, 100]
    assert found == [
        Pair(1, Doubt.BIG, b"50", b"500"),
        Pair(2, Doubt.BIG, b"101", b"7"),
        Pair(3, Doubt.DIFFERS),
        Pair(5, Doubt.SOURCE_ERROR, b"NOPERM no"),
        Pair(6, Doubt.TARGET_ERROR, b"", b"ASK 1 h:1"),
    ]


@pytest.mark.parametrize(
    ("data", "count"), [(b":1\r\n", 2), (b":1\r\n:2\r\n", 1), (b"+OK\r\n", 1), (b":x\r\n", 1)]
)
def test_what_is_no_size(twin: Twin, data: bytes, count: int) -> None:
    with pytest.raises(ProtocolError):
        twin.sizes(data, data, count, 100)


REPLIES = st.recursive(
    st.one_of(
        st.binary(max_size=12).map(bulk),
        st.integers(-5, 2**40).map(lambda number: b":%d\r\n" % number),
        st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"*0\r\n"]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: b"*%d\r\n" % len(parts) + b"".join(parts)),
    max_leaves=6,
)


@given(replies=st.lists(REPLIES, max_size=8), asked=st.integers(0, 9), cut=st.integers(0, 200))
def test_replies_are_walked_over_whole(twin: Twin, replies: list[bytes], asked: int, cut: int) -> None:
    data = b"".join(replies)
    whole, ends = 0, [0]
    for reply in replies:
        ends.append(ends[-1] + len(reply))
    while whole < min(asked, len(replies)) and ends[whole + 1] <= min(cut, len(data)):
        whole += 1
    position, left = twin.walked(bytearray(data[:cut]), 0, asked)
    assert (position, left) == (ends[whole], asked - whole)
    # The rest comes, and the walk goes on where it stood.
    assert twin.walked(data, position, left) == (
        ends[min(asked, len(replies))],
        asked - min(asked, len(replies)),
    )


@pytest.mark.parametrize("data", [b"?\r\n", b"hello\r\n", b"$x\r\n", b"$99999999999\r\n", b"*1\r\n" * 70])
def test_what_is_no_reply(twin: Twin, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        twin.walked(data, 0, 1)


# The twins against each other

DUMPS = st.one_of(
    st.builds(
        lambda kind, body, version: bulk(payload(kind, body, version)),
        st.sampled_from([0, 0, 4, 15, 22]),
        st.sampled_from([b"", b"a", b"b", b"\xc3", b"x" * 30]),
        st.sampled_from([9, 11]),
    ),
    st.sampled_from([bulk(None), b"-ERR not today\r\n", b"-MOVED 1 h:1\r\n", b"-WRONGTYPE x\r\n"]),
)
RANGES = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"\r\n", b"x" * SHORT, b"y" * SHORT]).map(bulk),
    st.sampled_from([WRONG, b"-NOPERM no\r\n", b"-WRONGTYPE\r\n", b"-WRONG\r\n"]),
)
EXPIRIES = st.one_of(
    st.integers(-2, 1).map(lambda number: b":%d\r\n" % number),
    st.integers(0, 3000).map(lambda number: b":%d\r\n" % number),
    st.sampled_from([b":%d\r\n" % ((1 << 63) - 1), b":%d\r\n" % FAR_MS, b"-ERR who knows\r\n"]),
)
ODD = st.sampled_from(
    [b"", b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$5\r\nab", b"$3\r\nabcde\r\n", b"-", b"*1\r\n"]
)
TIMES = st.sampled_from([(0, 0), (1000, 1000), (1000, 1700), (1_700_000_000_000, 1_700_000_000_003)])


@st.composite
def questions(draw: st.DrawFn) -> tuple[bytes, bytes, int, PairRules, Any, Any]:
    rules = RULES._replace(
        ranged=draw(st.booleans()),
        expiring=draw(st.booleans()),
        clock_offset_ms=draw(st.sampled_from([0, 700, -700])),
        tolerance_ms=draw(st.sampled_from([0, 1000])),
        wanted=bytes(kind != draw(st.sampled_from([0, 4, 99])) for kind in range(256)),
        same_types_max=draw(st.sampled_from([21, 255])),
    )
    count = draw(st.integers(0, 4))
    values = RANGES if rules.ranged else DUMPS

    def answers() -> bytes:
        parts = []
        for _ in range(count):
            parts.append(draw(values))
            if rules.expiring:
                parts.append(draw(EXPIRIES))
        if draw(st.integers(0, 19)) == 0:
            parts.insert(draw(st.integers(0, len(parts))), draw(ODD))
        return b"".join(parts)

    source = answers()
    target = source if draw(st.booleans()) else answers()
    return source, target, count, rules, draw(TIMES), draw(TIMES)


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ProtocolError:
        return ProtocolError


@needs_both
@given(questions())
def test_twins_judge_alike(question: tuple[Any, ...]) -> None:
    assert outcome(_comparing.pairs_in_doubt, *question) == outcome(comparing.pairs_in_doubt_pure, *question)


SIZES = st.sampled_from(
    [b":1\r\n", b":100\r\n", b":101\r\n", b"$-1\r\n", b"-NOPERM no\r\n", b"-MOVED 1 h:1\r\n"]
)


@needs_both
@given(
    st.lists(st.tuples(SIZES, SIZES), max_size=6),
    st.sampled_from([b"", b"", b":1\r\n", b":", b"+OK\r\n", b":99999999999999999999\r\n"]),
    st.integers(-1, 1),
)
def test_twins_measure_alike(pairs: list[tuple[bytes, bytes]], odd: bytes, more: int) -> None:
    source = b"".join(pair[0] for pair in pairs) + odd
    target = b"".join(pair[1] for pair in pairs)
    count = max(0, len(pairs) + more)
    assert outcome(_comparing.sizes_in_doubt, source, target, count, 100) == outcome(
        comparing.sizes_in_doubt_pure, source, target, count, 100
    )


@needs_both
@given(st.lists(REPLIES | ODD, max_size=6), st.integers(0, 8))
def test_twins_walk_alike(replies: list[bytes], asked: int) -> None:
    data = b"".join(replies)
    assert outcome(_comparing.walked, data, 0, asked) == outcome(comparing.walked_pure, data, 0, asked)
