"""The plan as the table gives it, for servers at hand and for those that are not."""

from __future__ import annotations

import pytest

from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.methods import Method
from keyferry.model.values import Consumer, HashValue, StreamGroup, StreamValue, StringValue
from keyferry.payload import footer
from keyferry.payload.errors import PayloadError, PayloadRefused
from keyferry.payload.plan import PayloadPlan
from keyferry.payload.types import SHARED_TYPE_MAX, TYPES, rdb_version_of
from keyferry.payload.writer import encode

REDIS, VALKEY = Family.REDIS, Family.VALKEY
RESTORE, RESIGNED, TRANSCODED, LOGICAL, IMPOSSIBLE = Method


def server(family: Family, major: int, minor: int) -> ServerIdentity:
    """With the RDB version from the table of releases."""
    return ServerIdentity(family, (major, minor, 0), 0)


PLAIN = [0, 1, 2, 4, 5, 11]
LISTPACKS = [16, 17, 18]


@pytest.mark.parametrize(
    ("source", "target", "version", "expected"),
    [
        ((REDIS, 6, 2), (REDIS, 6, 2), 9, {RESTORE: [*PLAIN, 12, 13, 14, 15]}),
        ((REDIS, 6, 2), (VALKEY, 9, 1), 9, {RESTORE: [*PLAIN, 9, 10, 12, 13, 14, 15]}),
        ((REDIS, 7, 0), (VALKEY, 8, 1), 10, {RESTORE: [*PLAIN, *LISTPACKS, 19]}),
        ((REDIS, 7, 2), (VALKEY, 7, 2), 11, {RESTORE: [*PLAIN, *LISTPACKS, 20, 21]}),
        ((VALKEY, 8, 0), (REDIS, 8, 2), 11, {RESTORE: [*PLAIN, *LISTPACKS, 20, 21]}),
        ((VALKEY, 8, 0), (VALKEY, 9, 1), 11, {RESTORE: [*PLAIN, *LISTPACKS, 20, 21]}),
        ((REDIS, 7, 2), (REDIS, 7, 0), 10, {RESIGNED: [*PLAIN, *LISTPACKS, 19], TRANSCODED: [20, 21]}),
        ((REDIS, 8, 2), (REDIS, 7, 4), 12, {RESTORE: [*PLAIN, 16, 21, 22, 23, 24, 25], IMPOSSIBLE: [26]}),
        (
            (REDIS, 8, 2),
            (VALKEY, 9, 1),
            11,
            {RESIGNED: [*PLAIN, *LISTPACKS, 20, 21], LOGICAL: [22, 23, 24, 25], IMPOSSIBLE: [6, 26, 27, 99]},
        ),
        ((REDIS, 8, 2), (VALKEY, 8, 1), 11, {RESIGNED: [*PLAIN, 20, 21], TRANSCODED: [24, 25]}),
        (
            (VALKEY, 9, 1),
            (REDIS, 8, 2),
            11,
            {RESIGNED: [*PLAIN, 20, 21], LOGICAL: [22], IMPOSSIBLE: [23, 24]},
        ),
        (
            (VALKEY, 9, 1),
            (VALKEY, 8, 1),
            11,
            {RESIGNED: [*PLAIN, 20, 21], TRANSCODED: [22], IMPOSSIBLE: [23]},
        ),
        ((VALKEY, 9, 1), (REDIS, 7, 2), 11, {RESIGNED: [*PLAIN, 20, 21], TRANSCODED: [22]}),
        (
            (VALKEY, 9, 1),
            (REDIS, 6, 2),
            9,
            {RESIGNED: [*PLAIN, 12, 13, 14, 15], TRANSCODED: [*LISTPACKS, 19, 20, 21, 22], IMPOSSIBLE: [23]},
        ),
        ((REDIS, 8, 2), (REDIS, 4, 0), 8, {RESIGNED: PLAIN, TRANSCODED: LISTPACKS, IMPOSSIBLE: [15, 19, 21]}),
        ((REDIS, 8, 2), (REDIS, 3, 0), 6, {RESIGNED: [0, 1, 2, 4, 11], TRANSCODED: [5, 14, 17, 18]}),
        ((VALKEY, 9, 2), (VALKEY, 9, 1), 80, {RESIGNED: [*PLAIN, 20, 21, 22], IMPOSSIBLE: [23, 24]}),
        ((REDIS, 8, 2), (REDIS, 8, 2), 12, {RESTORE: [*range(6), *range(9, 26), 99], TRANSCODED: [7]}),
    ],
)
def test_the_way_of_each_type(
    source: tuple[Family, int, int],
    target: tuple[Family, int, int],
    version: int,
    expected: dict[Method, list[int]],
) -> None:
    plan = PayloadPlan(server(*source), server(*target))
    assert plan.target_version == version
    found = {
        method: [byte for byte in sorted(bytes_) if plan.actions[byte] == method]
        for method, bytes_ in expected.items()
    }
    assert found == {method: sorted(bytes_) for method, bytes_ in expected.items()}


