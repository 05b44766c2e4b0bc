"""Journals of ended migrations are kept, and any journal can be read without disturbing who writes it."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyferry.journal import ended
from keyferry.journal.ended import ended_journals
from keyferry.journal.migration import Event, MigrationJournal
from keyferry.journal.reading import living_journal, read_journal
from keyferry.model.errors import UsageError

AT_MS = 1_700_000_000_000


def end_one(directory: Path, name: str = "shop", at_ms: int = AT_MS, note: int = 0) -> None:
    journal = MigrationJournal(directory, name, clock_ms=lambda: at_ms)
    journal.claim("id", "a:1", "b:1")
    journal.event("told", number=note)
    journal.close(finished=True)


def test_an_ended_one_is_kept_and_its_name_is_free(tmp_path: Path) -> None:
    end_one(tmp_path, note=7)
    (kept,) = ended_journals(tmp_path, "shop")
    assert [file.name for file in tmp_path.iterdir()] == ["migrate-shop.ended-20231114T221320Z.sqlite"]
    assert kept.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    look = read_journal(kept.path)
    assert look.facts["claim"]["source"] == "a:1"
    assert look.events == [Event(AT_MS, "told", {"number": 7})]
    with MigrationJournal(tmp_path, "shop") as journal:
        assert not journal.is_claimed("another", "c:1", "d:1")


def test_the_newest_of_each_name_are_kept_also_of_one_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "KEPT_MAX", 3)
    for number in range(5):
        end_one(tmp_path, note=number)
    end_one(tmp_path, "other", note=9)
    kept = ended_journals(tmp_path, "shop")
    assert [read_journal(one.path).events[0].facts["number"] for one in kept] == [4, 3, 2]
    assert len(ended_journals(tmp_path, "other")) == 1


def test_a_living_one_whose_name_looks_kept_is_left_alone(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop.ended-20200101T000000Z") as journal:
        journal.set("x", 1)
        assert ended_journals(tmp_path, "shop") == []


def test_it_is_read_beside_the_writer_and_a_kept_one_beside_a_reader(tmp_path: Path) -> None:
    journal = MigrationJournal(tmp_path, "shop")
    journal.set("x", 1)
    path = living_journal(tmp_path, "shop")
    assert read_journal(path).facts == {"x": 1}
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM facts").fetchone() == (1,)
    journal.set("x", 2)
    journal.close(finished=True)
    reader.close()
    assert read_journal(ended_journals(tmp_path, "shop")[0].path).facts == {"x": 2}


def test_what_cannot_be_kept_stays_where_it_is(tmp_path: Path) -> None:
    journal = MigrationJournal(tmp_path, "shop", clock_ms=lambda: AT_MS)
    journal.set("x", 1)
    (tmp_path / "migrate-shop.ended-20231114T221320Z.draft").mkdir()
    with pytest.raises(UsageError, match="cannot be used"):
        journal.close(finished=True)
    with MigrationJournal(tmp_path, "shop") as again:
        assert again.get("x") == 1


def test_what_is_no_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_journal(tmp_path / "missing.sqlite")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(UsageError, match="another version"):
        read_journal(other)
    other.write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError, match="cannot be read"):
        read_journal(other)
