"""The buttons: what the page or a program asks of the migration, passed on and answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from keyferry.app.dashboard.asking import ask
from keyferry.app.dashboard.guarding import Refusal
from keyferry.cutover.desk import SENTENCES_MAX
from keyferry.cutover.requests import End, Request, Said
from keyferry.model.errors import ExitCode, KeyferryError, UsageError

ACTIONS_MAX = 4
"""At a time; a migration does one after the other."""
_STATUS: Mapping[int, int] = {
    ExitCode.DONE: 200,
    ExitCode.KEYS_FAILED: 200,
    ExitCode.USAGE: 422,
    ExitCode.REFUSED: 409,
}


class Acting:
    """Of one migration.

    Args:
        control: ``control_path`` of the migration.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._under_way = 0

    async def answer(self, http: HttpRequest, command: str, options: Mapping[str, Any]) -> Response:
        """Asks, and waits for the end of it, or until whoever asked has gone: what has not begun then is withdrawn,
        as when a command is interrupted.

        Args:
            http: Whose body has been read.
            options: As in ``COMMANDS``.
        """
        if self._under_way >= ACTIONS_MAX:
            return Refusal(409, f"{ACTIONS_MAX} requests are under way already.").response()
        try:
            request = Request(command, options)
        except UsageError as error:
            return answered(End(error.exit_code, error.message, error.hint), [])
        self._under_way += 1
        try:
            return await self._answer(http, request)
        except KeyferryError as error:
            # Nobody answers: whoever asked us has done nothing wrong.
            return answered(End(ExitCode.SERVER, error.message, error.hint), [])
        finally:
            self._under_way -= 1

    async def _answer(self, http: HttpRequest, request: Request) -> Response:
        said: list[str] = []

        def hear(one: Said) -> None:
            if len(said) < SENTENCES_MAX:
                said.append(one.sentence)

        asking = asyncio.create_task(ask(self._control, request, hear))
        leaving = asyncio.create_task(_has_left(http))
        try:
            await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return answered(asking.result(), said)
            return answered(End(ExitCode.INTERRUPTED, "Whoever asked has gone."), said)
        finally:
            for task in (asking, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, KeyferryError):
                    await task


async def _has_left(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def answered(end: End, said: list[str]) -> Response:
    """The migration's answer as an answer of HTTP."""
    body = {
        "exit_code": int(end.exit_code),
        "sentence": end.sentence,
        "hint": end.hint,
        "facts": dict(end.facts),
        "said": said,
    }
    status = _STATUS.get(end.exit_code, 502)
    return Response(json.dumps(body), status, media_type="application/json")
