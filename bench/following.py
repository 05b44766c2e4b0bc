"""The parent's side of a sync: starts it, collects its snapshots, waits for what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.aside import PROJECT
from bench.samples import BenchError

STOP_TIMEOUT_S = 20.0
SHOWN_BYTES = 800


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the sync showed at one moment, and what its process had used by then.

    Attributes:
        at_s: By the monotonic clock, which all processes share.
        elapsed_s: Since the sync began.
        lag_s: Age of the oldest dirty key.
    """

    at_s: float
    cpu_s: float
    resident_bytes: int
    stage: str
    generation: int
    elapsed_s: float
    dirty_keys: int
    lag_s: float
    settled_keys: int


class Following:
    """A running sync. A context manager; ends it at the end.

    Args:
        arguments: Further ones of ``bench.follower``.
    """

    def __init__(self, source: str, target: str, directory: Path, arguments: Sequence[str] = ()) -> None:
        self._argv = [sys.executable, "-m", "bench.follower", source, target, str(directory / "state")]
        self._argv += arguments
        self._snapshots: list[Snapshot] = []
        self._told = threading.Condition()
        self._ended = False

    def __enter__(self) -> Following:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=PROJECT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        said = self._said()
        self._errors.close()
        if kind is None and self._process.returncode != 0:
            raise BenchError(f"the sync did not end as it should: {said}")

    @property
    def last(self) -> Snapshot:
        with self._told:
            if not self._snapshots:
                raise BenchError("the sync has not shown anything")
            return self._snapshots[-1]

    def between(self, begun_s: float, ended_s: float) -> list[Snapshot]:
        """The snapshots of a time that has passed."""
        with self._told:
            return [one for one in self._snapshots if begun_s <= one.at_s <= ended_s]

    def wait(self, what: str, holds: Callable[[Snapshot], bool], timeout_s: float) -> Snapshot:
        """The first snapshot from now on for which ``holds`` is true.

        Raises:
            BenchError: There is none within ``timeout_s``, the sync ended, or a new generation began, whose
                comparison would be measured instead.
        """

        def found() -> bool:
            if self._ended:
                return True
            return len(self._snapshots) > seen and holds(self._snapshots[-1])

        with self._told:
            seen = len(self._snapshots)
            told = self._told.wait_for(found, timeout_s)
            last = self._snapshots[-1] if self._snapshots else None
        if self._ended:
            raise BenchError(f"the sync ended: {self._said()}")
        if last is not None and last.generation > 1:
            raise BenchError(f"the sync began another generation: {self._said()}")
        if not told or last is None:
            raise BenchError(f"{what}: not within {timeout_s:.0f} s; {last}")
        return last

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._told:
                self._snapshots.append(Snapshot(**json.loads(line)))
                self._told.notify_all()
        with self._told:
            self._ended = True
            self._told.notify_all()

    def _said(self) -> str:
        """The end of what it said, on one line."""
        # pread(): the sync's process writes at the position that a seek would change.
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), SHOWN_BYTES, max(0, size - SHOWN_BYTES))
        return " ".join(text.decode("utf-8", "replace").split())
