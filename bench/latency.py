"""The parent's side of the light client and of the pinger: starts it, lets it go, collects what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from bench.aside import Aside

LIGHT_CLIENT, PINGER = "bench.light_client", "bench.pinger"


@dataclass(frozen=True, slots=True)
class Seen:
    """Latencies in microseconds, and the client's CPU as a share of one core."""

    latencies_us: list[int]
    cpu_share: float


class Watcher:
    """Measures from entering the context to its end; ``seen`` afterwards."""

    def __init__(self, port: int, program: str = LIGHT_CLIENT) -> None:
        """Args: program: ``LIGHT_CLIENT`` or ``PINGER``, a module that is run as a process."""
        self._aside = Aside(program, [str(port)])
        self.seen = Seen([], 0.0)

    def __enter__(self) -> Watcher:
        self._aside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.__exit__(kind, error, trace)
        if kind is None:
            found = self._aside.found
            self.seen = Seen(found["latencies_us"], found["cpu_share"])
