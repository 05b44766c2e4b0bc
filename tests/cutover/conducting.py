"""A migration as tests run it: through ``run_migration`` in a thread, asked over its desk; and writers that count."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keyferry
from copying import ask, wait_until
from following import settings_of
from keyferry.copy.stop import StopFlag
from keyferry.cutover.conductor import run_migration
from keyferry.cutover.desk import QueueDesk
from keyferry.cutover.requests import End, Request, Said
from keyferry.cutover.settings import MigrationSettings
from keyferry.journal.migration import MigrationJournal
from keyferry.model.record import record_key
from keyferry.telemetry.migrating import MigrationProgress, MigrationReport
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment

NAME = "orders"
ANSWERS_WITHIN_S = 60.0
MIGRATION_FIELDS = frozenset(
    (
        "gate",
        "cutover_when_ready",
        "verify_every_s",
        "on_cutover",
        "on_rollback",
        "rollback",
        "timeout_s",
        "prepare_timeout_s",
    )
)


def migration_settings(
    source: Deployment, target: Deployment, state_dir: Path, **given: Any
) -> MigrationSettings:
    """MigrationSettings', SyncSettings' and CopySettings' fields side by side."""
    ours = {name: given.pop(name) for name in list(given) if name in MIGRATION_FIELDS}
    sync = settings_of(source, target, state_dir, **{"name": NAME, "lag_target_s": 5.0, **given})
    return MigrationSettings(sync, NAME, **{"timeout_s": 10.0, "prepare_timeout_s": 10.0, **ours})


@dataclass
class Migration:
    """One that runs."""

    settings: MigrationSettings
    told: list[str] = field(default_factory=list)
    seen: list[MigrationProgress] = field(default_factory=list)
    stop: StopFlag = field(default_factory=StopFlag)
    desk: QueueDesk = field(default_factory=QueueDesk)
    report: MigrationReport | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, name="migration", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with MigrationJournal(self.settings.sync.copy.state_dir, self.settings.name) as journal:
                self.report = run_migration(
                    self.settings,
                    journal,
                    observe=self.seen.append,
                    tell=self.told.append,
                    stop=self.stop,
                    desk=self.desk,
                )
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.error = error
        finally:
            self.desk.close()

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.desk.status())

    def is_ready(self, writers: int | None = None, within_s: float = ANSWERS_WITHIN_S) -> None:
        """Waits until it could be switched now, with so many live writers."""

        def ready() -> bool:
            assert self.error is None, self.error
            status = self.status
            return bool(status.get("ready")) and (writers is None or len(status["writers"]) == writers)

        until_s = time.monotonic() + within_s
        while not ready():
            assert time.monotonic() < until_s, (self.status.get("not_ready"), self.told[-5:])
            time.sleep(0.02)

    def is_verified(self) -> None:
        """Waits until everything is there and was proved equal."""
        wait_until(lambda: self.error or self.status.get("verification"), "it is verified", ANSWERS_WITHIN_S)
        assert self.error is None, self.error

    def ask(self, command: str, **options: Any) -> End:
        """The last answer."""
        ticket = self.desk.ask(Request(command, options))
        for event in ticket.events(ANSWERS_WITHIN_S):
            if isinstance(event, End):
                return event
            assert isinstance(event, Said)
        raise AssertionError(f"no answer to {command}: {self.told[-5:]}, {self.error!r}")

    def try_switch(self, command: str, **options: Any) -> End:
        """The answer to one that was begun: what a status says of being ready may be a moment old."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            self.is_ready()
            end = self.ask(command, yes=True, **options)
            if not end.sentence.startswith("Not ready") or time.monotonic() > until_s:
                return end

    def switch(self, command: str, **options: Any) -> End:
        """A cutover or rollback that has to come about."""
        end = self.try_switch(command, **options)
        assert end.exit_code == 0, (end, self.told[-8:])
        return end

    def end(self, timeout_s: float = 20.0) -> None:
        """Waits for it after a finish or abort."""
        assert self.thread is not None
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), self.told[-8:]
        if self.error is not None:
            raise self.error


@contextmanager
def migrating(source: Deployment, target: Deployment, state_dir: Path, **given: Any) -> Iterator[Migration]:
    """Runs one beside the block; at its end it is stopped, unless it has ended."""
    migration = Migration(migration_settings(source, target, state_dir, **given))
    migration.start()
    try:
        yield migration
    finally:
        migration.stop.request()
        assert migration.thread is not None
        migration.thread.join(30)
        assert not migration.thread.is_alive(), migration.told[-8:]


class Counting:
    """Threads that count through the drop-in client: every acknowledged INCR is there once, and seen by the next read.

    Attributes:
        acknowledged: By key.
        failures: What an application saw that it should not have.
        longest_s: The longest call.
    """

    def __init__(self, source: Deployment, target: Deployment, threads: int = 3, **given: Any) -> None:
        maker = keyferry.Redis.from_urls
        options = {"migration": NAME, **given}
        self.client = maker(_url(source), _url(target), **options)
        self._source = source
        self.acknowledged: dict[str, int] = {}
        self.failures: list[str] = []
        self.longest_s = 0.0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._count, args=(number,), daemon=True) for number in range(threads)
        ]

    def __enter__(self) -> Counting:
        # A client that finds no record ends with an error, and so it should.
        wait_until(lambda: ask(self._source, "EXISTS", record_key(NAME)), "the record is there", 30.0)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()
        self.client.close()

    def _count(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            key = f"count:{number}:{turn % 7}"
            turn += 1
            began_s = time.monotonic()
            try:
                value = int(self.client.incr(key))
                read = int(self.client.get(key))  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - an application's view
                self.failures.append(repr(error))
                return
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            expected = self.acknowledged.get(key, 0) + 1
            if value != expected or read != expected:
                self.failures.append(f"{key}: {value} and {read} instead of {expected}")
            self.acknowledged[key] = expected
            time.sleep(0.002)

    def writes(self) -> int:
        return sum(self.acknowledged.values())

    def goes_on(self) -> None:
        """Waits until every thread has written once more."""
        before = dict(self.acknowledged)
        wait_until(
            lambda: self.failures or all(self.acknowledged[key] > count for key, count in before.items()),
            "writers go on",
            20.0,
        )
        assert not self.failures, self.failures


def _url(deployment: Deployment) -> str:
    return deployment.cluster_url if isinstance(deployment, Cluster) else deployment.url
