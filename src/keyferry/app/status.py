"""``keyferry status``: one look at a running migration, or a look that is taken again and again."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.text import Text

from keyferry.app.controlling import find
from keyferry.app.delivery import errors_delivered
from keyferry.app.display_migrate import address
from keyferry.app.display_status import frame, line
from keyferry.app.output import CalmConsole, emit, emit_json
from keyferry.cutover.control_client import ControlClient
from keyferry.cutover.control_place import name_of
from keyferry.cutover.requests import Request, Said
from keyferry.model.errors import ExitCode

EVERY_S = 0.5
TOO_EARLY = "Interrupted."
_QUIT = b"qQ\x03\x04"


def status_command(options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: The migration cannot be asked.
    """
    with errors_delivered({"as_json": options["as_json"], "report": None}, TOO_EARLY, dict):
        path = find(options["name"], options["state_dir"])
        with ControlClient(path) as client:
            if options["watch"]:
                return _watch(client, path, as_json=options["as_json"])
            status = _look(client)
    if options["as_json"]:
        emit_json(status)
    else:
        emit(frame(status, address(name_of(path), path.parent), time.time() * 1000))
    return ExitCode.DONE


def _look(client: ControlClient) -> dict[str, Any]:
    return dict(client.ask(Request("status"), _nothing).facts)


def _nothing(_said: Said) -> None:
    return None


def _watch(client: ControlClient, path: Path, *, as_json: bool) -> int:
    """Until q, Ctrl-C, or the end of the migration's process."""
    console = CalmConsole(highlight=False)
    try:
        if as_json or not console.is_terminal or os.environ.get("TERM") == "dumb":
            _print_changes(client, as_json=as_json)
        else:
            _redraw(client, console, address(name_of(path), path.parent))
    except KeyboardInterrupt:
        pass
    return ExitCode.DONE


def _print_changes(client: ControlClient, *, as_json: bool) -> None:
    before = ""
    while True:
        status = _look(client)
        if as_json:
            emit_json(status)
        elif (said := line(status)) != before:
            emit(Text(said))
            before = said
        time.sleep(EVERY_S)


def _redraw(client: ControlClient, console: CalmConsole, where: str) -> None:
    from rich.live import Live

    with _keys() as pressed, Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(frame(_look(client), where, time.time() * 1000), refresh=True)
            if pressed(EVERY_S):
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], bool | None]]:
    """Gives a function that waits, and tells whether somebody wants to leave. Keys come at once, and unseen."""
    fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    # A job in the background may not touch the terminal.
    if fd < 0 or os.tcgetpgrp(fd) != os.getpgrp():
        yield time.sleep
        return
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0] and (
                not (got := os.read(fd, 64)) or set(got) & set(_QUIT)
            ):
                return True
        return False

    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
