"""The dashboard's process from the migration's side: begun, watched, begun again, ended; with a small program in its
place, which does what it is told about and nothing of the web."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import keyferry

from keyferry.app.dashboard_launch import PACKAGES, Dashboard, Watched, board_for, listening
from keyferry.app.http_place import HttpPlace, check_host_name, host_names, parse_place, url
from keyferry.model.errors import InterruptedRun, ServerAway, UsageError
from keyferry.telemetry.progress import Alert

ANY = HttpPlace("127.0.0.1", 0)
LIMIT_S = 30.0
READY = "print('ready', flush=True)"
KEEPS = """
import json, os, socket, sys
kept = open(sys.argv[1], "a")
for line in sys.stdin:
    said = json.loads(line)
    if "fd" in said:
        said["listens"] = socket.socket(fileno=os.dup(said["fd"])).getsockname()[1]
        said["pid"], said["environment"] = os.getpid(), dict(os.environ)
    kept.write(json.dumps(said) + "\\n")
    kept.flush()
    if "fd" in said:
        print("ready", flush=True)
"""
"""Writes every line that it is told to a file, and ends with its standard input."""


class Kept:
    """What a child was told."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def program(self) -> tuple[str, ...]:
        return (sys.executable, "-c", KEEPS, str(self.file))

    def lines(self) -> list[dict[str, Any]]:
        text = self.file.read_text() if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept")


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched("migrate", "a/b", tmp_path / "state" / "migrate-a%2Fb.sock")


