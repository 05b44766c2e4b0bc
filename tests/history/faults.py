"""What goes wrong during a switch: each begins before it, goes on beside it, and is over when its block ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from keyferry.model.phases import Side
from keyferry.testing.sides import ProxiedSide

from .scenes import Fault, Scene

BESIDE_S = 30.0


@contextlib.contextmanager
def _beside(does: Callable[[threading.Event], None]) -> Iterator[None]:
    """In a thread, until the block ends and it notices."""
    over = threading.Event()
    thread = threading.Thread(target=does, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(BESIDE_S)


@contextlib.contextmanager
def cut_applications(scene: Scene) -> Iterator[None]:
    """The applications' connections are reset again and again, on both sides."""

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.02, 0.3)):
            way = scene.ways[scene.rng.choice(list(Side))]
            scene.rng.choice(way.proxies).cut()

    with _beside(does):
        yield


@contextlib.contextmanager
def cut_replies(scene: Scene) -> Iterator[None]:
    """Applications' connections end in the middle of what they carry."""
    with _beside(lambda over: _cut_in_the_middle(scene, scene.ways, over)):
        yield


@contextlib.contextmanager
def cut_coordinator(scene: Scene) -> Iterator[None]:
    """The coordinator's connections are reset now and then, its feeds' too."""

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.2, 1.5)):
            way = scene.coordinator_ways[scene.rng.choice(list(Side))]
            scene.rng.choice(way.proxies).cut()

    with _beside(does):
        yield


@contextlib.contextmanager
def stall_coordinator(scene: Scene) -> Iterator[None]:
    """For moments no byte passes between the coordinator and one side, and then all that waited."""

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.1, 1.0)):
            way = scene.coordinator_ways[scene.rng.choice(list(Side))]
            proxy = scene.rng.choice(way.proxies)
            proxy.stall(True)
            over.wait(scene.rng.uniform(0.05, 1.0))
            proxy.stall(False)

    with _beside(does):
        yield


def _cut_in_the_middle(scene: Scene, ways: Mapping[Side, ProxiedSide], over: threading.Event) -> None:
    while not over.wait(scene.rng.uniform(0.05, 0.3)):
        proxy = scene.rng.choice(ways[scene.rng.choice(list(Side))].proxies)
        for _ in range(3):
            proxy.cut_after(int(20_000 ** scene.rng.random()), scene.rng.choice(("to_client", "to_server")))
        proxy.cut()


@contextlib.contextmanager
def restart_source(scene: Scene) -> Iterator[None]:
    """The source is killed and comes back with its data."""
    with _restarting(scene, Side.SOURCE):
        yield


@contextlib.contextmanager
def restart_target(scene: Scene) -> Iterator[None]:
    with _restarting(scene, Side.TARGET):
        yield


@contextlib.contextmanager
def _restarting(scene: Scene, side: Side) -> Iterator[None]:
    """Once, at a moment of the switch or shortly after."""

    def does(over: threading.Event) -> None:
        over.wait(scene.rng.uniform(0.3, 1.5))
        node = scene.rng.choice(scene.sides[side].primaries)
        node.kill()
        time.sleep(scene.rng.uniform(0.05, 0.8))
        node.start()

    with _beside(does):
        yield


@contextlib.contextmanager
def stand_still_source(scene: Scene) -> Iterator[None]:
    """The source's process is stopped for moments."""
    with _standing_still(scene, Side.SOURCE):
        yield


@contextlib.contextmanager
def stand_still_target(scene: Scene) -> Iterator[None]:
    with _standing_still(scene, Side.TARGET):
        yield


@contextlib.contextmanager
def stand_still_writer(scene: Scene) -> Iterator[None]:
    """An application is stopped across its lease, and goes on some time after that."""
    lease_s = scene.plan.settings["lease_ms"] / 1000
    scene.applications.stand_still(0)
    time.sleep(scene.rng.uniform(0.0, lease_s))
    try:
        yield
        time.sleep(scene.rng.uniform(0.0, 0.5))
    finally:
        scene.applications.go_on(0)


@contextlib.contextmanager
def stutter_writer(scene: Scene) -> Iterator[None]:
    """An application is stopped and goes on, again and again, for longer and for shorter than its lease."""
    lease_s = scene.plan.settings["lease_ms"] / 1000

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.01, 0.3)):
            scene.applications.stand_still(0)
            over.wait(scene.rng.choice((0.05, 0.3, 1.3 * lease_s)))
            scene.applications.go_on(0)

    with _beside(does):
        yield


