"""What the operator and the service of the demo do while the migration runs: one act after the other, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keyferry.app.demo_result import Result, Seen, row, said, typed
from keyferry.app.demo_screen import Stage
from keyferry.app.demo_users import KEYFERRY_USER, service_url
from keyferry.copy.stop import StopFlag
from keyferry.cutover.control_client import ask
from keyferry.cutover.phase_steps import Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.cutover.requests import End, Request
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Stamp
from keyferry.model.words import counted, duration
from keyferry.testing.servers import HOST, Server
from keyferry.testing.service import Habits
from keyferry.testing.service_crowd import Crowd
from keyferry.testing.service_job import Job
from keyferry.testing.service_waits import Window

ACT_S = 3.0
"""So long the service runs between two switches."""
READY_TIMEOUT_S = 120.0
TRIES_MAX = 5
RECORD_TIMEOUT_S = 10.0
POLL_S = 0.05
AROUND_S = 0.05
"""A call that was under way when a switch began, or began shortly after it, counts to it."""


class Story(threading.Thread):
    """The acts. A context manager: begins with the block, and is over at its end.

    Args:
        path: Of the migration's control socket.
        kinds: The client of each process of the service.
        stop: Ends the migration, when the story cannot go on.

    Attributes:
        result: What the service has seen; None until it has been counted.
        error: Why the story has not come to its end.
    """

    def __init__(
        self,
        stage: Stage,
        source: Server,
        target: Server,
        directory: Path,
        path: Path,
        kinds: Sequence[str],
        habits: Habits,
        stop: StopFlag,
    ) -> None:
        super().__init__(name="demo-story", daemon=True)
        self._stage, self._source, self._target = stage, source, target
        self._path, self._stop_migration = path, stop
        self._kinds = kinds
        self._name = path.stem.removeprefix("migrate-")
        job = Job(service_url(source), service_url(target), self._name, str(directory), habits=habits)
        self._crowd = Crowd(job, kinds)
        self._over = threading.Event()
        self._seen: list[tuple[Window, Mapping[str, Any]]] = []
        self.result: Result | None = None
        self.error: KeyferryError | None = None

    def open(self, opened: ExitStack) -> None:
        """Begins the record and starts the service, which is there before the migration is.

        Raises:
            KeyferryError: A process does not start.
        """
        endpoints = {Side.SOURCE: self._source.endpoint, Side.TARGET: self._target.endpoint}
        with RecordStore(self._name, endpoints, {}) as store:
            Performer(
                store, Plan(Phase.SOURCE, False, Stamp(round(time.time() * 1000), "keyferry demo"))
            ).run(RECORD_TIMEOUT_S)
        opened.enter_context(self._crowd)
        self._crowd.go()
        tasks = sum(kind == "asyncio" for kind in self._kinds)
        text = f"{len(self._kinds)} processes, {tasks} of them with asyncio, writing and reading all the time"
        self._stage.say(row("service", text))

    def __enter__(self) -> Story:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        try:
            self._play()
        except KeyferryError as error:
            self.error = error
            self._stop_migration.request()

    def _play(self) -> None:
        source, target = (
            f"redis://{KEYFERRY_USER}@{HOST}:{one.port}" for one in (self._source, self._target)
        )
        self._stage.say(typed(f"keyferry migrate {source} \\\n    {target} --name {self._name}"))
        begun_s = time.monotonic()
        status = self._wait_ready()
        compared = (status.get("verification") or {}).get("compared", 0)
        took = duration(time.monotonic() - begun_s)
        self._stage.say(
            said(
                f"Copied and proved equal under these writes in {took}: {counted(compared, 'key')} compared."
            )
        )
        for command in ("cutover", "rollback", "cutover"):
            self._rest(ACT_S)
            self._switch(command)
        self._rest(ACT_S)
        self._wait_ready()
        self._count()
        self._stage.say(typed(f"keyferry finish --name {self._name} --yes"))
        end = self._ask("finish", yes=True)
        for line in end.facts.get("lines", ()):
            self._stage.say(said(line))

    def _switch(self, command: str) -> None:
        """A switch that was put off or undone has changed nothing: it is tried again, as an operator would."""
        for _ in range(TRIES_MAX):
            self._wait_ready()
            self._stage.say(typed(f"keyferry {command} --name {self._name} --yes"))
            begun_ns = time.monotonic_ns()
            end = ask(self._path, Request(command, {"yes": True}), lambda said: None)
            around_ns = int(AROUND_S * 1e9)
            window = Window(begun_ns - around_ns, time.monotonic_ns() + around_ns)
            self._stage.say(said(end.sentence))
            if end.exit_code == ExitCode.DONE:
                self._seen.append((window, end.facts))
                if end.hint:
                    self._stage.say(said(end.hint))
                return
            if end.exit_code != ExitCode.REFUSED:
                break
        raise KeyferryError(end.sentence, end.hint)

    def _count(self) -> None:
        """Stops the service and counts what it wrote, on the server that has authority now."""
        calls = self._crowd.stop()
        told = self._crowd.tally()
        counted = self._crowd.audit(self._target.url)
        switches = [
            Seen(
                facts["direction"],
                facts.get("gate_ms"),
                calls.within(window).longest_s() * 1000,
                facts.get("writers", 0),
            )
            for window, facts in self._seen
        ]
        quiet = calls.outside([window for window, _ in self._seen]).waits_ns()
        self.result = Result(counted, told, switches, quiet)

    def _ask(self, command: str, **options: object) -> End:
        """Raises ``KeyferryError`` when it was not done."""
        end = ask(self._path, Request(command, options), lambda said: None)
        if end.exit_code != ExitCode.DONE:
            raise KeyferryError(end.sentence, end.hint)
        return end

    def _wait_ready(self) -> Mapping[str, Any]:
        """Until the migration says that it could be switched now."""
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        status: Mapping[str, Any] = {}
        while time.monotonic() < deadline_s:
            status = self._ask("status").facts
            if status.get("ready"):
                return status
            self._rest(POLL_S)
        raise KeyferryError(
            f"The migration is not ready within {READY_TIMEOUT_S:.0f} s: {' '.join(status.get('not_ready', ()))}"
        )

    def _rest(self, seconds: float) -> None:
        if self._over.wait(seconds) or self._stop_migration.requested:
            raise InterruptedRun("Interrupted.")
