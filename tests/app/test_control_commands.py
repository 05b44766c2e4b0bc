"""The commands that speak to a running migration, as operators give them: what is asked, what is said, exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commandline import command, environment, keyferry, started

from keyferry.app.controlling import addressed
from keyferry.cutover.control import ControlServer
from keyferry.cutover.control_place import control_path
from keyferry.cutover.desk import QueueDesk, Ticket
from keyferry.cutover.requests import Request
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

Act = Callable[[Request, Ticket], None]
STATUS = {
    "name": "orders",
    "source": "old:6379",
    "target": "new:6379",
    "pid": 7,
    "stage": "following",
    "not_ready": ["No clean verification yet."],
}


@contextmanager
def migration(directory: Path, act: Act, name: str = "orders") -> Iterator[list[Request]]:
    """A desk behind a real socket, and somebody who answers. Gives what was asked."""
    desk, over, asked = QueueDesk(STATUS), threading.Event(), []

    def work() -> None:
        while not over.wait(0.01):
            if (taken := desk.take()) is not None:
                asked.append(taken[0])
                act(*taken)

    thread = threading.Thread(target=work)
    with ControlServer(control_path(directory, name), desk):
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            thread.join(5)
            desk.close()


def done(_request: Request, ticket: Ticket) -> None:
    ticket.say("On the way.")
    ticket.end(0, "Done.", "Look with: keyferry status.", gate_ms=12.5, lines=["one", "two"])


def not_ready(_request: Request, ticket: Ticket) -> None:
    ticket.end(
        4,
        "Not ready: it is paused (keyferry unpause).",
        "Look with: keyferry status.",
        lines=["gate: writers"],
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pause"], Request("pause")),
        (["unpause"], Request("unpause")),
        (["throttle", "--max-rate", "50K"], Request("throttle", {"max_rate": 50_000.0})),
        (
            ["throttle", "--max-rate", "0", "--max-latency", "0"],
            Request("throttle", {"max_rate": 0.0, "max_latency_ms": 0.0}),
        ),
        (["verify"], Request("verify")),
        (["cutover"], Request("cutover")),
        (
            ["cutover", "--yes", "--gate", "both", "--timeout", "1.5", "--no-rollback", "--phase", "target"],
            Request(
                "cutover",
                {
                    "yes": True,
                    "gate": "both",
                    "timeout_s": 1.5,
                    "rollback": False,
                    "phase": "target",
                },
            ),
        ),
        (["cutover", "--on-cutover", "true"], Request("cutover", {"on_cutover": "true"})),
        (
            ["rollback", "--yes", "--gate", "none", "--on-rollback", "false"],
            Request("rollback", {"yes": True, "gate": "none", "on_rollback": "false"}),
        ),
        (["finish"], Request("finish")),
        (["abort", "--yes"], Request("abort", {"yes": True})),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_typed_arrives(arguments: list[str], expected: Request, tmp_path: Path) -> None:
    with migration(tmp_path / ".keyferry", done) as asked:
        ended = keyferry(*arguments, "--name", "orders", cwd=tmp_path)
    assert asked == [expected]
    assert (ended.status, ended.err) == (0, "On the way.\n")
    assert ended.out.splitlines() == ["Done.", "  one", "  two", "Look with: keyferry status --name orders."]


def test_the_answer_as_json(tmp_path: Path) -> None:
    with migration(tmp_path / ".keyferry", done):
        ended = keyferry("cutover", "--json", "--name", "orders", cwd=tmp_path)
    assert json.loads(ended.out) == {
        "name": "orders",
        "command": "cutover",
        "done": "Done.",
        "hint": "Look with: keyferry status.",
        "exit_code": 0,
        "gate_ms": 12.5,
        "lines": ["one", "two"],
    }
    assert ended.err == "On the way.\n"


def test_what_is_refused_is_an_error(tmp_path: Path) -> None:
    with migration(tmp_path / "st", not_ready):
        places = ["--name", "orders", "--state-dir", "st"]
        ended = keyferry("cutover", *places, cwd=tmp_path)
        assert (ended.status, ended.out) == (4, "  gate: writers\n")
        assert ended.err.splitlines() == [
            "error: Not ready: it is paused (keyferry unpause --name orders --state-dir st).",
            "Look with: keyferry status --name orders --state-dir st.",
        ]
        ended = keyferry("cutover", "--json", *places, cwd=tmp_path)
        assert ended.status == 4 and "error: Not ready" in ended.err
        said = json.loads(ended.out)
        assert (said["exit_code"], said["lines"]) == (4, ["gate: writers"])
        assert said["error"].startswith("Not ready: it is paused")


@pytest.mark.parametrize(
    ("exit_code", "stream"), [(0, "out"), (1, "out"), (2, "err"), (3, "err"), (4, "err")]
)
def test_exit_codes_are_those_of_the_migration(exit_code: int, stream: str, tmp_path: Path) -> None:
    def act(_request: Request, ticket: Ticket) -> None:
        ticket.end(exit_code, "That is it.")

    with migration(tmp_path / ".keyferry", act):
        ended = keyferry("verify", "--name", "orders", cwd=tmp_path)
    assert ended.status == exit_code
    assert "That is it." in getattr(ended, stream)


def test_the_only_migration_needs_no_name(tmp_path: Path) -> None:
    directory = tmp_path / ".keyferry"
    with migration(directory, done) as first:
        assert keyferry("pause", cwd=tmp_path).status == 0
        with migration(directory, done, "users/eu") as second:
            ended = keyferry("pause", cwd=tmp_path)
            assert ended.status == 2 and "orders, users/eu" in ended.err
            assert keyferry("unpause", "--name", "users/eu", cwd=tmp_path).status == 0
    assert (first, second) == ([Request("pause")], [Request("unpause")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status"], "No migration runs with the state directory .keyferry."),
        (["status", "--name", "orders"], "No migration orders runs with the state directory .keyferry."),
        (["cutover", "--yes", "--name", "orders", "--state-dir", "/nowhere/at/all"], "/nowhere/at/all"),
        (["pause", "--name", "a b"], "cannot be the name of a migration"),
        (["throttle", "--name", "orders"], "Give --max-rate, --max-latency or both"),
        (["throttle", "--max-rate", "-1"], "not a positive number"),
        (["cutover", "--gate", "open"], "'open' is not one of"),
        (["cutover", "--timeout", "0"], "--timeout"),
        (["cutover", "--phase", "hold"], "'hold' is not one of"),
        (["verify"], "Missing argument 'SOURCE' (or --name NAME)"),
        (["verify", "redis://a"], "Missing argument 'TARGET' (or --name NAME)"),
        (["verify", "redis://a", "redis://b", "--name", "orders"], "SOURCE does not go with --name"),
        (["verify", "--name", "orders", "--repair"], "--repair does not go with --name"),
        (["status", "--name", "orders", "--state-dir", "d" * 120], "longer than 107 bytes"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_usage_errors(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 2 and said in ended.err, ended.err
    assert ended.out == ""


def test_an_error_before_anything_was_asked_is_json_too(tmp_path: Path) -> None:
    ended = keyferry("status", "--json", "--name", "orders", cwd=tmp_path)
    assert ended.status == 2
    assert json.loads(ended.out)["error"].startswith("No migration orders runs")


def test_ctrl_c_withdraws_what_has_not_begun(tmp_path: Path) -> None:
    desk = QueueDesk(STATUS)
    arguments = ["cutover", "--yes", "--name", "orders"]
    with ControlServer(control_path(tmp_path / ".keyferry", "orders"), desk):
        with started(arguments, tmp_path) as process:
            _wait(lambda: bool(desk._waiting))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 130 and b"withdrawn" in err and b"Traceback" not in err
        _wait(lambda: desk._waiting[0][1].ended)
        assert desk.take() is None


def test_status_once(tmp_path: Path) -> None:
    with migration(tmp_path / ".keyferry", done):
        ended = keyferry("status", cwd=tmp_path)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.splitlines()[:2] == [
            "orders: old:6379 to new:6379",
            "copy > [follow] > verify > ready > cut over > follow back",
        ]
        said = json.loads(keyferry("status", "--json", cwd=tmp_path).out)
        assert said.pop("age_seconds") >= 0
        assert said == STATUS


def test_status_on_a_pipe_says_what_changes(tmp_path: Path) -> None:
    desk = QueueDesk(STATUS)
    with ControlServer(control_path(tmp_path / ".keyferry", "orders"), desk):
        with started(["status", "--watch"], tmp_path) as process:
            assert process.stdout is not None
            assert (
                process.stdout.readline() == b"following, not ready (No clean verification yet), 0 writers\n"
            )
            desk.publish({**STATUS, "paused": True})
            assert process.stdout.readline().startswith(b"following, paused, not ready")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0
        with started(["status", "--watch", "--json"], tmp_path) as process:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline())["paused"] for _ in range(2)] == [True, True]


@pytest.mark.parametrize("ending", ["q", "interrupt", "gone"])
def test_status_on_a_terminal_is_redrawn_until_it_ends(ending: str, tmp_path: Path) -> None:
    server = ControlServer(control_path(tmp_path / ".keyferry", "orders"), desk := QueueDesk(STATUS))
    try:
        with on_terminal(["status", "--watch"], tmp_path) as terminal:
            _wait(lambda: "[follow]" in terminal.seen)
            desk.publish({**STATUS, "paused": True, "not_ready": ["It is paused."]})
            _wait(lambda: "paused" in terminal.seen)
            if ending == "gone":
                server.close()
            else:
                terminal.write(b"x")
                terminal.write(b"q" if ending == "q" else b"\x03")
            status = terminal.process.wait(timeout=10)
            terminal.close()
    finally:
        server.close()
    assert status == (3 if ending == "gone" else 0), terminal.seen
    assert "Traceback" not in terminal.seen
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("[follow]")
    assert terminal.echoes_at_end


class Terminal:
    """A terminal of 80 columns that a command has for itself, and what it has shown."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, slave: int) -> None:
        self.process = process
        self.echoes_at_end = False
        self._master, self._slave = master, slave
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def seen(self) -> str:
        return self._seen.decode(errors="replace")

    def write(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._seen += data
        except OSError:
            pass  # EIO: the last one who had the terminal open has gone

    def close(self) -> None:
        """Ends the command, if it still runs. Harmless when called again."""
        if self._slave < 0:
            return
        self.process.kill()
        self.process.wait()
        self.echoes_at_end = bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)
        os.close(self._slave)
        self._slave = -1
        self._reader.join(10)
        os.close(self._master)


