"""One run: applications beside a migration that is switched to and fro while something goes wrong, and its judgement.

    servers -> migrate -> applications -> phase -> (fault, switch)* -> applications end -> final read -> findings

Whatever happens, in the end every acknowledged operation is there exactly once on the side with authority, both sides
are equal where the way back is kept, and never had both sides authority.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keyferry.model.errors import KeyferryError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import PhaseRecord, decode, record_key
from keyferry.testing.binaries import find_binaries
from keyferry.testing.cluster import Cluster
from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import fill
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.testing.sides import ProxiedSide

from . import application
from .application import Form
from .checker import check
from .drawing import GROUP
from .events import Event, History, Outcome
from .final import read_final
from .migrating import GATE_S, Migrating
from .processes import Applications

USER, PASSWORD = "app", "app-password"
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
NOT_ON_CLUSTERS = ("cas",)
"""A client of a cluster has no connection to watch keys on."""
EQUAL_WITHIN_S = 20.0
AGAIN_S = 40.0
"""For a switch, when nothing is wrong any more."""
FAULT_S = 8.0
"""For a switch while something is."""
SHOWN = 5
FINAL_SLEEP_S = 1.2
"""Longer than keys live that expire."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        source: Name of the servers, "x3" after it for a cluster of three. ``target`` the same.
        forms: One application process each. With a plain one all of them use a user of their own.
        phase: In which the first switch begins: ``source``, ``dual``, ``shadow``.
        gate: As the option of ``keyferry cutover``; empty: what Keyferry chooses.
        switches: What is done, one after the other.
        fault: Goes on during each switch, for a while; see ``faults.FAULTS``. With ``fault_at`` it is one of
            ``faults.MOMENTS``, and happens when the coordinator is at that place.
        stop_at: The coordinator stops at this place in the first switch, is killed there, and started again.
        settings: Of our clients.
        fill_keys: How many keys are there before.
        calm_s: Between two switches.
        clock_rates: Of the leases' clocks, by process.
        proxied: Applications come to both servers by fault proxies; ``led_by_proxies``: the coordinator does.
        durable: Servers come back with all that they acknowledged.
        own_user: The applications have a user of their own, so that a switch can take its write rights away.
    """

    source: str = "redis-7.0"
    target: str = "valkey-9.1"
    seed: int = 1
    forms: tuple[Form, ...] = ("threads", "tasks")
    phase: str = "dual"
    gate: str = ""
    switches: tuple[str, ...] = ("cutover", "rollback", "cutover")
    fault: str = ""
    fault_at: str = ""
    stop_at: str = ""
    rate: float = 150.0
    settings: Mapping[str, Any] = field(default_factory=lambda: {"lease_ms": 3_000})
    fill_keys: int = 1_000
    calm_s: float = 0.8
    clock_rates: tuple[float, ...] = ()
    proxied: bool = False
    led_by_proxies: bool = False
    durable: bool = False
    own_user: bool = False
    without: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        return "plain" in self.forms

    @property
    def clustered(self) -> bool:
        return "x" in self.source + self.target

    @property
    def harmless(self) -> bool:
        """Whether no application may see any error."""
        return not self.fault and not self.plain


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        problems: What must not be, in a sentence each; empty for a run that is passed.
        gates: Of each switch that was made, in milliseconds.
        longest_s: The longest wait of an operation.
    """

    plan: Plan
    problems: list[str] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)
    acknowledged: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    switches: list[str] = field(default_factory=list)
    gates: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    directory: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}


