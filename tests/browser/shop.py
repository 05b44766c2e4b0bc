"""A ``keyferry migrate --http`` as a user runs it, its servers, and a service that writes through the drop-in client."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from keyferry.cutover.control_client import ask
from keyferry.cutover.control_place import control_path
from keyferry.cutover.requests import End, Request
from keyferry.model.errors import KeyferryError
from keyferry.model.record import record_key
from keyferry.testing.dataset import fill
from keyferry.testing.servers import HOST, Server
from keyferry.testing.service import Habits
from keyferry.testing.service_crowd import Counted, Crowd
from keyferry.testing.service_job import Job
from keyferry.testing.service_waits import Calls

NAME = "shop"
KEYS = 2_000
WITHIN_S = 90.0
HABITS = Habits(ticks_per_s=10.0, pipeline=4, singles=2, reads=2)
KEY_NAMES = ("beacon:", "own:", "session:", "orders:", "leaderboard:")
"""How names of keys begin that the service and the data have."""
Found = TypeVar("Found")
_PLACE = re.compile(r"http://127\.0\.0\.1:(\d+)/")


class Shop:
    """A migration, or a sync, that runs; started again by ``start``.

    Args:
        given: The command and all its options, without those of the dashboard.
    """

    def __init__(self, directory: Path, given: list[str], kind: str = "migrate") -> None:
        self._directory, self._given, self._kind = directory, given, kind
        self._state = directory / ".keyferry"
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.port = 0

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def token(self) -> str:
        """Of the process that runs now."""
        return self.wait_for("the token", self._token)

    def start(self) -> None:
        """Returns when the dashboard can be asked; the second time it is where it was the first time."""
        self._starts += 1
        command = [
            sys.executable,
            "-m",
            "keyferry",
            self._kind,
            *self._given,
            "--http",
            f"{HOST}:{self.port}",
        ]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
        with self._said.open("wb") as said, self._out.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=kept | {"PYTHONUTF8": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
            )
        self.port = self.wait_for("the line that says where the dashboard is", self._place)

    def ask(self, command: str, **options: Any) -> End:
        """As the commands of another terminal ask."""
        return ask(control_path(self._state, NAME), Request(command, options), lambda said: None)

    def cut_over(self) -> None:
        """From another terminal, as soon as it can be."""
        self.wait_for("a cutover", lambda: self.ask("cutover", yes=True).exit_code == 0)

    def status(self) -> dict[str, Any]:
        """Empty while its socket is being made."""
        try:
            return dict(self.ask("status").facts)
        except KeyferryError:
            return {}

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The status of which it is true."""

        def held() -> dict[str, Any] | None:
            status = self.status()
            return status if status and holds(status) else None

        return self.wait_for(what, held)

    def wait_for(self, what: str, look: Callable[[], Found | None]) -> Found:
        """What ``look`` finds, as soon as that is something."""
        until_s = time.monotonic() + WITHIN_S
        while True:
            if found := look():
                return found
            assert self.process.poll() is None, f"waiting for {what}: {self.said()}"
            assert time.monotonic() < until_s, f"{what} took more than {WITHIN_S:g} s: {self.said()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Without a word; returns when its port is free again."""
        self.process.kill()
        self.process.wait()
        until_s = time.monotonic() + WITHIN_S
        while not _is_free(self.port):
            assert time.monotonic() < until_s, "the dashboard outlives its migration"
            time.sleep(0.05)

    def end(self) -> int:
        """The status with which it ends, now that it was told to."""
        status = self.process.wait(WITHIN_S)
        assert "Traceback" not in self.said()
        return status

    def said(self) -> str:
        """All that it has written so far."""
        return self._said.read_text() + self._out.read_text()

    def close(self) -> None:
        """Ends it as Ctrl-C does, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(WITHIN_S)
            finally:
                self._process.kill()
                self._process.wait()

    @property
    def _said(self) -> Path:
        return self._directory / f"said-{self._starts}"

    @property
    def _out(self) -> Path:
        return self._directory / f"out-{self._starts}"

    def _place(self) -> int | None:
        found = _PLACE.search(self._said.read_text())
        return int(found[1]) if found else None

    def _token(self) -> str | None:
        file = self._state / f"dashboard-{NAME}.token"
        return file.read_text().strip() if file.exists() else None


@contextmanager
def running(source: Server, target: Server, *more: str, kind: str = "migrate") -> Iterator[Shop]:
    """A source with keys, and a migration of it with a dashboard."""
    with source.session() as session:
        fill(session, KEYS)
    given = [source.url, target.url, "--max-latency", "0", *more]
    if kind == "migrate":
        given += ["--name", NAME, "--gate", "none", "--lag-target", "5", "--prepare-timeout", "5"]
    # Not below pytest's directory: the path of a socket may not be long.
    with tempfile.TemporaryDirectory(prefix="keyferry-", dir="/tmp") as directory:
        shop = Shop(Path(directory), given, kind)
        try:
            shop.start()
            yield shop
        finally:
            shop.close()


@contextmanager
def served(directory: Path, source: Server, target: Server) -> Iterator[Crowd]:
    """Two processes that write and read all the time, one with threads and one with tasks."""
    until_s = time.monotonic() + WITHIN_S
    with source.session() as session:
        while not session.call("EXISTS", record_key(NAME)):
            assert time.monotonic() < until_s, "no record to follow"
            time.sleep(0.02)
    place = directory / "service"
    place.mkdir()
    job = Job(source.url, target.url, NAME, str(place), habits=HABITS)
    with Crowd(job, ("threads", "asyncio")) as crowd:
        crowd.go()
        yield crowd


def counted(crowd: Crowd, server: Server) -> tuple[Calls, Counted]:
    """Stops the service, and counts its writes one by one on the server that has authority."""
    return crowd.stop(), crowd.audit(server.url)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