@contextmanager
def on_terminal(arguments: list[str], cwd: Path) -> Iterator[Terminal]:
    """The command in a session of its own, with a terminal for its three streams."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", IN_SESSION, *map(os.fsdecode, command(*arguments))],
        cwd=cwd,
        env=environment(TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    terminal = Terminal(process, master, slave)
    try:
        yield terminal
    finally:
        terminal.close()


IN_SESSION = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_commands_in_hints_are_as_they_have_to_be_typed() -> None:
    where = "--name orders"
    assert (
        addressed("It is paused (keyferry unpause).", where)
        == "It is paused (keyferry unpause --name orders)."
    )
    assert addressed("keyferry status, keyferry abort", where) == (
        "keyferry status --name orders, keyferry abort --name orders"
    )
    for unchanged in (
        "keyferry verify SOURCE TARGET",
        "keyferry status --json",
        "keyferry migrate",
        "keyferry pause-all",
        "Give it again with --yes.",
    ):
        assert addressed(unchanged, where) == unchanged


def test_a_whole_migration_by_its_commands(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 200)
    with started(["migrate", source.url, target.url, "--name", "orders"], tmp_path) as process:
        said: dict[str, Any] = {}

        def is_verified() -> bool:
            ended = keyferry("status", "--json", "--name", "orders", cwd=tmp_path)
            said.update(json.loads(ended.out))
            return bool(ended.status == 0 and said.get("verification") and said["stage"] == "following")

        _wait(is_verified)
        assert said["verification"]["differences"] == 0
        assert (said["phase"], said["authority"], said["pid"]) == ("source", "source", process.pid)

        assert keyferry("pause", cwd=tmp_path).status == 0
        with source.session() as session, target.session() as other:
            session.call("SET", "while-paused", "v")
            time.sleep(0.5)
            assert other.call("GET", "while-paused") is None
            refused = keyferry("cutover", "--yes", "--gate", "none", cwd=tmp_path)
            assert refused.status == 4 and "keyferry unpause --name orders" in refused.err
            assert keyferry("verify", "--name", "orders", cwd=tmp_path).status == 4
            assert keyferry("unpause", cwd=tmp_path).status == 0
            _wait(lambda: other.call("GET", "while-paused") == b"v")

        assert keyferry("throttle", "--max-rate", "20K", cwd=tmp_path).status == 0
        limits = json.loads(keyferry("status", "--json", cwd=tmp_path).out)["limits"]
        assert limits["max_rate"] == 20_000

        verified = keyferry("verify", "--name", "orders", cwd=tmp_path)
        assert (verified.status, "0 differ" in verified.out) == (0, True)

        assert keyferry("rollback", cwd=tmp_path).status == 4
        assert keyferry("finish", cwd=tmp_path).status == 4
        asked = keyferry("cutover", "--gate", "none", cwd=tmp_path)
        assert asked.status == 0 and "--yes" in asked.out
        assert json.loads(keyferry("status", "--json", cwd=tmp_path).out)["authority"] == "source"
        for verb, authority in (("cutover", "target"), ("rollback", "source"), ("cutover", "target")):
            _switch(verb, tmp_path)
            assert json.loads(keyferry("status", "--json", cwd=tmp_path).out)["authority"] == authority
        assert keyferry("abort", "--yes", cwd=tmp_path).status == 4
        assert keyferry("finish", cwd=tmp_path).status == 0
        assert keyferry("finish", "--yes", cwd=tmp_path).status == 0
        assert process.wait(timeout=20) == 0
    with source.session() as session, target.session() as other:
        for server in (session, other):
            assert server.call("KEYS", "keyferry:*") == []
    assert keyferry("status", cwd=tmp_path).status == 2


def _switch(verb: str, directory: Path) -> None:
    """As soon as the migration is ready for it."""

    def is_made() -> bool:
        ended = keyferry(verb, "--yes", "--gate", "none", cwd=directory)
        assert ended.status in (0, 4), ended.err
        return ended.status == 0

    _wait(is_made)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
