"""What a sync shows to its dashboard: its newest look and how it has gone, over a control socket that only answers.

A sync is led by nobody: whatever is asked of it beside that is refused.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from keyferry.app.dashboard_launch import Watched
from keyferry.cutover.control import ControlServer
from keyferry.cutover.desk import QueueDesk
from keyferry.follow.run import sync_name
from keyferry.follow.settings import SyncSettings
from keyferry.follow.showing import station_of_sync, sync_status_of
from keyferry.model.errors import ExitCode
from keyferry.model.keynames import KeyNames
from keyferry.telemetry.following import SyncObserver, SyncProgress
from keyferry.telemetry.glance import SyncGlances
from keyferry.telemetry.migrating import EVENTS_SHOWN, WARNINGS_MAX
from keyferry.telemetry.progress import Alert, Teller
from keyferry.telemetry.samples import Samples

TAKES_NOTHING = "A sync takes no requests: it copies and follows until it is stopped."
HINT = "Ctrl-C stops it. A migration, which can be cut over, is led by keyferry migrate."
_NOTHING_YET = SyncProgress(
    stage="connecting",
    feed="",
    generation=1,
    keys_total=0,
    keys_done=0,
    keys_per_second=0.0,
    seconds_left=None,
    changes_per_second=0.0,
    dirty_keys=0,
    lag_s=0.0,
    settled_keys=0,
    settled_per_second=0.0,
    cutover_s=None,
    hottest=(),
    foreign_keys=0,
    failed=0,
    elapsed_s=0.0,
    source_latency_ms=None,
    target_latency_ms=None,
    throttle="off",
)


def sync_control_path(settings: SyncSettings) -> Path:
    """Of the control socket of this sync; the commands that speak to migrations do not look for it."""
    return settings.copy.state_dir / f"sync-{sync_name(settings)}.sock"


class SyncShowing:
    """Can be asked from the beginning of the block to its end.

    Args:
        observe, tell: Get everything, too.

    Raises:
        RefusedError: At the beginning of the block: the same sync runs already.
        UsageError: The same: the socket cannot be made.
    """

    def __init__(self, settings: SyncSettings, observe: SyncObserver, tell: Teller) -> None:
        self._settings, self._observe, self._tell = settings, observe, tell
        self._names = KeyNames(settings.copy.show_keys)
        self._started_ms = _now_ms()
        self._glances = SyncGlances(settings.lag_target_s, until_synced=settings.until_synced)
        self._samples = Samples()
        self._at = 0
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_SHOWN)
        self._warnings: dict[str, None] = {}
        self._desk = QueueDesk()
        self._server: ControlServer | None = None

    @property
    def watched(self) -> Watched:
        """For its dashboard."""
        return Watched("sync", self._settings.name or "sync", sync_control_path(self._settings))

    def __enter__(self) -> SyncShowing:
        self._publish(_NOTHING_YET)
        self._desk.close(TAKES_NOTHING, HINT, ExitCode.REFUSED)
        self._server = ControlServer(sync_control_path(self._settings), self._desk)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    def observe(self, progress: SyncProgress) -> None:
        """One look, in the thread that works."""
        self._observe(progress)
        if self._samples.add(_now_ms(), progress.stage, progress):
            self._desk.publish_history(self._samples.as_dict())
        self._publish(progress)

    def tell(self, sentence: str) -> None:
        """A sentence for people, in the thread that works."""
        self._tell(sentence)
        self._events.append((_now_ms(), sentence))
        if isinstance(sentence, Alert) and len(self._warnings) < WARNINGS_MAX:
            self._warnings[sentence] = None

    def _publish(self, progress: SyncProgress) -> None:
        copy = self._settings.copy
        self._at = station_of_sync(progress, self._at)
        self._desk.publish(
            sync_status_of(
                progress,
                name=self._settings.name or "",
                source=copy.source.location,
                target=copy.target.location,
                pid=os.getpid(),
                started_ms=self._started_ms,
                limits={"max_rate": copy.max_rate, "max_latency_ms": copy.max_latency_ms or None},
                names=self._names,
                glance=self._glances.look(progress, time.monotonic()),
                at=self._at,
                warnings=self._warnings,
                events=self._events,
            )
        )


def _now_ms() -> int:
    return round(time.time() * 1000)
