"""Runs a tool as a process of its own and measures that process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.samples import BenchError

LAUNCHER = Path(__file__).with_name("launch.py")
SHOWN_BYTES = 800


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process did and used; CPU with that of the children that it waited for."""

    output: bytes
    seconds: float
    cpu_s: float
    peak_bytes: int


def run_tool(
    argv: Sequence[str],
    directory: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    *,
    results: Collection[int] = (0,),
) -> Ended:
    """Runs ``argv`` in ``directory`` to its end.

    Args:
        results: Exit codes that are no failure.

    Raises:
        BenchError: It failed, or took longer than ``timeout_s``.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        report = directory / "usage.json"
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(report), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"not done after {timeout_s:.0f} s") from None
        finally:
            # The launcher and whatever it started are one process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise BenchError(f"could not be started: {_tail(errors.read())}")
        used = json.loads(report.read_bytes())
        if used["exit_code"] not in results:
            raise BenchError(f"exit code {used['exit_code']}: {_tail(errors.read())}")
        return Ended(output.read(), used["seconds"], used["cpu_s"], used["peak_bytes"])


def _tail(text: bytes) -> str:
    """The end of what a tool said, on one line."""
    return " ".join(text[-SHOWN_BYTES:].decode("utf-8", "replace").split())
