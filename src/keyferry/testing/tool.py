"""The command line tool as a process that is stopped, killed and started again, and whose words are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ENDS_WITHIN_S = 3.0
WAIT_S = 20.0
EARLY_S = 2.0
"""Before its handlers are in place a signal ends a process by itself; imports take a while on a busy machine."""
NOT_REACHED = 3
"""The exit status that says that a server cannot be reached, or refuses us."""
FULL = "OOM command not allowed"


class Tool:
    """One command, in as many processes, one after the other, as a test needs.

    Args:
        command: Program and arguments.
        directory: Where it runs, and where what each process says is kept.
        begun: What it says when it has been let in by both servers.

    Attributes:
        starts: How often it was started. ``turned_away``: how often it ended because a fault did not let it in from
            the beginning, or because the target was full, which it may, and was started again.
        problems: What a process must never do and did, in a sentence each: to end by itself, to end too late or
            with another status, to fail with a traceback.
    """

    def __init__(self, command: Sequence[str], directory: Path, *, begun: str) -> None:
        self._command = list(command)
        self._begun = begun
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self.starts = 0
        self.turned_away = 0
        self.problems: list[str] = []

    def __enter__(self) -> Tool:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        self.starts += 1
        self._started_s = time.monotonic()
        environment = {"KEYFERRY_DEBUG": "1"} | {
            name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_SOURCE_")
        }
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        self._signal(signal.SIGKILL)
        self._wait(WAIT_S)

    def ask_to_end(self, number: signal.Signals) -> None:
        """SIGINT or SIGTERM: it has three seconds, and says with its status that it was interrupted."""
        sent = time.monotonic()
        self._signal(number)
        status = self._wait(WAIT_S)
        took_s = time.monotonic() - sent
        if took_s > ENDS_WITHIN_S:
            self.problems.append(f"It took {took_s:.1f} s to end after {number.name}.")
        early = status == -number and sent - self._started_s < EARLY_S
        if status not in (130, None) and not early:
            self.problems.append(f"It ended with status {status} after {number.name}: {self.said()[-400:]}")
        self._process = None

    def pause(self, seconds: float) -> None:
        """SIGSTOP for so long."""
        self._signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(signal.SIGCONT)

    def look(self) -> bool:
        """False when it is not running any more, although nobody ended it; that is then a problem, noted once."""
        if self.runs:
            return True
        if self._process is not None:
            status = self._process.returncode
            said = self.said()
            if (status == NOT_REACHED and self._begun not in said) or FULL in said:
                self.turned_away += 1
                self.start()
                return True
            self.problems.append(f"It ended by itself with status {status}: {self.said()[-400:]}")
            self._process = None
        return False

    def said(self) -> str:
        """What the last process said on standard error."""
        return self._file("err").read_text("utf-8", "backslashreplace")

    def look_for(self, *texts: str) -> None:
        """Notes each process that said one of these on standard error."""
        for path in sorted(self._directory.glob("tool-*.err")):
            said = path.read_text("utf-8", "backslashreplace")
            for text in texts:
                if text in said:
                    at = said.index(text)
                    self.problems.append(f"{path.name}: {said[max(0, at - 300) : at + 1_500]}")

    def _file(self, what: str) -> Path:
        return self._directory / f"tool-{self.starts}.{what}"

    def _signal(self, number: signal.Signals) -> None:
        if self.look() and self._process is not None:
            self._process.send_signal(number)

    def _wait(self, timeout_s: float) -> int | None:
        """Its status; None when it had ended before, or does not end and is killed."""
        if self._process is None:
            return None
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.problems.append(f"It did not end within {timeout_s:g} s.")
            self._process.kill()
            self._process.wait()
            status = None
        if status == -signal.SIGKILL:
            self._process = None
        return status
