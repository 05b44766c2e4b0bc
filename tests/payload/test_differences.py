"""What differs, part by part: everything that makes two values unequal is named, nothing else, and no value is."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

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
from keyferry.payload.differences import OneSide, list_differences, shortened
from keyferry.payload.equal import same_value

KINDS: dict[type[Any], str] = {
    StringValue: "string",
    ListValue: "list",
    SetValue: "set",
    ZSetValue: "zset",
    HashValue: "hash",
    StreamValue: "stream",
    ModuleValue: "module",
}


def differences(source: Value, target: Value, **given: Any) -> list[dict[str, Any]]:
    sides = (OneSide(KINDS[type(value)], value) for value in (source, target))
    return list(list_differences(*sides, **given))


def stream() -> StreamValue:
    group = StreamGroup(
        b"g", (2, 0), 2, [Consumer(b"c", 10, 11), Consumer(b"d", 20, 21)], [PendingEntry((1, 0), b"c", 5, 3)]
    )
    other = StreamGroup(b"h", (1, 0), 1, [], [])
    return StreamValue(
        [((1, 0), [(b"f", b"v")]), ((2, 0), [(b"f", b"w")])], (2, 0), 3, (1, 5), [group, other]
    )


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (
            StringValue(b"abcdef"),
            StringValue(b"abcxef"),
            [{"what": "value", "source_bytes": 6, "target_bytes": 6, "first_at": 3}],
        ),
        (
            StringValue(b"abc"),
            StringValue(b"abcdef"),
            [{"what": "value", "source_bytes": 3, "target_bytes": 6, "first_at": 3}],
        ),
        (
            StringValue(b""),
            StringValue(b"a"),
            [{"what": "value", "source_bytes": 0, "target_bytes": 1, "first_at": 0}],
        ),
        (
            ListValue([b"a", b"b", b"c"]),
            ListValue([b"a", b"x"]),
            [
                {"what": "length", "source": 3, "target": 2},
                {"what": "element", "at": 1, "how": "differs"},
            ],
        ),
        (
            SetValue([b"a", b"b\xff"]),
            SetValue([b"c", b"a"]),
            [
                {"what": "member", "name": "b\\xff", "how": "missing"},
                {"what": "member", "name": "c", "how": "extra"},
            ],
        ),
        (
            ZSetValue([(b"a", 1.0), (b"b", 2.0), (b"z", -0.0)]),
            ZSetValue([(b"z", 0.0), (b"b", 2.5), (b"c", 3.0)]),
            [
                {"what": "member", "name": "a", "how": "missing"},
                {"what": "score", "name": "b", "how": "differs"},
                {"what": "member", "name": "c", "how": "extra"},
            ],
        ),
        (
            HashValue([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], {b"b": 50, b"c": 60}),
            HashValue([(b"c", b"3"), (b"b", b"x"), (b"d", b"4")], {b"b": 50, b"d": 70}),
            [
                {"what": "field", "name": "a", "how": "missing"},
                {"what": "field", "name": "b", "how": "differs"},
                {"what": "field", "name": "d", "how": "extra"},
                {"what": "field expiry", "name": "c", "source_ms": 60, "target_ms": None},
            ],
        ),
    ],
)
def test_what_is_named(source: Value, target: Value, expected: list[dict[str, Any]]) -> None:
    assert differences(source, target) == expected
    assert differences(source, source) == differences(target, target) == []
    json.dumps(expected)


STREAM_CHANGES: dict[str, tuple[Callable[[StreamValue], object], dict[str, Any]]] = {
    "entry": (lambda s: s.entries.pop(0), {"what": "entry", "id": "1-0", "how": "missing"}),
    "an entry's fields": (
        lambda s: s.entries[0][1].append((b"g", b"secret")),
        {"what": "entry", "id": "1-0", "how": "differs"},
    ),
    "last id": (
        lambda s: setattr(s, "last_id", (9, 9)),
        {"what": "last id", "source": "2-0", "target": "9-9"},
    ),
    "added": (lambda s: setattr(s, "entries_added", 9), {"what": "entries added", "source": 3, "target": 9}),
    "deleted": (
        lambda s: setattr(s, "max_deleted_id", (9, 9)),
        {"what": "max deleted id", "source": "1-5", "target": "9-9"},
    ),
    "group": (lambda s: s.groups.pop(), {"what": "group", "name": "h", "how": "missing"}),
    "group's last id": (
        lambda s: setattr(s.groups[0], "last_id", (9, 9)),
        {"what": "group's last id", "group": "g", "source": "2-0", "target": "9-9"},
    ),
    "read": (
        lambda s: setattr(s.groups[0], "entries_read", 9),
        {"what": "entries read", "group": "g", "source": 2, "target": 9},
    ),
    "consumer": (
        lambda s: s.groups[0].consumers.pop(),
        {"what": "consumer", "group": "g", "name": "d", "how": "missing"},
    ),
    "pending": (
        lambda s: s.groups[0].pending.pop(),
        {"what": "pending entry", "group": "g", "id": "1-0", "how": "missing"},
    ),
    "deliveries": (
        lambda s: setattr(s.groups[0].pending[0], "deliveries", 4),
        {"what": "pending entry", "group": "g", "id": "1-0", "how": "differs"},
    ),
}


@pytest.mark.parametrize("name", STREAM_CHANGES)
def test_streams(name: str) -> None:
    change, expected = STREAM_CHANGES[name]
    changed = deepcopy(stream())
    change(changed)
    assert not same_value(stream(), changed)
    assert differences(stream(), changed) == [expected]
    assert differences(stream(), stream()) == []


def test_what_an_older_payload_cannot_say_is_not_named() -> None:
    older = stream()
    older.entries_added = older.max_deleted_id = None
    for group in older.groups:
        group.entries_read = -1
    assert differences(stream(), older) == differences(older, stream()) == []


def test_type_and_expiry() -> None:
    string = OneSide("string", StringValue(b"a"), 1000)
    none = OneSide("none")
    clash = ({"what": "type", "source": "string", "target": "none"},)
    assert list_differences(string, none) == clash
    late = OneSide("string", StringValue(b"a"), 1100)
    expiry = {"what": "expiry", "source_ms": 1000, "target_ms": 1100}
    assert list_differences(string, late) == (expiry,)
    assert list_differences(string, late, expiry_tolerance_ms=100) == ()
    never = OneSide("string", StringValue(b"a"))
    assert list_differences(never, late, expiry_tolerance_ms=10**9)[0]["source_ms"] is None


def test_field_expiries_have_the_tolerance_too_and_can_be_left_out() -> None:
    one = HashValue([(b"f", b"v")], {b"f": 1000})
    other = HashValue([(b"f", b"v")], {b"f": 1100})
    assert len(differences(one, other)) == 1
    assert differences(one, other, expiry_tolerance_ms=100) == []
    assert differences(one, HashValue([(b"f", b"v")]), field_expiry=False) == []


def test_no_more_than_a_few_are_named_and_the_rest_is_counted() -> None:
    many = SetValue([b"m%d" % i for i in range(1000)])
    found = differences(many, SetValue([]))
    assert len(found) == 21
    assert found[-1] == {"what": "more", "count": 980}
    assert shortened(({"what": str(i)} for i in range(3)), 3) == ({"what": "0"}, {"what": "1"}, {"what": "2"})


def test_values_of_modules() -> None:
    assert differences(ModuleValue("ReJSON-RL"), ModuleValue("ReJSON-RL"))[0]["what"] == "value"


def test_long_strings_are_compared_quickly() -> None:
    one = b"x" * 10_000_000
    other = one[:-1] + b"y"
    assert differences(StringValue(one), StringValue(other))[0]["first_at"] == len(one) - 1
