"""What a relay promises, on either twin."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from relay_script import VERSION, ask, bulk, commands, payload, scan_page, state

from keyferry.model.methods import Method
from keyferry.payload.crc64 import crc64, resign_mask
from keyferry.payload.names import SLOTS, slot
from keyferry.transfer.config import (
    LANES_MAX,
    SIZE_BYTES_MAX,
    AsideKind,
    ExpiryMode,
    HintMode,
    Outcome,
    RelayConfig,
)
from keyferry.transfer.relay import Relay
from keyferry.transfer.relay_pure import PureRelay
from keyferry.wire.resp import ProtocolError

MakeRelay = Callable[[RelayConfig], Relay]


def _makers() -> list[MakeRelay]:
    try:
        from keyferry.transfer._relay import CompiledRelay
    except ImportError:
        return [PureRelay]
    return [PureRelay, CompiledRelay]


@pytest.fixture(params=_makers(), ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest) -> MakeRelay:
    maker: MakeRelay = request.param
    return maker


def config(**changes: object) -> RelayConfig:
    values: dict[str, object] = {
        "actions": bytes(256),
        "source_version": VERSION,
        "target_version": VERSION,
        "resign_mask": bytes(10),
        "expiry": ExpiryMode.ABSOLUTE,
        **changes,
    }
    return RelayConfig(**values)  # type: ignore[arg-type]


def with_page(relay: Relay, keys: list[bytes]) -> None:
    relay.scan(b"0")
    relay.take_source()
    relay.feed_source(scan_page(b"17", keys))


def test_scan_becomes_dump_and_expiry_and_restore(make: MakeRelay) -> None:
    relay = make(config(scan_count=77))
    relay.scan(b"0")
    assert commands(relay.take_source()) == [[b"SCAN", b"0", b"COUNT", b"77"]]
    relay.feed_source(scan_page(b"17", [b"a", b"b"]))
    assert relay.next_cursor == b"17"
    assert relay.fetch(10) == 2
    assert commands(relay.take_source()) == [
        [b"DUMP", b"a"],
        [b"PEXPIRETIME", b"a"],
        [b"DUMP", b"b"],
        [b"PEXPIRETIME", b"b"],
    ]
    relay.feed_source(
        bulk(payload(0, b"\x01x")) + b":-1\r\n" + bulk(payload(0, b"\x01y")) + b":1900000000000\r\n"
    )
    assert commands(relay.take_target()) == [
        [b"RESTORE", b"a", b"0", payload(0, b"\x01x"), b"REPLACE"],
        [b"RESTORE", b"b", b"1900000000000", payload(0, b"\x01y"), b"REPLACE", b"ABSTTL"],
    ]
    assert relay.take_settled() is None
    relay.feed_target(b"+OK\r\n+OK\r\n")
    settled = relay.take_settled()
    assert settled is not None
    assert settled.cursor == b"17"
    assert settled.outcomes == (2, 0, 0, 0, 0)
    assert relay.idle


def test_pages_settle_in_order(make: MakeRelay) -> None:
    """Page 1 is acknowledged whole while a key of page 0 is still aside: no cursor moves."""
    relay = make(config())
    first, second = relay.add_keys([b"a"]), relay.add_keys([b"b"])
    relay.fetch(2)
    relay.take_source()
    relay.feed_source(b"$-1\r\n:-2\r\n" + bulk(payload(0, b"")) + b":-1\r\n")
    relay.feed_target(b"+OK\r\n")
    (aside,) = relay.take_asides()
    assert (aside.kind, aside.page, aside.key) == (AsideKind.VANISHED, first, b"a")
    assert relay.take_settled() is None
    relay.resolve(first, Outcome.VANISHED)
    settled = relay.take_settled()
    assert settled is not None
    assert settled.pages == (first, second)


@pytest.mark.parametrize("remaining_ms", [0, 1, 5])
def test_an_expiry_that_is_nearly_over_is_never_sent_as_zero(make: MakeRelay, remaining_ms: int) -> None:
    """RESTORE's 0 means for ever."""
    for absolute in (True, False):
        relay = make(config(expiry=ExpiryMode.REMAINING, absolute=absolute))
        with_page(relay, [b"k"])
        relay.fetch(1)
        assert commands(relay.take_source())[-4:] == [[b"TIME"], [b"DUMP", b"k"], [b"PTTL", b"k"], [b"TIME"]]
        time = b"*2\r\n$10\r\n1700000000\r\n$6\r\n250999\r\n"
        relay.feed_source(time + bulk(payload(0, b"")) + b":%d\r\n" % remaining_ms + time, 1_700_000_000_251)
        (restore,) = commands(relay.take_target())
        if absolute:
            assert restore[2] == b"%d" % (1_700_000_000_250 + remaining_ms)
            assert restore[-1] == b"ABSTTL"
        else:
            assert restore[2] == b"%d" % max(1, remaining_ms - 1)


