"""The control socket of a running migration: operators ask, the desk answers.

Its threads only carry lines to and from the desk; what is asked is done by the migration's own thread. So a client
that hangs, floods or dies costs a thread that waits, and nothing else: lines, clients and waiting times are bounded.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from keyferry.cutover.control_place import identity, is_ours, listening, process_at
from keyferry.cutover.desk import Desk, Ticket
from keyferry.cutover.requests import ALIVE, LOOKS, REQUEST_BYTES_MAX, End, Request, Said, request_of
from keyferry.model.errors import ExitCode, KeyferryError, UsageError

CLIENTS_MAX = 16
IDLE_S = 30.0
"""A client that asks nothing for so long is let go."""
SEND_S = 5.0
"""A client that reads nothing for so long is let go."""
ALIVE_S = 1.0
"""Between two signs of life while a request is under way."""
PATIENCE_S = 3.0
"""After this whoever asked hears that it has not begun."""
WAITS = "This waits for its turn: the migration is busy. Ctrl-C takes it back."
LOOK_S = 0.25
"""How late it is noticed that a client has gone, or that the server closes."""


class ControlServer:
    """Listens from the beginning of the block to its end.

    Args:
        path: ``control_path`` of the migration.

    Raises:
        RefusedError: Something listens there already.
        UsageError: The socket cannot be made.
    """

    def __init__(self, path: Path, desk: Desk) -> None:
        self.path = path
        self._desk = desk
        self._listener = listening(path, CLIENTS_MAX)
        self._identity = identity(path)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._clients = 0
        self._listener.settimeout(LOOK_S)
        self._thread = threading.Thread(target=self._accept, name="keyferry-control", daemon=True)
        self._thread.start()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, patience_s: float = 1.0) -> None:
        """Removes the socket; clients still get what was said to their tickets. Harmless when called again.

        Close the desk first: that ends the tickets that are open.

        Args:
            patience_s: For that, in seconds.
        """
        if self._closing.is_set():
            return
        with suppress(OSError):
            if identity(self.path) == self._identity:
                self.path.unlink()
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept, where the system allows it
        self._thread.join(timeout=2 * LOOK_S + 1.0)
        self._listener.close()
        until = time.monotonic() + patience_s
        while self._clients and time.monotonic() < until:
            time.sleep(0.01)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                # Out of descriptors, or a client that has gone already: others are still to be heard.
                self._closing.wait(LOOK_S)
                continue
            if self._admitted(connection):
                threading.Thread(
                    target=self._serve, args=(connection,), name="keyferry-control-client", daemon=True
                ).start()

    def _admitted(self, connection: socket.socket) -> bool:
        if not is_ours(connection):
            connection.close()
            return False
        connection.settimeout(SEND_S)
        with self._lock:
            admitted = self._clients < CLIENTS_MAX
            self._clients += admitted
        if not admitted:
            with suppress(OSError):
                connection.sendall(
                    End(ExitCode.REFUSED, f"{CLIENTS_MAX} others talk to this migration now.").line()
                )
            connection.close()
        return admitted

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                lines = _Lines(connection, self._closing)
                while (line := lines.next()) is not None:
                    self._answer(connection, line)
        finally:
            with self._lock:
                self._clients -= 1

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        """Raises OSError when the client has gone."""
        try:
            request = request_of(line)
        except UsageError as error:
            connection.sendall(End(error.exit_code, error.message, error.hint).line())
            return
        if request.command in LOOKS:
            connection.sendall(self._look(request).line())
            return
        self._relay(connection, request)

    def _look(self, request: Request) -> End:
        try:
            return End(ExitCode.DONE, "", "", self._desk.look(request))
        except KeyferryError as error:
            return End(error.exit_code, error.message, error.hint)

    def _relay(self, connection: socket.socket, request: Request) -> None:
        if _has_gone(connection):
            # It asked while this process was stopped, and was told that nobody answers.
            return
        process = process_at(connection)
        ticket = self._desk.ask(request, process[0] if process else None)
        asked_at = said_at = time.monotonic()
        told = False
        try:
            while True:
                event = ticket.next_event(LOOK_S)
                if event is None and self._closing.is_set():
                    return
                if event is not None:
                    connection.sendall(event.line())
                elif _has_gone(connection):
                    return
                elif not told and not ticket.begun and time.monotonic() - asked_at >= PATIENCE_S:
                    told = True
                    connection.sendall(Said(WAITS).line())
                elif time.monotonic() - said_at >= ALIVE_S:
                    connection.sendall(ALIVE)
                else:
                    continue
                said_at = time.monotonic()
                if isinstance(event, End):
                    return
        finally:
            _let_go(ticket)


def _let_go(ticket: Ticket) -> None:
    """Nobody hears the end of what has not begun yet: it is not to happen unseen, some time later."""
    if not ticket.ended:
        ticket.withdraw()


def _has_gone(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    try:
        return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


class _Lines:
    """The lines of a client, one at a time."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self._connection = connection
        self._closing = closing
        self._data = bytearray()

    def next(self) -> bytes | None:
        """The next one without its end; None when the client is to be let go.

        Raises:
            OSError: The connection broke.
        """
        until = time.monotonic() + IDLE_S
        while (end := self._data.find(b"\n")) < 0:
            if len(self._data) >= REQUEST_BYTES_MAX:
                error = UsageError(f"A request has to be shorter than {REQUEST_BYTES_MAX} bytes.")
                self._connection.sendall(End(error.exit_code, error.message).line())
                return None
            if self._closing.is_set() or time.monotonic() > until:
                return None
            received = self._received()
            if received == b"":
                return None
            self._data += received or b""
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line

    def _received(self) -> bytes | None:
        """None: nothing came in a moment."""
        self._connection.settimeout(LOOK_S)
        try:
            return self._connection.recv(REQUEST_BYTES_MAX)
        except TimeoutError:
            return None
        finally:
            self._connection.settimeout(SEND_S)
