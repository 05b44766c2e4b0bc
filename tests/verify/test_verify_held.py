"""The digest of a value: the same for all that ``same_value`` calls equal, another for all that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest

from keyferry.model.identity import Family
from keyferry.model.values import (
    Consumer,
    HashValue,
    ListValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload import footer
from keyferry.payload.equal import same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.writer import encode
from keyferry.verify.held import ABSENT, Dialect, Held, held_of

TYPE_BYTES = {StringValue: 0, ListValue: 1, SetValue: 2, HashValue: 4, ZSetValue: 5}


def held(value: Value, dialect: Dialect = Dialect()) -> Held:  # noqa: B008 (frozen)
    body = encode(value, TYPE_BYTES[type(value)])
    return held_of(footer.sign(body, 9), Family.REDIS, None, dialect)


def values() -> Iterator[Value]:
    yield StringValue(b"")
    yield StringValue(b"ab")
    yield ListValue([b"ab"])
    yield ListValue([b"a", b"b"])
    yield ListValue([b"b", b"a"])
    yield SetValue([b"a", b"b"])
    yield SetValue([b"b", b"a"])
    yield SetValue([b"ab"])
    yield ZSetValue([(b"a", 1.0), (b"b", 0.0)])
    yield ZSetValue([(b"b", -0.0), (b"a", 1.0)])
    yield ZSetValue([(b"b", 1.0), (b"a", 0.0)])
    yield ZSetValue([(b"a", float("inf"))])
    yield HashValue([(b"a", b"b"), (b"c", b"d")])
    yield HashValue([(b"c", b"d"), (b"a", b"b")])
    yield HashValue([(b"a", b"d"), (b"c", b"b")])


def test_digests_are_the_same_exactly_for_equal_values() -> None:
    for one in values():
        for other in values():
            assert held(one).same_value(held(other)) == same_value(one, other), (one, other)


def stream() -> StreamValue:
    group = StreamGroup(
        b"g", (2, 0), 2, [Consumer(b"c", 10, 11), Consumer(b"d", 20, 21)], [PendingEntry((1, 0), b"c", 5, 3)]
    )
    return StreamValue(
        [((1, 0), [(b"f", b"v")]), ((2, 0), [(b"f", b"w")])],
        (2, 0),
        3,
        (1, 5),
        [group, StreamGroup(b"h", (1, 0), 1, [], [])],
    )


def of_stream(value: StreamValue, kind: int = 21, dialect: Dialect = Dialect()) -> Held:  # noqa: B008
    return held_of(footer.sign(encode(value, kind), 11), Family.REDIS, None, dialect)


def test_streams() -> None:
    reordered = deepcopy(stream())
    reordered.groups.reverse()
    reordered.groups[1].consumers.reverse()
    for consumer in reordered.groups[1].consumers:
        consumer.seen_ms += 5
    assert of_stream(stream()).same_value(of_stream(reordered))
    for change in (
        lambda s: s.entries.pop(),
        lambda s: setattr(s, "last_id", (3, 0)),
        lambda s: setattr(s, "entries_added", 4),
        lambda s: s.groups.pop(),
        lambda s: setattr(s.groups[0], "last_id", (1, 0)),
        lambda s: s.groups[0].pending.pop(),
        lambda s: setattr(s.groups[0].pending[0], "deliveries", 9),
        lambda s: setattr(s.groups[0].pending[0], "consumer", b"d"),
    ):
        changed = deepcopy(stream())
        change(changed)
        assert not of_stream(stream()).same_value(of_stream(changed))


def test_what_an_older_server_cannot_say_does_not_count() -> None:
    old = Dialect(stream_counters=False)
    changed = deepcopy(stream())
    changed.entries_added, changed.max_deleted_id = 99, (1, 9)
    changed.groups[0].entries_read = 1
    assert of_stream(stream(), 15, old).same_value(of_stream(changed, 21, old))
    assert not of_stream(stream()).same_value(of_stream(changed))


def test_an_unchanged_payload_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = footer.sign(encode(SetValue([b"a", b"b"]), 2), 9)
    first = held_of(payload, Family.REDIS, 5, Dialect())
    monkeypatch.setattr("keyferry.verify.held.decode", None)
    again = held_of(payload, Family.REDIS, 9, Dialect(), first)
    assert again.digest == first.digest
    assert (first.expires_at_ms, again.expires_at_ms) == (5, 9)


def test_what_is_broken_is_refused() -> None:
    payload = footer.sign(encode(StringValue(b"abc"), 0), 9)
    with pytest.raises(PayloadError):
        held_of(payload[:3] + b"x" + payload[4:], Family.REDIS, None, Dialect())


def test_expiries() -> None:
    one, other = Held("string", b"d", 1000), Held("string", b"d", 2000)
    assert one.same(other, 1000)
    assert not one.same(other, 999)
    assert not one.same(Held("string", b"d"), 10**9)
    assert ABSENT.same(ABSENT, 0)
    unread = Held("", unreadable="no")
    assert not unread.same(unread, 0)
