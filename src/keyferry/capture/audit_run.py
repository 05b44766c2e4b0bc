"""Looks at what an application asks of its servers: counters twice, and a sample of MONITOR in between if wanted."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from keyferry.capture.audit import AuditReport, SampleFacts, calls_between, uses
from keyferry.capture.audit_sample import Sample
from keyferry.capture.counters import Counters
from keyferry.capture.monitor import read
from keyferry.capture.tap import Tap, TapLimits, Tapped, listen
from keyferry.model.address import Endpoint
from keyferry.model.errors import InterruptedRun, ServerError
from keyferry.wire.session import ConnectionLost, Session

TURN_S = 0.1
REPLY_TIMEOUT_S = 10.0
COST = (
    "MONITOR makes the source send us every command with its values: while it lasts, a busy server may do half as much. "
    "It ends after {seconds:g} s, {lines:,} lines or {megabytes:,} MB of one server{guard}."
)

Stage = Literal["counting", "listening"]


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What is asked for.

    Attributes:
        seconds: Between the two looks at the counters.
        tap: Bounds of the sample of MONITOR; None takes none.
        show_keys: Keep some key names of each sampled command.
        target_cluster: Whether the target is a cluster; None: not asked.
    """

    seconds: float = 30.0
    tap: TapLimits | None = None
    show_keys: bool = False
    target_cluster: bool | None = None


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """One look at a running audit."""

    stage: Stage
    elapsed_s: float
    seconds: float
    lines: int = 0


class Stop(Protocol):
    """The wish to end, set by somebody else."""

    @property
    def requested(self) -> bool: ...


AuditObserver = Callable[[AuditProgress], None]


def run_audit(
    nodes: Sequence[Endpoint], settings: AuditSettings, *, observe: AuditObserver, stop: Stop
) -> AuditReport:
    """Looks at every node of the source; writes nothing.

    Args:
        nodes: The server, or every primary of the cluster.
        observe: Gets a snapshot about ten times a second.
        stop: Ends the audit when requested; what was seen until then is reported.

    Raises:
        InterruptedRun: ``stop`` was requested before anything was seen.
        ServerError: A server cannot be reached or refuses us, or shows nothing of its commands.
    """
    run = _Run(settings, observe, stop)
    with contextlib.ExitStack() as stack:
        return run.run([_Node(endpoint, run, stack) for endpoint in nodes])


class _Run:
    """The lifetime of one ``run_audit``."""

    def __init__(self, settings: AuditSettings, observe: AuditObserver, stop: Stop) -> None:
        self.settings = settings
        self._observe, self._stop = observe, stop
        self._lines = 0
        self._began_s: float | None = None

    def check_stop(self) -> None:
        """Once the counters were seen nothing is given up any more: what is left takes a moment."""
        if self._stop.requested and self._began_s is None:
            raise InterruptedRun("Interrupted before anything was seen.")

    def run(self, nodes: list[_Node]) -> AuditReport:
        for node in nodes:
            node.begin()
        self._began_s = began_s = time.monotonic()
        taps = [node.tap for node in nodes if node.tap is not None]
        tapped = listen(taps, lambda _, lines: self._turn("listening", lines)) if taps else []
        while self._turn("counting", self._lines):
            time.sleep(TURN_S)
        seconds = time.monotonic() - began_s
        for node in nodes:
            node.end()
        return self._report(nodes, dict(zip(map(id, taps), tapped, strict=True)), seconds)

    def _turn(self, stage: Stage, lines: int) -> bool:
        """Shows where we are; False when it is time to end."""
        assert self._began_s is not None
        self._lines = lines
        elapsed_s = time.monotonic() - self._began_s
        self._observe(AuditProgress(stage, elapsed_s, self.settings.seconds, lines))
        return elapsed_s < self.settings.seconds and not self._stop.requested

    def _report(self, nodes: list[_Node], tapped: dict[int, Tapped], seconds: float) -> AuditReport:
        calls, totals, notes = Counter[str](), Counter[str](), list[str]()
        databases = set[int]()
        for node in nodes:
            more, reset = calls_between(node.before, node.after, node.own)
            calls.update(more)
            totals.update(node.after.calls)
            databases |= node.databases
            if reset:
                notes.append(f"The counters of {node.endpoint} began anew meanwhile.")
            notes += node.notes
        sample, facts = None, None
        if tapped:
            sample = Sample()
            for node in nodes:
                if node.tap is not None:
                    sample.add_all(read(tapped[id(node.tap)].data), node.tap.nonce)
            facts = _facts(nodes, tapped, sample)
            databases |= sample.databases
        if not totals and not (sample and sample.commands):
            raise ServerError(
                "source",
                f"The source shows nothing of its commands. {' '.join(notes)}".rstrip(),
                "Give the user the right to INFO, or to MONITOR and use --monitor.",
            )
        uptimes = [node.uptime_s for node in nodes if node.uptime_s is not None]
        return AuditReport(
            seconds=seconds,
            servers=len(nodes),
            uptime_seconds=min(uptimes, default=None),
            uses=uses(
                calls,
                totals,
                sample,
                target_cluster=self.settings.target_cluster,
                show_keys=self.settings.show_keys,
            ),
            target_cluster=self.settings.target_cluster,
            databases=tuple(sorted(databases)),
            sample=facts,
            notes=tuple(notes),
            interrupted=self._stop.requested,
        )


