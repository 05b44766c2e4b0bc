"""A whole comparison as tests run it, and what they do to servers before."""

from __future__ import annotations

import json
import re
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
from keyferry.telemetry.comparing import VerifyProgress, VerifyReport
from keyferry.testing.deployment import Deployment
from keyferry.verify.run import run_verify
from keyferry.verify.settings import VerifySettings
from keyferry.wire.resp import Argument, Reply, ReplyError

Commands = list[tuple[Argument, ...]]

WRITES = set(
    re.findall(
        "[a-z]+",
        """set setex psetex getset append incr decr setrange del unlink restore expire pexpire pexpireat expireat persist
        hset hdel sadd srem zadd zrem rpush lpush xadd xgroup xclaim xsetid rename renamenx copy move flushdb eval""",
    )
)


@dataclass
class Verifying:
    """Runs comparisons with one state directory, and keeps what they said."""

    state_dir: Path
    told: list[str] = field(default_factory=list)
    stages: dict[str, None] = field(default_factory=dict)
    stop: StopFlag = field(default_factory=StopFlag)
    on_progress: Callable[[VerifyProgress], None] = lambda progress: None

    def run(
        self,
        source: Deployment | Endpoint,
        target: Deployment | Endpoint,
        *,
        copy: dict[str, Any] | None = None,
        **given: Any,
    ) -> VerifyReport:
        """``given`` are VerifySettings' own, ``copy`` CopySettings'; the latency guard is off unless given."""
        return run_verify(
            VerifySettings(self.settings(source, target, **copy or {}), **given),
            observe=self._observe,
            tell=self.told.append,
            stop=self.stop,
        )

    def copy(self, source: Deployment, target: Deployment, **given: Any) -> None:
        """Copies first. The two are then equal, as far as this target can hold what the source does."""
        settings = self.settings(source, target, on_conflict="replace", **given)
        report = run_copy(settings, observe=lambda progress: None, tell=self.told.append, stop=StopFlag())
        assert not report.run.failed

    def settings(
        self, source: Deployment | Endpoint, target: Deployment | Endpoint, **given: Any
    ) -> CopySettings:
        given = {"max_latency_ms": 0.0, "retry_s": 10.0, "state_dir": self.state_dir, **given}
        return CopySettings(_endpoint(source), _endpoint(target), **given)

    def _observe(self, progress: VerifyProgress) -> None:
        self.stages[progress.stage] = None
        self.on_progress(progress)

    @property
    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.state_dir.iterdir())


def _endpoint(side: Deployment | Endpoint) -> Endpoint:
    return side if isinstance(side, Endpoint) else side.endpoint


def fill(server: Deployment, commands: Commands, db: int = 0) -> None:
    with server.session(db) as session:
        for begin in range(0, len(commands), 5000):
            replies = session.pipeline(commands[begin : begin + 5000])
            errors = [reply for reply in replies if isinstance(reply, ReplyError)]
            assert not errors, errors[:3]


def ask(server: Deployment, *command: Argument, db: int = 0) -> Reply:
    """One command; an error fails the test."""
    with server.session(db) as session:
        reply = session.call(*command)
    assert not isinstance(reply, ReplyError), reply
    return reply


def strings(count: int, prefix: str = "k") -> Commands:
    return [("SET", f"{prefix}{i}", f"value {i}") for i in range(count)]


def writes_seen(server: Deployment) -> dict[str, int]:
    """Calls of commands that write, by name, since the counters began."""
    found: dict[str, int] = {}
    for node in server.primaries:
        with node.session() as session:
            info = session.call("INFO", "commandstats")
        assert isinstance(info, bytes)
        for line in info.decode().splitlines():
            name, colon, rest = line.removeprefix("cmdstat_").partition(":calls=")
            if colon and name.partition("|")[0] in WRITES:
                found[name] = found.get(name, 0) + int(rest.partition(",")[0])
    return found


def forget_writes(server: Deployment) -> None:
    for node in server.primaries:
        with node.session() as session:
            assert session.call("CONFIG", "RESETSTAT") == b"OK"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def reasons(report: VerifyReport) -> dict[str, int]:
    return {str(reason): count for reason, count in report.reasons.items()}


def told_keys(report: VerifyReport) -> dict[bytes, str]:
    return {difference.key: difference.reason for difference in report.first}


class Beside:
    """Runs ``work`` again and again in a thread beside the block; its failure fails the test."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._work()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()
        time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error:
            raise self._error
