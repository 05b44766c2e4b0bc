"""Runs a recipe as an application would be run: in a process of its own, between two real servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keyferry.model.keys import is_reserved
from keyferry.testing.compare import compare_databases
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, Reply

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 120


@dataclass(slots=True)
class Recipe:
    """The two servers of a test, and how programs reach them.

    Attributes:
        more: Environment variables besides OLD_REDIS and NEW_REDIS.
    """

    old: Server
    new: Server
    directory: Path
    more: dict[str, str] = field(default_factory=dict)

    def python(self, *arguments: str) -> str:
        """Runs ``python arguments...`` in the directory of the examples; what it printed."""
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=EXAMPLES,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.stdout

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The same while the block runs; what it says is in ``log``."""
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=EXAMPLES,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "backslashreplace")

    def on_both(self, *command: Argument) -> Reply:
        """What both servers say to a command, which has to be the same."""
        with self.old.session() as old, self.new.session() as new:
            replies = old.call(*command), new.call(*command)
        assert replies[0] == replies[1]
        return replies[0]

    def differing(self) -> set[bytes]:
        """Keys that differ."""
        with self.old.session() as old, self.new.session() as new:
            found = compare_databases(old, new, expiry_tolerance_ms=1_000)
        return {difference.key for difference in found.differences}

    def step(self, phase: str, *more: str) -> None:
        """Takes the migration ``shop`` one step on, or back; every writer has to take it."""
        places = f"{self.old.url}/0", f"{self.new.url}/0"
        self.python("-m", "keyferry", "phase", "set", "shop", *places, phase, *more)

    def switch(self) -> None:
        """From dual to the new server."""
        self.step("hold")
        self.settle()
        self.step("target-dual", "--yes")

    def content(self) -> int:
        """How many keys both have, without ours."""
        found = []
        for server in (self.old, self.new):
            with server.session() as session:
                keys = session.call("KEYS", "*")
            assert isinstance(keys, list)
            found.append(sum(1 for key in keys if isinstance(key, bytes) and not is_reserved(key)))
        assert found[0] == found[1]
        return found[0]

    def settle(self) -> None:
        """Lets ``keyferry sync`` carry what could not be mirrored."""
        arguments = ["-m", "keyferry", "sync", self.old.url, self.new.url, "--until-synced", "--on-conflict"]
        self.python(*arguments, "replace", "--state-dir", str(self.directory))

    @property
    def _environment(self) -> dict[str, str]:
        return (
            {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
            | {
                "OLD_REDIS": f"{self.old.url}/0",
                "NEW_REDIS": f"{self.new.url}/0",
                "PYTHONPATH": str(EXAMPLES),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            | self.more
        )
