"""The parent's side of the light client and of the pinger: starts it, lets it go, collects what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.samples import BenchError

READY_TIMEOUT_S = 20.0
LIGHT_CLIENT, PINGER = "bench.light_client", "bench.pinger"
PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Seen:
    """Latencies in microseconds, and the client's CPU as a share of one core."""

    latencies_us: list[int]
    cpu_share: float


class Watcher:
    """Measures from entering the context to its end; ``seen`` afterwards."""

    def __init__(self, port: int, program: str = LIGHT_CLIENT) -> None:
        """Args: program: ``LIGHT_CLIENT`` or ``PINGER``, a module that is run as a process."""
        self._port = port
        self._program = program
        self.seen = Seen([], 0.0)

    def __enter__(self) -> Watcher:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._program, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.kill()
            self._process.wait()
            raise BenchError(f"{self._program} did not start")
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Closes its standard input, which ends the measurement.
            output, _ = self._process.communicate(timeout=READY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            output = b""
        if kind is not None:
            return
        if self._process.returncode != 0 or not output:
            raise BenchError(f"{self._program} failed")
        found = json.loads(output)
        self.seen = Seen(found["latencies_us"], found["cpu_share"])