@contextlib.contextmanager
def kill_writer(scene: Scene) -> Iterator[None]:
    """An application is killed, between two legs perhaps; it does not come back."""
    timer = threading.Timer(scene.rng.uniform(0.0, 0.8), lambda: scene.applications.kill(0))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextlib.contextmanager
def stand_still_coordinator(scene: Scene) -> Iterator[None]:
    """The coordinator is stopped for moments, in the gate too."""

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.05, 0.4)):
            scene.migration.pause(scene.rng.uniform(0.05, 0.6))

    with _beside(does):
        yield


@contextlib.contextmanager
def _standing_still(scene: Scene, side: Side) -> Iterator[None]:
    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.1, 0.6)):
            node = scene.rng.choice(scene.sides[side].primaries)
            node.pause()
            time.sleep(scene.rng.uniform(0.05, 0.5))
            node.resume()

    with _beside(does):
        yield


def _cut_all(ways: Mapping[Side, ProxiedSide], *sides: Side) -> None:
    for side in sides:
        for proxy in ways[side].proxies:
            proxy.cut()


def _stop_still(scene: Scene, side: Side, seconds: float) -> None:
    node = scene.rng.choice(scene.sides[side].primaries)
    node.pause()
    time.sleep(seconds)
    node.resume()


def _restart(scene: Scene, side: Side) -> None:
    node = scene.rng.choice(scene.sides[side].primaries)
    node.kill()
    time.sleep(scene.rng.uniform(0.0, 0.6))
    node.start()


def _writer_across_its_lease(scene: Scene) -> None:
    scene.applications.stand_still(0)
    time.sleep(1.3 * scene.plan.settings["lease_ms"] / 1000)
    scene.applications.go_on(0)


MOMENTS: dict[str, Callable[[Scene], None]] = {
    "cut-applications": lambda scene: _cut_all(scene.ways, *Side),
    "cut-coordinator": lambda scene: _cut_all(scene.coordinator_ways, *Side),
    "cut-coordinator-source": lambda scene: _cut_all(scene.coordinator_ways, Side.SOURCE),
    "cut-coordinator-target": lambda scene: _cut_all(scene.coordinator_ways, Side.TARGET),
    "stand-still-source": lambda scene: _stop_still(scene, Side.SOURCE, scene.rng.uniform(0.2, 0.8)),
    "stand-still-target": lambda scene: _stop_still(scene, Side.TARGET, scene.rng.uniform(0.2, 0.8)),
    "stand-still-longer": lambda scene: _stop_still(scene, scene.rng.choice(list(Side)), 6.0),
    "restart-source": lambda scene: _restart(scene, Side.SOURCE),
    "restart-target": lambda scene: _restart(scene, Side.TARGET),
    "stand-still-writer": _writer_across_its_lease,
}
"""What happens once, while the coordinator is at a place."""


def _at_place(does: Callable[[Scene], None]) -> Fault:
    """Each time that the coordinator says it is there."""

    @contextlib.contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        text = f"paused at {scene.plan.fault_at}"
        seen = scene.migration.said().count(text)

        def watch(over: threading.Event) -> None:
            nonlocal seen
            while not over.wait(0.01):
                found = scene.migration.said().count(text)
                if found > seen:
                    scene.say(f"{scene.plan.fault} at {scene.plan.fault_at}")
                    does(scene)
                seen = found

        with _beside(watch):
            yield

    return fault


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        cut_applications, cut_replies, cut_coordinator, stall_coordinator, restart_source, restart_target, stand_still_source, stand_still_target, stand_still_writer, stutter_writer,
        kill_writer, stand_still_coordinator,
    )
}  # fmt: skip
BY_PROXIES = frozenset({"cut-applications", "cut-replies"})
"""Faults between applications and servers; ``LED_BY_PROXIES``: between the coordinator and them."""
LED_BY_PROXIES = frozenset(
    {"cut-coordinator", "stall-coordinator", "cut-coordinator-source", "cut-coordinator-target"}
)
RESTARTS = frozenset({"restart-source", "restart-target"})
AT_PLACE: dict[str, Fault] = {name: _at_place(does) for name, does in MOMENTS.items()}
