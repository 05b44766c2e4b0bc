"""Attacks ``keyferry sync``: writers that do everything, faults at random moments, and an independent comparison.

    python -m tests.follow.torture --seed 7 --seconds 60 --source redis-7.0 --target valkey-9.1
    python -m tests.follow.torture --seed 8 --source redis-7.0x3 --target valkey-9.1x3 --faults cut-feed,kill-tool

The tool comes to both sides by fault proxies, writers go directly. When the writers have stopped, everything must
have arrived within two seconds, every acknowledged write of their ledgers is counted on the target, and a
signal must end the tool within three. Prints what it does, at the end a JSON object; exit status 1 on any
difference, and then the directory in which everything that was said is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keyferry.testing.binaries import find_binaries
from keyferry.testing.cluster import Cluster
from keyferry.testing.compare import Comparison, compare_databases
from keyferry.testing.dataset import fill
from keyferry.testing.deployment import Deployment
from keyferry.testing.faults import FAULTS, World
from keyferry.testing.ledger import audit
from keyferry.testing.servers import Server
from keyferry.testing.sides import ProxiedSide
from keyferry.testing.tool import Tool
from keyferry.testing.writers import Writers, Written, not_for

ARRIVES_WITHIN_S = 2.0
BIG_ARRIVES_WITHIN_S = 15.0
"""A big key that changes all the time is carried at most every so often, the seldomer the longer that takes."""
NEVER_AFTER_S = 30.0
HEALS_WITHIN_S = 30.0
EXPIRY_TOLERANCE_MS = 1_000
DIFFERENCES_KEPT = 8
COUNTERS = ("entries-added", "entries-read", "max-deleted-id")
"""What streams have since Redis 7.0."""
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
UNNOTIFIED = "PFCOUNT"
"""It keeps what it has counted in the value, and no notification says so: a blind spot of that feed."""
NEVER_SAID = "Traceback", "mistake in Keyferry", "Somebody else has written"
"""On standard error; nobody else writes to the target."""
BEGUN = "Changes are followed by"
UNHINDERED = ("--max-latency", "0")
"""The guard would hold the tool back for what the faults and the writers do to the servers' latency."""
BETWEEN_FAULTS_S = 0.3, 2.5
SWITCH_S = 0.0003
"""Proxies and comparison share this process: whoever waits for the interpreter must not wait for long."""
SHIFT_S_MAX = 2.0
"""Writers begin so long before or after the tool."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        source: Name of the servers, "x3" after it for a cluster of three. ``target`` the same.
        seconds: How long writers write; in the last ``quiet_s`` no fault begins.
        faults: Names; one is drawn again and again.
        rate: Commands per second of all writers together.
        fill_keys: How many keys are there before the tool starts.
        flush_every_s: About how often database 1 is flushed, ``swap_every_s``: swapped with 2; 0 is never. Both make
            the tool compare everything.
        tool: The program and its first arguments; the addresses and options follow.
        options: Further options of the tool. ``without``: what writers leave out.
        arrives_within_s: How long after the last write both sides must be equal; ``never_after_s``: how long that is
            waited for.
    """

    source: str = "redis-7.0"
    target: str = "valkey-9.1"
    seed: int = 1
    seconds: float = 30.0
    quiet_s: float = 8.0
    faults: tuple[str, ...] = tuple(FAULTS)
    writers: int = 3
    rate: float = 1_500.0
    keys: int = 2_000
    fill_keys: int = 5_000
    flush_every_s: float = 12.0
    swap_every_s: float = 0.0
    tool: tuple[str, ...] = (sys.executable, "-m", "keyferry", "sync")
    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    arrives_within_s: float = ARRIVES_WITHIN_S
    never_after_s: float = NEVER_AFTER_S


