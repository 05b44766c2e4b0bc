"""Writer processes of one run: started together, stopped together, what they did put together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

from keyferry.model.errors import KeyferryError
from keyferry.model.identity import Family
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.deployment import Deployment
from keyferry.testing.ledger import Ledger

STOP_TIMEOUT_S = 30.0
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Written:
    """What all writers together did.

    Attributes:
        acknowledged: How many of each command; ``refused`` with an error, ``unknown`` lost with their connection.
        ledgers: Of keys in database 0; ``ledger.audit`` counts them.
        ended_at_s: When the last reply had arrived, as ``time.time`` says it.
    """

    acknowledged: Counter[str]
    refused: Counter[str]
    unknown: int
    ledgers: tuple[Ledger, ...]
    ended_at_s: float = 0.0


def not_for(target: ServerBinary) -> tuple[str, ...]:
    """What writers leave out, because the target has no place for it."""
    has_field_expiry = target.version >= ((7, 4, 0) if target.family is Family.REDIS else (9, 0, 0))
    return () if has_field_expiry else ("field-expiry",)


class Writers:
    """Processes of ``keyferry.testing.workload``; they end with the block, wherever it ends.

    Args:
        source: What they write to, directly.
        count: How many; each has a part of ``rate`` (commands per second of all; 0 is as fast as it goes).
        directory: For their reports and what they say on standard error.
        options: Further numbers, by the name of the workload's option without dashes ("owned_share").
        without: What is left out.
    """

    def __init__(
        self,
        source: Deployment,
        directory: Path,
        *,
        count: int = 2,
        rate: float = 1_000.0,
        seed: int = 1,
        options: Mapping[str, float] = _NONE,
        without: Sequence[str] = (),
        survive: bool = False,
    ) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._commands = [
            [
                *(sys.executable, "-m", "keyferry.testing.workload"),
                *(node.url for node in source.primaries),
                *("--writer", str(number), "--seed", str(seed), "--rate", str(rate / count)),
                *("--report", str(self._report(number))),
                *(word for name, value in options.items() for word in (_option(name), str(value))),
                *(("--survive",) if survive else ()),
                *(("--without", *without) if without else ()),
            ]
            for number in range(count)
        ]

    def __enter__(self) -> Writers:
        for number, command in enumerate(self._commands):
            self._report(number).unlink(missing_ok=True)
            with self._said(number).open("wb") as said:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
                )
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def stop(self) -> Written:
        """Ends them after the command that is under way; waits until all is written and acknowledged.

        Raises:
            KeyferryError: One of them failed.
        """
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> Written:
        """Until they end by themselves, which they do with a ``seconds`` option. Raises as ``stop``."""
        written = Written(Counter(), Counter(), 0, ())
        for number, process in enumerate(self._processes):
            status = process.wait(timeout_s)
            if status:
                said = self._said(number).read_text("utf-8", "backslashreplace")
                raise KeyferryError(f"Writer {number} ended with status {status}: {said[-2_000:]}")
            written = _added(written, self._report(number))
        return written

    def _report(self, number: int) -> Path:
        return self._directory / f"writer-{number}.json"

    def _said(self, number: int) -> Path:
        return self._directory / f"writer-{number}.log"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _added(written: Written, report: Path) -> Written:
    done = json.loads(report.read_text())
    return Written(
        written.acknowledged + Counter(done["acknowledged"]),
        written.refused + Counter(done["refused"]),
        written.unknown + done["unknown"],
        (*written.ledgers, Ledger.of_json(done["ledger"])),
        max(written.ended_at_s, done["ended_at_s"]),
    )