def test_the_clocks_difference_moves_an_expiry(make: MakeRelay) -> None:
    relay = make(config(clock_offset_ms=-60_000))
    with_page(relay, [b"k"])
    relay.fetch(1)
    relay.feed_source(bulk(payload(0, b"")) + b":1900000000000\r\n")
    (restore,) = commands(relay.take_target())
    assert restore[2] == b"1899999940000"


def test_resigned_payloads_have_the_targets_version_and_a_true_checksum(make: MakeRelay) -> None:
    relay = make(
        config(actions=bytes([Method.RESIGNED]) * 256, target_version=9, resign_mask=resign_mask(VERSION, 9))
    )
    with_page(relay, [b"k"])
    relay.fetch(1)
    relay.feed_source(bulk(payload(0, b"\x05hello")) + b":-1\r\n")
    (restore,) = commands(relay.take_target())
    assert restore[3] == payload(0, b"\x05hello", 9)


def test_a_damaged_payload_is_not_healed_by_signing_it_anew(make: MakeRelay) -> None:
    relay = make(
        config(actions=bytes([Method.RESIGNED]) * 256, target_version=9, resign_mask=resign_mask(VERSION, 9))
    )
    with_page(relay, [b"k"])
    relay.fetch(1)
    damaged = bytearray(payload(0, b"\x05hello"))
    damaged[3] ^= 1
    relay.feed_source(bulk(bytes(damaged)) + b":-1\r\n")
    (restore,) = commands(relay.take_target())
    assert crc64(restore[3][:-8]) != int.from_bytes(restore[3][-8:], "little")


def test_reserved_names_and_filtered_names_are_not_fetched(make: MakeRelay) -> None:
    relay = make(config(key_filter=lambda key: key != b"no"))
    with_page(relay, [b"keyferry:x", b"no", b"yes", b"keyferry"])
    assert relay.queued_keys == 2


def test_an_oversize_payload_is_thrown_away_and_the_next_key_is_read(make: MakeRelay) -> None:
    for size in (1, 100, 5000, 100_025):
        relay = make(config(payload_bytes_max=1000))
        with_page(relay, [b"big", b"small"])
        relay.fetch(2)
        relay.take_source()
        data = bulk(payload(0, b"x" * 100_000)) + b":-1\r\n" + bulk(payload(0, b"y")) + b":-1\r\n"
        for begin in range(0, len(data), size):
            relay.feed_source(data[begin : begin + size])
        (aside,) = relay.take_asides()
        assert (aside.kind, aside.key, aside.payload) == (AsideKind.OVERSIZE, b"big", b"")
        assert [command[1] for command in commands(relay.take_target())] == [b"small"]


def test_a_payload_of_another_version_than_expected_goes_aside(make: MakeRelay) -> None:
    relay = make(config())
    with_page(relay, [b"k"])
    relay.fetch(1)
    relay.feed_source(bulk(payload(0, b"", VERSION + 1)) + b":-1\r\n")
    assert [aside.kind for aside in relay.take_asides()] == [AsideKind.CONVERT]
    assert relay.take_target() == b""


