"""Leads one switch after the other: what is wanted, by which means, what came of it, and who has authority then."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.cutover.afterwards import Afterwards
from keyferry.cutover.desk import Ticket
from keyferry.cutover.directions import Direction
from keyferry.cutover.means import Means, Performed
from keyferry.cutover.perform import Switch
from keyferry.cutover.plan import End, Gate, Step, Wish
from keyferry.cutover.requests import Request
from keyferry.cutover.tools import Tools
from keyferry.cutover.voice import Voice
from keyferry.follow.run import FollowRun
from keyferry.model.errors import ExitCode, RefusedError, ServerAway
from keyferry.model.phases import RULES, Phase, Side, after_switch
from keyferry.telemetry.migrating import Direction as SwitchDirection
from keyferry.telemetry.migrating import EventKind, FactKey, SwitchReport
from keyferry.telemetry.progress import Alert

WAY_BACK = "way-back"
"""Whether the last switch can be taken back."""


class Leading:
    """Of one process.

    Args:
        new_direction: Makes the run that follows a side, for two sides that are equal.
        poll: Called now and then while something is waited for.
        check_stop: Raises InterruptedRun when it is to be stopped.
        check_lead: Raises when another process leads this migration now.

    Attributes:
        next: The direction that is followed after a switch, as soon as it is attached.
        switches: All that came to an end, of earlier processes, too.
    """

    def __init__(
        self,
        tools: Tools,
        voice: Voice,
        new_direction: Callable[[Side], Direction],
        poll: Callable[[], None],
        check_stop: Callable[[], None],
        check_lead: Callable[[], None],
    ) -> None:
        self._tools, self._settings, self._voice = tools, tools.settings, voice
        self._new_direction, self._poll = new_direction, poll
        self._check_stop, self._check_lead = check_stop, check_lead
        self.next: Direction | None = None
        self._switch: Switch | None = None
        events = tools.journal.events([EventKind.SWITCH])
        self.switches = [SwitchReport.of_dict(event.facts) for event in events]

    @property
    def step(self) -> str:
        """Of the switch that is under way; empty without one."""
        return (self._switch.step or "begin") if self._switch else ""

    @property
    def has_way_back(self) -> bool:
        """Whether the last switch, of whatever process, can be taken back."""
        kept = self._tools.journal.get(WAY_BACK)
        return self._settings.rollback if kept is None else bool(kept)

    @property
    def under_way(self) -> bool:
        return self._switch is not None

    def close(self) -> None:
        if self.next is not None:
            self.next.close()

    def go_on_after(self, wish: Wish) -> None:
        """An earlier process has made this switch and did not come to the steps after it."""
        report = self._report_of(wish)
        report.outcome, report.reason = "done", "The process that made it had ended; the next one went on."
        after = Afterwards(self._tools, wish, report, self._hook_of(wish, None), self._poll)
        for step in (Step.BAR_AFTER, Step.HOOK):
            after.do(step)
        self._note(report, reverses=wish.reverses)

    def lead(
        self, losing: Side, gate: Gate, gate_s: float, request: Request, direction: Direction
    ) -> Performed:
        """One switch, to its end; what came of it is noted.

        Args:
            gate_s: Longest wait of the application.
            direction: Follows the losing side.

        Raises:
            RefusedError: The losing side does not have authority.
            ServerError: What was begun can neither be done nor undone now: started again, we go on.
        """
        record = self._tools.watch.look(losing).record
        if record is None or RULES[record.phase].authority is not losing:
            raise RefusedError(f"The {losing} says {record or 'nothing'}.", "Look with: keyferry status.")
        phase = request.options.get("phase")
        reverses = self._settings.rollback and request.options.get("rollback") is not False
        wish = Wish(
            losing,
            gate,
            Phase(phase) if phase else after_switch(record.phase),
            reverses or losing is Side.TARGET,
        )
        report = self._report_of(wish)
        watch = direction.run.follower.watch
        settled = watch.settled
        after = Afterwards(self._tools, wish, report, self._hook_of(wish, request), self._meanwhile)
        switch = self._switch = Switch(wish, self._tools, self._means(wish, gate_s, after, direction.run))
        self._tools.books.open(wish)
        try:
            performed = switch.run()
        finally:
            self._switch = None
        if performed.end is not End.UNKNOWN and not performed.left:
            self._tools.books.close()
        report.settled, report.compared = watch.settled - settled, performed.compared
        report.gate_ms = None if performed.gate_s is None else performed.gate_s * 1000
        report.steps, report.reason = performed.steps, performed.failure
        if performed.end is End.DONE:
            report.outcome = "done"
        elif performed.end is End.UNDONE:
            report.outcome = "put off" if performed.gate_s is None else "undone"
        self._note(report, reverses=wish.reverses)
        return performed

    def say_end(self, performed: Performed, ticket: Ticket | None) -> None:
        """Tells how the last switch ended. Raises ServerAway where nobody knows."""
        report = self.switches[-1]
        losing = Side.SOURCE if report.direction == "cutover" else Side.TARGET
        gate = "" if report.gate_ms is None else f" Writes waited {report.gate_ms:.1f} ms."
        code, hint = ExitCode.DONE, report.barred
        if performed.end is End.DONE:
            said = f"The {report.direction} is made: the {losing.other} has authority, phase {report.phase}.{gate}"
            if report.hook_failed:
                code, hint = ExitCode.KEYS_FAILED, report.hook
        elif performed.end is End.UNDONE:
            now, code, hint = "Everything is as it was.", ExitCode.REFUSED, performed.hint
            if performed.left:
                now, code = f"But not everything is as it was: {performed.left}", ExitCode.SERVER
                hint = "End keyferry migrate and start it again: it undoes what is left."
            said = f"The {report.direction} was {report.outcome}: {performed.failure} {now}{gate}"
        else:
            said = f"Whether the {report.direction} was made is not known: the {losing} does not answer."
            code, hint = ExitCode.SERVER, "Start keyferry migrate again when it answers: it finds out."
        if ticket is not None:
            # First: whoever asked hears it once.
            ticket.end(code, said, hint, **report.as_dict())
        well = performed.end is End.DONE and not report.hook_failed
        self._voice.tell(said if well else Alert(said))
        if performed.end is End.UNKNOWN:
            raise ServerAway("source" if losing is Side.SOURCE else "target", said, hint)

    def _report_of(self, wish: Wish) -> SwitchReport:
        direction: SwitchDirection = "cutover" if wish.losing is Side.SOURCE else "rollback"
        live = len(self._tools.watch.live(wish.losing))
        return SwitchReport(direction, round(time.time() * 1000), gate=str(wish.gate), writers=live)

    def _hook_of(self, wish: Wish, request: Request | None) -> str | None:
        settings = self._settings
        if wish.losing is Side.SOURCE:
            return (request.options.get("on_cutover") if request else None) or settings.on_cutover
        return (request.options.get("on_rollback") if request else None) or settings.on_rollback

    def _meanwhile(self) -> None:
        """While an operator's command runs after a switch."""
        self._poll()
        if self.next is not None:
            self.next.run.hear()

    def _means(self, wish: Wish, gate_s: float, after: Afterwards, run: FollowRun) -> Means:
        def make_reverse() -> FollowRun:
            self.next = self._new_direction(wish.gaining)
            return self.next.run

        def drop_reverse() -> None:
            reverse, self.next = self.next, None
            if reverse is not None:
                reverse.close(finished=True)

        return Means(
            run=run,
            make_reverse=make_reverse,
            drop_reverse=drop_reverse,
            gate_s=gate_s,
            after=after.do,
            tell=self._voice.tell,
            check_lead=self._check_lead,
            poll=self._poll,
            check_stop=self._check_stop,
        )

    def _note(self, report: SwitchReport, *, reverses: bool) -> None:
        journal = self._tools.journal
        record = next((its for its in self._tools.watch.records.values() if its and its.rules), None)
        if record is not None:
            report.phase, report.epoch = str(record.phase), record.epoch
        if report.outcome == "done":
            journal.set(WAY_BACK, reverses)
            journal.set(FactKey.BARRED, report.barred)
        self.switches.append(report)
        journal.event(EventKind.SWITCH, **report.as_dict())
