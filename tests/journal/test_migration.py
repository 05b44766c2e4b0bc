"""The journal of a migration: what it remembers over a kill, for whom, and what it refuses."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.journal import migration
from keyferry.journal.migration import Event, MigrationJournal
from keyferry.model.errors import RefusedError, UsageError

WRITES_AND_WAITS = """
import sys, time
from pathlib import Path
from keyferry.journal.migration import MigrationJournal

journal = MigrationJournal(Path(sys.argv[1]), "shop", clock_ms=lambda: 7)
journal.set("switch", {"step": "bar", "state": "begun"})
journal.event("told", text="taken")
print("noted", flush=True)
time.sleep(60)
"""


def test_facts_are_replaced_and_events_are_added(tmp_path: Path) -> None:
    times = iter((5, 6, 7))
    with MigrationJournal(tmp_path, "shop", clock_ms=lambda: next(times)) as journal:
        assert journal.get("switch") is None
        journal.set("switch", {"step": "hold"})
        journal.set("switch", {"step": "bar"}, durable=True)
        journal.event("told", text="one")
        journal.event("warning", text="two")
        journal.event("told", text="three")
    with MigrationJournal(tmp_path, "shop") as journal:
        assert journal.get("switch") == {"step": "bar"}
        assert journal.facts() == {"switch": {"step": "bar"}}
        one, two, three = (
            Event(5, "told", {"text": "one"}),
            Event(6, "warning", {"text": "two"}),
            Event(7, "told", {"text": "three"}),
        )
        assert journal.events() == [one, two, three]
        assert journal.events(["told"]) == [one, three]
        assert journal.events(last=2) == [two, three]
        journal.set("switch", None)
        assert journal.facts() == {}


def test_a_kill_loses_nothing_that_was_noted(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITES_AND_WAITS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "noted\n"
        with pytest.raises(RefusedError, match=rf"this migration is alive \(process {writer.pid}\)"):
            MigrationJournal(tmp_path, "shop")
        os.kill(writer.pid, signal.SIGKILL)
    with MigrationJournal(tmp_path, "shop") as journal:
        assert journal.get("switch") == {"step": "bar", "state": "begun"}
        assert journal.events() == [Event(7, "told", {"text": "taken"})]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with MigrationJournal(directory, "shop") as journal:
        journal.set("a", 1)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for file in directory.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_migrations_do_not_meet_and_their_files_tell_their_names(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as shop, MigrationJournal(tmp_path, "a/b") as other:
        shop.set("x", 1)
        assert other.get("x") is None
        assert shop.path.name == "migrate-shop.sqlite"
        assert other.path.parent == tmp_path


def test_it_belongs_to_two_servers_and_a_choice_of_keys(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        assert not journal.is_claimed("id", "a:1", "b:1")
        journal.claim("id", "a:1", "b:1")
    with MigrationJournal(tmp_path, "shop") as journal:
        assert journal.is_claimed("id", "a:1", "b:1")
        for places in (("a:1", "c:1"), ("b:1", "a:1")):
            with pytest.raises(UsageError, match="leads from a:1 to b:1"):
                journal.is_claimed("id", *places)
        with pytest.raises(UsageError, match="another choice of keys"):
            journal.is_claimed("other", "a:1", "b:1")
        journal.claim("id", "a:1,a:2", "b:1")
        assert journal.is_claimed("id", "a:2,a:1", "b:1")


def test_one_that_was_never_claimed_leaves_no_files(tmp_path: Path) -> None:
    MigrationJournal(tmp_path, "shop").close()
    assert list(tmp_path.iterdir()) == []


def test_events_of_a_chatty_kind_do_not_push_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "EVENTS_MAX", 10)
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.event("switch", number=1)
        for number in range(200):
            journal.event("told", number=number)
        told = journal.events(["told"])
        assert 10 <= len(told) <= 10 + 64
        assert told[-1].facts == {"number": 199}
        assert len(journal.events(["switch"])) == 1


def test_a_beat_is_noted_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MigrationJournal(tmp_path, "shop", clock_ms=lambda: 9) as journal:
        assert journal.beat()
        assert journal.get(migration.SEEN) == 9
        assert not journal.beat()
        monkeypatch.setattr(migration, "BEAT_S", 0.0)
        assert journal.beat()


def test_the_write_ahead_log_is_emptied_by_beats_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "BEAT_S", 0.0)
    with MigrationJournal(tmp_path, "shop") as journal:
        log = tmp_path / "migrate-shop.sqlite-wal"
        for number in range(2 * migration.CHECKPOINT_WRITES):
            journal.set("step", number)
        assert log.stat().st_size > 1000 * 4096  # SQLite would have begun anew by itself before.
        journal.beat()
        grown = log.stat().st_size
        for number in range(migration.CHECKPOINT_WRITES):
            journal.set("step", number)
        assert log.stat().st_size == grown


def test_what_another_version_wrote_is_not_guessed_at(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.set("a", 1)
        path = journal.path
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    for _ in range(2):  # The refusal lets go of the lock.
        with pytest.raises(UsageError, match="another version"):
            MigrationJournal(tmp_path, "shop")


@pytest.mark.parametrize("content", [b"not a database" * 100, b"\0" * 5000])
def test_a_damaged_journal_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "migrate-shop.sqlite").write_bytes(content)
    with pytest.raises(UsageError, match="keyferry phase show") as told:
        MigrationJournal(tmp_path, "shop")
    assert "journal" in told.value.message


def test_a_fact_that_is_not_json_any_more_is_damage(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.set("a", 1)
        database = sqlite3.connect(journal.path)
        database.execute("UPDATE facts SET value = '{'")
        database.commit()
        database.close()
        with pytest.raises(UsageError, match="damaged"):
            journal.get("a")


def test_what_is_forgotten_is_gone_with_its_claim(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.claim("id", "a:1", "b:1")
        journal.event("told", text="one")
        journal.forget()
        assert not journal.is_claimed("another", "c:1", "d:1")
        assert journal.events() == []
    assert list(tmp_path.iterdir()) == []
