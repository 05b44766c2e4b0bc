"""The compiled relay against the pure one: the same bytes in, in any fragments, the same bytes and events out."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_script import VERSION, Script, ask, bulk, fragments, payload, state

from keyferry.model.methods import Method
from keyferry.payload.crc64 import resign_mask
from keyferry.payload.names import SLOTS, slot
from keyferry.transfer.config import AsideKind, ExpiryMode, HintMode, Outcome, RelayConfig
from keyferry.transfer.relay import Relay
from keyferry.transfer.relay_pure import PureRelay
from keyferry.wire.resp import ProtocolError

compiled = pytest.importorskip("keyferry.transfer._relay", reason="the compiled data path was not built")

ACTIONS = bytes(
    [Method.RESTORE, Method.RESIGNED, Method.TRANSCODED, Method.LOGICAL, Method.IMPOSSIBLE]
) + bytes(251)
BIG = 300
SHORT = 70
RANGES = st.one_of(
    st.binary(max_size=SHORT).filter(lambda text: not text.startswith(b"-")),
    st.just(b"x" * SHORT),
    st.sampled_from([b"-WRONGTYPE no\r\n", b"-NOPERM no\r\n"]),
)
KEYS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\r\n", b"$5\r\n", b"keyferry:x", b"k" * 70, b"\x00\xff", b"+OK\r\n"]),
)
DUMPS = st.one_of(
    st.builds(lambda kind, body: bulk(payload(kind, body)), st.integers(0, 6), st.binary(max_size=40)),
    st.builds(lambda size: bulk(payload(0, b"x" * size)), st.integers(BIG - 20, BIG + 40)),
    st.builds(lambda body: bulk(payload(0, body, VERSION + 1)), st.binary(max_size=5)),
    st.just(b"$-1\r\n"),
    st.just(b"-ERR not today\r\n"),
)
EXPIRIES = st.one_of(
    st.integers(-2, 3).map(lambda n: b":%d\r\n" % n),
    st.integers(1_600_000_000_000, 1_900_000_000_000).map(lambda n: b":%d\r\n" % n),
    st.just(b"-ERR who knows\r\n"),
)
RESTORES = st.sampled_from(
    [b"+OK\r\n"] * 5 + [b"-BUSYKEY Target key name already exists.\r\n", b"-OOM no\r\n", b"-MOVED 1 h:1\r\n"]
)
LOOK = 1000
SIZES = st.one_of(
    st.integers(0, 2 * LOOK).map(lambda n: b":%d\r\n" % n),
    st.sampled_from([b":%d\r\n" % LOOK, b":5000000000\r\n", b"$-1\r\n", b"-NOPERM no\r\n"]),
)
BUDGETS = st.lists(st.sampled_from([0, 1, LOOK // 2, 3 * LOOK, 1 << 62]), min_size=1, max_size=4)
CUTS = st.lists(st.integers(1, 60), max_size=6)


@st.composite
def configs(draw: st.DrawFn) -> RelayConfig:
    wanted = bytearray(b"\x01" * 256)
    wanted[draw(st.integers(0, 8))] = draw(st.integers(0, 1))
    unwanted = draw(st.sampled_from([None, b"a"]))
    lanes = draw(st.sampled_from([1, 1, 2, 3, 7]))
    rnd = random.Random(draw(st.integers(0, 9)))
    slots = struct.pack("<16384H", *(rnd.randrange(lanes) for _ in range(SLOTS)))
    wanted_slots = bytes(rnd.choices([0, 1], [1, 4], k=SLOTS))
    return RelayConfig(
        actions=ACTIONS,
        source_version=VERSION,
        target_version=9,
        resign_mask=resign_mask(VERSION, 9),
        expiry=draw(st.sampled_from(ExpiryMode)),
        wanted=bytes(wanted),
        clock_offset_ms=draw(st.sampled_from([0, 12_345, -1_700_000_000_000])),
        absolute=draw(st.booleans()),
        replace=draw(st.booleans()),
        hints=draw(st.sampled_from(HintMode)),
        scan_count=draw(st.integers(1, 2000)),
        scan_match=draw(st.sampled_from([b"", b"a*"])),
        scan_type=draw(st.sampled_from([b"", b"hash"])),
        key_filter=None if unwanted is None else (lambda key: not key.startswith(b"a")),
        payload_bytes_max=BIG,
        short_bytes=draw(st.sampled_from([0, 0, 1, SHORT, SHORT])),
        look_bytes=draw(st.sampled_from([0, 1, LOOK, LOOK])),
        lanes=lanes,
        slots=draw(st.sampled_from([b"", slots])),
        wanted_slots=draw(st.sampled_from([b"", b"", wanted_slots])),
    )


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    pages = draw(st.lists(st.lists(KEYS, max_size=9), min_size=1, max_size=5))
    keys = sorted({key for page in pages for key in page})
    return Script(
        pages,
        dumps={key: draw(DUMPS) for key in keys},
        expiries={key: draw(EXPIRIES) for key in keys},
        restores={key: draw(RESTORES) for key in keys},
        ranges={key: draw(RANGES) for key in keys},
        sizes={key: draw(SIZES) for key in keys},
        refused_scans=draw(st.integers(0, 2)),
        hints={
            key: draw(st.sampled_from([b":0\r\n", b":99\r\n", b"$-1\r\n", b"-ERR policy\r\n"]))
            for key in keys
        },
    )


def dense(seed: int) -> Script:
    """Many keys of all kinds: what hypothesis seldom draws by itself."""
    rnd = random.Random(seed)
    pages = [
        [rnd.randbytes(rnd.choice([0, 1, 3, 9, 30])) for _ in range(rnd.randrange(40))] for _ in range(5)
    ]
    keys = sorted({key for page in pages for key in page})

    strings = rnd.random()

    def dump() -> bytes:
        if rnd.random() < 0.1:
            return rnd.choice([b"$-1\r\n", b"-ERR not today\r\n", bulk(payload(0, b"x" * BIG))])
        return bulk(
            payload(
                rnd.choice([0, 0, 0, 1, 1, 2, 5]),
                rnd.randbytes(rnd.randrange(60)),
                rnd.choice([VERSION] * 9 + [9]),
            )
        )

    expiries = [
        b":-1\r\n",
        b":-1\r\n",
        b":-2\r\n",
        b":0\r\n",
        b":1700000005000\r\n",
        b":1900000000000\r\n",
        b"-ERR who knows\r\n",
    ]
    return Script(
        pages,
        dumps={key: dump() for key in keys},
        expiries={key: rnd.choice(expiries) for key in keys},
        refused_scans=rnd.randrange(3),
        restores={key: b"-BUSYKEY\r\n" for key in keys if rnd.random() < 0.1},
        sizes={
            key: rnd.choice([b":1001\r\n", b":99999\r\n", b"$-1\r\n", b"-NOPERM\r\n"])
            if rnd.random() < 0.1
            else b":%d\r\n" % rnd.randrange(LOOK)
            for key in keys
        },
        ranges={key: b"x" * rnd.choice([0, 1, 63, 64, 69, 70]) for key in keys if rnd.random() < strings},
    )


class Twins:
    """Two relays in step; every event must be the same."""

    def __init__(self, config: RelayConfig) -> None:
        self.relays: list[Relay] = [PureRelay(config), compiled.CompiledRelay(config)]

    def both(self, method: str, *arguments: Any) -> Any:
        results: list[Any] = []
        for relay in self.relays:
            try:
                results.append((None, getattr(relay, method)(*arguments)))
            except ProtocolError as error:
                results.append((type(error), None))
        assert results[0] == results[1], (method, results)
        if results[0][0] is not None:
            raise ProtocolError("both")
        pure, fast = map(state, self.relays)
        assert pure == fast, method
        return results[0][1]


class Drive:
    """A driver of both twins that has no plan of its own: what it does goes by the number of the turn."""

    def __init__(self, twins: Twins, script: Script, limits: list[int], budgets: list[int]) -> None:
        self.twins, self.script = twins, script
        self.limits, self.budgets = limits, budgets
        self.outcomes = [0, 0, 0, 0, 0]
        self.repeated: set[tuple[int, int]] = set()

    def run(self, source_cuts: list[int], target_cuts: list[int]) -> list[int]:
        """A whole pass; returns the keys by outcome."""
        twins, script, relay = self.twins, self.script, self.twins.relays[0]
        twins.both("scan", b"0")
        for turn in range(1000):
            for piece in fragments(script.source_answers(twins.both("take_source")), source_cuts):
                twins.both("feed_source", piece, 1_700_000_000_999)
            for lane in range(relay.lanes):
                for piece in fragments(script.target_answers(twins.both("take_target", lane)), target_cuts):
                    twins.both("feed_target", piece, lane)
            for aside in twins.both("take_asides"):
                self.settle(aside)
            twins.both("take_raw")
            if not relay.scan_pending and relay.next_cursor != b"0":
                twins.both("scan", relay.next_cursor or b"0")
            if turn % 3 == 0:
                self.disturb(turn)
            twins.both("fetch", self.limits[turn % len(self.limits)], self.budgets[turn % len(self.budgets)])
            if turn % 50 == 49:
                # Budgets of 0 alone would never let go.
                twins.both("fetch", 100)
            settled = twins.both("take_settled")
            if settled is not None:
                self.outcomes = [a + b for a, b in zip(self.outcomes, settled.outcomes, strict=True)]
            if turn % 3 and relay.next_cursor == b"0" and relay.idle:
                return self.outcomes
        raise AssertionError("the pass does not end")

    def disturb(self, turn: int) -> None:
        """Somebody's own commands, new lanes, slots that move."""
        twins, lanes = self.twins, self.twins.relays[0].lanes
        twins.both("source_command", turn, ask(b"ECHO", b"hello"), 1)
        twins.both("target_command", turn, ask(b"DEL", b"x") + ask(b"DEL", b"y"), 2, turn % lanes)
        if turn == 6:
            assert twins.both("add_lane") == lanes
        if turn % 4 == 0:
            for page in self.script.pages[:2]:
                for key in page[:2]:
                    twins.both("assign", slot(key), turn % lanes)
                    twins.both("lane_of", key)

    def settle(self, aside: Any) -> None:
        place = (aside.page, aside.index)
        if aside.page < 0:
            return
        if aside.kind == AsideKind.CONVERT and len(aside.payload) % 2:
            self.twins.both(
                "store", *place, aside.expires_at_ms, aside.payload, Method.TRANSCODED, aside.hint, 1
            )
        elif aside.kind in (AsideKind.BIG, AsideKind.DOUBT, AsideKind.TARGET_ERROR) and (
            len(aside.key) % 2 and place not in self.repeated
        ):
            self.repeated.add(place)
            self.twins.both("again", *place, int(aside.payload) if aside.kind == AsideKind.BIG else 0)
        else:
            self.twins.both("resolve", aside.page, Outcome.FAILED)


