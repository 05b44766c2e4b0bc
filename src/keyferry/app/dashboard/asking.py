"""The control socket of a migration, asked without blocking: one event loop serves every browser.

Rules, bounds and words are those of ``cutover.control_client``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import cast

from keyferry.cutover.control_client import SILENCE_S, foreign, unanswered, unreachable
from keyferry.cutover.control_place import CONNECT_S, check_length, is_ours, name_of
from keyferry.cutover.requests import ANSWER_BYTES_MAX, End, Request, Said, event_of

OnSaid = Callable[[Said], None]


async def ask(path: Path, request: Request, on_said: OnSaid) -> End:
    """Asks one thing on a connection of its own. To cancel this withdraws what has not begun yet.

    Errors as of ``Asking``.
    """
    async with Asking(path) as asking:
        return await asking.ask(request, on_said)


class Asking:
    """A connection to a running migration, for one request after the other.

    Args:
        path: ``control_path`` of the migration.

    Raises:
        UsageError: At the beginning of the block: no migration of this name runs here.
        RefusedError: The same: it belongs to somebody else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = name_of(path)

    async def __aenter__(self) -> Asking:
        check_length(self._path)
        try:
            async with asyncio.timeout(CONNECT_S):
                self._reader, self._writer = await asyncio.open_unix_connection(
                    self._path, limit=ANSWER_BYTES_MAX
                )
        except OSError as error:
            raise unreachable(self._path, self._name, error) from None
        if not is_ours(cast(socket.socket, self._writer.get_extra_info("socket"))):
            self._writer.close()
            raise foreign(self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not waited for: a migration that is stopped would keep us.
        self._writer.transport.abort()

    async def ask(self, request: Request, on_said: OnSaid, silence_s: float = SILENCE_S) -> End:
        """Waits for the end of it.

        Args:
            on_said: Gets what is said on the way.
            silence_s: The longest silence; a migration gives a sign of life every second.

        Raises:
            KeyferryError: The migration died in the middle, or does not answer.
        """
        try:
            self._writer.write(request.line())
            while True:
                async with asyncio.timeout(silence_s):
                    line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    raise EOFError
                event = event_of(line)
                if isinstance(event, End):
                    return event
                if event is not None:
                    on_said(event)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise unanswered(self._name, error) from None