class Scene:
    """What faults and switches are done to."""

    def __init__(self, plan: Plan, directory: Path, tell: bool) -> None:
        self.plan, self.directory = plan, directory
        self.rng = random.Random(f"scene {plan.seed}")
        self.result = Result(plan, directory=str(directory))
        self.sides: dict[Side, Deployment] = {}
        self.ways: dict[Side, ProxiedSide] = {}
        self.coordinator_ways: dict[Side, ProxiedSide] = {}
        self.applications: Applications
        self.migration: Migrating
        self._tell, self._begun_s = tell, time.monotonic()

    def say(self, text: str) -> None:
        at_s = round(time.monotonic() - self._begun_s, 2)
        self.result.told.append((at_s, text))
        if self._tell:
            print(f"{at_s:7.2f}  {text}", flush=True)

    def problem(self, text: str) -> None:
        self.say(f"PROBLEM {text}")
        self.result.problems.append(text)

    def records(self) -> dict[Side, PhaseRecord | None]:
        """As both sides say them now, one after the other."""
        found = {}
        for side, deployment in self.sides.items():
            with deployment.session(side=side.value) as session:
                reply = session.call("HGETALL", record_key(self.migration.name))
            flat = [part for part in reply if isinstance(part, bytes)] if isinstance(reply, list) else []
            found[side] = decode(side, dict(zip(flat[::2], flat[1::2], strict=True)))
        return found

    def authority(self) -> Side:
        """The side that rules.

        Raises:
            KeyferryError: Both, or none.
        """
        records = self.records()
        ruling = [side for side, record in records.items() if record is not None and record.rules]
        if len(ruling) != 1:
            raise KeyferryError(f"{len(ruling)} sides have authority: {records}")
        return ruling[0]


Fault = Callable[[Scene], contextlib.AbstractContextManager[None]]


def run(plan: Plan, faults: Mapping[str, Fault], *, tell: bool = False) -> Result:
    """Runs the whole; problems found are in the result, whose directory stays when there are any."""
    directory = Path(tempfile.mkdtemp(prefix="keyferry-history-"))
    scene = Scene(plan, directory, tell)
    try:
        _play(scene, faults)
    except (KeyferryError, AssertionError, TimeoutError) as error:
        scene.problem(f"{type(error).__name__}: {error}")
    if scene.result.passed:
        shutil.rmtree(directory)
    else:
        (directory / "result.json").write_text(json.dumps(scene.result.as_dict(), indent=1, default=str))
    return scene.result


def _play(scene: Scene, faults: Mapping[str, Fault]) -> None:
    plan = scene.plan
    with contextlib.ExitStack() as stack:
        _start_servers(stack, scene)
        place = scene.directory / "place"
        place.write_text("source")
        urls = [
            scene.coordinator_ways[side].url if plan.led_by_proxies else deployment_url(scene.sides[side])
            for side in Side
        ]
        options = _options(plan, place) + [
            word for side in scene.coordinator_ways.values() for word in side.options
        ]
        scene.migration = stack.enter_context(
            Migrating(
                f"h{plan.seed}", urls, scene.directory, options, stop_at=plan.stop_at, pause_at=plan.fault_at
            )
        )
        scene.migration.wait("following", stage="following")
        scene.say("follows")
        scene.applications = stack.enter_context(Applications(list(_applications(scene, place))))
        for phase in _way_to(plan.phase):
            scene.migration.phase_set(phase)
        time.sleep(plan.calm_s)
        scene.applications.check_alive()
        for number, name in enumerate(plan.switches):
            if plan.fault:
                with faults[plan.fault](scene):
                    made = switch(scene, name, plan.stop_at if number == 0 else "", FAULT_S)
                if not made:
                    switch(scene, name)
            else:
                switch(scene, name, plan.stop_at if number == 0 else "")
            time.sleep(plan.calm_s)
        history = scene.applications.stop()
        _judge(scene, history)
        _finish(scene)


def _start_servers(stack: contextlib.ExitStack, scene: Scene) -> None:
    binaries = find_binaries()
    made: list[Server | Cluster] = []
    for name in (scene.plan.source, scene.plan.target):
        program, _, shards = name.partition("x")
        config = DURABLE if scene.plan.durable else {}
        if scene.plan.plain or scene.plan.own_user:
            # In the file, so that a server that is started again knows it.
            config = {**config, "user": f"{USER} on >{PASSWORD} ~* &* +@all -@admin"}
        binary = binaries[program]
        made.append(Cluster(binary, int(shards), config=config) if shards else Server(binary, config=config))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(stack.enter_context, made))
    scene.sides = dict(zip(Side, made, strict=True))
    with made[0].session() as session:
        fill(session, scene.plan.fill_keys, scene.plan.seed)
        session.call("XGROUP", "CREATE", "stream:0", GROUP, "0", "MKSTREAM")
    for wanted, ways in (
        (scene.plan.proxied, scene.ways),
        (scene.plan.led_by_proxies, scene.coordinator_ways),
    ):
        for side in Side if wanted else ():
            ways[side] = stack.enter_context(ProxiedSide(side.value, scene.sides[side]))


