"""The switch as an operator can do it by hand, with ``keyferry sync`` and ``keyferry phase set``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from keyferry.model.errors import ExitCode
from keyferry.testing.compare import compare_databases
from keyferry.testing.servers import Server
from keyferry.testing.tool import Tool

BEGUN = "Changes are followed by"
EQUAL_WITHIN_S = 20.0


class ByHand:
    """One migration; ``sync`` runs beside it in a Tool of its own."""

    def __init__(self, name: str, source: Server, target: Server, directory: Path) -> None:
        self.name, self.source, self.target, self.directory = name, source, target, directory

    def sync(self) -> Tool:
        command = [sys.executable, "-m", "keyferry", "sync", self.source.url, self.target.url]
        options = ["--name", self.name, "--max-latency", "0", "--state-dir", str(self.directory / "state")]
        return Tool([*command, *options], self.directory, begun=BEGUN)

    def phase(self, phase: str, *options: str) -> None:
        """One step that is made."""
        status, said = self.try_phase(phase, *options)
        assert status == ExitCode.DONE, said

    def try_phase(self, phase: str, *options: str) -> tuple[int, str]:
        """One step: its exit status, and what it said."""
        command = [
            *(sys.executable, "-m", "keyferry", "phase", "set"),
            *(self.name, self.source.url, self.target.url, phase),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
        ended = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        return ended.returncode, ended.stderr

    def cutover(self, sync: Tool) -> None:
        """The sync has to end before the commit: after it, it would carry the old side's data over the new."""
        self.phase("hold")
        self.wait_equal()
        status, said = self.try_phase("target-dual", "--yes")
        assert status == ExitCode.REFUSED and "still writes to the target" in said, said
        sync.ask_to_end(signal.SIGTERM)
        self.phase("target-dual", "--yes")

    def wait_equal(self) -> None:
        """Until a comparison finds nothing.

        Raises:
            TimeoutError: It goes on finding something.
        """
        deadline_s = time.monotonic() + EQUAL_WITHIN_S
        while True:
            with self.source.session() as source, self.target.session(side="target") as target:
                found = compare_databases(source, target, expiry_tolerance_ms=1_000)
            if found.equal:
                return
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{found.differing_keys} keys differ: {found.differences[:3]}")
            time.sleep(0.05)
