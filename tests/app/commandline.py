"""The command as a user runs it: a process of its own, real streams, none of our KEYFERRY_ variables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def command(*arguments: str | bytes) -> list[str | bytes]:
    return [sys.executable, "-m", "keyferry", *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
    return kept | {"PYTHONUTF8": "1", **more}


def keyferry(*arguments: str | bytes, cwd: Path, **more: str) -> Ended:
    """Runs the command to its end; ``more`` are environment variables.

    No end of it may show a traceback, whatever the test is about.
    """
    ended = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    result = Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in result.out + result.err
    return result


@contextmanager
def started(arguments: list[str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it runs; killed at the end of the block, if it still does."""
    process = subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