def deployment_url(deployment: Deployment) -> str:
    """As the command line and our clients take it."""
    url = deployment.primaries[0].url
    return url.replace("redis://", "redis+cluster://") if isinstance(deployment, Cluster) else url


def _options(plan: Plan, place: Path) -> list[str]:
    options = ["--on-cutover", f"printf target > {place}", "--on-rollback", f"printf source > {place}"]
    return options + (["--gate", plan.gate] if plan.gate else [])


def _applications(scene: Scene, place: Path) -> Iterator[application.Plan]:
    plan = scene.plan
    urls = {}
    for side in Side:
        url = scene.ways[side].url if plan.proxied else deployment_url(scene.sides[side])
        urls[side.value] = (
            url.replace("://", f"://{USER}:{PASSWORD}@") if plan.plain or plan.own_user else url
        )
    for number, form in enumerate(plan.forms):
        yield application.Plan(
            worker=number,
            workers=len(plan.forms),
            form=form,
            urls=urls,
            migration=scene.migration.name,
            path=str(scene.directory / f"app-{number}.jsonl"),
            seconds=600.0,
            rate=plan.rate,
            seed=plan.seed,
            place=str(place),
            without=(*plan.without, *(NOT_ON_CLUSTERS if plan.clustered else ())),
            clock_rate=plan.clock_rates[number] if plan.clock_rates else 1.0,
            clock_ahead_s=1_000.0 * number if plan.clock_rates else 0.0,
            settings=dict(plan.settings),
        )


def _way_to(phase: str) -> list[str]:
    return {"source": [], "dual": ["dual"], "shadow": ["dual", "shadow"]}[phase]


def switch(scene: Scene, name: str, stop_at: str = "", patience_s: float = 0.0) -> bool:
    """One switch, until it is made; one that is put off or undone is tried again.

    Args:
        stop_at: Where the coordinator is killed the first time. It may have switched before, or not: then again.
        patience_s: False after so long; 0: it has to come about.
    """
    gaining = Side.TARGET if name == "cutover" else Side.SOURCE
    deadline_s = time.monotonic() + (patience_s or AGAIN_S)
    if stop_at:
        _killed_at(scene, name, stop_at)
        deadline_s = time.monotonic() + (patience_s or AGAIN_S)
        if _ruling(scene) is gaining:
            scene.say(f"{name}: made before it was killed at {stop_at}")
            scene.result.switches.append(f"{name}: made, killed at {stop_at}")
            return True
        scene.say(f"{name}: not made before it was killed at {stop_at}")
    while True:
        ended = scene.migration.ask(name, "--yes")
        if ended.done:
            break
        scene.result.switches.append(f"{name}: {ended.said.strip()[-200:]}")
        scene.say(f"{name} again: {ended.said.strip()[-300:]}")
        if time.monotonic() > deadline_s:
            if patience_s:
                return False
            raise KeyferryError(f"{name} does not come about: {ended.said[-500:]}")
        time.sleep(0.3)
        if _ruling(scene) is gaining:
            break  # made, and what came after it failed, or could not be told
    found = _ruling(scene)
    if found is not gaining:
        raise KeyferryError(f"After the {name} the {found} has authority: {ended.said[-300:]}")
    made = [one for one in scene.migration.status().get("switches", ()) if one.get("outcome") == "done"]
    gate_ms = float(made[-1].get("gate_ms") or 0.0) if made else 0.0
    scene.result.gates.append(gate_ms)
    scene.result.switches.append(f"{name}: made")
    steps = sorted(made[-1].get("steps", ()), key=lambda one: -float(one["seconds"]))[:SHOWN] if made else ()
    longest = ", ".join(f"{one['step']} {1000 * one['seconds']:.0f}" for one in steps)
    scene.say(f"{name}: made, gate {gate_ms:.1f} ms; longest steps in ms: {longest}")
    return True