def run_whole_pass(
    config: RelayConfig,
    script: Script,
    limits: list[int],
    budgets: list[int],
    source_cuts: list[int],
    target_cuts: list[int],
) -> None:
    outcomes = Drive(Twins(config), script, limits, budgets).run(source_cuts, target_cuts)
    passes = config.key_filter
    selected = [
        key
        for page in script.pages
        for key in page
        if not key.startswith(b"keyferry:")
        and (passes is None or passes(key))
        and (not config.wanted_slots or config.wanted_slots[slot(key)])
    ]
    assert sum(outcomes) == len(selected)


@settings(deadline=None, max_examples=150)
@given(configs(), scripts(), st.lists(st.integers(1, 7), min_size=1, max_size=4), BUDGETS, CUTS, CUTS)
def test_twins_agree_on_a_whole_pass(
    config: RelayConfig,
    script: Script,
    limits: list[int],
    budgets: list[int],
    source_cuts: list[int],
    target_cuts: list[int],
) -> None:
    run_whole_pass(config, script, limits, budgets, source_cuts, target_cuts)


@settings(deadline=None, max_examples=150)
@given(
    configs(),
    st.integers(0, 1 << 32).map(dense),
    st.lists(st.integers(9, 50), min_size=1, max_size=4),
    BUDGETS,
    CUTS,
    CUTS,
)
def test_twins_agree_on_many_keys(
    config: RelayConfig,
    script: Script,
    limits: list[int],
    budgets: list[int],
    source_cuts: list[int],
    target_cuts: list[int],
) -> None:
    run_whole_pass(config, script, limits, budgets, [cut * 20 for cut in source_cuts], target_cuts)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text("{}ab", max_size=9).map(str.encode)))