def test_newer_redis_streams_are_carried_forward_only() -> None:
    newest = ServerIdentity(REDIS, (8, 8, 0), 14)
    same = PayloadPlan(newest, newest)
    assert same.actions[27] == RESTORE
    older = PayloadPlan(newest, server(REDIS, 8, 2))
    assert older.actions[27] == older.actions[26] == IMPOSSIBLE
    assert "cannot load a stream" in older.reason(27)
    assert older.actions[21] == RESIGNED
    assert older.target_version == 12


def test_a_reason_says_what_to_do() -> None:
    plan = PayloadPlan(server(REDIS, 8, 2), server(REDIS, 7, 2))
    assert "--drop-field-expiry" in plan.reason(25)
    assert PayloadPlan(server(REDIS, 8, 2), server(REDIS, 7, 2), drop_field_expiry=True).reason(25) == ""
    assert plan.reason(0) == ""
    assert "unknown to Keyferry" in PayloadPlan(server(REDIS, 8, 2), server(VALKEY, 9, 1)).reason(99)


def test_convert_refuses_what_it_must_not_touch() -> None:
    plan = PayloadPlan(server(REDIS, 8, 2), server(REDIS, 6, 2))
    with pytest.raises(PayloadRefused, match="need no conversion"):
        plan.convert(footer.sign(b"\x00\x01a", 12))
    with pytest.raises(PayloadRefused, match="unknown to Keyferry"):
        plan.convert(footer.sign(b"\x63\x01a", 12))
    with pytest.raises(PayloadError, match="checksum"):
        plan.convert(b"\x10\x00" + bytes(10))
    with pytest.raises(PayloadError, match="breaks off"):
        plan.convert(footer.sign(b"\x15\x00\x01", 12))
    with pytest.raises(PayloadError, match="behind its value"):
        plan.convert(footer.sign(encode(StreamValue([], (1, 1), 1, (0, 0), []), 21) + b"x", 12))
    with pytest.raises(PayloadError, match="not of a module"):
        plan.module_name(footer.sign(b"\x00\x01a", 12))


def test_notes_name_what_is_lost_and_only_that() -> None:
    entries = [((1, 1), [(b"f", b"v")])]
    unread = StreamGroup(b"g", (0, 0), -1, [Consumer(b"c", 5, 5)], [])
    plain = StreamValue(entries, (1, 1), 1, (0, 0), [unread])
    read = StreamGroup(b"g", (1, 1), 1, [Consumer(b"c", 5, 7)], [])
    rich = StreamValue(entries, (1, 1), 4, (1, 0), [read])
    to_6, to_7 = (PayloadPlan(server(REDIS, 8, 2), server(REDIS, *version)) for version in ((6, 2), (7, 0)))
    for plan, notes in (
        (to_6, ("entries_added", "max_deleted_id", "entries_read", "consumer_active_time")),
        (to_7, ("consumer_active_time",)),
    ):
        assert plan.notes_for(plain) == ()
        assert plan.notes_for(rich) == notes
        assert plan.convert(footer.sign(encode(plain, 21), 12)).notes == ()
        assert plan.convert(footer.sign(encode(rich, 21), 12)).notes == notes
    assert to_6.notes_for(StringValue(b"")) == ()
    assert to_6.notes_for(HashValue([(b"f", b"v")], {b"f": 1})) == ("field_expiry",)
    assert to_6.notes_for(HashValue([(b"f", b"v")])) == ()
    to_valkey = PayloadPlan(server(REDIS, 8, 2), server(VALKEY, 9, 0))
    assert to_valkey.notes_for(HashValue([(b"f", b"v")], {b"f": 1})) == ()


@pytest.mark.parametrize(
    ("family", "version", "rdb_version"),
    [
        (REDIS, (2, 4, 0), 0),
        (REDIS, (2, 6, 0), 6),
        (REDIS, (6, 2, 14), 9),
        (REDIS, (7, 0, 15), 10),
        (REDIS, (8, 2, 3), 12),
        (VALKEY, (7, 2, 5), 11),
        (VALKEY, (8, 1, 0), 11),
        (VALKEY, (9, 1, 2), 80),
    ],
)
def test_the_table_of_releases(family: Family, version: tuple[int, int, int], rdb_version: int) -> None:
    assert rdb_version_of(family, version) == rdb_version


def test_the_families_agree_on_what_they_share() -> None:
    for type_byte in range(SHARED_TYPE_MAX + 1):
        assert TYPES[REDIS].get(type_byte) == TYPES[VALKEY].get(type_byte)
    assert all(row.source for rows in TYPES.values() for row in rows.values())