def test_own_commands_keep_their_place_in_the_order_of_replies(make: MakeRelay) -> None:
    relay = make(config())
    with_page(relay, [b"a", b"b"])
    relay.fetch(1)
    relay.source_command(5, ask(b"INFO"), 1)
    relay.fetch(1)
    info = b"$12\r\nredis\r\nstuff\r\n"
    answer = bulk(payload(0, b"")) + b":-1\r\n"
    relay.feed_source(answer + info + answer)
    ((token, data, (mark,)),) = relay.take_raw()
    assert (token, data) == (5, info)
    sent = relay.take_target()
    assert [words[1] for words in commands(sent[:mark])] == [b"a"]
    assert [words[1] for words in commands(sent[mark:])] == [b"b"]


@pytest.mark.parametrize("expires_at", [(1 << 63) - 1, (1 << 63) - 1000])
def test_the_farthest_expiry_does_not_wrap_round(make: MakeRelay, expires_at: int) -> None:
    relay = make(config(clock_offset_ms=60_000))
    with_page(relay, [b"k"])
    relay.fetch(1)
    relay.feed_source(bulk(payload(0, b"")) + b":%d\r\n" % expires_at)
    (restore,) = commands(relay.take_target())
    assert restore[2] == b"%d" % expires_at


def test_short_strings_are_asked_for_by_their_bytes_and_everything_else_again(make: MakeRelay) -> None:
    relay = make(config(short_bytes=100, target_version=9, actions=bytes([Method.RESIGNED]) * 256))
    with_page(relay, [b"short", b"long", b"other", b"gone", b"empty"])
    relay.fetch(10)
    asked = commands(relay.take_source())
    assert asked[:2] == [[b"GETRANGE", b"short", b"0", b"99"], [b"PEXPIRETIME", b"short"]]
    text = b"v" * 64
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    relay.feed_source(
        bulk(text)
        + b":5\r\n"
        + bulk(b"v" * 100)
        + b":-1\r\n"
        + wrong
        + b":-1\r\n"
        + bulk(b"")
        + b":-2\r\n"
        + bulk(b"")
        + b":-1\r\n"
    )
    assert [aside.kind for aside in relay.take_asides()] == [AsideKind.VANISHED]
    (restore,) = commands(relay.take_target())
    assert restore[:3] == [b"RESTORE", b"short", b"5"]
    assert restore[3] == payload(0, b"\x40\x40" + text, 9)
    assert relay.queued_keys == 3
    assert relay.fetch(10) == 3
    assert [words[:2] for words in commands(relay.take_source())[::2]] == [
        [b"DUMP", b"long"],
        [b"DUMP", b"other"],
        [b"DUMP", b"empty"],
    ]


def test_where_few_are_short_strings_dump_comes_first(make: MakeRelay) -> None:
    relay = make(config(short_bytes=100))
    with_page(relay, [b"%d" % number for number in range(600)])
    relay.fetch(300)
    assert commands(relay.take_source())[0][0] == b"GETRANGE"
    relay.feed_source(b"-WRONGTYPE x\r\n:-1\r\n" * 300)
    relay.fetch(300)
    assert {words[0] for words in commands(relay.take_source())} == {b"DUMP", b"PEXPIRETIME"}
    relay.feed_source((bulk(payload(0, b"\x01x")) + b":-1\r\n") * 300)
    relay.fetch(300)
    assert commands(relay.take_source())[0][0] == b"DUMP"
    relay.feed_source((bulk(payload(0, b"\x01x")) + b":-1\r\n") * 300)
    relay.add_keys([b"k"])
    relay.fetch(1)
    assert commands(relay.take_source())[0][0] == b"GETRANGE"


def slots_for(lanes: dict[bytes, int]) -> bytes:
    """A slot map in which these keys' slots have these lanes, all others lane 0."""
    table = [0] * SLOTS
    for key, lane in lanes.items():
        table[slot(key)] = lane
    return struct.pack("<16384H", *table)


