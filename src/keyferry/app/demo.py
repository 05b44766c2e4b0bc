"""``keyferry demo``: a whole migration of a live service between two real servers that live as long as it takes.

The service is several processes that write and read through the drop-in clients all the time and keep account of every
write that they were told is done. What an operator would type is asked of the migration through its control socket, as
the commands ask it (demo_story.py); what the service has seen is counted at the end (demo_result.py).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from keyferry.app.dashboard_launch import Board, Watched
from keyferry.app.demo_result import migration_line, result_lines, row, verdict
from keyferry.app.demo_screen import Stage
from keyferry.app.demo_story import Story
from keyferry.app.demo_users import KEYFERRY_USER, as_user, make_users
from keyferry.app.demo_watched import REPORT, demo_board, leave_report
from keyferry.app.display_migrate import DEFAULT_STATE_DIR, MigrateView
from keyferry.app.http_place import HttpPlace
from keyferry.app.record import Recorder
from keyferry.app.reporting import report_so_far
from keyferry.app.screen import open_screen
from keyferry.app.signals import stopping
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.cutover.conductor import run_migration
from keyferry.cutover.control import ControlServer
from keyferry.cutover.control_place import PATH_BYTES_MAX, control_path
from keyferry.cutover.desk import QueueDesk
from keyferry.cutover.settings import MigrationSettings
from keyferry.follow.settings import SyncSettings
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, UsageError
from keyferry.model.words import count, counted, duration
from keyferry.telemetry.glance import Glance
from keyferry.telemetry.migrating import FactKey, MigrationProgress
from keyferry.testing.binaries import ServerBinary, embedded_pair, probe
from keyferry.testing.dataset import Filled, fill
from keyferry.testing.servers import Server
from keyferry.testing.service import Habits

KEYS = 100_000
TIMEOUT_S = 60.0
NAME = "demo"
KINDS = ("threads", "threads", "threads", "asyncio")
HABITS = Habits(ticks_per_s=25.0, pipeline=6, singles=2, reads=3)


def demo_command(
    keys: int,
    source: Path | None,
    target: Path | None,
    record: Path | None,
    http: HttpPlace | None = None,
    http_host: Sequence[str] = (),
) -> int:
    """Runs the command; returns its exit status: 1 when a write is missing or doubled, a read was stale, or the service
    has seen an error.

    Raises:
        KeyferryError: A server cannot be started, or the migration did not come to its end.
    """
    if importlib.util.find_spec("redis") is None:
        raise UsageError("The demo needs redis-py, for the service.", "pip install 'keyferry[demo]'")
    source_binary, target_binary = _binaries(source, target)
    screen = Recorder("make demo" if keys == KEYS else f"keyferry demo --keys {keys}")
    with ExitStack() as stack:
        directory = stack.enter_context(_directory())
        source_server = stack.enter_context(Server(source_binary))
        target_server = stack.enter_context(Server(target_binary))
        try:
            play = _Play(screen, source_server, target_server, directory)
            well = play.run(keys, http, http_host)
        except InterruptedRun:
            raise InterruptedRun("The demo was interrupted; both servers are stopped.") from None
    screen.say(Text("Both servers are stopped.", style="dim"))
    if record is not None:
        screen.save(record)
    return ExitCode.DONE if well else ExitCode.KEYS_FAILED


class _Play:
    """The servers, the data, and the migration; the story is led beside it."""

    def __init__(self, screen: Recorder, source: Server, target: Server, directory: Path) -> None:
        self._screen, self._source, self._target = screen, source, target
        self._directory = directory
        # Nobody else uses these servers, so there is nobody to be held back for.
        copy = CopySettings(
            source=as_user(source, KEYFERRY_USER),
            target=as_user(target, KEYFERRY_USER),
            state_dir=_state_dir(directory),
            max_latency_ms=0,
        )
        self._sync = SyncSettings(copy, name=NAME)
        title = f"keyferry migrate {copy.source} to {copy.target}, {NAME}"
        # The picture is not of this machine's directories.
        drawn = MigrateView(NAME, DEFAULT_STATE_DIR)
        display = open_screen(title, MigrateView(NAME, copy.state_dir))
        self._shown = screen.watching(display, drawn, title, _says_more)
        self._stage = Stage(screen, self._shown)
        self._path = control_path(copy.state_dir, NAME)
        self._desk = QueueDesk(report=functools.partial(report_so_far, NAME, copy.state_dir))

    def run(self, keys: int, place: HttpPlace | None, further: Sequence[str]) -> bool:
        """Whether all went well.

        Args:
            place, further: Of the dashboard, as of ``demo_board``.
        """
        watched = Watched("migrate", NAME, self._path)
        with (
            ControlServer(self._path, self._desk),
            demo_board(place, further, watched, self._stage.warn) as board,
        ):
            return self._run(keys, board)

    def _run(self, keys: int, board: Board) -> bool:
        for server in (self._source, self._target):
            make_users(server)
        filled = self._fill(keys)
        there = f"{counted(filled.keys, 'key')} of {len(filled.by_type)} types, {count(filled.expiring)} of them with an expiry"
        self._screen.say(row("source", f"{self._source.binary}, {there}"))
        self._screen.say(row("target", f"{self._target.binary}, empty"))
        story, report = self._migrate()
        result = story.result
        if result is None:
            raise KeyferryError("The migration has ended before the story did.")
        for text in result_lines(result):
            self._screen.say(text)
        self._screen.say(row("report", REPORT.name if report else "cannot be written here"))
        status = ExitCode.DONE if result.well else ExitCode.KEYS_FAILED
        board.ended(status, " ".join(("The demo is over.", *verdict(result))), report=report)
        return result.well

    def _fill(self, keys: int) -> Filled:
        with (
            _bar("filling the source") as advance,
            self._source.session(timeout_s=TIMEOUT_S) as session,
        ):
            began_s = time.monotonic()

            def filling(done: int, total: int) -> None:
                advance(done, total)
                left_s = (time.monotonic() - began_s) * (total - done) / max(1, done)
                left = f"about {duration(round(left_s, -1))} left" if left_s >= 10 else "a few seconds left"
                self._publish(f"Filling the source: {count(done)} of {counted(total, 'key')}.", left)

            return fill(session, keys, on_progress=filling)

    def _publish(self, doing: str, left: str) -> None:
        """What the dashboard says before there is a migration."""
        glance = Glance(doing, "good", "", left, "Nothing to press: the demo acts by itself.")
        copy = self._sync.copy
        self._desk.publish(
            {
                "name": NAME,
                "source": copy.source.location,
                "target": copy.target.location,
                "pid": os.getpid(),
                "stage": "connecting",
                "glance": glance.as_dict(),
            }
        )

    def _migrate(self) -> tuple[Story, str]:
        """Leads the migration in this thread, and its operator in another one.

        Returns:
            The story, and where the report is.
        """
        settings = MigrationSettings(self._sync, NAME)
        stop = StopFlag()
        stage, desk = self._stage, self._desk
        with ExitStack() as opened:
            story = Story(stage, self._source, self._target, self._directory, self._path, KINDS, HABITS, stop)
            opened.enter_context(stopping(stop))
            self._publish("Starting a service that writes and reads all the time.", "a few seconds left")
            story.open(opened)
            journal = opened.enter_context(MigrationJournal(self._sync.copy.state_dir, NAME))
            opened.enter_context(self._shown)
            opened.enter_context(story)
            try:
                report = run_migration(
                    settings, journal, observe=stage.observe, tell=stage.tell, stop=stop, desk=desk
                )
            except InterruptedRun:
                raise story.error or InterruptedRun("Interrupted.") from None
            finally:
                # Before the story is waited for: it may be waiting for an answer.
                desk.close()
            file = leave_report(report, journal.get(FactKey.SAMPLES), stage.warn)
        if story.error is not None:
            raise story.error
        self._screen.say(migration_line(report))
        return story, file


def _says_more(best: MigrationProgress, progress: MigrationProgress) -> bool:
    """Whether a picture of ``progress`` says more than that of ``best``: the way back is followed, under traffic."""
    return (_rank(progress), _changes(progress)) > (_rank(best), _changes(best))


def _rank(progress: MigrationProgress) -> int:
    order = ("connecting", "copying", "following", "following back")
    return order.index(progress.stage) if progress.stage in order else 0


def _changes(progress: MigrationProgress) -> float:
    sync = progress.sync
    if sync is None:
        return 0.0
    return sync.changes_per_second if progress.stage != "copying" else float(sync.keys_done)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; takes (done, total)."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _directory() -> Iterator[Path]:
    """A temporary one in which a control socket's path is no longer than it may be."""
    for place in (None, "/tmp"):
        with tempfile.TemporaryDirectory(prefix="keyferry-demo-", dir=place) as name:
            if (
                place is not None
                or len(os.fsencode(control_path(_state_dir(Path(name)), NAME))) <= PATH_BYTES_MAX
            ):
                yield Path(name)
                return


def _state_dir(directory: Path) -> Path:
    return directory / "state"


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
