"""The parent's side of ``keyferry migrate``: starts it, asks it through its socket, waits for what it says."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.samples import BenchError
from bench.tools import keyferry_program
from keyferry.cutover.control_client import ask
from keyferry.cutover.control_place import control_path
from keyferry.cutover.requests import End, Request
from keyferry.model.errors import KeyferryError

STOP_TIMEOUT_S = 30.0
POLL_S = 0.1
SHOWN_BYTES = 1_500
NAME = "bench"


class Migrating:
    """A running migration. A context manager; ends its process, not the migration, at the end."""

    def __init__(self, source: str, target: str, directory: Path, arguments: Sequence[str] = ()) -> None:
        self._state = directory / "state"
        self._argv = [*keyferry_program(), "migrate", source, target, "--name", NAME]
        self._argv += ["--state-dir", str(self._state), *arguments]

    def __enter__(self) -> Migrating:
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def wait(
        self, what: str, holds: Callable[[Mapping[str, Any]], bool], timeout_s: float
    ) -> Mapping[str, Any]:
        """The first status for which ``holds`` is true.

        Raises:
            BenchError: There is none within ``timeout_s``, or the process has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        last: Mapping[str, Any] = {}
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise BenchError(f"keyferry migrate has ended: {self._last_words()}")
            try:
                last = self.status()
            except KeyferryError:
                last = {}
            if last and holds(last):
                return last
            time.sleep(POLL_S)
        shown = {name: last.get(name) for name in ("stage", "step", "not_ready", "touched")}
        raise BenchError(f"not {what} within {timeout_s:.0f} s: {shown}")

    def status(self) -> Mapping[str, Any]:
        """What it says of itself. Raises ``KeyferryError``."""
        return self.ask("status").facts

    def ask(self, command: str, **options: object) -> End:
        """Asks, and waits for the end of it. Raises ``KeyferryError``."""
        return ask(control_path(self._state, NAME), Request(command, options), lambda said: None)

    def _last_words(self) -> str:
        self._said.seek(0, 2)
        self._said.seek(max(0, self._said.tell() - SHOWN_BYTES))
        return self._said.read().decode("utf-8", "replace").strip()