def keys_sent(relay: Relay, lane: int) -> list[bytes]:
    return [words[1] for words in commands(relay.take_target(lane))]


DUMPED = bulk(payload(0, b"\x01x")) + b":-1\r\n"


def test_keys_go_into_the_lane_of_their_slot(make: MakeRelay) -> None:
    relay = make(config(lanes=3, slots=slots_for({b"a": 1, b"b": 2, b"{b}tagged": 2})))
    with_page(relay, [b"a", b"b", b"c", b"x{b}y", b"{}b"])
    relay.fetch(5)
    relay.feed_source(DUMPED * 5)
    assert [relay.lane_of(key) for key in (b"a", b"x{b}y", b"c")] == [1, 2, 0]
    assert [relay.lane_storing(lane) for lane in range(3)] == [2, 1, 2]
    assert relay.storing_keys == 5
    assert relay.target_out_bytes == sum(relay.lane_out_bytes(lane) for lane in range(3))
    assert [keys_sent(relay, lane) for lane in range(3)] == [[b"c", b"{}b"], [b"a"], [b"b", b"x{b}y"]]


def test_a_page_settles_when_every_lane_has_acknowledged_its_part(make: MakeRelay) -> None:
    relay = make(config(lanes=2, slots=slots_for({b"b": 1})))
    first, second = relay.add_keys([b"a", b"b"]), relay.add_keys([b"c"])
    relay.fetch(3)
    relay.feed_source(DUMPED * 3)
    relay.feed_target(b"+OK\r\n+OK\r\n", 0)
    assert relay.take_settled() is None
    assert not relay.idle
    relay.feed_target(b"+OK\r\n", 1)
    settled = relay.take_settled()
    assert settled is not None
    assert settled.pages == (first, second)
    assert relay.idle


def test_a_lane_answers_only_for_itself(make: MakeRelay) -> None:
    relay = make(config(lanes=2, slots=slots_for({b"b": 1})))
    relay.add_keys([b"a"])
    relay.fetch(1)
    relay.feed_source(DUMPED)
    with pytest.raises(ProtocolError):
        relay.feed_target(b"+OK\r\n", 1)


def test_a_slot_that_moves_takes_only_the_keys_that_come_after(make: MakeRelay) -> None:
    relay = make(config())
    relay.add_keys([b"{t}1", b"{t}2"])
    relay.fetch(1)
    relay.feed_source(DUMPED)
    assert relay.add_lane() == 1
    assert relay.lanes == 2
    relay.assign(slot(b"{t}"), 1)
    relay.fetch(1)
    relay.feed_source(DUMPED)
    assert (keys_sent(relay, 0), keys_sent(relay, 1)) == ([b"{t}1"], [b"{t}2"])


def test_a_refused_key_is_named_by_its_place_and_stored_in_its_new_lane(make: MakeRelay) -> None:
    relay = make(config(lanes=2, slots=bytes(2 * SLOTS)))
    page = relay.add_keys([b"a", b"b"])
    relay.fetch(2)
    relay.feed_source(DUMPED * 2)
    relay.feed_target(b"+OK\r\n-MOVED 3300 127.0.0.1:7001\r\n")
    (aside,) = relay.take_asides()
    assert aside == (AsideKind.TARGET_ERROR, page, 1, b"b", b"MOVED 3300 127.0.0.1:7001", 0, -1)
    relay.take_target()
    relay.assign(slot(b"b"), 1)
    relay.again(aside.page, aside.index)
    assert relay.queued_keys == 1
    relay.fetch(1)
    relay.feed_source(DUMPED)
    assert keys_sent(relay, 1) == [b"b"]
    relay.feed_target(b"-BUSY\r\n", 1)
    (aside,) = relay.take_asides()
    relay.store(aside.page, aside.index, 0, payload(0, b""), Method.TRANSCODED)
    assert keys_sent(relay, 1) == [b"b"]


