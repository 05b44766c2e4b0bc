"""The judgement of invented histories: no false alarm, no true difference hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyferry.verify.held import ABSENT, Held
from keyferry.verify.suspects import Evidence, Look, Next, Suspect, pause_s

TOLERANCE_MS = 1000
NOW_MS = 1_800_000_000_000


def held(value: str | None, expires_at_ms: int | None = None, kind: str = "string") -> Held:
    return ABSENT if value is None else Held(kind, value.encode(), expires_at_ms, raw=value.encode())


def suspect(*looks: tuple[str | None, str | None], gap_s: float = 1.0, in_burst: bool = False) -> Suspect:
    """A key with these looks: source, target; None is not there."""
    found = Suspect(0, b"key", TOLERANCE_MS)
    add(found, *looks, gap_s=gap_s, in_burst=in_burst)
    return found


def add(
    found: Suspect, *looks: tuple[str | None, str | None], gap_s: float = 1.0, in_burst: bool = False
) -> list[bool]:
    at_s = found.last.at_s + gap_s if found.last else 0.0
    return [
        found.take(Look(held(source), held(target), at_s + i * gap_s, NOW_MS), in_burst=in_burst)
        for i, (source, target) in enumerate(looks)
    ]


def reason(found: Suspect, evidence: Evidence | None = None) -> str | None:
    difference = found.judge(evidence or Evidence()).difference
    return difference.reason if difference else None


def test_one_look_that_finds_both_the_same_clears() -> None:
    found = suspect(("2", "1"), ("3", "2"))
    assert found.looks == 2
    assert add(found, ("3", "3")) == [True]
    assert found.next() is Next.CLEARED
    assert reason(found) is None


def test_both_at_rest_is_a_true_difference() -> None:
    found = suspect(("2", "1"), ("2", "1"))
    assert found.next(pauses_left=2) is Next.DIFFERENT
    assert reason(found) == "stale"


def test_a_single_look_is_believed_when_no_more_are_wanted() -> None:
    found = suspect(("2", "1"))
    assert found.next(pauses_left=2) is Next.DIFFERENT
    assert reason(found) == "stale"


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (held("a"), ABSENT, "never copied"),
        (ABSENT, held("a"), "only on the target"),
        (held("a"), held("b"), "stale"),
        (held("a"), held("a", kind="hash"), "type clash"),
        (held("a", NOW_MS + 50_000), held("a", NOW_MS + 70_000), "expiry differs"),
        (held("a"), held("a", NOW_MS + 70_000), "expiry differs"),
        (held("a"), Held("", unreadable="The target refused it: NOPERM"), "unreadable"),
        (held("a", kind="ReJSON-RL"), held("b", kind="ReJSON-RL"), "unreadable"),
    ],
)
def test_reasons(source: Held, target: Held, expected: str) -> None:
    found = Suspect(0, b"key", TOLERANCE_MS)
    for at_s in (0.0, 1.0):
        assert not found.take(Look(source, target, at_s, NOW_MS))
    assert found.next() is Next.DIFFERENT
    assert reason(found) == expected


def test_evidence_tells_more() -> None:
    evicted = Evidence(evicted=lambda database, key: (database, key) == (0, b"key"))
    assert reason(suspect(("1", None), ("1", None)), evicted) == "evicted on the target"
    assert reason(suspect(("1", "2"), ("1", "2")), evicted) == "stale"
    written = Evidence(written_by_others=lambda database, key: True)
    assert reason(suspect(("1", "2"), ("1", "2")), written) == "changed on the target"
    assert reason(suspect(("1", None), ("1", None)), written) == "never copied"


def test_a_target_that_moves_while_the_source_rests_was_changed_there() -> None:
    found = suspect(("1", "2"), ("1", "3"), ("1", "3"))
    assert found.next() is Next.DIFFERENT
    assert reason(found) == "changed on the target"


def test_expiries_within_the_tolerance_are_the_same() -> None:
    found = Suspect(0, b"key", TOLERANCE_MS)
    at = NOW_MS + 60_000
    assert not found.take(Look(held("a", at), held("a", at + 1001), 0.0, NOW_MS))
    assert found.take(Look(held("a", at), held("a", at + 1000), 1.0, NOW_MS))


def test_expiries_of_fields_have_the_same_tolerance() -> None:
    one = replace(held("a", kind="hash"), field_expiries=(NOW_MS, NOW_MS + 5))
    found = Suspect(0, b"key", TOLERANCE_MS)
    assert not found.take(Look(one, replace(one, field_expiries=(NOW_MS, NOW_MS + 1006)), 0.0))
    assert found.take(Look(one, replace(one, field_expiries=(NOW_MS - 9, NOW_MS + 1000)), 1.0))


def test_one_that_is_due_may_have_gone_from_one_side_already() -> None:
    for source, target in ((None, held("a", NOW_MS + 900)), (held("a", NOW_MS + 900), None)):
        found = Suspect(0, b"key", TOLERANCE_MS)
        assert found.take(Look(source or ABSENT, target or ABSENT, 0.0, NOW_MS))
    late = Suspect(0, b"key", TOLERANCE_MS)
    assert not late.take(Look(ABSENT, held("a", NOW_MS + 1100), 0.0, NOW_MS))


# A source that changes at every look


def test_a_hot_key_asks_for_a_burst_and_is_cleared_by_an_earlier_value() -> None:
    found = suspect(("1", "0"), ("5", "3"), ("9", "7"))
    assert found.next() is Next.BURST
    assert add(found, ("10", "8"), ("11", "9"), gap_s=0.02, in_burst=True) == [False, True]
    assert found.next(after_burst=True) is Next.CLEARED
    assert reason(found) is None


def test_an_earlier_value_excuses_nothing_outside_of_a_burst() -> None:
    """The sync lost the last change: the target has come to an earlier value, and stays there."""
    found = suspect(("1", "0"), ("2", "1"), ("2", "1"))
    assert found.next(pauses_left=2) is Next.DIFFERENT
    assert reason(found) == "stale"


def test_an_earlier_value_of_a_source_that_rests_excuses_nothing_in_a_burst() -> None:
    found = suspect(("1", "0"), ("2", "1"), ("3", "2"))
    assert found.next() is Next.BURST
    assert not any(add(found, *[("3", "2")] * 60, gap_s=0.02, in_burst=True))


def test_a_value_of_long_ago_excuses_nothing() -> None:
    found = suspect(("1", "0"), ("5", "3"), ("9", "4"), gap_s=4.0)
    assert not any(add(found, ("10", "5"), ("11", "1"), gap_s=0.02, in_burst=True)[1:])


def test_a_target_that_stands_still_is_never_excused() -> None:
    found = suspect(("1", "0"), ("5", "0"), ("9", "0"))
    assert found.next(pauses_left=2) is Next.BURST
    # The source comes by the target's value again, between two looks at it: not caught equal, and no following.
    found.seen.append((held("0"), 2.0))
    assert not any(add(found, ("10", "0"), ("11", "0"), gap_s=0.02, in_burst=True))
    assert found.next(after_burst=True, pauses_left=2) is Next.DIFFERENT
    assert reason(found) == "stale"


def test_a_missing_key_that_changes_all_the_time_was_never_copied() -> None:
    found = suspect(("1", None), ("2", None), ("3", None))
    add(found, ("4", None), gap_s=0.02, in_burst=True)
    assert found.next(after_burst=True) is Next.DIFFERENT
    assert reason(found) == "never copied"


def test_neither_caught_nor_proven() -> None:
    found = suspect(("1", "0.5"), ("2", "1.5"), ("3", "2.5"))
    assert not any(add(found, ("4", "3.5"), ("5", "4.5"), gap_s=0.02, in_burst=True))
    assert found.next(after_burst=True, pauses_left=2) is Next.DIFFERENT
    assert reason(found) == "changes all the time"


def test_a_short_while_proves_nothing_of_a_target_that_stands_still() -> None:
    found = suspect(("1", "0"), ("2", "0"), gap_s=0.05)
    add(found, ("3", "0"), gap_s=0.02, in_burst=True)
    assert found.next(after_burst=True) is Next.DIFFERENT
    assert reason(found) == "changes all the time"


def test_a_source_that_comes_to_rest_is_waited_for() -> None:
    found = suspect(("1", "0"), ("2", "1"), ("3", "2"))
    assert found.next(pauses_left=1) is Next.BURST
    # An earlier value, of a source that rests: it may be followed, or stale.
    looks = [("3", "2.5")] * 60
    assert not any(add(found, *looks, gap_s=0.02, in_burst=True))
    assert found.next(after_burst=True, pauses_left=1) is Next.PAUSE
    late = add(found, ("3", "3"))
    assert late == [True]


def test_a_source_that_came_to_rest_and_was_not_followed_is_stale() -> None:
    found = suspect(("1", "0"), ("2", "1"), ("3", "2"))
    add(found, *[("3", "2.5")] * 60, gap_s=0.02, in_burst=True)
    assert found.next(after_burst=True, pauses_left=1) is Next.PAUSE
    add(found, ("3", "2.5"))
    assert found.next(pauses_left=0) is Next.DIFFERENT
    assert reason(found) == "stale"


def test_one_whose_target_is_on_its_way_is_waited_for() -> None:
    found = suspect(("3", "0"), ("3", "1"))
    assert found.next(pauses_left=1) is Next.PAUSE
    assert add(found, ("3", "3")) == [True]


def test_nothing_written_anywhere_proves_a_difference_at_once() -> None:
    found = suspect(("2", "1"), ("2", "1"), gap_s=0.05)
    assert found.next(quiet=True) is Next.DIFFERENT
    assert reason(found) == "stale"


def test_what_was_never_looked_at_is_not_cleared() -> None:
    found = Suspect(0, b"key", TOLERANCE_MS)
    assert found.next() is Next.DIFFERENT
    assert reason(found) == "unreadable"


def test_histories_are_bounded() -> None:
    found = Suspect(0, b"key", TOLERANCE_MS)
    for i in range(5000):
        found.take(Look(held(f"s{i}"), held(f"t{i}"), float(i)), in_burst=i > 3000)
    assert len(found.seen) <= 1024
    before = Suspect(0, b"key", TOLERANCE_MS)
    for i in range(500):
        before.take(Look(held(f"s{i}"), held(f"t{i}"), float(i)))
    assert len(before.seen) == 64


def test_pauses_grow_and_stop_growing() -> None:
    pauses = [pause_s(number) for number in range(1, 9)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == pauses[-2] == 4.0
