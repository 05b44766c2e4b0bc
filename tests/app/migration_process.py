"""A ``keyferry migrate`` that runs, and is spoken to over its socket."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commandline import started

from keyferry.cutover.control_client import ask
from keyferry.cutover.control_place import control_path
from keyferry.cutover.requests import End, Request
from keyferry.model.errors import KeyferryError

READY_S = 60.0
STATE = ".keyferry"


class Running:
    """A migration that runs, and its socket."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._path = control_path(directory / STATE, "shop")

    def ask(self, command: str, **options: Any) -> End:
        return ask(self._path, Request(command, options), lambda said: None)

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + READY_S
        while True:
            status: dict[str, Any] = {}
            if self._path.exists():
                try:
                    status = dict(self.ask("status").facts)
                except KeyferryError:
                    status = {}  # Its socket is being made, or taken away.
                if status and holds(status):
                    return status
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"{what} took more than {READY_S:g} s: {status}"
            time.sleep(0.05)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Its status and what it said; ``number`` is sent first."""
        if number is not None:
            self.process.send_signal(number)
        began = time.monotonic()
        out, err = self.process.communicate(timeout=READY_S)
        assert number is None or time.monotonic() - began < 3
        assert b"Traceback" not in out + err
        return self.process.returncode, out.decode(), err.decode()


@contextmanager
def running(directory: Path, given: list[str]) -> Iterator[Running]:
    with started(given, directory) as process:
        yield Running(process, directory)
