"""A sync as tests run it: through ``run_sync`` in a thread, so that they can write meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from copying import endpoint_of, wait_until
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.follow.run import run_sync
from keyferry.follow.settings import SyncSettings
from keyferry.model.address import Endpoint
from keyferry.model.errors import InterruptedRun
from keyferry.telemetry.following import SyncProgress, SyncReport
from keyferry.testing.compare import Comparison, compare_databases
from keyferry.testing.deployment import Deployment

STOPS_WITHIN_S = 3.0
ARRIVES_WITHIN_S = 5.0
SYNC_FIELDS = frozenset(
    (
        "name",
        "feed",
        "enable_notifications",
        "until_synced",
        "lag_target_s",
        "keep_extra",
        "accept_shrunk_source",
        "dirty_max",
    )
)


def settings_of(
    source: Deployment | Endpoint, target: Deployment | Endpoint, state_dir: Path, **given: Any
) -> SyncSettings:
    """SyncSettings' and CopySettings' fields side by side; the latency guard is off unless given."""
    ours = {name: given.pop(name) for name in list(given) if name in SYNC_FIELDS}
    copy = {"max_latency_ms": 0.0, "retry_s": 15.0, "state_dir": state_dir, **given}
    return SyncSettings(CopySettings(endpoint_of(source), endpoint_of(target), **copy), **ours)


@dataclass
class Sync:
    """One that runs."""

    settings: SyncSettings
    told: list[str] = field(default_factory=list)
    seen: list[SyncProgress] = field(default_factory=list)
    stop: StopFlag = field(default_factory=StopFlag)
    report: SyncReport | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.report = run_sync(
                self.settings, observe=self.seen.append, tell=self.told.append, stop=self.stop
            )
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self.error = error

    @property
    def last(self) -> SyncProgress:
        wait_until(lambda: self.seen or self.error, "the sync shows something")
        if not self.seen:
            raise AssertionError(f"the sync ended: {self.error!r}")
        return self.seen[-1]

    def follows(self, timeout_s: float = 30.0) -> None:
        """Waits until everything that was there has been carried, and nothing is dirty."""

        def does() -> bool:
            assert self.error is None, self.error
            assert self.report is None or self.settings.until_synced
            return self.last.stage == "following" and self.last.dirty_keys == 0

        wait_until(does, f"the sync follows (told: {self.told})", timeout_s)

    def was_told(self, words: str, timeout_s: float = 10.0) -> None:
        wait_until(
            lambda: any(words in told for told in list(self.told)), f"{words!r} in {self.told}", timeout_s
        )

    def end(self) -> None:
        """Stops it; it has to stop in time, and as interrupted."""
        assert self.thread is not None
        self.stop.request()
        began_s = time.monotonic()
        self.thread.join(30.0)
        took_s = time.monotonic() - began_s
        assert not self.thread.is_alive(), "the sync does not stop"
        if self.report is None and not isinstance(self.error, InterruptedRun):
            raise AssertionError(
                f"the sync ended by itself: {self.error!r}; told {self.told}"
            ) from self.error
        assert took_s < STOPS_WITHIN_S

    def wait(self, timeout_s: float = 60.0) -> BaseException | SyncReport:
        """Until it ends by itself: its report, or what it raised."""
        assert self.thread is not None
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), f"the sync does not end; told {self.told}"
        found = self.report or self.error
        assert found is not None
        return found


@contextmanager
def syncing(
    source: Deployment | Endpoint, target: Deployment | Endpoint, state_dir: Path, **given: Any
) -> Iterator[Sync]:
    """Runs one beside the block, from before its first look."""
    sync = Sync(settings_of(source, target, state_dir, **given))
    sync.start()
    try:
        yield sync
    except BaseException as error:
        error.add_note(f"told: {sync.told[-8:]}; last seen: {sync.seen[-1:]}")
        sync.stop.request()
        if sync.thread is not None:
            sync.thread.join(30.0)
        raise
    sync.end()


def becomes_equal(
    source: Deployment,
    target: Deployment,
    *,
    databases: dict[int, int] | None = None,
    within_s: float = ARRIVES_WITHIN_S,
    expiry_tolerance_ms: int = 100,
) -> None:
    """An independent comparison finds no difference, soon."""
    until_s = time.monotonic() + within_s
    for here, there in (databases or {0: 0}).items():
        while not (found := _compared(source, target, here, there, expiry_tolerance_ms)).equal:
            assert time.monotonic() < until_s, (here, found.differences[:10])
            time.sleep(0.05)


def _compared(source: Deployment, target: Deployment, here: int, there: int, tolerance_ms: int) -> Comparison:
    with source.session() as left, target.session(side="target") as right:
        return compare_databases(
            left, right, source_db=here, target_db=there, expiry_tolerance_ms=tolerance_ms
        )