def _facts(nodes: list[_Node], tapped: dict[int, Tapped], sample: Sample) -> SampleFacts:
    return SampleFacts(
        lines=sum(node.tap.lines for node in nodes if node.tap is not None),
        seconds=max((one.seconds for one in tapped.values()), default=0.0),
        transactions=sample.transactions,
        crossing_transactions=sample.crossing_transactions,
        stopped={
            str(node.endpoint): tapped[id(node.tap)].why
            for node in nodes
            if node.tap is not None and tapped[id(node.tap)].why != "time"
        },
    )


class _Node:
    """One server of the source."""

    def __init__(self, endpoint: Endpoint, run: _Run, stack: contextlib.ExitStack) -> None:
        self.endpoint = endpoint
        self._run = run
        self._stack = stack
        self._session = self._open()
        self.tap: Tap | None = None
        if run.settings.tap is not None:
            self.tap = Tap(endpoint, "source", run.settings.tap, run.check_stop)
            stack.callback(self.tap.end, "stopped", 0.0)
        self.before = self.after = Counters()
        self.uptime_s: float | None = None
        self.databases: set[int] = set()
        self.notes: list[str] = []

    @property
    def own(self) -> Counter[str]:
        """Calls of ours that its counters have counted between the two looks."""
        return Counter({"info": len(_SECTIONS)}) + Counter({} if self.tap is None else self.tap.own_calls)

    def begin(self) -> None:
        self.before = self._look()

    def end(self) -> None:
        """The second look; the connection may have been closed for being idle."""
        try:
            self.after = self._look()
        except ConnectionLost:
            self._session = self._open()
            self.after = self._look()
        if not self.after.known:
            self.notes.append(f"The source {self.endpoint} does not show its counters (INFO commandstats).")

    def _look(self) -> Counters:
        calls, server, keyspace = self._session.pipeline([("INFO", section) for section in _SECTIONS])
        if isinstance(server, bytes) and (uptime := _UPTIME.search(server)):
            self.uptime_s = float(uptime[1])
        if isinstance(keyspace, bytes):
            self.databases |= {int(number) for number in _DATABASE.findall(keyspace)}
        return Counters.of(calls) if isinstance(calls, bytes) else Counters()

    def _open(self) -> Session:
        session = Session(self.endpoint, "source", timeout_s=REPLY_TIMEOUT_S, on_wait=self._run.check_stop)
        return self._stack.enter_context(session)


_SECTIONS = ("commandstats", "server", "keyspace")
_UPTIME = re.compile(rb"^uptime_in_seconds:([0-9]+)", re.MULTILINE)
_DATABASE = re.compile(rb"^db([0-9]+):", re.MULTILINE)