def test_marks_count_what_each_lane_was_given_before(make: MakeRelay) -> None:
    relay = make(config(lanes=2, slots=slots_for({b"b": 1})))
    relay.add_keys([b"a", b"b", b"c", b"d"])
    relay.fetch(3)
    relay.source_command(1, ask(b"INFO"), 1)
    relay.fetch(1)
    relay.feed_source(DUMPED)
    sent = relay.take_target(0)
    relay.feed_source(DUMPED * 2 + b"+a\r\n" + DUMPED)
    ((token, data, marks),) = relay.take_raw()
    assert (token, data, marks[1]) == (1, b"+a\r\n", relay.lane_out_bytes(1))
    sent += relay.take_target(0)
    assert [words[1] for words in commands(sent[: marks[0]])] == [b"a", b"c"]
    assert [words[1] for words in commands(sent[marks[0] :])] == [b"d"]
    relay.target_command(2, ask(b"PING"), 1, 1)
    relay.take_target(1)
    relay.feed_target(b"+OK\r\n+PONG\r\n", 1)
    assert relay.take_raw() == [(2, b"+PONG\r\n", ())]


def test_keys_of_unwanted_slots_are_left_out_of_a_scan_but_not_of_given_keys(make: MakeRelay) -> None:
    wanted = bytearray(SLOTS)
    wanted[slot(b"{t}")] = 1
    relay = make(config(wanted_slots=bytes(wanted)))
    with_page(relay, [b"a", b"{t}1", b"b", b"x{t}", b"keyferry:tmp:{t}"])
    assert relay.queued_keys == 2
    relay.add_keys([b"a"])
    relay.fetch(3)
    assert [words[1] for words in commands(relay.take_source())[1::2]] == [b"{t}1", b"x{t}", b"a"]


def test_what_is_not_there_is_said(make: MakeRelay) -> None:
    relay = make(config())
    page = relay.add_keys([b"a"])
    for call in (relay.take_target, relay.lane_out_bytes, relay.lane_storing):
        for lane in (-1, 1):
            with pytest.raises(IndexError):
                call(lane)
    for number, lane in ((-1, 0), (SLOTS, 0), (0, 1), (0, -1)):
        with pytest.raises(IndexError):
            relay.assign(number, lane)
    for index in (-1, 1):
        with pytest.raises(IndexError):
            relay.again(page, index)
        with pytest.raises(IndexError):
            relay.store(page, index, 0, payload(0, b""), Method.RESTORE)
    with pytest.raises(KeyError):
        relay.again(page + 1, 0)
    for size in (-1, SIZE_BYTES_MAX + 1):
        with pytest.raises(ValueError, match="size_bytes"):
            relay.again(page, 0, size)


