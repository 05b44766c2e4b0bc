"""Whatever a migration says while it runs: names of keys are in it only with --show-keys, values never."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conducting import NAME, Migration, migrating

from copying import fill, wait_until
from keyferry.journal.migration import MigrationJournal
from keyferry.telemetry.glance import Glance
from keyferry.testing.servers import Server

MEMBERS = [f"hidden-{number:06d}" for number in range(5_000)]


def _everything_said(migration: Migration, state_dir: Path) -> str:
    with MigrationJournal(state_dir, NAME) as journal:
        events = [dict(event.facts) for event in journal.events()]
        facts = journal.facts()
    return json.dumps([migration.told, migration.status, dict(migration.desk.history()), events, facts])


@pytest.mark.parametrize("show_keys", [False, True])
def test_names_are_said_only_when_asked_for(
    flushed: Callable[..., Server], tmp_path: Path, show_keys: bool
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SADD", "secret:set", *MEMBERS), ("SET", "secret:string", "hidden-")])
    with migrating(source, target, tmp_path, big_key_bytes=50_000, show_keys=show_keys) as migration:
        migration.is_verified()
        fill(target, [("SET", "secret:string", "hidden-theirs")])
        wait_until(
            lambda: any("Somebody else has written" in told for told in migration.told), "it is told", 20.0
        )
        wait_until(lambda: migration.status["progress"]["foreign_keys"] == 1, "it is shown")
        status = migration.status
        assert status["show_keys"] is show_keys
        assert len(status["progress"]["biggest"]) == 1
        assert set(status["glance"]) == set(Glance("", "good", "", "", "").as_dict())
        assert status["glance"]["health"] != "good"
    said = _everything_said(migration, tmp_path)
    assert "hidden-" not in said
    assert ("secret:" in said) is show_keys
