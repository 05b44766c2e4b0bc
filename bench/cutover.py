"""Switches of a live service, there and back again and again: how long the gate is, and what the application sees.

The application is a service of several processes (``keyferry.testing.service``) that counts every write and times
every call; its processes, both servers and the tool share the cores. First Keyferry, then a script around native
replication, each with the same load on the same data.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.arena import Arena
from bench.cutover_data import CUTOVER, ROLLBACK, CutoverResult, CutoverRow, CutoverSize, Switched
from bench.migrating import NAME, Migrating
from bench.replicated import follow, switch, wait_until_linked
from bench.samples import BenchError
from keyferry.model.errors import ExitCode, KeyferryError
from keyferry.testing.dataset import fill_strings
from keyferry.testing.servers import Server, ServerBinary
from keyferry.testing.service_crowd import Crowd
from keyferry.testing.service_job import Job
from keyferry.testing.service_waits import Calls, Window

READY_TIMEOUT_S = 600.0
TRIES_MAX, TRY_AGAIN_S = 50, 1.0
HOLD = "hold"
UNGUARDED = ("--max-latency", "0")
"""With more busy processes than cores every reply is late, whatever the tool does: the guard would only hold it back."""
AROUND_S = 0.05
"""Around the time in which the gate is looked for: a write may be under way when it closes, or come back after it."""
AFTER_S = 0.1
"""A call that begins so shortly after the gate may still pay for it."""
APART_S = 0.5
"""Calls nearer to a switch do not count as undisturbed."""

Say = Callable[[str], None]


def measure_cutover(binary: ServerBinary, size: CutoverSize, say: Say) -> CutoverResult:
    """Every way to switch, one after the other.

    Raises:
        BenchError: The source cannot be loaded.
        KeyferryError: A server does not start.
    """
    rows = [
        CutoverRow("keyferry", "Keyferry"),
        CutoverRow("replication", "script: PAUSE, REPLICAOF NO ONE"),
    ]
    for row, play in zip(rows, (_keyferry, _replication), strict=True):
        with Arena(binary) as arena, tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
            say(f"{row.title}: loading {size.keys:,} keys")
            with arena.session(arena.source) as session:
                fill_strings(session, size.keys, expiring=0.0)
            arena.fresh_target()
            try:
                play(arena, row, size, Path(directory), lambda line: say(f"{row.title}: {line}"))  # noqa: B023
            except (BenchError, KeyferryError) as error:
                row.problem, row.failed = f"failed: {error}", True
                say(f"{row.title}: {row.problem}")
    return CutoverResult(size, rows)


def _keyferry(arena: Arena, row: CutoverRow, size: CutoverSize, directory: Path, say: Say) -> None:
    with Migrating(arena.source.url, arena.target.url, directory, UNGUARDED) as migrating:
        migrating.wait("copied and verified", lambda one: bool(one.get("verification")), READY_TIMEOUT_S)
        crowd = Crowd(_job(arena, size, directory), ["threads"] * size.processes)
        with crowd:
            log = _Log(row, crowd, say)
            time.sleep(size.quiet_s)
            for number in range(2 * size.pairs):
                # What it says of itself may be a moment old: a rest comes first.
                time.sleep(size.rest_s)
                _switch(migrating, log, ROLLBACK if number % 2 else CUTOVER, number // 2 + 1)
            time.sleep(size.rest_s)
            authority = migrating.status()["authority"]
            log.finish(arena.source if authority == "source" else arena.target)


def _switch(migrating: Migrating, log: _Log, direction: str, number: int) -> None:
    """One switch. What is put off or undone is noted, and tried again.

    Raises:
        BenchError: It is not made in so many tries.
    """
    for _ in range(TRIES_MAX):
        migrating.wait("ready", lambda one: bool(one.get("ready")), READY_TIMEOUT_S)
        begun_ns = time.monotonic_ns()
        end = migrating.ask(direction, yes=True)
        window = Window(begun_ns, time.monotonic_ns())
        if end.exit_code == ExitCode.DONE:
            gate_ms = end.facts["gate_ms"]
            steps = {one["step"]: one["seconds"] for one in end.facts["steps"]}
            gate = Window(begun_ns + int(_before_hold_s(steps) * 1e9), window.ended_ns)
            log.switched(window, gate, direction, None if gate_ms is None else gate_ms / 1e3, steps)
            return
        if "outcome" in end.facts:
            log.undone(window, f"{direction} {number}: {end.sentence}")
        time.sleep(TRY_AGAIN_S)
    raise BenchError(f"{direction} {number} was not made in {TRIES_MAX} tries: {end.sentence}")


def _replication(arena: Arena, row: CutoverRow, size: CutoverSize, directory: Path, say: Say) -> None:
    servers = [arena.source, arena.target]
    follow(arena.target, arena.source)
    crowd = Crowd(_job(arena, size, directory), ["threads"] * size.processes, program="bench.replicated_app")
    with crowd:
        log = _Log(row, crowd, say)
        time.sleep(size.quiet_s)
        for number in range(2 * size.pairs):
            losing, gaining = number % 2, 1 - number % 2
            with servers[gaining].session(side="target") as session:
                wait_until_linked(session)
            time.sleep(size.rest_s)
            begun_ns = time.monotonic_ns()
            gate_s = switch(servers[losing], servers[gaining], gaining, crowd.board)
            window = Window(begun_ns, time.monotonic_ns())
            log.switched(window, window, ROLLBACK if losing else CUTOVER, gate_s, {})
        time.sleep(size.rest_s)
        log.finish(servers[crowd.board.lead])


class _Log:
    """What is known of the switches while they are made; the calls come at the end. Lets the crowd begin."""

    def __init__(self, row: CutoverRow, crowd: Crowd, say: Say) -> None:
        self._row, self._crowd, self._say = row, crowd, say
        self._windows: list[Window] = []
        self._made: list[tuple[Window, Window, str, float | None, dict[str, float]]] = []
        self._begun_s = time.monotonic()
        crowd.go()

    def switched(
        self, window: Window, gate: Window, direction: str, gate_s: float | None, steps: dict[str, float]
    ) -> None:
        """``window``: of the whole command; ``gate``: the part of it in which the gate was closed and opened."""
        self._windows.append(window)
        self._made.append((window, gate, direction, gate_s, steps))
        told = "-" if gate_s is None else f"{gate_s * 1e3:.1f} ms"
        self._say(f"{direction} {(len(self._made) + 1) // 2}: {told}")

    def undone(self, window: Window, reason: str) -> None:
        self._windows.append(window)
        self._row.undone.append(reason)
        self._say(reason)

    def finish(self, authority: Server) -> None:
        """Stops the crowd, and lets it count on the server that has authority."""
        row = self._row
        row.seconds = time.monotonic() - self._begun_s
        calls = self._crowd.stop()
        row.tally = self._crowd.tally()
        row.counted = self._crowd.audit(authority.url)
        row.switches += [
            _seen(
                calls.within(_wider(window, AROUND_S)),
                window,
                _wider(gate, AROUND_S),
                direction,
                gate_s,
                steps,
            )
            for window, gate, direction, gate_s, steps in self._made
        ]
        wider = [_wider(one, APART_S) for one in self._windows]
        row.quiet_us += [wait_ns // 1_000 for wait_ns in calls.outside(wider).waits_ns()]


def _seen(
    calls: Calls, window: Window, gate: Window, direction: str, gate_s: float | None, steps: dict[str, float]
) -> Switched:
    gap = calls.within(gate).gap()
    near = gate if gap is None else Window(gap.begun_ns, gap.ended_ns + int(AFTER_S * 1e9))
    seconds = (window.ended_ns - window.begun_ns) / 1e9
    longest_s, around_s = calls.within(near).longest_s(), calls.longest_s()
    return Switched(direction, gate_s, gap, longest_s, around_s, seconds, calls.errors(), steps)


def _before_hold_s(steps: dict[str, float]) -> float:
    """What the steps took before the gate; no more than that, for what lies between them is not in it."""
    return sum(steps[name] for name in itertools.takewhile(lambda name: name != HOLD, steps))


def _wider(window: Window, seconds: float) -> Window:
    ns = int(seconds * 1e9)
    return Window(window.begun_ns - ns, window.ended_ns + ns)


def _job(arena: Arena, size: CutoverSize, directory: Path) -> Job:
    return Job(arena.source.url, arena.target.url, NAME, str(directory), habits=size.habits())
