"""What a relay promises, on either twin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from relay_script import VERSION, ask, bulk, commands, payload, scan_page

from keyferry.model.methods import Method
from keyferry.payload.crc64 import crc64, resign_mask
from keyferry.transfer.config import AsideKind, ExpiryMode, Outcome, RelayConfig
from keyferry.transfer.relay import Relay
from keyferry.transfer.relay_pure import PureRelay

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
    ((token, data, mark),) = relay.take_raw()
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