def _ruling(scene: Scene) -> Side:
    """Who has authority, as soon as both sides can be asked and a mark that is under way is complete."""
    deadline_s = time.monotonic() + AGAIN_S
    while True:
        try:
            return scene.authority()
        except KeyferryError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def _killed_at(scene: Scene, name: str, place: str) -> None:
    """The coordinator stops at a place; it is killed there, and started again without one."""
    migration = scene.migration
    migration.wait("ready", ready=True)
    undoes = place.startswith("undo")
    options = ("--yes", "--timeout", GATE_S) if undoes else ("--yes",)
    text = f"{'died' if undoes else 'paused'} at {place}"
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(migration.ask, name, *options)
        deadline_s = time.monotonic() + AGAIN_S
        while text not in migration.said():
            if asked.done() and time.monotonic() > deadline_s:
                migration.kill()
                raise KeyferryError(f"The {name} does not come to {place}: {asked.result().said[-500:]}")
            if asked.done():
                scene.say(f"{name} again: {asked.result().said.strip()[-200:]}")
                asked = threads.submit(migration.ask, name, *options)
            time.sleep(0.02)
        time.sleep(scene.rng.uniform(0.0, 0.4))
        migration.kill()
        ended = asked.result()
    if ended.done and "+" not in place:
        scene.problem(f"keyferry {name} said {ended.said[-200:]!r} although the coordinator had been killed")
    migration.start()
    stages = {"following", "following back", "switched"}
    deadline_s = time.monotonic() + AGAIN_S
    while migration.status().get("stage") not in stages:
        if time.monotonic() > deadline_s:
            raise KeyferryError(f"Killed at {place}, it does not go on: {migration.status()}")
        time.sleep(0.1)


def _judge(scene: Scene, history: History) -> None:
    """What the applications saw, and what is there."""
    plan, result = scene.plan, scene.result
    time.sleep(FINAL_SLEEP_S)
    side = scene.authority()
    with scene.sides[side].session(side=side.value) as session:
        final = read_final(session, history)
    for finding in check(history, final)[:SHOWN]:
        scene.problem(str(finding))
    result.acknowledged, result.longest_s = history.acknowledged(), history.longest_s()
    result.outcomes = dict(Counter(event.outcome.value for event in history.events))
    errors = Counter(_error(event) for event in history.events if not event.done)
    result.errors = dict(errors.most_common(SHOWN))
    for text, times in errors.items():
        if plan.harmless and not text.startswith("WatchError"):
            scene.problem(f"{times} times an application saw {text}")
    if not result.acknowledged:
        scene.problem("Nothing was acknowledged.")
    scene.say(f"{result.outcomes} longest {result.longest_s:.3f} s, {result.errors}")
    if Outcome.DONE not in result.outcomes or not plan.switches:
        return
    _wait_equal(scene)


def _error(event: Event) -> str:
    return event.error[:160]


def _wait_equal(scene: Scene) -> None:
    """Both sides are the same, within a while: nobody writes any more, and what changed is carried."""
    source, target = (scene.sides[side] for side in Side)
    deadline_s = time.monotonic() + EQUAL_WITHIN_S
    while True:
        with source.session(timeout_s=60) as here, target.session(side="target", timeout_s=60) as there:
            found = compare_databases(here, there, expiry_tolerance_ms=1_000)
        if found.equal:
            return
        if time.monotonic() > deadline_s:
            scene.problem(f"{found.differing_keys} keys differ in the end: {found.differences[:3]}")
            return
        time.sleep(0.2)


def _finish(scene: Scene) -> None:
    """The last command: nothing of ours stays behind, and it says so."""
    migration = scene.migration
    if scene.authority() is Side.TARGET:
        ended = migration.ask("finish", "--yes")
    else:
        ended = migration.ask("abort", "--yes")
    if not ended.done:
        scene.problem(f"It does not finish: {ended.said[-500:]}")
        return
    status = migration.ended()
    if status not in (0, 1):
        scene.problem(f"keyferry migrate ended with {status}: {migration.said()[-800:]}")
    for text in migration.never_said():
        scene.problem(text)
    for side, deployment in scene.sides.items():
        for node in deployment.primaries:
            with node.session() as session:
                left = session.call("KEYS", "keyferry:*")
            if left:
                scene.problem(f"Left behind on the {side}: {left!r}"[:400])


PHASES = tuple(phase.value for phase in (Phase.SOURCE, Phase.DUAL, Phase.SHADOW))