def wait(what: str, holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def test_the_child_is_told_what_it_needs_and_the_end(
    kept: Kept, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYFERRY_SOURCE_PASSWORD", "geheim")
    said: list[str] = []
    with Dashboard(ANY, watched, said.append, further=("dash.example.org",), program=kept.program) as board:
        (hello,) = kept.lines()
        port = hello["listens"]
        assert board.url == f"http://127.0.0.1:{port}/"
        assert {"127.0.0.1", "localhost", "dash.example.org"} <= {
            host.removesuffix(f":{port}") for host in hello["hosts"]
        }
        assert (hello["control"], hello["kind"], hello["name"]) == (str(watched.control), "migrate", "a/b")
        assert "geheim" not in json.dumps(hello)
        # Standard error is no terminal here: the token stands in a file of ours alone.
        assert watched.token_file.read_text() == f"{hello['token']}\n"
        assert stat.S_IMODE(watched.token_file.stat().st_mode) == 0o600
        assert len(hello["token"]) >= 32
        assert said == [
            f"The dashboard is at {board.url} and the token for what acts in {watched.token_file}."
        ]
        board.ended(1, "Aborted.", "Look.", "/r.html")
        board.ended(0, "Too late.")
    end = {"exit_code": 1, "sentence": "Aborted.", "hint": "Look.", "report": "/r.html"}
    assert kept.lines()[1:] == [{"ended": end}]
    assert not watched.token_file.exists()
    with pytest.raises(OSError):
        os.kill(hello["pid"], 0)


def test_the_token_of_a_run_that_has_begun_meanwhile_stays(kept: Kept, watched: Watched) -> None:
    with Dashboard(ANY, watched, print, program=kept.program):
        watched.token_file.write_text("of another run\n")
    assert watched.token_file.read_text() == "of another run\n"


def test_on_a_terminal_the_token_is_printed_and_nowhere_else(
    kept: Kept, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with Dashboard(ANY, watched, said.append, private=True, program=kept.program) as board:
        token = kept.lines()[0]["token"]
        assert not watched.token_file.exists()
    assert capsys.readouterr().err == f"dashboard: {board.url}#token={token}\n"
    assert said == []


def test_a_sync_has_nothing_to_act_on(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    watched = Watched("sync", "sync", tmp_path / "sync-0123.sock")
    for private in (False, True):
        with Dashboard(ANY, watched, said.append, private=private, program=kept.program) as board:
            assert not watched.token_file.exists()
    assert re.fullmatch(r"The dashboard is at http://127\.0\.0\.1:\d+/\.", "".join(said))
    assert capsys.readouterr().err == f"dashboard: {board.url}\n"


def test_whoever_opens_it_to_others_is_warned(kept: Kept, watched: Watched) -> None:
    said: list[str] = []
    with Dashboard(HttpPlace("0.0.0.0", 0), watched, said.append, program=kept.program) as board:
        assert board.url.startswith("http://127.0.0.1:")
    assert said[0].startswith("The dashboard listens on 0.0.0.0, without TLS: whoever reaches it can read it")
    assert isinstance(said[0], Alert)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ServerAway("source", "Gone.", "Wait."), (3, "Gone.", "Wait.")),
        (InterruptedRun("Stopped.", "Again."), (130, "Stopped.", "Again.")),
        (
            ValueError("a key's name"),
            (70, "A mistake in Keyferry itself has ended it.", "Give the same command again to go on."),
        ),
        (KeyboardInterrupt(), (130, "It was interrupted.", "Give the same command again to go on.")),
    ],
    ids=["ours", "interrupted", "a mistake", "Ctrl-C"],
)
def test_an_error_is_told_as_the_end(
    kept: Kept, watched: Watched, error: BaseException, told: tuple[int, str, str]
) -> None:
    with pytest.raises(type(error)), Dashboard(ANY, watched, print, program=kept.program):
        raise error
    code, sentence, hint = told
    assert kept.lines()[1:] == [
        {"ended": {"exit_code": code, "sentence": sentence, "hint": hint, "report": ""}}
    ]


def test_one_that_dies_is_started_again_on_the_same_port(kept: Kept, watched: Watched) -> None:
    said: list[str] = []
    with Dashboard(ANY, watched, said.append, program=kept.program):
        os.kill(kept.lines()[0]["pid"], signal.SIGKILL)
        wait("it is not started again", lambda: len(kept.lines()) == 2)
    first, second, end = kept.lines()
    assert first["pid"] != second["pid"]
    assert first["listens"] == second["listens"]
    assert end["ended"]["exit_code"] == 0
    assert said[1:] == ["The dashboard has died: it is started again. What it shows goes on without it."]


def test_one_that_always_dies_is_left_alone(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyferry.app.dashboard_launch.PAUSE_S", 0.01)
    said: list[str] = []
    left = threading.Event()

    def tell(sentence: str) -> None:
        said.append(sentence)
        if "stays away" in sentence:
            left.set()

    script = f"import sys; sys.stdin.readline(); {READY}"
    with Dashboard(ANY, watched, tell, program=(sys.executable, "-c", script)) as board:
        assert left.wait(LIMIT_S), said
        port = int(board.url.rpartition(":")[2].rstrip("/"))
        # Nobody listens any more, so a browser hears that at once.
        wait("it still listens", lambda: not _reached(port))
    assert sum("started again" in sentence for sentence in said) == 3


def _reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_one_that_does_not_end_is_killed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyferry.app.dashboard_launch.END_S", 0.2)
    script = f"import time; {READY}; time.sleep(600)"
    with Dashboard(ANY, watched, print, program=(sys.executable, "-c", script)) as board:
        began_s = time.monotonic()
    assert time.monotonic() - began_s < LIMIT_S
    assert not _reached(int(board.url.rpartition(":")[2].rstrip("/")))


def test_one_that_does_not_start_is_said_before_anything_is_begun(watched: Watched) -> None:
    with (
        pytest.raises(UsageError, match="ends as soon as it is started"),
        Dashboard(ANY, watched, print, program=(sys.executable, "-c", "raise SystemExit(1)")),
    ):
        pytest.fail("began")
    assert not watched.token_file.exists()


def test_a_port_that_is_taken_is_waited_for_and_then_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr("keyferry.app.dashboard_launch.PORT_S", 0.2)
        with pytest.raises(
            UsageError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use\. Name"
        ):
            listening(HttpPlace("127.0.0.1", port))
        monkeypatch.setattr("keyferry.app.dashboard_launch.PORT_S", LIMIT_S)
        threading.Timer(0.3, other.close).start()
        listening(HttpPlace("127.0.0.1", port)).close()


def test_without_the_packages_one_sentence_says_what_to_install(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyferry.app.dashboard_launch.PACKAGES", ("fastapi", "no_such_package"))
    with pytest.raises(UsageError) as caught, Dashboard(ANY, watched, print):
        pytest.fail("began")
    assert str(caught.value) == (
        "--http needs packages that are not installed: no_such_package. pip install 'keyferry[http]'"
    )


def test_a_migration_loads_no_web_server() -> None:
    script = (
        "import sys, keyferry.app.migrating, keyferry.app.syncing, keyferry.app.sync_showing\n"
        "import keyferry.cutover.conductor, keyferry.cutover.control\n"
        f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & {{*{PACKAGES!r}, 'starlette', 'pydantic'}}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert ended.stdout == b"[]\n"


def test_without_the_option_there_is_none(watched: Watched) -> None:
    with board_for({"http": None}, watched, print) as board:
        board.ended(0, "Done.")
    assert not watched.token_file.parent.exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8080", "127.0.0.1:8080"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:9", "[::1]:9"),
        ("localhost:65535", "localhost:65535"),
    ],
)
def test_places(text: str, place: str) -> None:
    assert str(parse_place(text)) == place


@pytest.mark.parametrize("text", ["", "x", "65536", "127.0.0.1", ":80", "::1:80", "a:b", "-1", "[::1]", "٣"])
def test_no_places(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


def test_names_that_are_answered_to() -> None:
    assert host_names(HttpPlace("localhost", 80), "127.0.0.1") == (
        *("localhost:80", "127.0.0.1:80", "[::1]:80"),
        *("localhost", "127.0.0.1", "[::1]"),
    )
    assert host_names(HttpPlace("10.0.0.5", 8080), "10.0.0.5", ("a.example", "b.example:444")) == (
        *("10.0.0.5:8080", "a.example", "a.example:8080", "b.example:444"),
    )
    assert "box:1" in host_names(HttpPlace("::", 1), "::", machine="Box")
    assert "[::]:1" not in host_names(HttpPlace("::", 1), "::", machine="Box")
    assert url(HttpPlace("0.0.0.0", 1), "0.0.0.0") == "http://127.0.0.1:1/"
    assert url(HttpPlace("::1", 1), "::1") == "http://[::1]:1/"
    # Not by the name: on the other address of localhost somebody else may listen, and read the token.
    assert url(HttpPlace("localhost", 1), "127.0.0.1") == "http://127.0.0.1:1/"
    assert url(HttpPlace("box.example", 1), "10.0.0.5") == "http://box.example:1/"


@pytest.mark.parametrize("text", ["", "a/b", "http://a", "a b", "a@b", "a\x1bb"])
def test_no_host_names(text: str) -> None:
    with pytest.raises(UsageError):
        check_host_name(text)


def test_a_place_that_makes_no_sense_is_bad_usage(tmp_path: Path) -> None:
    ended = keyferry("sync", "redis://a", "redis://b", "--http", "there", cwd=tmp_path)
    assert ended.status == 2
    assert "'there' does not end in a port. Such as 8080" in ended.err
