"""``keyferry demo``: a real move between two real servers that live as long as it takes, under writers that never stop."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from keyferry.app import summary
from keyferry.app.display_sync import SyncView
from keyferry.app.display_verify import VerifyView
from keyferry.app.record import Recorder
from keyferry.app.screen import open_screen
from keyferry.app.signals import stopping
from keyferry.app.summary_verify import of_verify
from keyferry.app.words import count, counted, duration, moment
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.follow.settings import SyncSettings
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, UsageError
from keyferry.telemetry.following import SyncObserver, SyncProgress
from keyferry.testing.binaries import ServerBinary, embedded_pair, probe
from keyferry.testing.dataset import Filled, fill
from keyferry.testing.ledger import audit
from keyferry.testing.servers import Server
from keyferry.testing.writers import Writers, Written, not_for
from keyferry.verify.settings import VerifySettings

KEYS = 100_000
TIMEOUT_S = 60.0
WRITERS = 2
WRITES_PER_S = 2_000
WRITTEN_KEYS = 20_000
COUNTED_SHARE = 0.5
"""Of the writes, those to keys of which a writer keeps account."""
FOLLOWS_S = 8.0
"""So long the writers go on after everything has been copied."""
LAG_OF_LAST_S = 4.0
LAGS_MAX = 1_000
LEVEL_S = 3.0
"""Nothing has been dirty for so long: all has arrived, what only a look at stream groups finds as well."""


def demo_command(keys: int, source: Path | None, target: Path | None, record: Path | None) -> int:
    """Runs the command; returns its exit status: 1 when the servers differ in the end, or a write is missing.

    Raises:
        KeyferryError: A server cannot be started, or the sync did not come to its end.
    """
    source_binary, target_binary = _binaries(source, target)
    screen = Recorder("make demo" if keys == KEYS else f"keyferry demo --keys {keys}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyferry-demo-")))
        source_server = stack.enter_context(Server(source_binary))
        target_server = stack.enter_context(Server(target_binary))
        try:
            wrong = _Play(screen, source_server, target_server, directory).run(keys)
        except InterruptedRun:
            raise InterruptedRun("The demo was interrupted; both servers are stopped.") from None
    screen.say(Text("Both servers are stopped.", style="dim"))
    if record is not None:
        screen.save(record)
    return ExitCode.KEYS_FAILED if wrong else ExitCode.DONE


class _Play:
    """The acts, one after the other."""

    def __init__(self, screen: Recorder, source: Server, target: Server, directory: Path) -> None:
        self._screen, self._source, self._target = screen, source, target
        self._directory = directory
        # Nobody else uses these servers, so there is nobody to be held back for.
        self._copy = CopySettings(
            source=source.endpoint, target=target.endpoint, state_dir=directory / "state", max_latency_ms=0
        )

    def run(self, keys: int) -> int:
        """How much is wrong in the end: keys that differ, writes that are missing or doubled."""
        filled = self._fill(keys)
        expiring = f"{count(filled.expiring)} of them with an expiry"
        there = f"{counted(filled.keys, 'key')} of {len(filled.by_type)} types, {expiring}"
        self._screen.say(_row("source", f"{self._source.binary}, {there}"))
        self._screen.say(_row("target", f"{self._target.binary}, empty"))
        self._screen.say(
            _row(
                "writers",
                f"{WRITERS} processes, {count(WRITES_PER_S)} commands/s of every type, all the time",
            )
        )
        with Writers(
            self._source,
            self._directory,
            count=WRITERS,
            rate=WRITES_PER_S,
            options={"keys": WRITTEN_KEYS, "owned_share": COUNTED_SHARE},
            without=("databases", "big", *not_for(self._target.binary)),
        ) as writers:
            written = self._sync(writers)
        return self._verify() + self._count(written)

    def _fill(self, keys: int) -> Filled:
        with (
            _bar("filling the source") as advance,
            self._source.session(timeout_s=TIMEOUT_S) as session,
        ):
            return fill(session, keys, on_progress=advance)

    def _sync(self, writers: Writers) -> Written:
        """Copies and follows; stops the writers after a while, and the sync when everything has arrived."""
        from keyferry.follow.run import run_sync

        settings = SyncSettings(self._copy)
        stop = StopFlag()
        end = _End(writers, stop)
        title = f"keyferry sync {self._copy.source} to {self._copy.target}"
        shown = self._screen.watching(open_screen(title, SyncView()), SyncView(), title, _shows_following)
        try:
            with stopping(stop), shown, end:
                run_sync(settings, observe=_both(shown.observe, end.observe), tell=shown.tell, stop=stop)
        except InterruptedRun:
            if end.written is None:
                raise end.error or InterruptedRun("Interrupted.") from None
        if end.written is None or end.last is None:
            raise KeyferryError("The sync has ended before the writers did.")
        self._screen.say(_of_following(end.last, end.lag_max_s(), end.written))
        return end.written

    def _verify(self) -> int:
        """Keys that differ."""
        from keyferry.verify.run import run_verify

        settings = VerifySettings(self._copy)
        stop = StopFlag()
        view = open_screen(f"keyferry verify {self._copy.source} with {self._copy.target}", VerifyView())
        with stopping(stop), view:
            report = run_verify(settings, observe=view.observe, tell=view.tell, stop=stop)
        self._screen.say(of_verify(report, settings))
        return report.differences

    def _count(self, written: Written) -> int:
        """Writes that are missing on the target, or there twice."""
        with self._target.session(side="target", timeout_s=TIMEOUT_S) as session:
            found = audit(session, written.ledgers)
        text = (
            f"Counted {counted(found.writes, 'acknowledged write')} one by one on the target: "
            f"{count(found.missing)} missing, {count(found.doubled)} doubled."
        )
        self._screen.say(Text(text, style="bold green" if found.exact else "bold red"))
        for finding in found.findings:
            self._screen.say(Text(f"  {finding}"))
        return found.missing + found.doubled + len(found.findings)


class _End(threading.Thread):
    """Stops the writers when they have been followed for a while, then the sync when all has arrived."""

    def __init__(self, writers: Writers, stop: StopFlag) -> None:
        super().__init__(name="demo-end", daemon=True)
        self._writers, self._stop_sync = writers, stop
        self._over = threading.Event()
        self.last: SyncProgress | None = None
        self._lags: deque[tuple[float, float]] = deque(maxlen=LAGS_MAX)
        self.written: Written | None = None
        self.error: KeyferryError | None = None
        self._stopped_s = 0.0

    def __enter__(self) -> _End:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def observe(self, progress: SyncProgress) -> None:
        self.last = progress
        self._lags.append((time.monotonic(), progress.lag_s))

    def lag_max_s(self) -> float:
        """The most that the target was behind in the last seconds before the writers ended."""
        return max(
            (lag_s for at, lag_s in self._lags if 0 <= self._stopped_s - at <= LAG_OF_LAST_S), default=0.0
        )

    def run(self) -> None:
        if not self._follows_for(FOLLOWS_S, lambda progress: True):
            return
        self._stopped_s = time.monotonic()
        try:
            self.written = self._writers.stop()
        except KeyferryError as error:
            self.error = error
        else:
            self._follows_for(LEVEL_S, lambda progress: not progress.dirty_keys)
        self._stop_sync.request()

    def _follows_for(self, seconds: float, condition: Callable[[SyncProgress], bool]) -> bool:
        """Waits until the sync has been following, under the condition, for so long; False when it has ended."""
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            if self._over.wait(0.05):
                return False
            last = self.last
            if last is None or last.stage != "following" or not condition(last):
                since = time.monotonic()
        return True


def _of_following(last: SyncProgress, lag_max_s: float, written: Written) -> Text:
    title = (
        f"Copied and followed for {duration(last.elapsed_s)}; at most {moment(lag_max_s)} behind "
        f"in the last {LAG_OF_LAST_S:.0f} s of writing."
    )
    rows = [
        ("writes", f"{count(written.acknowledged.total())} acknowledged while it ran"),
        ("settled", f"{counted(last.settled_keys, 'change')}, as they came"),
        ("feed", f"{last.feed}, {counted(last.generation - 1, 'gap')}"),
    ]
    if last.failed:
        rows.append(("failed", counted(last.failed, "key")))
    return summary.lines(title, "bold yellow" if last.failed else "bold green", rows)


def _shows_following(best: SyncProgress, progress: SyncProgress) -> bool:
    """Whether a picture of ``progress`` says more than that of ``best``: changes that are followed."""
    if progress.stage != "following" or not progress.changes_per_second:
        return (
            best.stage != "following" and progress.stage == "copying" and progress.keys_done > best.keys_done
        )
    return best.stage != "following" or progress.settled_per_second > best.settled_per_second


def _both(*observers: SyncObserver) -> SyncObserver:
    def observe(progress: SyncProgress) -> None:
        for one in observers:
            one(progress)

    return observe


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; takes (done, total)."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _binaries(source: Path | None, target: Path | None) -> tuple[ServerBinary, ServerBinary]:
    if source is not None and target is not None:
        return _named(source), _named(target)
    embedded = embedded_pair()
    return _named(source) if source else embedded[0], _named(target) if target else embedded[1]


def _named(path: Path) -> ServerBinary:
    binary = probe(path.absolute())
    if binary is None:
        raise UsageError(
            f"{path} is not a Redis or Valkey server that runs here.", "Name a redis-server program."
        )
    return binary


def _row(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<8}", "dim"), text)
