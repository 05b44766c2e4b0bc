"""The report so far, for whoever asks. The migration makes it of its journal: however many ask, it is asked seldom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyferry.app.dashboard.asking import ask
from keyferry.cutover.requests import Request
from keyferry.model.errors import ExitCode, KeyferryError, RefusedError

FRESH_S = 2.0
"""So long one report is given to everybody."""


class Reports:
    """Of one run.

    Args:
        control: ``control_path`` of the run.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._asking = asyncio.Lock()
        self._made_s = float("-inf")
        self._made: Mapping[str, Any] | KeyferryError = {}
        self._page = ""

    async def facts(self) -> Mapping[str, Any]:
        """As ``MigrationReport.as_dict``.

        Raises:
            KeyferryError: There is none, or nobody answers.
        """
        async with self._asking:
            return await self._facts()

    async def page(self, history: Mapping[str, Any] | None) -> str:
        """The same for people, as HTML.

        Args:
            history: As ``Samples.as_dict``; None: without charts.

        Raises:
            KeyferryError: As ``facts``.
        """
        from keyferry.app.report_page import page

        async with self._asking:
            facts = await self._facts()
            if not self._page:
                # Drawn beside: hundreds of rows must not keep events from others.
                self._page = await asyncio.to_thread(page, facts, history)
            return self._page

    async def _facts(self) -> Mapping[str, Any]:
        if time.monotonic() - self._made_s >= FRESH_S:
            self._page = ""
            self._made = await self._asked()
            self._made_s = time.monotonic()
        if isinstance(self._made, KeyferryError):
            raise self._made
        return self._made

    async def _asked(self) -> Mapping[str, Any] | KeyferryError:
        try:
            answer = await ask(self._control, Request("report"), lambda said: None)
        except KeyferryError as error:
            return error
        if answer.exit_code == ExitCode.REFUSED:
            return RefusedError(answer.sentence, answer.hint)
        return (
            KeyferryError(answer.sentence, answer.hint)
            if answer.exit_code
            else {**answer.facts, "running": True}
        )