@pytest.mark.parametrize(
    "changes",
    [
        {"lanes": 0},
        {"lanes": LANES_MAX + 1},
        {"slots": bytes(SLOTS)},
        {"slots": b"\x01\x00" * SLOTS},
        {"wanted_slots": bytes(2 * SLOTS)},
        {"look_bytes": -1},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"lanes?|slots|look_bytes"):
        config(**changes)


def test_a_key_is_measured_before_its_dump_and_a_big_one_set_aside(make: MakeRelay) -> None:
    relay = make(config(look_bytes=1000))
    page = relay.add_keys([b"small", b"big", b"gone", b"bad", b"edge"])
    assert relay.fetch(5) == 5
    asked = commands(relay.take_source())
    assert asked[0] == [b"MEMORY", b"USAGE", b"small"]
    assert [words[2] for words in asked] == [b"small", b"big", b"gone", b"bad", b"edge"]
    assert (relay.queued_keys, relay.fetching_keys) == (0, 5)
    relay.feed_source(b":72\r\n:1001\r\n$-1\r\n-NOPERM no\r\n:1000\r\n")
    assert relay.take_asides() == [
        (AsideKind.BIG, page, 1, b"big", b"1001", 0, -1),
        (AsideKind.VANISHED, page, 2, b"gone", b"", 0, -1),
        (AsideKind.SOURCE_ERROR, page, 3, b"bad", b"NOPERM no", 0, -1),
    ]
    assert (relay.queued_keys, relay.fetching_keys) == (2, 0)
    assert relay.fetch(5) == 2
    assert [words[:2] for words in commands(relay.take_source())[::2]] == [
        [b"DUMP", b"small"],
        [b"DUMP", b"edge"],
    ]
    assert relay.dumping_bytes == 1072
    relay.feed_source(DUMPED * 2)
    assert relay.dumping_bytes == 0
    assert keys_sent(relay, 0) == [b"small", b"edge"]


@pytest.mark.parametrize("answer", [b"+72\r\n", b":-72\r\n", b"$2\r\n72\r\n", b":\r\n", b":7 2\r\n"])
def test_a_size_that_is_none_is_an_error(make: MakeRelay, answer: bytes) -> None:
    relay = make(config(look_bytes=1000))
    relay.add_keys([b"a", b"b", b"c"])
    relay.fetch(3)
    with pytest.raises(ProtocolError):
        relay.feed_source(b":1\r\n" + answer + b":1\r\n")


def test_a_probed_key_that_is_no_short_string_is_measured_too(make: MakeRelay) -> None:
    relay = make(config(look_bytes=1000, short_bytes=10))
    relay.add_keys([b"short", b"long", b"hash", b"big", b"new"])
    relay.fetch(4)
    relay.take_source()
    relay.feed_source(bulk(b"v") + b":-1\r\n" + bulk(b"v" * 10) + b":-1\r\n" + b"-WRONGTYPE\r\n:-1\r\n" * 2)
    assert keys_sent(relay, 0) == [b"short"]
    assert relay.queued_keys == 4
    assert relay.fetch(4) == 4
    assert [words[:3] for words in commands(relay.take_source())[:4]] == [
        [b"MEMORY", b"USAGE", b"long"],
        [b"MEMORY", b"USAGE", b"hash"],
        [b"MEMORY", b"USAGE", b"big"],
        [b"GETRANGE", b"new", b"0"],
    ]
    relay.feed_source(b":300\r\n:200\r\n:2000\r\n")
    assert [aside.key for aside in relay.take_asides()] == [b"big"]
    assert relay.fetch(1) == 1
    assert commands(relay.take_source())[0] == [b"DUMP", b"long"]


def measured(relay: Relay, sizes: list[int]) -> None:
    relay.add_keys([b"%d" % number for number in range(len(sizes))])
    relay.fetch(len(sizes))
    relay.take_source()
    relay.feed_source(b"".join(b":%d\r\n" % size for size in sizes))


def dumped(relay: Relay) -> list[bytes]:
    return [words[1] for words in commands(relay.take_source()) if words[0] == b"DUMP"]


@pytest.mark.parametrize("hints", HintMode)
def test_dumps_are_asked_for_up_to_the_budget(make: MakeRelay, hints: HintMode) -> None:
    relay = make(config(look_bytes=1000, hints=hints))
    answer = (b":7\r\n" if hints else b"") + DUMPED
    measured(relay, [10, 20, 30, 40, 500, 5])
    assert relay.fetch(10, 60) == 3
    assert dumped(relay) == [b"0", b"1", b"2"]
    assert relay.dumping_bytes == 60
    assert relay.fetch(10, 39) == 0
    assert relay.fetch(1, 1000) == 1
    relay.feed_source(answer * 2)
    assert relay.dumping_bytes == 70
    relay.feed_source(answer * 2)
    assert relay.dumping_bytes == 0
    assert relay.fetch(10, 0) == 0
    # Larger than the budget, but nothing is under way; then what follows has to wait.
    assert relay.fetch(10, 100) == 1
    assert (dumped(relay)[-1:], relay.dumping_bytes) == ([b"4"], 500)
    assert relay.fetch(10, 4) == 0
    assert relay.fetch(10, 5) == 1


def test_where_dumps_wait_new_keys_are_asked_for(make: MakeRelay) -> None:
    relay = make(config(look_bytes=1000))
    measured(relay, [100, 100])
    relay.fetch(1, 100)
    relay.add_keys([b"a", b"b"])
    assert relay.fetch(10, 50) == 2
    assert [words[2] for words in commands(relay.take_source())[-2:]] == [b"a", b"b"]
    assert relay.queued_keys == 1


def test_an_aside_that_is_fine_after_all_is_dumped_with_its_size(make: MakeRelay) -> None:
    relay = make(config(look_bytes=1000))
    measured(relay, [5000, 10])
    (aside,) = relay.take_asides()
    relay.again(aside.page, aside.index, 5000)
    assert relay.fetch(10, 6000) == 2
    assert dumped(relay) == [b"1", b"0"]
    assert relay.dumping_bytes == 5010


def test_measured_keys_tell_whether_to_probe_and_others_do_not_count_twice(make: MakeRelay) -> None:
    relay = make(config(short_bytes=100, look_bytes=1000))
    relay.add_keys([b"%d" % number for number in range(600)])
    relay.fetch(256)
    relay.feed_source(b"-WRONGTYPE x\r\n:-1\r\n" * 256)
    relay.take_source()
    # Probed ones were counted when the probe failed: their DUMPs, short or not, do not.
    assert relay.fetch(256) == 256
    assert commands(relay.take_source())[0][0] == b"MEMORY"
    relay.feed_source(b":50\r\n" * 256)
    relay.fetch(256)
    relay.feed_source(DUMPED * 256)
    relay.take_source()
    relay.fetch(255)
    assert commands(relay.take_source())[0][0] == b"MEMORY"
    relay.feed_source(b":50\r\n" * 255)
    relay.fetch(255)
    relay.feed_source(DUMPED * 255)
    relay.again(0, 0)
    relay.fetch(1)
    relay.feed_source(DUMPED)
    relay.take_source()
    assert relay.fetch(1) == 1
    assert commands(relay.take_source())[0][0] == b"MEMORY"
    relay.feed_source(b":50\r\n")
    relay.fetch(1)
    relay.feed_source(DUMPED)
    relay.take_source()
    relay.fetch(1)
    assert commands(relay.take_source())[0][0] == b"GETRANGE"


def feed(relay: Relay, data: bytes, cut: int) -> None:
    for begin in range(0, len(data), cut):
        relay.feed_source(data[begin : begin + cut])


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 50])
def test_fragments_of_replies_say_the_same_as_the_whole(make: MakeRelay, cut: int) -> None:
    """Every kind of reply begins and ends somewhere in the middle of what comes, errors too."""

    def events(cut: int) -> tuple[object, ...]:
        relay = make(config(look_bytes=1000, short_bytes=10, hints=1, expiry=ExpiryMode.REMAINING))
        relay.add_keys([b"%d" % number for number in range(9)])
        relay.fetch(5)
        relay.source_command(1, ask(b"INFO"), 1)
        relay.scan(b"0")
        relay.scan(b"0")
        time = b"*2\r\n$10\r\n1700000000\r\n$6\r\n250999\r\n"
        later = b"*2\r\n$10\r\n1700000000\r\n$6\r\n259999\r\n"
        found = [bulk(b"v"), bulk(b"v"), b"-WRONGTYPE\r\n", bulk(b"v" * 10), b"-NOPERM\r\n"]
        probed = b"".join(
            b":%d\r\n" % hint + text + b":5\r\n" + (time if hint % 2 else later)
            for hint, text in enumerate(found)
        )
        data = time + probed + b"$3\r\nred\r\n" + b"-LOADING\r\n" + scan_page(b"7", [b"\r\n", b"x" * 99])
        feed(relay, data, cut)
        relay.fetch(2)
        feed(relay, b":1000\r\n:1001\r\n", cut)
        relay.fetch(1)
        feed(relay, time + b":-1\r\n" + bulk(payload(0, b"x")) + b":-2\r\n-ERR\r\n", cut)
        asides = relay.take_asides()
        assert len(asides) == 5
        return asides, relay.take_raw(), relay.take_target(), relay.take_source(), state(relay)

    assert events(cut) == events(10_000)
