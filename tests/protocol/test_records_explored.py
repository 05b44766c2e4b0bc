"""Every order in which operators, dead coordinators and writers can change the two records, within a bound.

Each actor decides on a write from a look at both sides and may stop before it is sent, for as long as it likes: what
it decided on may arrive at any later moment, once (PROTOCOL.md, counterexample 7 and its kind). Compare-and-set and the
table are all that stands between such a write and two authorities.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from keyferry.model.errors import RefusedError
from keyferry.model.phases import STEPS, Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordError,
    Stamp,
    Write,
    begun,
    check_write,
    completing,
    next_of_commit,
    standing_of,
    stepped,
)
from keyferry.model.record_trail import Complete, GoOn, Trail

EPOCH_MAX = 7
SLEEPERS_MAX = 2
PHASES = (Phase.SOURCE, Phase.DUAL, Phase.TARGET_DUAL)
"""`shadow` and `target` are as `dual` and `target-dual` to the records."""

Pair = tuple["PhaseRecord | None", "PhaseRecord | None"]
State = tuple[Pair, frozenset[Write]]


def at(pair: Pair, side: Side) -> PhaseRecord | None:
    return pair[0] if side is Side.SOURCE else pair[1]


def decisions(pair: Pair) -> Iterator[Write]:
    """What anybody may decide on who sees this."""
    if pair == (None, None):
        yield begun(Stamp())
    for side in Side:
        record, other = at(pair, side), at(pair, side.other)
        if record is None:
            continue
        if record.kind is Kind.LOST:
            write = completing(side, record, other, Stamp())
            if write is not None:
                yield write
        if not record.rules:
            continue
        for phase in STEPS[record.phase] & {*PHASES, Phase.HOLD}:
            with contextlib.suppress(RefusedError):
                yield stepped(side, record, phase, Stamp())
            with contextlib.suppress(RefusedError):
                yield next_of_commit(side, record, other, phase, Stamp())


def arrive(pair: Pair, write: Write, *, unconditionally: bool = False) -> Pair:
    """The records after a write has arrived; the same when its comparison fails."""
    now = at(pair, write.side)
    if not unconditionally and now != write.expected:
        return pair
    return (write.becomes, pair[1]) if write.side is Side.SOURCE else (pair[0], write.becomes)


def explore(epoch_max: int = EPOCH_MAX, *, unconditionally: bool = False) -> set[Pair]:
    """All pairs of records that can come to be."""
    begin: State = ((None, None), frozenset())
    seen, waiting = {begin}, [begin]
    while waiting:
        pair, asleep = waiting.pop()
        following: list[State] = []
        for write in decisions(pair):
            if write.becomes.epoch > epoch_max:
                continue
            check_write(write)
            following.append((arrive(pair, write), asleep))
            if len(asleep) < SLEEPERS_MAX:
                following.append((pair, asleep | {write}))
        following += [
            (arrive(pair, write, unconditionally=unconditionally), asleep - {write}) for write in asleep
        ]
        for state in following:
            if state not in seen:
                seen.add(state)
                waiting.append(state)
    return {pair for pair, _ in seen}


@pytest.fixture(scope="module")
def reachable() -> set[Pair]:
    return explore()


def test_the_whole_way_there_and_back_is_within_the_bound(reachable: set[Pair]) -> None:
    kinds = {tuple(record.kind if record else None for record in pair) for pair in reachable}
    assert (Kind.LOST, Kind.AUTHORITY) in kinds
    assert (Kind.AUTHORITY, Kind.LOST) in kinds
    assert len(reachable) > 30


def test_there_are_never_two_authorities(reachable: set[Pair]) -> None:
    for source, target in reachable:
        assert not (source and target and source.rules and target.rules), f"{source}, {target}"


def test_there_is_always_an_authority_or_a_mark_to_complete(reachable: set[Pair]) -> None:
    for pair in reachable - {(None, None)}:
        ruling = [record for record in pair if record and record.rules]
        marks = [
            completing(side, record, at(pair, side.other), Stamp())
            for side in Side
            if (record := at(pair, side)) is not None
        ]
        assert ruling or any(marks), pair


def test_a_reader_finds_the_authority_from_wherever_it_starts(reachable: set[Pair]) -> None:
    for first in reachable - {(None, None)}:
        pair, trail = first, Trail(None, Stamp())
        side = trail.start
        while True:
            conclusion = trail.read(side, at(pair, side))
            if isinstance(conclusion, GoOn):
                side = conclusion.side
            elif isinstance(conclusion, Complete):
                pair = arrive(pair, conclusion.write)
            else:
                break
        found = at(pair, conclusion.standing.authority)
        assert found is not None and found.rules


def test_without_comparison_a_dead_coordinator_makes_two_authorities() -> None:
    """The exploration sees what it is to see."""
    assert any(
        source and target and source.rules and target.rules
        for source, target in explore(4, unconditionally=True)
    )


def test_no_reachable_record_is_an_error_to_one_who_knew_an_older_one(reachable: set[Pair]) -> None:
    """Whoever knew a standing finds the newer one: nothing that can come to be looks like going backwards."""
    standings = {
        (side, record)
        for pair in reachable
        for side in Side
        if (record := at(pair, side)) is not None and record.rules and record.epoch <= 2
    }
    for side, record in standings:
        known = standing_of(side, record)
        for first in reachable:
            if max((found.epoch for found in first if found), default=0) <= known.epoch:
                continue
            pair, trail = first, Trail(known, Stamp())
            place = trail.start
            try:
                while True:
                    conclusion = trail.read(place, at(pair, place))
                    if isinstance(conclusion, GoOn):
                        place = conclusion.side
                    elif isinstance(conclusion, Complete):
                        pair = arrive(pair, conclusion.write)
                    else:
                        break
            except RecordError as error:
                pytest.fail(f"from {known}, {first}: {error}")
