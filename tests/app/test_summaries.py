"""What sync and verify say at their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from keyferry.app.summary_sync import of_sync
from keyferry.app.summary_verify import of_verify
from keyferry.copy.settings import CopySettings
from keyferry.model.address import parse_endpoint
from keyferry.telemetry.comparing import REASONS, Difference, VerifyReport
from keyferry.telemetry.following import SyncReport
from keyferry.telemetry.report import Counts
from keyferry.verify.settings import VerifySettings

SETTINGS = VerifySettings(copy=CopySettings(parse_endpoint("redis://s"), parse_endpoint("redis://t")))
EQUAL = VerifyReport(compared=200_000, looked_for=200_010, suspects=12, seconds=2.0)


def different(keys: int) -> VerifyReport:
    """Of each reason one key, and the rest stale; the first 20 are told."""
    reasons = dict.fromkeys(REASONS, 1) | {"stale": keys - len(REASONS) + 1}
    aspects = ({"what": "value"}, {"what": "field", "name": "f\\x00"}, {"what": "expiry"}, {"what": "type"})
    first = [
        Difference(b"k\xff%d" % number, 3, "stale", "hash", "hash", aspects)
        for number in range(min(keys, 20))
    ]
    return VerifyReport(
        compared=1_000, looked_for=1_000, suspects=keys, reasons=reasons, first=first, seconds=1.0
    )


def test_equal_is_said_first() -> None:
    lines = of_verify(EQUAL, SETTINGS).plain.splitlines()
    assert lines == [
        "Equal: 200,000 keys compared in 2.0 s (100,000 keys/s).",
        "  looked for   200,010 keys of the target on the source",
        "  suspects     12 keys differed at the first look",
    ]


def test_a_sample_is_called_one() -> None:
    text = of_verify(replace(EQUAL, sampled=True, compared=99), replace(SETTINGS, sample=100)).plain
    assert text.startswith("Equal: 99 keys, a sample, compared in 2.0 s")
    assert "about 100 keys were asked for; the others were not looked at" in text


def test_differences_are_told_by_reason_and_by_key() -> None:
    text = of_verify(different(30), SETTINGS).plain
    assert text.startswith("Different: 30 keys differ; 1,000 keys compared in 1.0 s")
    assert "  differ       22 stale: another value, most likely an older one\n" in text
    assert all(f" {reason}: " in text for reason in REASONS)
    assert "\n  k\\xff0 (db 3, hash): stale (value, field f\\x00, expiry, ...)\n" in text
    assert text.count("\n  k\\xff") == 20
    assert "\n  and 10 more\n" in text


def test_what_differs_in_a_key() -> None:
    aspects = (
        {"what": "expiry", "source_ms": 1, "target_ms": None},
        {"what": "entry", "id": "1-0", "how": "missing"},
        {"what": "field", "name": "x" * 100, "how": "differs"},
    )
    more = (*aspects[:1], {"what": "element", "at": 7, "how": "differs"}, {"what": "more", "count": 1_234})
    first = [Difference(b"k", 0, "stale", "a", "b", aspects), Difference(b"l", 0, "stale", "a", "a", more)]
    text = of_verify(VerifyReport(compared=2, reasons={"stale": 2}, first=first), SETTINGS).plain
    assert f"\n  k (db 0, a and b): stale (expiry, entry 1-0 missing, field {'x' * 60}...)\n" in text
    assert "\n  l (db 0, a): stale (expiry, element 7, 1,234 more)\n" in text


def test_a_hint_names_what_was_not_asked_for() -> None:
    hints = ("--repair makes them equal", "--delete-extra deletes", "--differences FILE names every one")
    asked = replace(SETTINGS, repair=True, delete_extra=True, differences_file=Path("d"))
    assert all(hint in of_verify(different(30), SETTINGS).plain for hint in hints)
    assert not any(hint in of_verify(different(30), asked).plain for hint in hints)
    assert not any(hint in of_verify(EQUAL, SETTINGS).plain for hint in hints)
    only_extra = VerifyReport(compared=1, reasons={"only on the target": 1})
    assert "--repair" not in of_verify(only_extra, SETTINGS).plain


def test_what_was_repaired_is_said() -> None:
    text = of_verify(replace(EQUAL, repaired=3, deleted=1), SETTINGS).plain
    assert text.startswith("Equal: ")
    assert "  repaired     3 keys\n" in text
    assert "  deleted      1 key that only the target had" in text


SYNCED = SyncReport(
    copied=Counts(scanned=200_000, copied=200_000, bytes=24_100_000),
    synced=True,
    feed="tracking",
    changes=5_000,
    settled=4_000,
    verified=200_000,
    lag_s=0.02,
    lag_max_s=1.25,
    seconds=12.0,
)


def test_a_sync_that_came_to_its_end() -> None:
    assert of_sync(SYNCED, None).plain.splitlines() == [
        "Synced after 12 s: nothing differs, and the lag was 20 ms at the end.",
        "  copied       200,000 keys, 24.1 MB",
        "  changes      5,000 named by the feed, 4,000 dirty keys settled",
        "  feed         tracking, without a gap",
        "  lag          1.2 s at most",
        "  verified     200,000 keys of both servers",
    ]


def test_a_sync_with_keys_that_failed_is_not_synced() -> None:
    report = replace(
        SYNCED, failed=2, generations=3, foreign_keys=4, deleted=1, extra_deleted=5, notes={"field_expiry": 6}
    )
    text = of_sync(report, Path("failed.jsonl")).plain
    assert text.startswith("Not synced after 12 s: 2 keys could not be carried.")
    for line in (
        "feed         tracking, 2 gaps",
        "failed       2 keys: reasons in failed.jsonl",
        "foreign      4 keys written on the target by somebody else",
        "deleted      1 key that the source does not have",
        "extra        5 keys that only the target had: deleted",
        "not carried  expiry of hash fields (6 keys)",
    ):
        assert f"\n  {line}" in text
