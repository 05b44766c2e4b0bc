"""A process beside what is measured, so that neither pays for the other's interpreter.

The program prints ``ready``, works from a line on standard input until that ends or its work is done, then prints
one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.samples import BenchError

END_TIMEOUT_S = 20.0
PROJECT = Path(__file__).parent.parent


class Aside:
    """Works from entering the context to its end; ``found`` is what it says afterwards.

    Args:
        program: A module of this package that is run as a process.
        end_timeout_s: How long it may go on after its standard input has ended.
    """

    def __init__(
        self, program: str, arguments: Sequence[str], *, end_timeout_s: float = END_TIMEOUT_S
    ) -> None:
        self._program = program
        self._arguments = list(arguments)
        self._end_timeout_s = end_timeout_s
        self.found: dict[str, Any] = {}

    def __enter__(self) -> Aside:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._program, *self._arguments],
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
            if kind is not None:
                self._process.kill()
            # Closes its standard input, which ends the measurement.
            output, _ = self._process.communicate(timeout=self._end_timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            output = b""
        if kind is not None:
            return
        if self._process.returncode != 0 or not output:
            raise BenchError(f"{self._program} failed")
        self.found = json.loads(output)
