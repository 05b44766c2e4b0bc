"""Equality: blind to encodings and orders that mean nothing, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from keyferry.model.identity import Family
from keyferry.model.values import (
    Consumer,
    HashValue,
    ListValue,
    ModuleValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload import footer
from keyferry.payload.encode import listpack_of, listpack_string, string
from keyferry.payload.equal import payloads_equal, same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.writer import encode


def stream() -> StreamValue:
    group = StreamGroup(
        b"g", (2, 0), 2, [Consumer(b"c", 10, 11), Consumer(b"d", 20, 21)], [PendingEntry((1, 0), b"c", 5, 3)]
    )
    other = StreamGroup(b"h", (1, 0), 1, [], [])
    return StreamValue(
        [((1, 0), [(b"f", b"v")]), ((2, 0), [(b"f", b"w")])], (2, 0), 3, (1, 5), [group, other]
    )


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (StringValue(b"a"), StringValue(b"a"), True),
        (StringValue(b"a"), StringValue(b"A"), False),
        (StringValue(b"a"), ListValue([b"a"]), False),
        (ListValue([b"a", b"b"]), ListValue([b"b", b"a"]), False),
        (SetValue([b"a", b"b"]), SetValue([b"b", b"a"]), True),
        (SetValue([b"a", b"b"]), SetValue([b"b", b"c"]), False),
        (SetValue([b"a", b"b"]), SetValue([b"b"]), False),
        (ZSetValue([(b"a", 0.1), (b"b", 2.0)]), ZSetValue([(b"b", 2.0), (b"a", 0.1)]), True),
        (ZSetValue([(b"a", 0.3)]), ZSetValue([(b"a", 0.30000000000000004)]), False),
        (ZSetValue([(b"a", float("inf"))]), ZSetValue([(b"a", float("inf"))]), True),
        (ZSetValue([(b"a", 0.0)]), ZSetValue([(b"a", -0.0)]), True),
        (HashValue([(b"a", b"1"), (b"b", b"2")]), HashValue([(b"b", b"2"), (b"a", b"1")]), True),
        (HashValue([(b"a", b"1")]), HashValue([(b"a", b"2")]), False),
        (HashValue([(b"a", b"1")], {b"a": 5}), HashValue([(b"a", b"1")], {b"a": 6}), False),
        (HashValue([(b"a", b"1")], {b"a": 5}), HashValue([(b"a", b"1")]), False),
        (ModuleValue("vectorset"), ModuleValue("vectorset"), False),
    ],
)
def test_plain_values(a: Value, b: Value, same: bool) -> None:
    assert same_value(a, b) is same
    assert same_value(b, a) is same


def test_streams_differ_in_everything_that_counts() -> None:
    changes: dict[str, Callable[[StreamValue], object]] = {
        "entry": lambda s: s.entries.pop(),
        "field order": lambda s: s.entries[0][1].append((b"g", b"")),
        "last id": lambda s: setattr(s, "last_id", (9, 9)),
        "entries added": lambda s: setattr(s, "entries_added", 4),
        "max deleted id": lambda s: setattr(s, "max_deleted_id", (1, 6)),
        "group": lambda s: s.groups.pop(),
        "group's name": lambda s: setattr(s.groups[0], "name", b"x"),
        "group's last id": lambda s: setattr(s.groups[0], "last_id", (1, 0)),
        "entries read": lambda s: setattr(s.groups[0], "entries_read", -1),
        "consumer": lambda s: s.groups[0].consumers.pop(),
        "pending": lambda s: s.groups[0].pending.pop(),
        "pending's owner": lambda s: setattr(s.groups[0].pending[0], "consumer", b"d"),
        "deliveries": lambda s: setattr(s.groups[0].pending[0], "deliveries", 4),
        "delivery time": lambda s: setattr(s.groups[0].pending[0], "delivered_ms", 6),
    }
    for what, change in changes.items():
        changed = deepcopy(stream())
        change(changed)
        assert not same_value(stream(), changed), what
        assert not same_value(changed, stream()), what
    reordered = stream()
    reordered.groups.reverse()
    reordered.groups[1].consumers.reverse()
    assert same_value(stream(), reordered, consumer_times=True)


def test_times_of_consumers_count_when_asked_for() -> None:
    for attribute in ("seen_ms", "active_ms"):
        changed = stream()
        setattr(changed.groups[0].consumers[0], attribute, 99)
        assert same_value(stream(), changed)
        assert not same_value(stream(), changed, consumer_times=True)
        assert not same_value(changed, stream(), consumer_times=True)


def test_what_an_older_payload_cannot_say_is_not_compared() -> None:
    older = stream()
    older.entries_added = older.max_deleted_id = None
    for group in older.groups:
        group.entries_read = -1
        for consumer in group.consumers:
            consumer.active_ms = -1
    assert same_value(stream(), older, consumer_times=True)
    assert same_value(older, stream(), consumer_times=True)
    older.last_id = (3, 3)
    assert not same_value(older, stream())


def test_payloads_of_different_encodings() -> None:
    plain = footer.sign(encode(SetValue([b"b", b"a"]), 2), 9)
    packed = footer.sign(b"\x14" + string(listpack_of([listpack_string(b"a"), listpack_string(b"b")])), 12)
    assert payloads_equal(plain, Family.REDIS, packed, Family.VALKEY)
    assert payloads_equal(plain, Family.REDIS, footer.resign(plain, 80), Family.VALKEY)
    assert not payloads_equal(plain, Family.REDIS, footer.sign(b"\x02\x01\x01a", 9), Family.REDIS)


def test_the_same_bytes_mean_other_things_in_another_family() -> None:
    # A Redis 7.4 RC hash and a Valkey 9 hash are told apart although both are of type 22.
    body = b"\x16\x00"
    assert payloads_equal(footer.sign(body, 12), Family.REDIS, footer.sign(body, 80), Family.VALKEY)
    of_redis = b"\x16\x01\x05\x01a\x01b"
    with pytest.raises(PayloadError):
        payloads_equal(footer.sign(of_redis, 12), Family.REDIS, footer.sign(of_redis, 80), Family.VALKEY)


def test_values_of_modules_are_equal_only_byte_for_byte() -> None:
    body = bytes.fromhex("0781bde72da2bb1eb400") + b"\x00"
    one, same = footer.sign(body, 12), footer.sign(body, 11)
    assert payloads_equal(one, Family.REDIS, same, Family.REDIS)
    assert not payloads_equal(one, Family.REDIS, footer.sign(body + b"\x00", 12), Family.REDIS)
