"""What comes after a switch, when nobody waits any more: the bar on the old side, and the operator's own command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from keyferry.cutover.dead_replica import read_only_by_dead_replica
from keyferry.cutover.hooks import HookResult, run_hook
from keyferry.cutover.plan import Step, Wish
from keyferry.cutover.tools import Tools
from keyferry.model.errors import KeyferryError
from keyferry.model.phases import RULES, Side
from keyferry.telemetry.migrating import SwitchReport

HOOK_S_MAX = 60.0
POLL_S = 0.02


class Afterwards:
    """Of one switch; what it does is noted in the switch's report.

    Args:
        hook: A shell command; None: none.
        meanwhile: Called all the time while the hook runs.
    """

    def __init__(
        self,
        tools: Tools,
        wish: Wish,
        report: SwitchReport,
        hook: str | None,
        meanwhile: Callable[[], None],
    ) -> None:
        self._name, self._endpoints = tools.settings.name, tools.endpoints
        self._reaches, self._bars, self._books = tools.reaches, tools.bars, tools.books
        self._wish, self._report, self._hook, self._meanwhile = wish, report, hook, meanwhile

    def do(self, step: Step) -> None:
        """BAR_AFTER or HOOK. What fails is in the report: the switch is made."""
        if not self._report.barred:
            # After a gate with a pause only the sentence is missing: the rights were taken under it.
            self._report.barred = self._bar()
        if step is Step.HOOK and self._hook:
            self._run_hook(self._hook)

    def _bar(self) -> str:
        old = self._wish.losing
        if not self._wish.reverses:
            try:
                read_only_by_dead_replica(self._reaches[old])
                return f"The {old} is read-only, with its data."
            except KeyferryError as error:
                self._report.warnings.append(f"The {old} could not be made read-only: {error.message}")
        if (taken := self._books.taken(old)) is not None:
            return f"On the {old} {', '.join(taken.names)} cannot write any more."
        if RULES[self._wish.phase].mirrors:
            return f"The {old} is not barred, because writers still repeat their writes there."
        try:
            survey = self._bars[old].survey()
            if not survey.users or not survey.able:
                why = survey.obstacles[0] if survey.obstacles else "Nobody else has the right to write there."
                return self._open_still(why)
            self._books.took(old, survey.taken, durable=True)
            self._bars[old].take(survey)
        except KeyferryError as error:
            return self._open_still(error.message)
        said = f"On the {old} {', '.join(survey.users)} cannot write any more."
        return f"{said} {survey.obstacles[0]}" if survey.obstacles else said

    def _open_still(self, why: str) -> str:
        watched = " What is still written there is watched and told." if self._wish.reverses else ""
        return f"The {self._wish.losing} is not barred. {why}{watched}"

    def _run_hook(self, command: str) -> None:
        """In a thread, so that everything else goes on being heard."""
        found: list[HookResult] = []
        thread = threading.Thread(
            target=lambda: found.append(run_hook(command, self._facts(), HOOK_S_MAX)),
            name="keyferry-hook",
            daemon=True,
        )
        thread.start()
        while thread.is_alive():
            self._meanwhile()
            time.sleep(POLL_S)
        (result,) = found
        self._report.hook, self._report.hook_failed = str(result), not result.succeeded
        if not result.succeeded and result.output:
            self._report.warnings.append(f"{result} It said: {result.output.strip()[-500:]}")

    def _facts(self) -> dict[str, str]:
        wish = self._wish
        return {
            "NAME": self._name,
            "EVENT": self._report.direction,
            "AUTHORITY": str(wish.gaining),
            "PHASE": str(wish.phase),
            "SOURCE": self._endpoints[Side.SOURCE].location,
            "TARGET": self._endpoints[Side.TARGET].location,
        }
