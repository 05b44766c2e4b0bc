"""``keyferry migrate`` as a user runs it, between real servers. What a switch does is tested elsewhere."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import keyferry
from migration_process import STATE, running

from keyferry.journal.migration import MigrationJournal
from keyferry.telemetry.migrating import EventKind, FactKey, SwitchReport
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 500
SECRET = "hunter2-secret"


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-7.0")
    with server.session() as session:
        fill(session, KEYS)
    return server


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


def arguments(source: Server, target: Server, *more: str) -> list[str]:
    return ["migrate", source.url, target.url, "--name", "shop", "--gate", "none", *more]


def left_in(directory: Path) -> list[str]:
    """But for the kept journals of migrations that have ended."""
    state = directory / STATE
    names = [file.name for file in state.iterdir()] if state.exists() else []
    return sorted(name for name in names if ".ended-" not in name)


def test_from_the_first_look_to_the_report(source: Server, target: Server, tmp_path: Path) -> None:
    hook = "env > hook.txt; echo told; exit 3"
    given = arguments(source, target, "--cutover-when-ready", "--on-cutover", hook, "--report", "r.json")
    with running(tmp_path, given) as migration:
        status = migration.wait_until("the cutover", lambda status: bool(status.get("switches")))
        assert status["switches"][0]["outcome"] == "done"
        migration.wait_until("the way back", lambda status: status.get("authority") == "target")
        refused = migration.ask("cutover", yes=True)
        assert (refused.exit_code, "already" in refused.sentence) == (4, True)
        finished = migration.ask("finish", yes=True)
        assert finished.exit_code == 0, finished.sentence
        code, out, err = migration.end()
    assert code == 1, err  # The hook failed.
    assert out.startswith(f"Finished: shop is on the target {target.endpoint.location}, after ")
    assert f"  moved        source to target: {KEYS} keys copied" in out
    assert "cutover done: writes waited " in out
    assert "its exit status is 3" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["ended"], report["authority"], report["starts"]) == ("finished", "target", 1)
    assert [one["direction"] for one in report["switches"]] == ["cutover"]
    assert report["switches"][0]["gate_ms"] > 0
    assert report["switches"][0]["hook_failed"]
    assert report["verifications"][0]["differences"] == 0
    assert report["seconds"] > 0
    environment = dict(line.split("=", 1) for line in (tmp_path / "hook.txt").read_text().splitlines())
    assert environment["KEYFERRY_NAME"] == "shop"
    assert environment["KEYFERRY_EVENT"] == "cutover"
    assert environment["KEYFERRY_AUTHORITY"] == "target"
    assert left_in(tmp_path) == []
    for server in (source, target):
        with server.session() as session:
            assert session.call("KEYS", "keyferry:*") == []
            assert session.call("DBSIZE") == KEYS


def test_stopped_and_started_again_it_goes_on(source: Server, target: Server, tmp_path: Path) -> None:
    with running(tmp_path, arguments(source, target, "--json")) as first:
        first.wait_until("ready", lambda status: bool(status.get("ready")))
        second = keyferry(*arguments(source, target), cwd=tmp_path)
        assert second.status == 4
        assert f"is alive (process {first.process.pid})" in second.err
        code, out, err = first.end(signal.SIGINT)
    assert code == 130, err
    assert "Give the same command again to go on" in err
    said = json.loads(out)
    assert said["exit_code"] == 130
    assert said["ended"] == ""
    assert (said["stopped"]["exit_code"], said["stopped"]["error"]) == (130, said["error"])
    assert said["verifications"]
    assert [run["copied"]["copied"] for run in said["moved"]] == [KEYS]
    with source.session() as session:
        session.call("SET", "meanwhile", "1")
    with running(tmp_path, arguments(source, target)) as again:
        again.wait_until("ready", lambda status: bool(status.get("ready")))
        with target.session() as session:
            assert session.call("GET", "meanwhile") == b"1"
        assert again.ask("abort", yes=True).exit_code == 0
        code, out, err = again.end()
    assert code == 1, err
    assert out.startswith("Aborted: shop is given up after ")
    assert "  started      2 times\n" in out
    assert left_in(tmp_path) == []


def test_a_kill_leaves_what_the_next_one_needs(source: Server, target: Server, tmp_path: Path) -> None:
    with running(tmp_path, arguments(source, target)) as first:
        first.wait_until("ready", lambda status: bool(status.get("ready")))
        assert first.ask("cutover", yes=True).exit_code == 0
        first.process.kill()
        first.process.wait()
    with target.session() as session:
        session.call("SET", "meanwhile", "1")
    refused = keyferry(*arguments(source, target, "--restart"), cwd=tmp_path)
    assert refused.status == 4
    assert "has been switched" in refused.err
    with running(tmp_path, arguments(source, target)) as again:
        again.wait_until("the way back", lambda status: bool(status.get("ready")))
        with source.session() as session:
            assert session.call("GET", "meanwhile") == b"1"
        assert again.ask("finish", yes=True).exit_code == 0
        code, out, err = again.end()
    assert code == 0, out + err


def test_another_place_or_choice_needs_another_name(source: Server, target: Server, tmp_path: Path) -> None:
    with running(tmp_path, arguments(source, target)) as first:
        first.wait_until("following", lambda status: bool(status.get("ready")))
        assert first.end(signal.SIGTERM)[0] == 130
    other = keyferry(*arguments(target, source), cwd=tmp_path)
    assert other.status == 2
    assert "leads from" in other.err
    chosen = keyferry(*arguments(source, target, "--match", "a*"), cwd=tmp_path)
    assert chosen.status == 2
    assert "another choice of keys" in chosen.err


def test_what_is_refused_at_first_leaves_no_trace(source: Server, target: Server, tmp_path: Path) -> None:
    with target.session() as session:
        session.call("SET", "mine", "1")
    ended = keyferry(*arguments(source, target), cwd=tmp_path)
    assert ended.status == 4, ended.err
    assert "--on-conflict" in ended.err
    with target.session() as session:
        assert session.call("DBSIZE") == 1
    with source.session() as session:
        assert session.call("KEYS", "keyferry:*") == []
    assert left_in(tmp_path) == []


def test_a_dry_run_writes_nothing(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry(*arguments(source, target, "--dry-run"), cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert ended.out.startswith(f"Would copy about {KEYS} keys. Nothing was written.")
    assert left_in(tmp_path) == []
    with source.session() as session:
        assert session.call("KEYS", "keyferry:*") == []


def test_a_report_that_could_not_be_delivered_is_delivered_again(tmp_path: Path) -> None:
    """The servers are not needed for that, nor there any more."""
    switch = SwitchReport("cutover", 1, gate="writers", outcome="done", gate_ms=9.0)
    with MigrationJournal(tmp_path / STATE, "shop") as journal:
        fingerprint = _fingerprint()
        journal.claim(fingerprint, "127.0.0.1:1", "127.0.0.1:2")
        journal.event(EventKind.SWITCH, **switch.as_dict())
        journal.set(FactKey.PHASE, {"phase": "target", "epoch": 9, "authority": "target"})
        journal.set(FactKey.ENDED, {"how": "finished", "at_ms": 1, "advice": ["Switch it off."]})
    given = ("migrate", "redis://127.0.0.1:1", "redis://127.0.0.1:2", "--name", "shop")
    lost = keyferry(*given, "--report", "missing/r.json", cwd=tmp_path)
    assert lost.status == 2
    ended = keyferry(*given, "--report", "r.json", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert ended.out.endswith("Switch it off.\n")
    assert json.loads((tmp_path / "r.json").read_text())["switches"][0]["gate_ms"] == 9.0
    assert left_in(tmp_path) == []


def _fingerprint() -> str:
    from keyferry.model.selection import Selection

    return Selection(databases=(0,)).fingerprint()


def test_passwords_are_in_nothing_that_is_kept_or_said(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    servers = (start_server("redis-7.0"), start_server("valkey-9.1"))
    for server in servers:
        with server.session() as session:
            session.call("ACL", "SETUSER", "ferry", "on", f">{SECRET}", "~*", "&*", "+@all")
    urls = [server.url.replace("redis://", f"redis://ferry:{SECRET}@") for server in servers]
    given = ["migrate", *urls, "--name", "shop", "--gate", "none", "--report", "r.json"]
    with running(tmp_path, given) as migration:
        migration.wait_until("ready", lambda status: bool(status.get("ready")))
        status = json.dumps(dict(migration.ask("status").facts))
        migration.ask("cutover", yes=True)
        kept = b"".join(file.read_bytes() for file in (tmp_path / STATE).iterdir() if file.is_file())
        code, out, err = migration.end(signal.SIGINT)
    assert code == 130
    assert b"rights-taken-source" in kept  # The application's users were barred: their rules are kept.
    for text in (status, out, err, (tmp_path / "r.json").read_text(), kept.decode("latin-1")):
        assert SECRET not in text
