"""What the command says and how it ends, before any key is touched."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import keyferry

from keyferry import __version__
from keyferry.app.commands import EXIT_CODES
from keyferry.model.errors import ExitCode
from keyferry.testing.servers import Server

NOWHERE = "redis://127.0.0.1:1"


def test_version_says_which_data_path_runs(tmp_path: Path) -> None:
    ended = keyferry("--version", cwd=tmp_path, KEYFERRY_IMPL="pure")
    assert (ended.status, ended.out) == (0, f"keyferry {__version__} (data path: pure Python)\n")


def test_without_a_command_it_helps(tmp_path: Path) -> None:
    ended = keyferry(cwd=tmp_path)
    assert ended.status == 0
    assert all(f"  {name} " in ended.out for name in ("copy", "sync", "verify", "check", "audit", "demo"))


@pytest.mark.parametrize("name", ["copy", "sync", "verify", "check", "audit", "demo"])
def test_help_documents_every_exit_code(name: str, tmp_path: Path) -> None:
    ended = keyferry(name, "--help", cwd=tmp_path)
    assert ended.status == 0
    for code, meaning in EXIT_CODES:
        assert f"{code:>5}  {meaning}" in ended.out


def test_every_exit_code_of_the_model_is_documented() -> None:
    assert {int(code) for code in ExitCode} <= {code for code, _ in EXIT_CODES}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cpoy"], "No such command 'cpoy'"),
        (["copy", NOWHERE], "Missing argument 'TARGET'"),
        (["copy", NOWHERE, NOWHERE, "--quick"], "No such option"),
        (["copy", "redis.example:6379", NOWHERE], "SOURCE: The address has"),
        (["copy", NOWHERE, "http://x"], "TARGET: The address has the unknown scheme 'http'."),
        (["copy", NOWHERE, NOWHERE, "--max-rate", "fast"], "'fast' is not a positive number"),
        (["copy", NOWHERE, NOWHERE, "--max-bandwidth", "0"], "'0' is not a positive number"),
        (["copy", NOWHERE, NOWHERE, "--max-latency", "-1"], "-1"),
        (["copy", NOWHERE, NOWHERE, "--batch", "0"], "0"),
        (["copy", NOWHERE, NOWHERE, "--type", "strng"], "'strng' is none of string, list"),
        (["copy", NOWHERE, NOWHERE, "--on-conflict", "merge"], "'merge' is not one of"),
        (["copy", NOWHERE, NOWHERE, "--db-map", "3"], "'3' is not of the form FROM:TO"),
        (["copy", NOWHERE, NOWHERE, "--db", "1", "--all-dbs"], "--db and --all-dbs"),
        (["copy", NOWHERE, NOWHERE, "--db-map", "3:0"], "database 3, which is not copied"),
        (["copy", NOWHERE, NOWHERE, "--db", "0", "--db", "3", "--db-map", "3:0"], "would both go into"),
        (["copy", NOWHERE, NOWHERE, "--source-ca", "/no/such"], "does not exist"),
        (["copy", NOWHERE, NOWHERE, "--source-insecure"], "does not ask for TLS"),
        (
            ["copy", NOWHERE, NOWHERE, "--report", "no/such/dir/r.json"],
            "--report no/such/dir/r.json cannot be",
        ),
        (["copy", NOWHERE, NOWHERE, "--failures", "no/such/dir/f"], "--failures no/such/dir/f cannot be"),
        (["sync", NOWHERE], "Missing argument 'TARGET'"),
        (["sync", NOWHERE, NOWHERE, "--on-conflict", "skip"], "--on-conflict skip is not for sync"),
        (["sync", NOWHERE, NOWHERE, "--on-conflict", "fail"], "--on-conflict fail is not for sync"),
        (["sync", NOWHERE, NOWHERE, "--feed", "psync"], "'psync' is not one of"),
        (
            ["sync", NOWHERE, NOWHERE, "--feed", "sweeps", "--enable-notifications"],
            "--enable-notifications and --feed sweeps are given together",
        ),
        (["sync", NOWHERE, NOWHERE, "--name", " "], "must not be empty"),
        (["sync", NOWHERE, NOWHERE, "--lag-target", "0"], "0"),
        (["sync", NOWHERE, NOWHERE, "--dirty-max", "0"], "'0' is not a positive number"),
        (["sync", NOWHERE, NOWHERE, "--dirty-max", "0.5"], "'0.5' is less than one key"),
        (["sync", NOWHERE, NOWHERE, "--report", "no/such/dir/r"], "--report no/such/dir/r cannot be"),
        (["verify", NOWHERE], "Missing argument 'TARGET'"),
        (["verify", NOWHERE, NOWHERE, "--on-conflict", "replace"], "No such option"),
        (["verify", NOWHERE, NOWHERE, "--rounds", "-1"], "-1"),
        (["verify", NOWHERE, NOWHERE, "--sample", "0"], "'0' is not a positive number"),
        (["verify", NOWHERE, NOWHERE, "--expiry-tolerance-ms", "-1"], "-1"),
        (
            ["verify", NOWHERE, NOWHERE, "--differences", "no/such/dir/d"],
            "--differences no/such/dir/d cannot be written",
        ),
        (["verify", NOWHERE, NOWHERE, "--differences", "/"], "'/' is a directory"),
        (["verify", NOWHERE, NOWHERE, "--differences", "/dev/null"], "/dev/null is not a regular file"),
        (["copy", NOWHERE, NOWHERE, "--report", "/dev/null"], "/dev/null is not a regular file"),
        (["demo", "--keys", "0"], "0"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert sentence in ended.err
    assert len(ended.err.splitlines()) <= 2


@pytest.mark.parametrize("name", ["copy", "sync", "check"])
def test_a_dead_server_is_exit_3_and_names_the_side(name: str, tmp_path: Path) -> None:
    ended = keyferry(name, NOWHERE, NOWHERE, cwd=tmp_path)
    assert ended.status == 3
    assert "error: The source redis://127.0.0.1:1 cannot be reached: Connection refused." in ended.err


def test_a_dead_server_with_json_is_still_one_object(tmp_path: Path) -> None:
    ended = keyferry("copy", NOWHERE, NOWHERE, "--json", "--report", "report.json", cwd=tmp_path)
    said = json.loads(ended.out)
    assert ended.status == said["exit_code"] == 3
    assert said["error"].startswith("The source")
    assert json.loads((tmp_path / "report.json").read_text()) == said


@pytest.fixture
def silent() -> Iterator[tuple[int, list[float]]]:
    """A port that accepts connections and never says a word; how many seconds each of them lasted."""
    lasted: list[float] = []

    def listen() -> None:
        # accept() fails when the listener is closed, and that ends it.
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                began_s = time.monotonic()
                with connection:
                    while connection.recv(1024):
                        pass
                lasted.append(time.monotonic() - began_s)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1], lasted


def test_a_silent_server_is_given_up_within_5_seconds(
    silent: tuple[int, list[float]], tmp_path: Path
) -> None:
    port, lasted = silent
    ended = keyferry("copy", f"redis://127.0.0.1:{port}", NOWHERE, cwd=tmp_path)
    assert ended.status == 3
    assert "source" in ended.err
    assert lasted, "it was asked"
    assert sum(lasted) < 7  # 5 s, and what a busy machine adds


def test_an_unknown_implementation_is_bad_usage(tmp_path: Path) -> None:
    ended = keyferry("--version", cwd=tmp_path, KEYFERRY_IMPL="rust")
    assert ended.status == 2
    assert "KEYFERRY_IMPL is 'rust'" in ended.err


def test_passwords_come_from_files(start_server: Callable[..., Server], tmp_path: Path) -> None:
    source = start_server("redis-6.2", requirepass="one")
    target = start_server("redis-6.2", requirepass="two")
    (tmp_path / "source").write_text("one\n")
    (tmp_path / "target").write_text("two")
    files = ["--source-password-file", "source", "--target-password-file", "target"]
    assert keyferry("check", source.url, target.url, *files, cwd=tmp_path).status == 0
    variables = {"KEYFERRY_SOURCE_PASSWORD": "one", "KEYFERRY_TARGET_PASSWORD": "two"}
    assert keyferry("check", source.url, target.url, cwd=tmp_path, **variables).status == 0
    ended = keyferry("check", source.url, target.url, cwd=tmp_path)
    assert ended.status == 3
    assert "KEYFERRY_SOURCE_PASSWORD" in ended.err


def test_a_check_says_every_finding_on_one_line(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    ended = keyferry("check", source.url, target.url, cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    marks = ("✓ ok", "! warning")
    lines = ended.out.splitlines()
    assert lines[-1].startswith("Nothing stops a copy.")
    assert sum(line.startswith(marks) for line in lines) > 10
    assert all(line.startswith((*marks, "  ")) for line in lines[:-1])


def test_a_check_that_stops_is_exit_4(flushed: Callable[..., Server], tmp_path: Path) -> None:
    server = flushed("redis-6.2")
    ended = keyferry("check", server.url, server.url, cwd=tmp_path)
    assert ended.status == 4
    assert "✗ stop" in ended.out
    assert "A copy would stop here" in ended.out
    said = json.loads(keyferry("check", server.url, server.url, "--json", cwd=tmp_path).out)
    assert said["stops"] > 0
    assert {finding["level"] for finding in said["findings"]} >= {"ok", "stop"}