DEFAULT = Plan()


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        faults: When each began, its name, what it did.
        arrived_s: How long after the writers' end a comparison began that found nothing; None when none did.
        compared_s: How long the last comparison took.
        problems: What must not be, in a sentence each; empty for a run that is passed.
    """

    plan: Plan
    faults: list[tuple[float, str, str]] = field(default_factory=list)
    acknowledged: int = 0
    refused: int = 0
    counted: int = 0
    missing: int = 0
    doubled: int = 0
    starts: int = 0
    turned_away: int = 0
    keys: int = 0
    arrived_s: float | None = None
    compared_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    directory: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}


def run(plan: Plan, *, tell: bool = False) -> Outcome:
    """Runs the whole; problems found are in the outcome, whose directory stays when there are any."""
    directory = Path(tempfile.mkdtemp(prefix="keyferry-torture-"))
    outcome = Outcome(plan, directory=str(directory))
    log = _Log(outcome, tell)
    with contextlib.ExitStack() as stack:
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_S)
        source, target = _start(stack, plan)
        sides = tuple(
            stack.enter_context(ProxiedSide(side, deployment))  # type: ignore[arg-type]
            for side, deployment in (("source", source), ("target", target))
        )
        _fill(source, plan)
        log.say("filled", f"{plan.fill_keys} keys, {source} to {target}, seed {plan.seed}")
        tool = stack.enter_context(_tool(plan, sides, directory))
        _attack(plan, World(sides[0], sides[1], tool, random.Random(plan.seed)), log)
        _judge(tool, outcome, source, target, log)
    if outcome.passed:
        shutil.rmtree(directory)
    else:
        (directory / "outcome.json").write_text(json.dumps(outcome.as_dict(), indent=2))
    return outcome


class _Log:
    """Says what happens when, since its beginning."""

    def __init__(self, outcome: Outcome, tell: bool) -> None:
        self.outcome = outcome
        self._tell = tell
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def say(self, what: str, text: str) -> None:
        if self._tell:
            print(f"{self.seconds:7.2f}  {what:<16} {text}", flush=True)

    def problem(self, text: str) -> None:
        self.say("PROBLEM", text)
        self.outcome.problems.append(text)


def _start(stack: contextlib.ExitStack, plan: Plan) -> tuple[Deployment, Deployment]:
    binaries = find_binaries()
    made: list[Server | Cluster] = []
    for name, config in ((plan.source, {}), (plan.target, DURABLE)):
        program, _, shards = name.partition("x")
        binary = binaries[program]
        made.append(Cluster(binary, int(shards), config=config) if shards else Server(binary, config=config))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(stack.enter_context, made))
    return made[0], made[1]


def _fill(source: Deployment, plan: Plan) -> None:
    with source.session() as session:
        fill(session, plan.fill_keys, plan.seed)
    for db in _databases(source)[1:]:
        with source.session(db) as session:
            fill(session, plan.fill_keys // 10, plan.seed + db)


def _databases(deployment: Deployment) -> tuple[int, ...]:
    return (0,) if isinstance(deployment, Cluster) else (0, 1)


def _tool(plan: Plan, sides: Sequence[ProxiedSide], directory: Path) -> Tool:
    source, target = sides
    databases = [0] if source.clustered or target.clustered else [0, 1, 2] if plan.swap_every_s else [0, 1]
    command = [
        *plan.tool,
        *(source.url, target.url),
        *(word for db in databases for word in ("--db", str(db))),
        *("--state-dir", str(directory / "state")),
        *source.options,
        *target.options,
        *UNHINDERED,
        *plan.options,
    ]
    return Tool(command, directory, begun=BEGUN)


@contextlib.contextmanager
def _writing(plan: Plan, world: World, directory: Path) -> Iterator[Writers]:
    options = {
        "seconds": plan.seconds,
        "keys": plan.keys,
        "calm_s": plan.quiet_s / 2,
        "flush_every_s": plan.flush_every_s,
        "swap_every_s": plan.swap_every_s,
    }
    without = [*plan.without, *not_for(world.target.deployment.binary)]
    if "notifications" in plan.options:
        without.append(UNNOTIFIED)
    if world.target.clustered:
        without.append("databases")
    with Writers(
        world.source.deployment,
        directory,
        count=plan.writers,
        rate=plan.rate,
        seed=plan.seed,
        options=options,
        without=without,
    ) as writers:
        yield writers


def _attack(plan: Plan, world: World, log: _Log) -> None:
    """Writers write and faults happen, until the writers have ended."""
    time.sleep(world.rng.uniform(0, SHIFT_S_MAX))
    with _writing(plan, world, Path(log.outcome.directory)) as writers:
        log.say("writers", f"{plan.writers} with {plan.rate:g} commands/s")
        over_s = log.seconds + plan.seconds - plan.quiet_s
        while plan.faults and world.tool.look():
            wait_s = world.rng.uniform(*BETWEEN_FAULTS_S)
            if log.seconds + wait_s > over_s:
                break
            time.sleep(wait_s)
            _one_fault(world, world.rng.choice(plan.faults), log)
        if world.tool.look():
            _heal(world, log)
        written = writers.wait(timeout_s=plan.seconds + 60)
    log.outcome.acknowledged = written.acknowledged.total()
    log.outcome.refused = written.refused.total()
    log.say("writers ended", f"{log.outcome.acknowledged} acknowledged, {log.outcome.refused} refused")
    _settle(plan, world, written, log)


def _one_fault(world: World, name: str, log: _Log) -> None:
    begun_s = log.seconds
    log.say(name, "...")
    text = FAULTS[name](world)
    log.outcome.faults.append((round(begun_s, 2), name, text))
    log.say(name, text)


def _heal(world: World, log: _Log) -> None:
    """Waits until the tool carries a write again that is made now."""
    probe = b"torture:probe"
    value = b"%d" % time.monotonic_ns()
    with world.source.deployment.session() as source, world.target.deployment.session() as target:
        source.call("SET", probe, value)
        deadline_s = log.seconds + HEALS_WITHIN_S
        while target.call("GET", probe) != value:
            if log.seconds > deadline_s or not world.tool.look():
                log.problem(f"After the last fault a write has not arrived within {HEALS_WITHIN_S:g} s.")
                return
            time.sleep(0.02)
    log.say("healed", "a write arrives again")


def _settle(plan: Plan, world: World, written: Written, log: _Log) -> None:
    """Compares until both sides are equal, or it has been too long; then counts the ledgers."""
    outcome, stopped_s = log.outcome, log.seconds - (time.time() - written.ended_at_s)
    source, target = world.source.deployment, world.target.deployment
    late: str | None = None
    while True:
        begun_s = log.seconds - stopped_s
        found = _compare(source, target)
        outcome.compared_s = round(log.seconds - stopped_s - begun_s, 3)
        differing = sum(one.differing_keys for one in found)
        if not differing:
            outcome.arrived_s = round(begun_s, 3)
            break
        log.say(
            "differs",
            f"{differing} keys in a comparison from {begun_s:.2f} s on, which took {outcome.compared_s} s",
        )
        if late is None and (late := _late(found, begun_s, plan)):
            log.problem(late)
        if begun_s > plan.never_after_s or not world.tool.look():
            log.problem(f"{differing} keys never arrived: {_named(found)}")
            break
    outcome.keys = sum(one.keys_source for one in found)
    log.say(
        "compared", f"{outcome.keys} keys, equal after {outcome.arrived_s} s; it took {outcome.compared_s} s"
    )
    with target.session(side="target") as session:
        counted = audit(session, written.ledgers)
    outcome.counted, outcome.missing, outcome.doubled = counted.writes, counted.missing, counted.doubled
    log.say("counted", f"{counted.writes} writes, {counted.missing} missing, {counted.doubled} doubled")
    if not counted.exact:
        log.problem(f"Ledgers: {counted.missing} missing, {counted.doubled} doubled; {counted.findings[:5]}")


def _compare(source: Deployment, target: Deployment) -> list[Comparison]:
    older = any(one.binary.version < (7, 0, 0) for one in (source, target))
    databases = set(_databases(source)) & set(_databases(target))
    with source.session(timeout_s=60) as here, target.session(side="target", timeout_s=60) as there:
        return [
            compare_databases(
                here,
                there,
                source_db=db,
                target_db=db,
                expiry_tolerance_ms=EXPIRY_TOLERANCE_MS,
                ignore=COUNTERS if older else (),
                differences_max=DIFFERENCES_KEPT,
            )
            for db in sorted(databases)
        ]


def _late(found: Sequence[Comparison], begun_s: float, plan: Plan) -> str | None:
    """What should have arrived by now; big keys have longer."""
    small = [item for one in found for item in one.differences if not item.key.startswith(b"big:")]
    limit_s = plan.arrives_within_s if small else BIG_ARRIVES_WITHIN_S
    return f"{begun_s:.1f} s after the last write differ: {_named(found)}" if begun_s >= limit_s else None


def _named(found: Sequence[Comparison]) -> str:
    """The first differences, by database."""
    named = [
        f"db {db} {item.key[:60]!r} {item.aspect} {item.source!r} | {item.target!r}"
        for db, one in enumerate(found)
        for item in one.differences
    ]
    return "; ".join(named[:DIFFERENCES_KEPT])


def _judge(tool: Tool, outcome: Outcome, source: Deployment, target: Deployment, log: _Log) -> None:
    """The tool's end, and what it said in all its lives."""
    if tool.look():
        tool.ask_to_end(signal.SIGINT)
    tool.look_for(*NEVER_SAID)
    for text in tool.problems:
        log.problem(text)
    outcome.starts, outcome.turned_away = tool.starts, tool.turned_away
    for side in (source, target):
        for node in side.primaries:
            with node.session() as session:
                left = session.call("KEYS", "keyferry:*")
                if left and outcome.passed:
                    log.problem(f"Left behind on {node!r}: {left!r}")


