"""``keyferry demo``: a real copy between two real servers that live as long as it takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
from keyferry.model.keys import escape
from keyferry.telemetry.report import CopyReport
from keyferry.testing.binaries import ServerBinary, embedded_pair, probe
from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import Filled, fill
from keyferry.testing.servers import Server

DIFFERENCES_SHOWN = 10
TIMEOUT_S = 60.0
EXACT_MS = 10
BY_TIME_LEFT_MS = 100
"""How far apart expiries may be: a server before 7.0 only tells the time left, which is as old as its way to us."""


def demo_command(keys: int, source: Path | None, target: Path | None, record: Path | None) -> int:
    """Runs the command; returns its exit status: 1 when the servers differ in the end.

    Raises:
        KeyferryError: A server cannot be started, or the copy did not come to its end.
    """
    source_binary, target_binary = _binaries(source, target)
    screen = Recorder("make demo" if keys == 200_000 else f"keyferry demo --keys {keys}")
    with ExitStack() as stack:
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
    # Nobody else uses these servers, so there is nobody to be held back for.
    settings = CopySettings(
        source=source.endpoint, target=target.endpoint, state_dir=state_dir, max_latency_ms=0
    )
    title = f"keyferry copy {settings.source} to {settings.target}"
    display = screen.watching(open_display(title), title)
    try:
        report = run_with_display(settings, display)
    except InterruptedRun:
        raise InterruptedRun("The demo was interrupted; both servers are stopped.") from None
    screen.say(summary.of_copy(report, None))
    return _compare(screen, source, target, report) + report.total.failed


def _compare(screen: Recorder, source: Server, target: Server, report: CopyReport) -> int:
    """The number of keys that differ in more than what the copy itself said is not carried."""
    tolerance_ms = EXACT_MS if source.binary.version >= (7, 0, 0) else BY_TIME_LEFT_MS
    ignored = [note.replace("_", "-") for note in report.notes]
    started = time.monotonic()
    with (
        _bar("comparing") as advance,
        source.session(side="source", timeout_s=TIMEOUT_S) as left,
        target.session(side="target", timeout_s=TIMEOUT_S) as right,
    ):
        found = compare_databases(
            left,
            right,
            expiry_tolerance_ms=tolerance_ms,
            ignore=ignored,
            differences_max=DIFFERENCES_SHOWN,
            on_progress=advance,
        )
    took = duration(time.monotonic() - started)
    keys = counted(found.keys_source, "key")
    if found.equal:
        screen.say(
            Text(f"Compared {keys} in {took}: every name, value and expiry is equal.", style="bold green")
        )
    else:
        screen.say(
            Text(
                f"Compared {keys} in {took}: {counted(found.differing_keys, 'key')} differ.", style="bold red"
            )
        )
    for item in found.differences:
        screen.say(Text(f"  {escape(item.key)[:60]}: {item.aspect}: {item.source} became {item.target}"))
    return found.differing_keys


def _fill(source: Server, keys: int) -> Filled:
    with _bar("filling the source") as advance, source.session(timeout_s=TIMEOUT_S) as session:
        return fill(session, keys, on_progress=advance)


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
