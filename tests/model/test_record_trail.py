"""What a reader of the records concludes, from what it knew: a standing, another side, a mark, or an error."""

from __future__ import annotations

import pytest

from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import (
    Kind,
    NoRecord,
    PhaseRecord,
    RecordError,
    RecordVanished,
    RecordWentBack,
    Stamp,
    TwoAuthorities,
)
from keyferry.model.record_trail import Complete, Found, GoOn, Trail, check_single

S, T = Side.SOURCE, Side.TARGET
DUAL = PhaseRecord(Kind.AUTHORITY, 4, Phase.DUAL)
HELD = PhaseRecord(Kind.HOLD, 5, Phase.HOLD, back=Phase.DUAL)
LOST = PhaseRecord(Kind.LOST, 6, Phase.TARGET_DUAL)
PENDING = PhaseRecord(Kind.PENDING, 5, Phase.TARGET_DUAL)
TARGET_DUAL = PhaseRecord(Kind.AUTHORITY, 6, Phase.TARGET_DUAL)
KNOWN = Standing(Phase.DUAL, 4, S)
Records = dict[Side, "PhaseRecord | None"]


def search(known: Standing | None, records: Records, away: frozenset[Side] = frozenset()) -> Standing | None:
    """As a writer does; completes marks in ``records``. None: whoever could say it is away."""
    trail = Trail(known, Stamp())
    side = trail.start
    while True:
        if side in away:
            instead = trail.away(side)
            if instead is None:
                return None
            side = instead.side
            continue
        conclusion = trail.read(side, records[side])
        match conclusion:
            case Found(standing, record):
                assert records[standing.authority] == record
                return standing
            case GoOn(other):
                side = other
            case Complete(write):
                assert records[write.side] == write.expected
                records[write.side] = write.becomes


@pytest.mark.parametrize("known", [None, Standing(Phase.SOURCE, 1, S), KNOWN])
def test_the_side_with_authority_is_found(known: Standing | None) -> None:
    assert search(known, {S: DUAL, T: None}) == KNOWN
    assert search(known, {S: HELD, T: PENDING}) == Standing(Phase.HOLD, 5, S)


@pytest.mark.parametrize("known", [None, KNOWN, Standing(Phase.HOLD, 5, S)])
def test_who_reads_lost_goes_over_and_completes_the_mark(known: Standing | None) -> None:
    records: Records = {S: LOST, T: PENDING}
    assert search(known, records) == Standing(Phase.TARGET_DUAL, 6, T)
    assert TARGET_DUAL.same_as(records[T])
    assert search(known, {S: LOST, T: PhaseRecord(Kind.AUTHORITY, 9, Phase.TARGET)}) == Standing(
        Phase.TARGET, 9, T
    )


def test_after_a_way_back_the_source_is_found_again() -> None:
    back: Records = {S: PhaseRecord(Kind.AUTHORITY, 8, Phase.DUAL), T: PhaseRecord(Kind.LOST, 8, Phase.DUAL)}
    for known in (None, KNOWN, Standing(Phase.TARGET_DUAL, 6, T)):
        assert search(known, dict(back)) == Standing(Phase.DUAL, 8, S)


def test_a_switch_and_back_while_nobody_looked() -> None:
    known = Standing(Phase.TARGET_DUAL, 6, T)
    records: Records = {S: LOST, T: PhaseRecord(Kind.LOST, 8, Phase.DUAL)}
    with pytest.raises(RecordWentBack):
        search(known, records)
    records = {S: PhaseRecord(Kind.PENDING, 7, Phase.DUAL), T: PhaseRecord(Kind.LOST, 8, Phase.DUAL)}
    assert search(known, records) == Standing(Phase.DUAL, 8, S)


