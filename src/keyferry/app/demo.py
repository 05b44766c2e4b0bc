"""``keyferry demo``: a real copy between two real servers that live as long as it takes."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from keyferry.app import summary
from keyferry.app.copying import run_with_display
from keyferry.app.display import open_display
from keyferry.app.record import Recorder
from keyferry.app.words import count, counted, duration
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import ExitCode, InterruptedRun, UsageError
from keyferry.testing.binaries import ServerBinary, embedded_pair, probe
from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import Filled, fill
from keyferry.testing.servers import Server

DIFFERENCES_SHOWN = 10


def demo_command(keys: int, source: Path | None, target: Path | None, record: Path | None) -> int:
    """Runs the command; returns its exit status: 1 when the servers differ in the end.

    Raises:
        KeyferryError: A server cannot be started, or the copy did not come to its end.
    """
    source_binary, target_binary = _binaries(source, target)
    screen = Recorder("make demo" if keys == 200_000 else f"keyferry demo --keys {keys}")
    with ExitStack() as stack:
        stack.enter_context(_terminated_as_interrupted())
        state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyferry-demo-")))
        source_server = stack.enter_context(Server(source_binary))
        target_server = stack.enter_context(Server(target_binary))
        differences = _play(screen, source_server, target_server, keys, state_dir)
    screen.say(Text("Both servers are stopped.", style="dim"))
    if record is not None:
        screen.save(record)
    return ExitCode.KEYS_FAILED if differences else ExitCode.DONE


def _play(screen: Recorder, source: Server, target: Server, keys: int, state_dir: Path) -> int:
    """Fills, copies, compares; the number of differences and of keys that failed."""
    filled = _fill(source, keys)
    expiring = f"{count(filled.expiring)} of them with an expiry"
    screen.say(
        _row(
            "source",
            f"{source.binary}, {counted(filled.keys, 'key')} of {len(filled.by_type)} types, {expiring}",
        )
    )
    screen.say(_row("target", f"{target.binary}, empty"))
    settings = CopySettings(source=source.endpoint, target=target.endpoint, state_dir=state_dir)
    title = f"keyferry copy {settings.source} to {settings.target}"
    display = screen.watching(open_display(title), title)
    try:
        report = run_with_display(settings, display)
    except InterruptedRun:
        raise InterruptedRun("The demo was interrupted; both servers are stopped.") from None
    screen.say(summary.of_copy(report, None))
    started = time.monotonic()
    with source.session(side="source") as left, target.session(side="target") as right:
        differences = compare_databases(left, right)
    took = duration(time.monotonic() - started)
    if differences:
        screen.say(Text(f"Compared in {took}: {counted(len(differences), 'difference')}.", style="bold red"))
        for difference in differences[:DIFFERENCES_SHOWN]:
            screen.say(Text(f"  {difference}"))
    else:
        screen.say(Text(f"Compared in {took}: every key, value and expiry is equal.", style="bold green"))
    return len(differences) + report.total.failed


def _fill(source: Server, keys: int) -> Filled:
    columns = (TextColumn("filling the source"), BarColumn(), TaskProgressColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        source.session() as session,
    ):
        task = progress.add_task("", total=keys)
        return fill(session, keys, on_progress=lambda done, _: progress.update(task, completed=done))


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


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the servers are stopped."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
