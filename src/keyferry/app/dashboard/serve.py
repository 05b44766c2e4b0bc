"""The dashboard's process: takes over a listening socket, says when it serves, and ends with the migration.

Whoever starts it writes JSON lines to its standard input. The first one says what to serve:

    {"fd": 7, "control": "/state/migrate-orders.sock", "token": "...", "hosts": ["127.0.0.1:8080"],
     "kind": "migrate", "name": "orders"}

The last one how the run has ended:

    {"ended": {"exit_code": 0, "sentence": "...", "hint": "", "report": ""}}

Where the input ends without it, the migration has died. Then every browser is told, and this process ends. It prints
"ready" when it serves, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from keyferry.app.dashboard.api import Served, application
from keyferry.app.dashboard.live import Live, blank_status, keep_looking
from keyferry.model.errors import ExitCode

LINE_BYTES_MAX = 1024 * 1024
HEADERS_S = 10.0
"""In which a request's header has to be there."""
HEADER_BYTES_MAX = 16 * 1024
UNREAD_S = 30.0
"""A client that takes nothing for so long is let go."""
CONNECTIONS_MAX = 96
KEEP_ALIVE_S = 15
LINGER_S = 1.5
"""For browsers that are to hear of the end."""
LINGER_LOOK_S = 0.02
COMES_BACK_S = 3.0
"""A browser that has lost us tries again for a while."""
CLOSE_S = 1
"""For answers that are under way at the end."""
TERMINATED_S = 5.0
"""After a SIGTERM: the same signal may have gone to the migration, which has an end to tell then."""
NICENESS = 10
"""Beside a migration that needs the processor it gets a tenth of it, however many ask."""
OOM_SCORE = Path("/proc/self/oom_score_adj")
OOM_SCORE_MAX = "1000"
"""Of proc(5): where memory is short this process goes first, not the migration."""
DEBUG_VARIABLE = "KEYFERRY_DEBUG"
OWN_FAULT = 70
"""EX_SOFTWARE of sysexits.h."""

DIED: Mapping[str, Any] = {"exit_code": None, "sentence": "", "hint": "", "report": "", "died": True}


@dataclass(frozen=True, slots=True)
class Handed:
    """What the first line says.

    Attributes:
        fd: Of the listening socket.
        hosts: Names that browsers may ask for.
    """

    fd: int
    served: Served

    @classmethod
    def of_line(cls, line: bytes) -> Handed:
        """Raises ValueError when it is something else."""
        try:
            data = json.loads(line)
            served = Served(
                kind=data["kind"],
                name=str(data["name"]),
                control=Path(data["control"]),
                token=str(data["token"]),
                hosts=tuple(map(str, data["hosts"])),
            )
            return cls(int(data["fd"]), served)
        except (KeyError, TypeError) as error:
            raise ValueError("this is no first line of ours") from error


def main() -> int:
    """Serves until the migration has ended; returns the exit status."""
    if sys.stdin is None or sys.stdin.isatty():
        print("This is started by keyferry migrate --http, and serves what that does.")
        return ExitCode.USAGE
    debugs = os.environ.get(DEBUG_VARIABLE) == "1"
    if not debugs:
        # Without a handler Python's logging writes warnings to standard error.
        logging.getLogger().addHandler(logging.NullHandler())
    _step_back()
    try:
        return asyncio.run(_serve())
    except Exception:
        if debugs:
            raise
        return OWN_FAULT


def _step_back() -> None:
    """Whatever is short, the migration comes first."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(OOM_SCORE_MAX)


async def _serve() -> int:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    try:
        handed = Handed.of_line(await lines.readline())
    except ValueError:
        return ExitCode.USAGE
    _take_title(handed.served.name)
    live = Live(blank_status(handed.served.kind, handed.served.name))
    server = _server(handed.served, live)
    terminated = asyncio.Event()
    _mind_signals(loop, terminated)
    tasks = [
        asyncio.create_task(keep_looking(live, handed.served.control)),
        asyncio.create_task(_hear_end(lines, terminated, live, server)),
    ]
    try:
        with socket.socket(fileno=handed.fd) as listener:
            listener.set_inheritable(False)
            await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return ExitCode.DONE


def _take_title(name: str) -> None:
    import setproctitle

    setproctitle.setproctitle(f"keyferry dashboard {name}")


async def _hear_end(
    lines: asyncio.StreamReader, terminated: asyncio.Event, live: Live, server: uvicorn.Server
) -> None:
    """Waits for how the run has ended, tells the browsers, and ends the server."""
    ending = {asyncio.ensure_future(_end(lines)), asyncio.ensure_future(terminated.wait())}
    done, waiting = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    how = done.pop().result()
    if not isinstance(how, Mapping):
        # Another one may follow on this socket: browsers come back to it.
        server.should_exit = True
        return
    live.end(how)
    for _ in range(round(LINGER_S / LINGER_LOOK_S)):
        if not live.is_awaited(COMES_BACK_S):
            break
        await asyncio.sleep(LINGER_LOOK_S)
    server.should_exit = True


async def _end(lines: asyncio.StreamReader) -> Mapping[str, Any]:
    while line := await _line(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return {"died": False, **json.loads(line)["ended"]}
    return DIED


async def _line(lines: asyncio.StreamReader) -> bytes:
    """The next one; empty at the end of the input."""
    while True:
        # One that is too long is none of ours, and has been taken away.
        with contextlib.suppress(ValueError):
            return await lines.readline()


def _mind_signals(loop: asyncio.AbstractEventLoop, terminated: asyncio.Event) -> None:
    """A Ctrl-C is for the migration; it says here when it ends."""
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.call_later(TERMINATED_S, terminated.set))


class _Server(uvicorn.Server):
    """Says when it serves. Leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        with contextlib.suppress(OSError):
            print("ready", flush=True)


class _Impatient(H11Protocol):
    """Lets a client go that does not come to the end of a request's header, or takes nothing of what it has asked
    for: there are only so many places."""

    _overdue: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._overdue = self.loop.call_later(HEADERS_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._is_asked()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEADERS_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_asked()
        self._is_read()
        super().connection_lost(exc)

    def _is_asked(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _is_read(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


def _server(served: Served, live: Live) -> uvicorn.Server:
    config = uvicorn.Config(
        application(served, live),
        http=_Impatient,
        ws="none",
        lifespan="off",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )
    return _Server(config)
