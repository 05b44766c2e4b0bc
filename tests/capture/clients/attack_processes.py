"""Applications in several processes, `keyferry sync` beside them, faults, and `keyferry verify` at the end."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attack_settling import client_of, differences
from attack_writer import Tally

from keyferry.testing.proxy_process import ProxyProcess
from keyferry.testing.servers import HOST, Server
from keyferry.testing.tool import Tool

WRITER = Path(__file__).with_name("attack_writer.py")
BEGUN = "Changes are followed by"
NEVER_SAID = "Traceback", "mistake in Keyferry", "Somebody else has written"
ARRIVES_WITHIN_S = 30.0
"""After the last fault; the tool may wait for a server that was away, and compare everything then."""
DEAD_PORT = 1


@dataclass(slots=True)
class Plan:
    """One run.

    Attributes:
        settings: Of the drop-in: phase, mirror, ledger, ...
        faults: One after the other, each with its time; see ``FAULTS``.
        rate: Commands a second of each process.
        outages: The source is away at times, so the application may see what redis-py says then.
        longest_call_s: No call may take longer.
    """

    settings: dict[str, Any]
    faults: Sequence[str] = ()
    seconds: float = 6.0
    processes: int = 2
    threads: int = 6
    rate: float = 250.0
    seed: int = 1
    options: Sequence[str] = ()
    users: tuple[str, str] = ("", "")
    outages: bool = False
    longest_call_s: float = 3.0


@dataclass
class Scene:
    """The servers, the ways to them, and who is at work."""

    plan: Plan
    source: Server
    target: Server
    source_way: ProxyProcess
    target_way: ProxyProcess
    directory: Path
    name: str = field(default_factory=lambda: f"a{uuid.uuid4().hex[:8]}")
    writers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    tallies: dict[int, Tally] = field(default_factory=dict)

    def start_writer(self, seconds: float) -> None:
        number = len(self.tallies)
        path = self.directory / f"tally-{number}"
        self.tallies[number] = Tally.create(path)
        plan = {
            "source": self.source_way.url,
            "target": self.target_way.url,
            "seconds": seconds,
            "threads": self.plan.threads,
            "rate": self.plan.rate,
            "seed": self.plan.seed * 100 + number,
            "writer": number,
            "tally": str(path),
            "outages": self.plan.outages,
            "settings": self.plan.settings
            | ({} if "migration" in self.plan.settings else {"ledger_name": self.name}),
        }
        log = (self.directory / f"writer-{number}.err").open("wb")
        with log:
            self.writers.append(
                subprocess.Popen([sys.executable, str(WRITER), json.dumps(plan)], stdout=log, stderr=log)
            )


# Faults: each leaves everything as it was


def kill_writers(scene: Scene) -> None:
    """SIGKILL at any moment, between the legs as well; others take their places."""
    for _ in range(4):
        time.sleep(0.35)
        victim = scene.writers.pop(0)
        victim.kill()
        victim.wait()
        scene.start_writer(2.5)


def stop_target(scene: Scene) -> None:
    scene.target.pause()
    time.sleep(1.5)
    scene.target.resume()


def slow_target(scene: Scene) -> None:
    scene.target_way.delay(0.25)
    time.sleep(1.5)
    scene.target_way.delay(0.0)


def cut_target(scene: Scene) -> None:
    for _ in range(5):
        scene.target_way.cut()
        time.sleep(0.2)


def lose_replies_of_target(scene: Scene) -> None:
    for count in (0, 7, 33, 64):
        scene.target_way.cut_after(count, "to_client", times=3)
        scene.target_way.cut()
        time.sleep(0.3)


def full_target(scene: Scene) -> None:
    with client_of(scene.target) as client:
        client.config_set("maxmemory", 1)
        time.sleep(1.0)
        client.config_set("maxmemory", 0)


def read_only_target(scene: Scene) -> None:
    with client_of(scene.target) as client:
        client.replicaof(HOST, DEAD_PORT)
        time.sleep(1.0)
        client.replicaof("NO", "ONE")


def restart_target(scene: Scene) -> None:
    scene.target.kill()
    time.sleep(0.5)
    scene.target.restart(keep_data=True)


def stall_source(scene: Scene) -> None:
    scene.source_way.stall(True)
    time.sleep(1.2)
    scene.source_way.stall(False)


def lose_replies_of_source(scene: Scene) -> None:
    for count in (0, 7, 33, 64):
        scene.source_way.cut_after(count, "to_client", times=3)
        scene.source_way.cut()
        time.sleep(0.3)


FAULTS: dict[str, Callable[[Scene], None]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        kill_writers,
        stop_target,
        slow_target,
        cut_target,
        lose_replies_of_target,
        full_target,
        read_only_target,
        restart_target,
        stall_source,
        lose_replies_of_source,
    )
}


def run(plan: Plan, source: Server, target: Server, directory: Path) -> dict[str, Any]:
    """Runs the whole, and says what was done; everything that may not be is an assertion."""
    with contextlib.ExitStack() as stack:
        source_way = stack.enter_context(ProxyProcess(HOST, source.port))
        target_way = stack.enter_context(ProxyProcess(HOST, target.port))
        scene = Scene(plan, source, target, source_way, target_way, directory)
        if "migration" in plan.settings:
            scene.name = plan.settings["migration"]
        tool = stack.enter_context(_tool(scene))
        _until(lambda: BEGUN in tool.said() or not tool.look(), "the sync begins", tool)
        stack.enter_context(_writing(scene))
        time.sleep(1.0)
        for fault in plan.faults:
            FAULTS[fault](scene)
            time.sleep(0.3)
        for writer in scene.writers:
            assert writer.wait(plan.seconds + 60) == 0, _said(scene)
        _judge(scene, tool)
        tool.ask_to_end(signal.SIGTERM)
        tool.look_for(*NEVER_SAID)
        assert not tool.problems, tool.problems
        _verify(scene)
    return {
        "acknowledged": sum(tally.get(thread)[1] for tally in scene.tallies.values() for thread in range(32)),
        "commands": sum(tally.get(thread)[2] for tally in scene.tallies.values() for thread in range(32)),
        "longest_s": max(tally.get(thread)[3] for tally in scene.tallies.values() for thread in range(32)),
    }


def _tool(scene: Scene) -> Tool:
    urls = [
        server.url.replace("redis://", f"redis://{user}@") if user else server.url
        for server, user in zip((scene.source, scene.target), scene.plan.users, strict=True)
    ]
    command = [
        *(sys.executable, "-m", "keyferry", "sync", *urls),
        *("--db", "0", "--db", "1", "--name", scene.name, "--max-latency", "0"),
        *("--state-dir", str(scene.directory / "state")),
        *scene.plan.options,
    ]
    return Tool(command, scene.directory, begun=BEGUN)


@contextlib.contextmanager
def _writing(scene: Scene) -> Iterator[None]:
    for _ in range(scene.plan.processes):
        scene.start_writer(scene.plan.seconds)
    try:
        yield
    finally:
        for writer in scene.writers:
            writer.kill()
            writer.wait()


def _judge(scene: Scene, tool: Tool) -> None:
    """What the applications saw, and what both servers hold."""
    for number, tally in scene.tallies.items():
        assert not tally.first_error, (number, tally.first_error, _said(scene))
    longest = max(tally.get(thread)[3] for tally in scene.tallies.values() for thread in range(32))
    assert longest < scene.plan.longest_call_s, longest
    found = _until(
        lambda: not tool.look() or not differences(scene.source, scene.target, ignore=(), tolerance_ms=1_000),
        "both sides are equal",
        tool,
        lambda: differences(scene.source, scene.target, ignore=(), tolerance_ms=1_000)[:8],
    )
    assert found
    counted = 0
    with client_of(scene.source) as source, client_of(scene.target) as target:
        for number, tally in scene.tallies.items():
            for thread in range(scene.plan.threads):
                sent, acknowledged, _, _ = tally.get(thread)
                key = f"own:{number}:{thread}"
                values = int(source.get(key) or 0), int(target.get(key) or 0)
                assert values[0] == values[1]
                assert acknowledged <= values[1] <= sent, (key, acknowledged, values, sent)
                counted += acknowledged
    assert counted > 0, _said(scene)


def _verify(scene: Scene) -> None:
    command = [
        *(sys.executable, "-m", "keyferry", "verify", scene.source.url, scene.target.url),
        *("--db", "0", "--db", "1", "--state-dir", str(scene.directory / "verify")),
    ]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, cwd=scene.directory
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])


def _until(does: Callable[[], bool], what: str, tool: Tool, more: Callable[[], Any] = lambda: None) -> bool:
    deadline_s = time.monotonic() + ARRIVES_WITHIN_S
    while not does():
        assert time.monotonic() < deadline_s, (what, more(), tool.said()[-1500:])
        time.sleep(0.2)
    assert not tool.problems, tool.problems
    return True


def _said(scene: Scene) -> list[str]:
    return [
        path.read_text("utf-8", "replace")[-1500:] for path in sorted(scene.directory.glob("writer-*.err"))
    ]
