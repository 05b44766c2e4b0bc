"""What goes wrong during a switch: each begins before it, goes on beside it, and is over when its block ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from keyferry.model.phases import Side

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

    def does(over: threading.Event) -> None:
        while not over.wait(scene.rng.uniform(0.05, 0.3)):
            proxy = scene.rng.choice(scene.ways[scene.rng.choice(list(Side))].proxies)
            for _ in range(3):
                proxy.cut_after(
                    int(20_000 ** scene.rng.random()), scene.rng.choice(("to_client", "to_server"))
                )
            proxy.cut()

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


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        cut_applications, cut_replies, stand_still_source, stand_still_target, stand_still_writer, stutter_writer,
        kill_writer, stand_still_coordinator,
    )
}  # fmt: skip
NEEDS_PROXIES = frozenset({"cut-applications", "cut-replies"})