def test_a_keys_slot_is_that_of_the_reference(key: bytes) -> None:
    table = struct.pack("<16384H", *range(SLOTS))
    twins = Twins(
        RelayConfig(
            actions=ACTIONS,
            source_version=VERSION,
            target_version=VERSION,
            resign_mask=bytes(10),
            expiry=ExpiryMode.NONE,
            lanes=SLOTS,
            slots=table,
        )
    )
    assert twins.both("lane_of", key) == slot(key)


@settings(deadline=None, max_examples=300)
@given(
    configs(),
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    b"*2\r\n",
                    b"$1\r\n0\r\n",
                    b"*1\r\n",
                    b"$3\r\nabc\r\n",
                    b":5\r\n",
                    b"$-1\r\n",
                    b"$99999999999\r\n",
                    b"*-1\r\n",
                    b"+OK\r\n",
                    b"-ERR x\r\n",
                    b"$5\r\nab",
                    b"\r\n",
                    b"$12\r\n" + b"x" * 12 + b"\r\n",
                    b"*0\r\n",
                    b"$-7\r\n",
                    b"*2000\r\n",
                    b":9223372036854775808\r\n",
                    b":-3\r\n",
                    b"-\r\n",
                ]
            ),
            max_size=20,
        ).map(b"".join),
    ),
    CUTS,
    st.booleans(),
)
def test_broken_input_is_the_same_clear_error_for_both(
    config: RelayConfig, data: bytes, cuts: list[int], to_target: bool
) -> None:
    twins = Twins(config)
    twins.both("add_keys", [b"one", b"two", b"three"])
    twins.both("fetch", 2)
    twins.both("again", 0, 2, 7)
    twins.both("fetch", 3)
    twins.both("scan", b"0")
    twins.both("source_command", 1, ask(b"INFO"), 2)
    if to_target:
        twins.both("store", 0, 0, 5, payload(0, b""), Method.RESTORE)
        twins.both("target_command", 2, ask(b"INFO"), 1, twins.relays[0].lane_of(b"one"))
    try:
        for piece in fragments(data, cuts):
            if to_target:
                twins.both("feed_target", piece, twins.relays[0].lane_of(b"one"))
            else:
                twins.both("feed_source", piece)
            twins.both("take_asides")
            twins.both("take_raw")
    except ProtocolError:
        pass
