"""The phase record: what is written can be read, what cannot be is refused, and no write makes nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.errors import RefusedError, UsageError
from keyferry.model.phases import RULES, STEPS, Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordUnreadable,
    Stamp,
    Write,
    begun,
    check_name,
    check_write,
    completing,
    decode,
    encode,
    next_of_commit,
    record_key,
    standing_of,
    stepped,
    writers_key,
)
from keyferry.payload.names import slot

STAMP = Stamp(1700000000000, "ops")
SOURCE_DUAL = PhaseRecord(Kind.AUTHORITY, 4, Phase.DUAL)
HELD = PhaseRecord(Kind.HOLD, 5, Phase.HOLD, back=Phase.DUAL)
LOST = PhaseRecord(Kind.LOST, 6, Phase.TARGET_DUAL)
PENDING = PhaseRecord(Kind.PENDING, 5, Phase.TARGET_DUAL)


def sensible() -> st.SearchStrategy[tuple[Side, PhaseRecord]]:
    def fitting(side: Side, kind: Kind, epoch: int, number: int, asked: str) -> tuple[Side, PhaseRecord]:
        gains = side.other if kind is Kind.LOST else side
        phases = [phase for phase in Phase if RULES[phase].authority is gains]
        phase = phases[number % len(phases)]
        if kind is Kind.HOLD:
            return side, PhaseRecord(kind, epoch, Phase.HOLD, back=phase, asked=asked, stamp=STAMP)
        return side, PhaseRecord(kind, epoch, phase, asked=asked, stamp=STAMP)

    return st.builds(
        fitting,
        st.sampled_from(Side),
        st.sampled_from(Kind),
        st.integers(1, 2**53),
        st.integers(0, 5),
        st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=8),
    )


@given(sensible())
def test_what_is_written_can_be_read(found: tuple[Side, PhaseRecord]) -> None:
    side, record = found
    assert decode(side, encode(record)) == record


def test_no_record_is_none() -> None:
    assert decode(Side.SOURCE, {}) is None


@pytest.mark.parametrize(
    "change",
    [
        {b"kind": b"king"},
        {b"kind": b""},
        {b"epoch": b"0"},
        {b"epoch": b"-1"},
        {b"epoch": b"4.0"},
        {b"epoch": "\u0664".encode()},
        {b"epoch": b"9" * 30},
        {b"phase": b"target"},
        {b"phase": b"hold"},
        {b"phase": b"DUAL"},
        {b"back": b"shadow"},
        {b"back": b"somewhere"},
        {b"at": b"yesterday"},
        {b"by": b"x" * 5000},
        {b"by": b"\xff"},
        {b"kind": b"hold"},
        {b"kind": b"lost"},
        {b"kind": b"hold", b"phase": b"hold"},
        {b"kind": b"hold", b"phase": b"hold", b"back": b"target-dual"},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_an_error(change: dict[bytes, bytes]) -> None:
    with pytest.raises(RecordUnreadable) as told:
        decode(Side.SOURCE, encode(SOURCE_DUAL) | change)
    assert "source" in told.value.message and told.value.hint


@pytest.mark.parametrize("field", [b"kind", b"epoch", b"phase"])
def test_a_record_without_what_it_is_about_is_an_error(field: bytes) -> None:
    fields = encode(SOURCE_DUAL)
    del fields[field]
    with pytest.raises(RecordUnreadable):
        decode(Side.SOURCE, fields)


def test_a_newer_keyferry_may_add_fields() -> None:
    assert decode(Side.SOURCE, encode(SOURCE_DUAL) | {b"colour": b"\xff"}) == SOURCE_DUAL


@pytest.mark.parametrize("name", ["", "a b", "a{b", "a}b", "ä", "a\n", "x" * 101])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_all_keys_of_a_migration_are_in_one_slot() -> None:
    name = check_name("orders-2024/eu:1")
    assert slot(record_key(name)) == slot(writers_key(name)) == slot(name.encode())


def test_steps_are_those_of_the_table() -> None:
    for before, after in ((before, after) for before in Phase for after in Phase if before is not Phase.HOLD):
        side = RULES[before].authority
        assert side is not None
        record = PhaseRecord(Kind.AUTHORITY, 7, before)
        if after in STEPS[before]:
            write = stepped(side, record, after, STAMP)
            assert write.becomes.epoch == 8
            assert standing_of(side, write.becomes).authority is side
        else:
            with pytest.raises(RefusedError):
                stepped(side, record, after, STAMP)


def test_giving_up_leads_back_to_where_the_hold_was_entered() -> None:
    assert stepped(Side.SOURCE, HELD, Phase.DUAL, STAMP).becomes.phase is Phase.DUAL
    for phase in (Phase.SHADOW, Phase.SOURCE, Phase.TARGET_DUAL):
        with pytest.raises(RefusedError):
            stepped(Side.SOURCE, HELD, phase, STAMP)


def test_a_commit_is_pending_then_lost_then_authority() -> None:
    first = next_of_commit(Side.SOURCE, HELD, None, Phase.TARGET_DUAL, STAMP)
    assert (first.side, first.expected, first.becomes.kind) == (Side.TARGET, None, Kind.PENDING)
    second = next_of_commit(Side.SOURCE, HELD, first.becomes, Phase.TARGET_DUAL, STAMP)
    assert (second.side, second.expected) == (Side.SOURCE, HELD)
    assert second.becomes.same_as(LOST)
    third = completing(Side.SOURCE, second.becomes, first.becomes, STAMP)
    assert third is not None
    assert (third.side, third.expected) == (Side.TARGET, first.becomes)
    assert third.becomes.same_as(PhaseRecord(Kind.AUTHORITY, 6, Phase.TARGET_DUAL))
    for write in (first, second, third):
        check_write(write)


@pytest.mark.parametrize(
    "other",
    [
        None,
        PhaseRecord(Kind.PENDING, 4, Phase.TARGET_DUAL),
        PhaseRecord(Kind.AUTHORITY, 6, Phase.TARGET_DUAL),
        PhaseRecord(Kind.LOST, 7, Phase.DUAL),
    ],
)
def test_only_the_mark_of_this_commit_is_completed(other: PhaseRecord | None) -> None:
    assert completing(Side.SOURCE, LOST, other, STAMP) is None


@pytest.mark.parametrize(
    "write",
    [
        Write(Side.SOURCE, None, PhaseRecord(Kind.AUTHORITY, 1, Phase.DUAL)),
        Write(Side.SOURCE, None, PhaseRecord(Kind.AUTHORITY, 2, Phase.SOURCE)),
        Write(Side.TARGET, None, PhaseRecord(Kind.AUTHORITY, 1, Phase.TARGET)),
        Write(Side.SOURCE, None, HELD),
        Write(Side.SOURCE, None, LOST),
        Write(Side.SOURCE, SOURCE_DUAL, LOST),
        Write(Side.SOURCE, SOURCE_DUAL, PhaseRecord(Kind.HOLD, 5, Phase.HOLD, back=Phase.SHADOW)),
        Write(Side.SOURCE, SOURCE_DUAL, PhaseRecord(Kind.AUTHORITY, 4, Phase.SHADOW)),
        Write(Side.SOURCE, SOURCE_DUAL, PhaseRecord(Kind.AUTHORITY, 6, Phase.SHADOW)),
        Write(Side.SOURCE, HELD, PhaseRecord(Kind.LOST, 5, Phase.TARGET_DUAL)),
        Write(Side.SOURCE, HELD, PhaseRecord(Kind.HOLD, 6, Phase.HOLD, back=Phase.SHADOW)),
        Write(Side.SOURCE, LOST, PhaseRecord(Kind.AUTHORITY, 7, Phase.DUAL)),
        Write(Side.SOURCE, LOST, PhaseRecord(Kind.PENDING, 6, Phase.DUAL)),
        Write(Side.TARGET, PENDING, PhaseRecord(Kind.PENDING, 5, Phase.TARGET)),
        Write(Side.TARGET, PENDING, PhaseRecord(Kind.AUTHORITY, 7, Phase.TARGET_DUAL)),
        Write(Side.TARGET, PhaseRecord(Kind.AUTHORITY, 6, Phase.TARGET_DUAL), PENDING),
    ],
    ids=lambda write: f"{write.side}: {write.expected} -> {write.becomes}",
)
def test_writes_that_may_never_be_made(write: Write) -> None:
    with pytest.raises(RefusedError):
        check_write(write)


def test_the_first_record_gives_the_source_authority() -> None:
    write = begun(STAMP)
    check_write(write)
    assert standing_of(write.side, write.becomes).phase is Phase.SOURCE
