"""All processes of a service together: started, watched while they run, stopped, and counted."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from keyferry.model.errors import KeyferryError
from keyferry.testing.service_board import FAILED, READS, STALE, UNKNOWN, WRITES, Board
from keyferry.testing.service_job import Job
from keyferry.testing.service_waits import Calls

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
AUDIT_TIMEOUT_S = 300.0
SAID_BYTES = 2_000
SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Counted:
    """What a service was told, and what is there.

    Attributes:
        writes: Acknowledged, of those that the ledgers stand for.
        missing: Of what they wrote is not there.
        doubled: Is there twice, or although it was taken away.
        doubtful: Keys with a write of unknown outcome, which are judged more mildly.
        findings: The first that are not as they should be.
        errors: The first that the application has seen.
    """

    writes: int
    missing: int
    doubled: int
    doubtful: int
    findings: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What all processes have seen so far.

    Attributes:
        writes: Commands that were acknowledged.
        failed: Errors that say that nothing was done; ``unknown``: that do not say.
    """

    writes: int
    reads: int
    stale: int
    failed: int
    unknown: int


class Crowd:
    """Processes of ``keyferry.testing.service_process``; they end with the block, wherever it ends.

    Args:
        job: Of all; each gets its own number.
        kinds: The client of each process: "threads" or "asyncio".
        program: The module that they run.
    """

    def __init__(
        self, job: Job, kinds: Sequence[str], program: str = "keyferry.testing.service_process"
    ) -> None:
        self._jobs = [
            Job(
                job.source, job.target, job.migration, job.directory, number, len(kinds), job.seed, kind,
                job.habits, job.settings,
            )
            for number, kind in enumerate(kinds)
        ]  # fmt: skip
        self._program = program
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the block)
        self.board = Board.create(job.board_file, len(kinds))

    def __enter__(self) -> Crowd:
        for job in self._jobs:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", self._program, job.as_json()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    start_new_session=True,
                )
            )
        try:
            self._hear("ready", START_TIMEOUT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self.board.__exit__(None, None, None)
        self._said.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def go(self) -> None:
        """Lets all begin."""
        self._tell("go")

    def tally(self) -> Tally:
        """At any time."""
        return Tally(*map(self.board.total, (WRITES, READS, STALE, FAILED, UNKNOWN)))

    def stop(self) -> Calls:
        """Ends the work after the call that is under way; returns every call that was made.

        Raises:
            KeyferryError: One of them failed.
        """
        self._tell("stop")
        self._hear("stopped", STOP_TIMEOUT_S)
        numbers = array("q")
        for job in self._jobs:
            numbers.frombytes(job.calls_file.read_bytes())
        return Calls.of_numbers(numbers)

    def audit(self, url: str) -> Counted:
        """Lets each count its own ledger on a server, after ``stop``. Raises as that."""
        self._tell(f"audit {url}")
        found = [json.loads(line) for line in self._hear("", AUDIT_TIMEOUT_S)]
        writes, missing, doubled, doubtful = (
            sum(one[name] for one in found) for name in ("writes", "missing", "doubled", "doubtful")
        )
        return Counted(
            writes,
            missing,
            doubled,
            doubtful,
            findings=tuple(finding for one in found for finding in one["findings"])[:SHOWN_MAX],
            errors=tuple(error for one in found for error in one["first_errors"])[:SHOWN_MAX],
        )

    def _tell(self, line: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    def _hear(self, expected: str, timeout_s: float) -> list[str]:
        """The next line of each; any, when none is expected."""
        deadline_s = time.monotonic() + timeout_s
        return [self._line(process, expected, deadline_s) for process in self._processes]

    def _line(self, process: subprocess.Popen[bytes], expected: str, deadline_s: float) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], (), (), max(0.0, deadline_s - time.monotonic()))
        line = process.stdout.readline().decode().strip() if ready else ""
        if not line or (expected and line != expected):
            raise KeyferryError(
                f"A process of the service did not come to {expected or 'count'!r}: {self._last_words()}"
            )
        return line

    def _last_words(self) -> str:
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), SAID_BYTES, max(0, size - SAID_BYTES)).decode("utf-8", "replace")
