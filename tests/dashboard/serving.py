"""A dashboard's process as its migration starts it, and what a browser or program asks of it."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from keyferry.cutover.control import ControlServer
from keyferry.cutover.control_place import control_path
from keyferry.cutover.desk import QueueDesk, Ticket
from keyferry.cutover.requests import Request
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

LOOPBACK = "127.0.0.1"
TOKEN = "tests-know-it"
ANSWERS_WITHIN_S = 60.0
JSON = "application/json"
PACKAGE = "keyferry.app.dashboard"
_BOUNDED = f"""
import json, sys
from {PACKAGE} import serve
vars(serve).update(json.loads(sys.argv[1]))
sys.exit(serve.main())
"""
KEYS = 300
SOURCE, TARGET = "redis-7.0", "valkey-9.1"


class Answer(NamedTuple):
    """Of HTTP. Header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Events:
    """What a browser hears. Lines are read as they come."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWERS_WITHIN_S)
        self._connection.request("GET", "/api/events")
        self.answer = self._connection.getresponse()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def next(self) -> tuple[str, Any] | None:
        """Name and data; None at the end."""
        name = ""
        data = b""
        while line := self.answer.readline():
            field, _, value = line.strip().partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data += value
            elif not line.strip() and data:
                return name, json.loads(data)
        return None

    def until(self, name: str) -> Any:
        """The data of the next event of this name."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while (event := self.next()) is not None:
            if event[0] == name:
                return event[1]
            assert time.monotonic() < until_s, f"no {name} came"
        raise AssertionError(f"the events ended without {name}")


class Dashboard:
    """One that runs.

    Args:
        bounds: Of ``serve``, in place of its own.
    """

    def __init__(
        self,
        control: Path,
        port: int = 0,
        *,
        kind: str = "migrate",
        bounds: Mapping[str, float] | None = None,
        **hello: Any,
    ) -> None:
        self._listener = socket.create_server((LOOPBACK, port))
        self.port = self._listener.getsockname()[1]
        self.host = f"{LOOPBACK}:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
        self.process = subprocess.Popen(
            [sys.executable, *(("-c", _BOUNDED, json.dumps(bounds)) if bounds else ("-m", PACKAGE))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(self._listener.fileno(),),
            env=kept,
        )
        self.say(
            {
                "fd": self._listener.fileno(),
                "control": str(control),
                "token": TOKEN,
                "hosts": [self.host, f"localhost:{self.port}"],
                "kind": kind,
                "name": "shop",
                **hello,
            }
        )

    def say(self, line: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()

    def is_ready(self) -> None:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], ANSWERS_WITHIN_S)[0], "it does not serve"
        assert self.process.stdout.readline() == b"ready\n"
        self._listener.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWERS_WITHIN_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request(
            "GET", path, headers={name.replace("_", "-"): its for name, its in headers.items()}
        )

    def act(
        self, command: str, *, token: str = TOKEN, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        given = {"Content-Type": JSON, "Authorization": f"Bearer {token}", **(headers or {})}
        return self.request("POST", f"/api/actions/{command}", json.dumps(options).encode(), given)

    def wait_for_place(self) -> None:
        """Until one more may follow the events."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            with self.events() as events:
                if events.answer.status == 200:
                    return
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def events(self) -> Events:
        return Events(self.port)

    def wait_for(self, path: str, status: int) -> Answer:
        """Asks until it answers so."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while (answer := self.get(path)).status != status:
            assert time.monotonic() < until_s, answer
            time.sleep(0.05)
        return answer

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which this is true."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while (answer := self.get("/api/status")).status != 200 or not holds(answer.json):
            assert time.monotonic() < until_s, (what, answer)
            time.sleep(0.05)
        status: dict[str, Any] = answer.json
        return status

    def end(self, **ended: Any) -> None:
        """As the migration ends; without arguments it dies without a word."""
        if ended:
            self.say({"ended": ended})
        assert self.process.stdin is not None
        self.process.stdin.close()

    def has_ended(self) -> tuple[int, str]:
        """Its status, and what it has said on standard error."""
        assert self.process.stderr is not None
        status = self.process.wait(ANSWERS_WITHIN_S)
        return status, self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self._listener.close()


@contextmanager
def dashboard(control: Path, port: int = 0, **hello: Any) -> Iterator[Dashboard]:
    """One that serves, from the beginning of the block to its end."""
    board = Dashboard(control, port, **hello)
    try:
        board.is_ready()
        yield board
    finally:
        board.close()


@dataclass
class Shop:
    """A ``keyferry migrate`` that runs between two servers, in a process of its own."""

    process: subprocess.Popen[bytes]
    control: Path


@contextmanager
def migrating_shop(binaries: dict[str, ServerBinary]) -> Iterator[Shop]:
    """One, from the beginning of the block to its end."""
    if not {SOURCE, TARGET} <= binaries.keys():
        pytest.skip(f"{SOURCE} or {TARGET} is not at hand")
    with (
        Server(binaries[SOURCE]) as source,
        Server(binaries[TARGET]) as target,
        # Short: a path of a socket has to be.
        TemporaryDirectory() as directory,
    ):
        with source.session() as session:
            fill(session, KEYS)
        state = Path(directory)
        arguments = [source.url, target.url, "--name", "shop", "--state-dir", directory, "--gate", "none"]
        process = subprocess.Popen(
            [sys.executable, "-m", "keyferry", "migrate", *arguments],
            env={name: its for name, its in os.environ.items() if not name.startswith("KEYFERRY_")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        control = control_path(state, "shop")
        try:
            until_s = time.monotonic() + ANSWERS_WITHIN_S
            while not control.exists():
                assert process.poll() is None and time.monotonic() < until_s, process.returncode
                time.sleep(0.05)
            yield Shop(process, control)
        finally:
            process.kill()
            process.wait()


class PatientDesk(QueueDesk):
    """Of a run that does nothing: what is asked waits.

    Attributes:
        tickets: Of everything that was asked.
    """

    def __init__(self) -> None:
        super().__init__({"name": "shop", "stage": "following"})
        self.tickets: list[Ticket] = []

    def ask(self, request: Request, process: int | None = None) -> Ticket:
        ticket = super().ask(request, process)
        self.tickets.append(ticket)
        return ticket


@dataclass
class Idle:
    """A run that does nothing, behind its control socket."""

    desk: PatientDesk
    control: Path


@contextmanager
def idling() -> Iterator[Idle]:
    """One, from the beginning of the block to its end."""
    desk = PatientDesk()
    with (
        TemporaryDirectory() as directory,
        ControlServer(control_path(Path(directory), "shop"), desk) as server,
        closing(desk),
    ):
        yield Idle(desk, server.path)


@contextmanager
def idle_dashboard(**hello: Any) -> Iterator[tuple[Idle, Dashboard]]:
    """The same, and its dashboard, which knows of it."""
    with idling() as idle, dashboard(idle.control, **hello) as board:
        board.wait_for("/api/status", 200)
        yield idle, board