_FEED_OPTIONS: dict[str | None, tuple[str, ...]] = {
    None: (),
    "tracking": ("--feed", "tracking"),
    "notifications": ("--feed", "notifications", "--enable-notifications"),
    "sweeps": ("--feed", "sweeps"),
}


def _plan_of(arguments: argparse.Namespace) -> Plan:
    faults = tuple(FAULTS) if arguments.faults == "all" else tuple(arguments.faults.split(","))
    shards = "x3" if arguments.cluster else ""
    tool = {
        "sync": DEFAULT.tool,
        "fake": (sys.executable, str(Path(__file__).with_name("fake_sync.py"))),
        "losing": (sys.executable, str(Path(__file__).with_name("fake_sync.py")), "--lose"),
    }
    return Plan(
        source=arguments.source + shards,
        target=arguments.target + shards,
        seed=arguments.seed,
        seconds=arguments.seconds,
        quiet_s=min(arguments.quiet, arguments.seconds / 2),
        faults=() if arguments.faults == "none" else faults,
        writers=arguments.writers,
        rate=arguments.rate,
        keys=arguments.keys,
        fill_keys=arguments.fill,
        swap_every_s=arguments.swap_every,
        tool=tool[arguments.tool],
        options=_FEED_OPTIONS[arguments.feed],
        without=tuple(arguments.without),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60.0, help="how long writers write")
    parser.add_argument(
        "--quiet", type=float, default=DEFAULT.quiet_s, help="seconds without faults at the end"
    )
    parser.add_argument(
        "--source", default=DEFAULT.source, help="name of the servers, x3 for a cluster of three"
    )
    parser.add_argument("--target", default=DEFAULT.target)
    parser.add_argument("--cluster", action="store_true", help="both sides are clusters of three")
    parser.add_argument("--faults", default="all", help=f"all, none, or of: {','.join(FAULTS)}")
    parser.add_argument("--writers", type=int, default=DEFAULT.writers)
    parser.add_argument("--rate", type=float, default=DEFAULT.rate, help="commands per second of all writers")
    parser.add_argument("--keys", type=int, default=DEFAULT.keys)
    parser.add_argument("--fill", type=int, default=DEFAULT.fill_keys)
    parser.add_argument("--swap-every", type=float, default=0.0, help="seconds between SWAPDB 1 2")
    parser.add_argument("--feed", choices=("tracking", "notifications", "sweeps"))
    parser.add_argument("--without", nargs="*", default=[], help="what writers leave out")
    parser.add_argument("--tool", choices=("sync", "fake", "losing"), default="sync")
    outcome = run(_plan_of(parser.parse_args()), tell=True)
    print(json.dumps(outcome.as_dict(), indent=1))
    if not outcome.passed:
        print(f"FAILED; what was said is in {outcome.directory}", file=sys.stderr)
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
