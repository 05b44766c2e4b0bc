"""Expiry in a comparison in pieces: of the key, and of a hash's fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from carrying import BUILDERS, KEY, Ferry, done, ferry_between
from differing import on_both, settled, views
from looking import expiry_ms, without_field_expiry

from keyferry.payload.differ import Applied, Different, Refused, Same, Vanished
from keyferry.payload.write_commands import Abilities
from keyferry.testing.servers import Server

KINDS = ["string", "list", "set", "zset", "hash"]
LATER_MS = 4_102_444_800_123
EXPIRY_DIFFERS = Different(({"what": "expiry", "how": "differs"},))


@pytest.fixture
def ferry(server_pair: tuple[Server, Server]) -> Iterator[Ferry]:
    made = ferry_between(*server_pair)
    yield made
    made.close()


def with_field_expiry(ferry: Ferry) -> Ferry:
    for side in (ferry.source_identity, ferry.target_identity):
        if not Abilities.of(side).field_expiry:
            pytest.skip(f"{side} has no field expiry")
    return ferry


@pytest.mark.parametrize("kind", KINDS)
def test_the_expiry_alone_is_settled(ferry: Ferry, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    for on_source, on_target in ((LATER_MS, None), (LATER_MS, LATER_MS + 70), (None, LATER_MS)):
        for session, expires_at_ms in ((ferry.source, on_source), (ferry.onlooker, on_target)):
            done(session, ("PEXPIREAT", KEY, expires_at_ms) if expires_at_ms else ("PERSIST", KEY))
        assert settled(ferry, apply=False) == EXPIRY_DIFFERS
        outcome = settled(ferry)
        assert isinstance(outcome, Applied)
        assert outcome.writes == 1
        assert abs(expiry_ms(ferry.onlooker, KEY) - expiry_ms(ferry.source, KEY)) <= 1
        assert settled(ferry) == Same()


def test_the_tolerance_holds_to_the_millisecond(flushed: Callable[..., Server]) -> None:
    ferry = ferry_between(flushed("redis-7.0"), flushed("redis-8.2"))
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, ("PEXPIREAT", KEY, LATER_MS))
    done(ferry.onlooker, ("PEXPIREAT", KEY, LATER_MS + 1000))
    assert settled(ferry, apply=False, expiry_tolerance_ms=1000) == Same()
    assert settled(ferry, apply=False, expiry_tolerance_ms=999) == EXPIRY_DIFFERS
    assert settled(ferry, apply=False, clock_offset_ms=1000) == Same()
    assert settled(ferry, apply=False, clock_offset_ms=-1) == EXPIRY_DIFFERS
    assert settled(ferry, apply=False, clock_offset_ms=None) == EXPIRY_DIFFERS
    assert isinstance(
        settled(ferry, clock_offset_ms=None, destination={"expires_at_ms": LATER_MS + 7}), Applied
    )
    assert expiry_ms(ferry.onlooker, KEY) == LATER_MS + 7
    ferry.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_past_expiry_deletes(ferry: Ferry, kind: str) -> None:
    """By the target's clock the source's key is over."""
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, ("PEXPIRE", KEY, 60_000))
    assert settled(ferry, clock_offset_ms=-3_600_000) == Vanished()
    assert ferry.on_target() is None


def test_a_key_that_expires_on_the_source_goes(ferry: Ferry) -> None:
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, ("PEXPIRE", KEY, 1))
    time.sleep(0.005)
    assert settled(ferry) == Vanished()
    assert ferry.on_target() is None


# --- Fields that expire


def test_field_expiries_are_compared_and_set(ferry: Ferry) -> None:
    with_field_expiry(ferry)
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, ("HPEXPIREAT", KEY, LATER_MS, "FIELDS", 2, 1, 2))
    done(ferry.source, ("HPEXPIREAT", KEY, LATER_MS + 9, "FIELDS", 1, 3))
    done(ferry.source, ("HSET", KEY, 4, "new", "more", 1), ("HDEL", KEY, 5))
    done(ferry.onlooker, ("HPEXPIREAT", KEY, LATER_MS + 5, "FIELDS", 3, 2, 6, 4))
    told = settled(ferry, apply=False)
    assert isinstance(told, Different)
    assert sorted((one["what"], one["name"], one["how"]) for one in told.differs) == [
        ("field", "4", "differs"),
        ("field", "5", "extra"),
        ("field", "more", "missing"),
        ("field expiry", "1", "differs"),
        ("field expiry", "2", "differs"),
        ("field expiry", "3", "differs"),
        ("field expiry", "6", "differs"),
    ]
    assert settled(ferry, apply=False, expiry_tolerance_ms=5) != told
    assert isinstance(settled(ferry), Applied)
    here, there = views(ferry)
    assert here == there
    assert settled(ferry, apply=False) == Same()


def test_a_field_whose_time_is_over_by_the_targets_clock_goes(ferry: Ferry) -> None:
    with_field_expiry(ferry)
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, ("HPEXPIRE", KEY, 60_000, "FIELDS", 1, 1), ("HSET", KEY, 2, "new"))
    assert isinstance(settled(ferry, clock_offset_ms=-3_600_000), Applied)
    assert ferry.onlooker.call("HEXISTS", KEY, 1) == 0
    assert ferry.onlooker.call("HGET", KEY, 2) == b"new"


def test_fields_that_are_over_do_not_count(ferry: Ferry) -> None:
    """HLEN counts them until somebody takes them away."""
    with_field_expiry(ferry)
    on_both(ferry, *BUILDERS["hash"])
    sessions = (ferry.source, ferry.onlooker)
    for session in sessions:
        done(session, ("DEBUG", "SET-ACTIVE-EXPIRE", 0))
    try:
        done(ferry.source, ("HPEXPIRE", KEY, 1, "FIELDS", 3, 1, 2, 3), ("HSET", KEY, 9, "new"))
        done(ferry.onlooker, ("HPEXPIRE", KEY, 1, "FIELDS", 2, 4, 5))
        time.sleep(0.01)
        assert isinstance(settled(ferry), Applied)
        here, there = views(ferry)
        assert here == there
        assert settled(ferry, apply=False) == Same()
    finally:
        for session in sessions:
            done(session, ("DEBUG", "SET-ACTIVE-EXPIRE", 1))


@pytest.mark.parametrize("source", ["redis-8.2", "valkey-9.1"])
def test_a_target_without_field_expiry(flushed: Callable[..., Server], source: str) -> None:
    ferry = ferry_between(flushed(source), flushed("redis-7.0"))
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, ("HPEXPIREAT", KEY, LATER_MS, "FIELDS", 1, 1), ("HSET", KEY, 2, "new"))
    old = ferry.on_target()
    told = settled(ferry, apply=False)
    assert isinstance(told, Different)
    assert {"what": "field expiry", "name": "1", "how": "differs"} in told.differs
    outcome = settled(ferry)
    assert isinstance(outcome, Refused)
    assert outcome.code == "field_expiry"
    assert ferry.on_target() == old
    assert isinstance(settled(ferry, destination={"drop_field_expiry": True}), Applied)
    assert without_field_expiry(ferry.on_source()) == without_field_expiry(ferry.on_target())
    ferry.close()


def test_a_source_without_field_expiry(flushed: Callable[..., Server]) -> None:
    ferry = ferry_between(flushed("redis-6.2"), flushed("valkey-9.1"))
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.onlooker, ("HPEXPIREAT", KEY, LATER_MS, "FIELDS", 1, 1))
    assert isinstance(settled(ferry), Applied)
    here, there = views(ferry)
    assert here == there
    ferry.close()
