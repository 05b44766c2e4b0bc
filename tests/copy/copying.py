"""A whole copy as tests run it: through ``run_copy`` here, or as a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyferry.copy.run import run_copy
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.model.address import Endpoint
from keyferry.telemetry.progress import Progress
from keyferry.telemetry.report import CopyReport
from keyferry.testing.compare import Comparison, compare_databases
from keyferry.testing.deployment import Deployment
from keyferry.wire.resp import Argument, Reply, ReplyError

WAIT_S_MAX = 30.0


@dataclass
class Copying:
    """Runs copies with one state directory, and keeps what they said."""

    state_dir: Path
    told: list[str] = field(default_factory=list)
    stop: StopFlag = field(default_factory=StopFlag)
    on_progress: Callable[[Progress], None] = lambda progress: None

    def run(
        self, source: Deployment | Endpoint, target: Deployment | Endpoint, **settings: Any
    ) -> CopyReport:
        """``settings`` are CopySettings' own; the latency guard is off unless given."""
        given = {"max_latency_ms": 0.0, "retry_s": 10.0, "state_dir": self.state_dir, **settings}
        return run_copy(
            CopySettings(endpoint_of(source), endpoint_of(target), **given),
            observe=self.on_progress,
            tell=self.told.append,
            stop=self.stop,
        )

    @property
    def leftovers(self) -> list[str]:
        """What is left in the state directory."""
        return sorted(path.name for path in self.state_dir.iterdir())


def endpoint_of(side: Deployment | Endpoint) -> Endpoint:
    return side if isinstance(side, Endpoint) else side.endpoint


def assert_consistent(report: CopyReport) -> None:
    """Every key that was scanned has exactly one end, in this run and in all."""
    for counts in (report.run, report.total):
        assert counts.scanned == counts.copied + counts.skipped + counts.vanished + counts.failed
        assert sum(counts.methods) == counts.copied


def compared(source: Deployment, target: Deployment, **options: Any) -> Comparison:
    with source.session() as here, target.session(side="target") as there:
        return compare_databases(here, there, **options)


def assert_equal(source: Deployment, target: Deployment, **options: Any) -> Comparison:
    comparison = compared(source, target, **options)
    assert comparison.equal, comparison.differences[:10]
    return comparison


def ask(server: Deployment, *command: Argument, db: int = 0) -> Reply:
    """One command; an error fails the test."""
    with server.session(db) as session:
        reply = session.call(*command)
    assert not isinstance(reply, ReplyError), reply
    return reply


def fill(server: Deployment, commands: list[tuple[Argument, ...]], db: int = 0) -> None:
    with server.session(db) as session:
        for begin in range(0, len(commands), 5000):
            replies = session.pipeline(commands[begin : begin + 5000])
            errors = [reply for reply in replies if isinstance(reply, ReplyError)]
            assert not errors, errors[:3]


def fill_strings(
    server: Deployment, count: int, *, db: int = 0, size: int = 20, prefix: bytes = b"key:"
) -> None:
    """``count`` strings whose values are their own."""
    fill(server, [("SET", b"%b%d" % (prefix, i), (b"%d," % i) * (size // 4)) for i in range(count)], db)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S_MAX) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {timeout_s:g} s: {what}"
        time.sleep(0.005)


def keys_of(server: Deployment, db: int = 0) -> int:
    size = ask(server, "DBSIZE", db=db)
    assert isinstance(size, int)
    return size


class Beside:
    """Runs ``work`` in a thread beside the block; its failure fails the test."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(2 * WAIT_S_MAX)
        assert not self._thread.is_alive(), "what runs beside the copy does not end"
        if self._error:
            raise self._error


class Process:
    """``keyferry copy`` as a process of its own."""

    def __init__(self, source: str, target: str, cwd: Path, *options: str, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFERRY_")}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "keyferry",
                "copy",
                source,
                target,
                "--json",
                "--max-latency",
                "0",
                *options,
            ],
            cwd=cwd,
            env=kept | {"PYTHONUTF8": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, timeout_s: float = WAIT_S_MAX) -> tuple[int, dict[str, Any], str]:
        """Exit status, the JSON object, and standard error."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert b"Traceback" not in err, err.decode()
        return self.process.returncode, json.loads(out) if out.strip() else {}, err.decode()

    def rss_bytes_max(self) -> int:
        """The most memory that it had so far; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(lines[0].split()[1]) * 1024 if lines else 0
