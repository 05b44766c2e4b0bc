"""`keyferry phase show` and `keyferry phase set` as operators run them: exit codes, what is said, nothing secret."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import command, environment, keyferry
from membering import NAME, entries, processes, put, urls

from keyferry.model.phases import Phase
from keyferry.model.record import Kind, PhaseRecord, record_key
from keyferry.testing.servers import Server


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    return flushed("redis-7.0")


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


def test_a_migration_is_begun_stepped_and_shown(tmp_path: Path, source: Server, target: Server) -> None:
    places = source.url, target.url
    nothing = keyferry("phase", "show", NAME, *places, cwd=tmp_path)
    assert nothing.status == 0
    assert "there is no record yet" in nothing.out
    assert f"keyferry phase set {NAME} SOURCE TARGET source" in nothing.out
    made = keyferry("phase", "set", NAME, *places, "dual", cwd=tmp_path)
    assert (made.status, made.out.splitlines()[0]) == (
        0,
        "orders is in dual (epoch 2); the source has authority.",
    )
    again = keyferry("phase", "set", NAME, *places, "dual", cwd=tmp_path)
    assert (again.status, again.out.splitlines()[0]) == (
        0,
        "orders was already in dual (epoch 2); the source has authority.",
    )
    shown = keyferry("phase", "show", NAME, *places, cwd=tmp_path)
    assert shown.status == 0 and shown.err == ""
    assert "writes on the source, then on the target" in shown.out
    assert "keyferry phase set, " in shown.out


def test_show_writes_nothing(tmp_path: Path, source: Server, target: Server) -> None:
    keyferry("phase", "show", NAME, source.url, target.url, cwd=tmp_path)
    for server in (source, target):
        with server.session() as session:
            assert session.call("DBSIZE") == 0


def test_writers_are_shown_and_named(tmp_path: Path, source: Server, target: Server) -> None:
    places = source.url, target.url
    keyferry("phase", "set", NAME, *places, "source", cwd=tmp_path)
    with processes(2, urls(source, target), lease_ms=60_000) as (alive, stopped):
        stopped.send(signal.SIGSTOP)
        ended = keyferry("phase", "set", NAME, *places, "dual", "--wait", "1.5", cwd=tmp_path)
        assert ended.status == 1
        assert f"{stopped.pid} " in ended.out and f"{alive.pid} " not in ended.out
        assert "still source (epoch 1)" in ended.out
        assert f"Waiting for tests (pid {stopped.pid} on testhost)." in ended.err
        shown = keyferry("phase", "show", NAME, *places, cwd=tmp_path)
        assert "2 writers registered on the source." in shown.out
        assert all(f"{one.pid} " in shown.out for one in (alive, stopped))
        told = json.loads(keyferry("phase", "show", NAME, *places, "--json", cwd=tmp_path).out)
        assert (told["phase"], told["epoch"], told["authority"]) == ("dual", 2, "source")
        writers = {writer["pid"]: writer for writer in told["records"]["source"]["writers"]}
        assert writers[alive.pid]["phase"] == "dual" and writers[stopped.pid]["phase"] == "source"
        stopped.send(signal.SIGCONT)
        ended = keyferry("phase", "set", NAME, *places, "dual", "--json", cwd=tmp_path)
        assert ended.status == 0
        told = json.loads(ended.out)
        assert (told["phase"], told["changed"], told["waiting"]) == ("dual", False, [])


def test_the_whole_way_by_the_commands(tmp_path: Path, source: Server, target: Server) -> None:
    places = source.url, target.url
    keyferry("phase", "set", NAME, *places, "source", cwd=tmp_path)
    with processes(1, urls(source, target), lease_ms=5000) as (writer,):
        for phase in ("dual", "shadow", "hold"):
            assert keyferry("phase", "set", NAME, *places, phase, cwd=tmp_path).status == 0
        refused = keyferry("phase", "set", NAME, *places, "target-dual", cwd=tmp_path)
        assert refused.status == 4 and "--yes" in refused.err
        done = keyferry("phase", "set", NAME, *places, "target-dual", "--yes", cwd=tmp_path)
        assert done.status == 0
        assert done.out.startswith("orders is in target-dual (epoch 5); the target has authority.")
        assert writer.ask("valid")["authority"] == "target"
        shown = keyferry("phase", "show", NAME, *places, cwd=tmp_path)
        assert "has given authority away" in shown.out
        assert "1 writer registered on the target." in shown.out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["orders", "{source}", "{target}", "target"], 4, "There is no step from source to target."),
        (["orders", "{source}", "{target}", "sideways"], 2, "sideways"),
        (["a{b}", "{source}", "{target}", "dual"], 2, "cannot be the name of a migration"),
        (["orders", "{source}", "ftp://x", "dual"], 2, "TARGET: The address has the unknown scheme"),
        (["orders", "{source}", "{target}", "dual", "--wait", "-1"], 2, "--wait"),
        (["orders", "redis://127.0.0.1:1", "{target}", "dual"], 3, "cannot be reached"),
        (["orders", "{source}", "{source}", "dual"], 2, "the same database"),
        (["orders", "{source}/5", "{target}", "dual"], 4, "in database 0"),
    ],
)
def test_refusals(
    arguments: list[str], status: int, said: str, tmp_path: Path, source: Server, target: Server
) -> None:
    keyferry("phase", "set", NAME, source.url, target.url, "source", cwd=tmp_path)
    filled = [one.replace("{source}", source.url).replace("{target}", target.url) for one in arguments]
    ended = keyferry("phase", "set", *filled, cwd=tmp_path)
    assert (ended.status, said in ended.err) == (status, True), ended.err
    assert ended.out == ""


def test_records_that_make_no_sense_are_shown_with_what_to_do(
    tmp_path: Path, source: Server, target: Server
) -> None:
    with source.session() as here, target.session() as there:
        put(here, PhaseRecord(Kind.AUTHORITY, 4, Phase.DUAL))
        put(there, PhaseRecord(Kind.AUTHORITY, 6, Phase.TARGET))
        ended = keyferry("phase", "show", NAME, source.url, target.url, cwd=tmp_path)
        assert ended.status == 3
        assert "Both sides claim authority" in ended.out and "source's is the older" in ended.out
        there.call("HSET", record_key(NAME), "kind", "king")
        ended = keyferry("phase", "show", NAME, source.url, target.url, cwd=tmp_path)
        assert ended.status == 0 and "'king' is not a valid Kind" in ended.out
        ended = keyferry("phase", "set", NAME, source.url, target.url, "shadow", "--json", cwd=tmp_path)
        assert ended.status == 3 and "cannot be read" in json.loads(ended.out)["error"]


def test_a_side_that_is_away_is_said(tmp_path: Path, source: Server, target: Server) -> None:
    keyferry("phase", "set", NAME, source.url, target.url, "source", cwd=tmp_path)
    ended = keyferry("phase", "show", NAME, source.url, "redis://127.0.0.1:1", cwd=tmp_path)
    assert ended.status == 0
    assert "cannot be reached" in ended.out and "orders: source" in ended.out
    ended = keyferry("phase", "show", NAME, "redis://127.0.0.1:1", "redis://127.0.0.1:2", cwd=tmp_path)
    assert ended.status == 3


def test_no_password_is_ever_shown(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    locked = start_server("redis-7.0", requirepass="hunter2")
    other = start_server("redis-7.0", requirepass="hunter2").url.replace("redis://", "redis://:hunter2@")
    right, wrong = (locked.url.replace("redis://", f"redis://:{word}@") for word in ("hunter2", "hunter3"))
    for arguments in (
        ["set", NAME, right, other, "dual"],
        ["show", NAME, right, other],
        ["show", NAME, right, other, "--json"],
        ["set", NAME, wrong, other, "dual"],
        ["set", NAME, wrong, other, "dual", "--json"],
        ["show", NAME, wrong, other],
        ["set", NAME, right, other, "target"],
        ["set", right, right, "dual"],
    ):
        ended = keyferry("phase", *arguments, cwd=tmp_path)
        assert "hunter" not in ended.out + ended.err, arguments
    ended = keyferry("phase", "show", NAME, locked.url, other, cwd=tmp_path, KEYFERRY_SOURCE_PASSWORD="hunter2")  # fmt: skip
    assert ended.status == 0 and "orders: dual" in ended.out
    with locked.session() as session:
        stored = session.call("HGETALL", record_key(NAME))
        assert isinstance(stored, list) and b"hunter" not in b"".join(
            part for part in stored if isinstance(part, bytes)
        )


def test_ctrl_c_while_it_waits(tmp_path: Path, source: Server, target: Server) -> None:
    keyferry("phase", "set", NAME, source.url, target.url, "source", cwd=tmp_path)
    with processes(1, urls(source, target), lease_ms=60_000) as (writer,):
        writer.send(signal.SIGSTOP)
        process = subprocess.Popen(
            command("phase", "set", NAME, source.url, target.url, "dual", "--wait", "60"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Waiting for"):
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 5
        assert process.returncode == 130
        assert "keyferry phase show" in err and "Traceback" not in err
        with source.session() as session:
            assert session.call("HGET", record_key(NAME), "phase") == b"dual"
            assert len(entries(session)) == 1


def test_the_group_alone_shows_its_help(tmp_path: Path) -> None:
    ended = keyferry("phase", cwd=tmp_path)
    assert ended.status == 0 and "Usage: keyferry phase" in ended.out
