"""The other end of the control socket: asks a running migration something, and passes on what it says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from keyferry.cutover.control_place import check_length, connected, is_ours, name_of
from keyferry.cutover.requests import ANSWER_BYTES_MAX, End, Request, Said, event_of
from keyferry.model.errors import KeyferryError, RefusedError, UsageError

SILENCE_S = 10.0
"""A migration gives a sign of life every second, whatever it does."""
_CHUNK = 64 * 1024

OnSaid = Callable[[Said], None]


def ask(path: Path, request: Request, on_said: OnSaid, timeout_s: float = SILENCE_S) -> End:
    """Asks one thing on a connection of its own. Arguments and errors as of ``ControlClient``."""
    with ControlClient(path, timeout_s) as client:
        return client.ask(request, on_said)


class ControlClient:
    """A connection to a running migration, for one request after the other.

    Args:
        path: ``control_path`` of the migration.
        timeout_s: The longest silence.

    Raises:
        UsageError: No migration of this name runs here.
        RefusedError: It belongs to somebody else.
    """

    def __init__(self, path: Path, timeout_s: float = SILENCE_S) -> None:
        self._name = name_of(path)
        self._data = bytearray()
        self._connection = _connection(path, self._name)
        self._connection.settimeout(timeout_s)
        if not is_ours(self._connection):
            self.close()
            raise foreign(path)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def ask(self, request: Request, on_said: OnSaid) -> End:
        """Waits for the end of it. To close the connection before withdraws what has not begun yet; what has begun
        goes on.

        Raises:
            KeyferryError: The migration died in the middle, or does not answer.
        """
        try:
            self._connection.sendall(request.line())
            while True:
                event = event_of(self._line())
                if isinstance(event, End):
                    return event
                if event is not None:
                    on_said(event)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise unanswered(self._name, error) from None

    def _line(self) -> bytes:
        """The next line. Raises OSError, EOFError or ValueError (too long)."""
        seen = 0
        while (end := self._data.find(b"\n", seen)) < 0:
            seen = len(self._data)
            if seen > ANSWER_BYTES_MAX:
                raise ValueError("too long")
            received = self._connection.recv(_CHUNK)
            if not received:
                raise EOFError
            self._data += received
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line


def _connection(path: Path, name: str) -> socket.socket:
    check_length(path)
    try:
        return connected(path)
    except OSError as error:
        raise unreachable(path, name, error) from None


def foreign(path: Path) -> RefusedError:
    """Somebody else listens there."""
    return RefusedError(
        f"Whoever listens on {path} is not your own process: nothing was asked.",
        "Name the --state-dir of your own migration.",
    )


def unreachable(path: Path, name: str, error: OSError) -> KeyferryError:
    """What it means that the connection cannot be made."""
    if isinstance(error, PermissionError):
        return RefusedError(
            f"The migration {name} belongs to another user: {path} may not be used.",
            "Give the command as the user who runs keyferry migrate.",
        )
    if isinstance(error, TimeoutError):
        return KeyferryError(
            f"The migration {name} does not answer: its process may be stopped.",
            "Nothing was asked. See whether its process runs.",
        )
    return UsageError(
        f"No migration {name} runs with the state directory {path.parent}.",
        f"keyferry report {name} says how far the last one came. Start it with keyferry migrate SOURCE TARGET "
        f"--name {name}, or name its --state-dir.",
    )


def unanswered(name: str, error: Exception) -> KeyferryError:
    """What it means that the answer to a request did not come: TimeoutError, another OSError, EOFError, or one of
    what ``event_of`` raises."""
    if isinstance(error, TimeoutError):
        return KeyferryError(
            f"The migration {name} does not answer: its process may be stopped.",
            "What was asked is begun or not; keyferry status tells once it answers.",
        )
    if isinstance(error, OSError | EOFError):
        return KeyferryError(
            f"The migration {name} ended before it had answered: what was asked is done or not.",
            "Start it again with the same keyferry migrate command: it finds out, and goes on.",
        )
    return KeyferryError(
        f"What the migration {name} answers makes no sense here.",
        "Use the same version of Keyferry for both commands.",
    )