def test_a_side_that_is_about_to_get_authority_back_proves_that_it_had_lost_it() -> None:
    held = PhaseRecord(Kind.HOLD, 7, Phase.HOLD, back=Phase.TARGET_DUAL)
    given_up = PhaseRecord(Kind.AUTHORITY, 9, Phase.TARGET_DUAL)
    about = PhaseRecord(Kind.PENDING, 7, Phase.DUAL)
    assert search(KNOWN, {S: about, T: held}) == Standing(Phase.HOLD, 7, T)
    assert search(KNOWN, {S: about, T: given_up}) == Standing(Phase.TARGET_DUAL, 9, T)
    records: Records = {S: about, T: PhaseRecord(Kind.LOST, 8, Phase.DUAL)}
    assert search(KNOWN, records) == Standing(Phase.DUAL, 8, S)


@pytest.mark.parametrize(
    ("known", "records", "error"),
    [
        (None, {S: None, T: None}, NoRecord),
        (None, {S: None, T: PENDING}, NoRecord),
        (KNOWN, {S: None, T: None}, RecordVanished),
        (KNOWN, {S: None, T: TARGET_DUAL}, RecordVanished),
        (KNOWN, {S: PhaseRecord(Kind.AUTHORITY, 3, Phase.DUAL), T: None}, RecordWentBack),
        (KNOWN, {S: PhaseRecord(Kind.AUTHORITY, 4, Phase.SHADOW), T: None}, RecordWentBack),
        (KNOWN, {S: PhaseRecord(Kind.LOST, 4, Phase.TARGET_DUAL), T: TARGET_DUAL}, RecordWentBack),
        (KNOWN, {S: PhaseRecord(Kind.PENDING, 3, Phase.DUAL), T: None}, RecordWentBack),
        (KNOWN, {S: PhaseRecord(Kind.PENDING, 9, Phase.DUAL), T: None}, RecordVanished),
        (KNOWN, {S: PhaseRecord(Kind.PENDING, 9, Phase.DUAL), T: TARGET_DUAL}, RecordWentBack),
        (None, {S: LOST, T: None}, RecordVanished),
        (KNOWN, {S: LOST, T: None}, RecordVanished),
        (KNOWN, {S: LOST, T: PhaseRecord(Kind.PENDING, 4, Phase.TARGET_DUAL)}, RecordWentBack),
        (KNOWN, {S: LOST, T: PhaseRecord(Kind.AUTHORITY, 5, Phase.TARGET_DUAL)}, RecordWentBack),
        (None, {S: LOST, T: PhaseRecord(Kind.LOST, 6, Phase.DUAL)}, RecordWentBack),
    ],
)
def test_what_cannot_be_is_an_error(
    known: Standing | None, records: Records, error: type[RecordError]
) -> None:
    before = dict(records)
    with pytest.raises(error) as told:
        search(known, records)
    assert told.value.hint
    assert records == before


def test_the_side_without_authority_may_be_away() -> None:
    assert search(None, {S: DUAL, T: None}, frozenset({T})) == KNOWN
    assert search(KNOWN, {S: DUAL, T: None}, frozenset({T})) == KNOWN
    assert search(None, {S: LOST, T: TARGET_DUAL}, frozenset({S})) == Standing(Phase.TARGET_DUAL, 6, T)
    assert search(KNOWN, {S: LOST, T: TARGET_DUAL}, frozenset({S})) == Standing(Phase.TARGET_DUAL, 6, T)


def test_when_the_side_with_authority_is_away_nobody_knows() -> None:
    assert search(None, {S: LOST, T: PENDING}, frozenset({T})) is None
    assert search(KNOWN, {S: DUAL, T: None}, frozenset(Side)) is None
    # What an older commit left there, or what a restored copy says, is no proof.
    older = PhaseRecord(Kind.AUTHORITY, 3, Phase.TARGET_DUAL)
    with pytest.raises(NoRecord):
        search(KNOWN, {S: DUAL, T: older}, frozenset({S}))


def test_both_sides_claim_authority() -> None:
    with pytest.raises(TwoAuthorities) as told:
        check_single({S: DUAL, T: TARGET_DUAL})
    assert "source's is the older" in told.value.hint
    check_single({S: LOST, T: TARGET_DUAL})
    check_single({S: DUAL, T: PENDING})
    check_single({S: DUAL})
