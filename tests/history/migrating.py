"""``keyferry migrate`` as a process that is killed and started again, and the commands that speak to it, as a user
gives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from keyferry.cutover.failpoints import DIE, PAUSE, PAUSE_FOR
from keyferry.model.errors import ExitCode, KeyferryError

ENDS_S = 10.0
ASKED_S = 60.0
LOOKS_S = 0.1
PAUSE_S = 0.5
LATE_AT, LATE_S = "settle", 1.3
GATE_S = "1"
"""Shorter than what makes it late."""
NEVER_SAID = "Traceback", "mistake in Keyferry"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. Attributes: said: Standard error; ``facts`` of ``--json``."""

    status: int
    said: str
    facts: dict[str, Any]

    @property
    def done(self) -> bool:
        return self.status in (ExitCode.DONE, ExitCode.KEYS_FAILED)


class Migrating:
    """One migration.

    Args:
        urls: Of both sides, as the command gets them.
        directory: For its state and what it says.
        options: Of ``keyferry migrate``.
        stop_at: The first process stops at this place of a switch (see cutover.failpoints).
        pause_at: Every process stands still for ``PAUSE_S`` at this one.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        directory: Path,
        options: Sequence[str] = (),
        *,
        stop_at: str = "",
        pause_at: str = "",
    ) -> None:
        self.name, self._urls, self._directory = name, list(urls), directory
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_at, self._pause_at = stop_at, pause_at
        self.starts = 0

    def __enter__(self) -> Migrating:
        self.start(**stopping(self._stop_at))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self, **environment: str) -> None:
        """The same command again, with more environment variables."""
        self.starts += 1
        if self._pause_at:
            environment = {PAUSE: self._pause_at, PAUSE_FOR: str(PAUSE_S)} | environment
        command = [
            *(sys.executable, "-m", "keyferry", "migrate", *self._urls),
            *("--name", self.name, "--state-dir", str(self._state), "--max-latency", "0"),
            *self._options,
        ]
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=_environment() | {"KEYFERRY_DEBUG": "1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self, seconds: float) -> None:
        """SIGSTOP for so long."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def ended(self, timeout_s: float = ENDS_S) -> int:
        """Its status, when it has ended by itself.

        Raises:
            KeyferryError: It has not.
        """
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise KeyferryError(f"keyferry migrate goes on: {self.said()[-800:]}") from None

    def said(self) -> str:
        """What the last process said on standard error."""
        return self._file("err").read_text("utf-8", "backslashreplace")

    def never_said(self) -> list[str]:
        """What no process may say, and one has."""
        texts = [
            path.read_text("utf-8", "backslashreplace")
            for path in sorted(self._directory.glob("migrate-*.err"))
        ]
        return [text[text.index(word) :][:1_500] for text in texts for word in NEVER_SAID if word in text]

    def wait_said(self, text: str, timeout_s: float = ASKED_S) -> None:
        """Until the last process has said it."""
        deadline_s = time.monotonic() + timeout_s
        while text not in self.said():
            self._check_runs(deadline_s, f"has not said {text!r}")
            time.sleep(0.01)

    def status(self) -> dict[str, Any]:
        return self.ask("status").facts

    def wait(self, what: str, *, timeout_s: float = ASKED_S, **wanted: Any) -> dict[str, Any]:
        """Until its status says all of this; ``what`` is for who reads that it did not."""
        deadline_s = time.monotonic() + timeout_s
        status: dict[str, Any] = {}
        while not status or any(status.get(name) != value for name, value in wanted.items()):
            shown = {name: status.get(name) for name in (*wanted, "stage", "not_ready")}
            self._check_runs(deadline_s, f"is not {what}: {shown}")
            time.sleep(LOOKS_S)
            status = self.status()
        return status

    def ask(self, command: str, *options: str) -> Ended:
        """``keyferry COMMAND --name ... --json`` to its end."""
        words = [
            *_KEYFERRY,
            command,
            "--name",
            self.name,
            "--state-dir",
            str(self._state),
            "--json",
            *options,
        ]
        ended = subprocess.run(
            words, cwd=self._directory, env=_environment(), capture_output=True, timeout=ASKED_S, check=False
        )
        said = ended.stderr.decode("utf-8", "backslashreplace")
        try:
            facts = json.loads(ended.stdout) if ended.stdout.strip() else {}
        except ValueError:
            facts = {"said": ended.stdout.decode("utf-8", "backslashreplace")}
        if any(word in said for word in NEVER_SAID):
            raise KeyferryError(f"keyferry {command} failed: {said[-1_500:]}")
        return Ended(ended.returncode, said, facts)

    def phase_set(self, phase: str) -> None:
        """``keyferry phase set``, until all writers have taken the step."""
        words = [*_KEYFERRY, "phase", "set", self.name, *self._urls, phase]
        ended = subprocess.run(
            words, cwd=self._directory, env=_environment(), capture_output=True, timeout=ASKED_S, check=False
        )
        if ended.returncode:
            raise KeyferryError(f"keyferry phase set {phase}: {ended.stderr.decode()[-500:]}")

    @property
    def _state(self) -> Path:
        return self._directory / "state"

    def _file(self, what: str) -> Path:
        return self._directory / f"migrate-{self.starts}.{what}"

    def _check_runs(self, deadline_s: float, what: str) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise KeyferryError(
                f"keyferry migrate ended with {self._process.returncode}: {self.said()[-1_500:]}"
            )
        if time.monotonic() > deadline_s:
            raise KeyferryError(f"keyferry migrate {what}: {self.said()[-800:]}")


def stopping(place: str) -> dict[str, str]:
    """The environment in which a process stops at a place, for good. What is undone has to be late before."""
    if place.startswith("undo"):
        return {PAUSE: LATE_AT, PAUSE_FOR: str(LATE_S), DIE: place}
    return {PAUSE: place} if place else {}


_KEYFERRY = [sys.executable, "-m", "keyferry"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")} | {
        "PYTHONUTF8": "1"
    }
