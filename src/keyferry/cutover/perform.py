"""Does what the planner of a switch says, writes down every step before and after, and asks it again.

The gate has one deadline: from the first step in which anybody waits to the commit. What is not done by then is a
failure like any other, and undone.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from keyferry.copy.patience import BACKOFF_S_MAX
from keyferry.copy.replies import ServerBusy, ServerRefuses
from keyferry.cutover.barring import BarSurvey
from keyferry.cutover.failpoints import reached
from keyferry.cutover.libraries import Libraries
from keyferry.cutover.means import Means, NotYet, Performed
from keyferry.cutover.pausing import LENGTH_MS_MAX
from keyferry.cutover.plan import (
    GATED,
    End,
    Over,
    Situation,
    Step,
    Wish,
    is_committed,
    next_step,
    undoes,
)
from keyferry.cutover.tools import Tools
from keyferry.cutover.writers_watch import can_go, names_of
from keyferry.follow.run import FollowRun
from keyferry.model.errors import InterruptedRun, KeyferryError, ServerAway, ServerError, UsageError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    Write,
    completing,
    next_of_commit,
    stepped,
)
from keyferry.model.record_trail import check_single
from keyferry.telemetry.progress import Alert

NARROW_KEYS = 500
"""So many keys may be left to be compared while writers wait."""
NARROW_KEYS_MAX = 20_000
"""The same, when it does not become fewer."""
GLANCES, GLANCE_KEYS = 6, 50
NARROW_SHRINKS, NARROW_ROUNDS_MIN = 0.7, 2
NARROW_S_MAX = 60.0
NARROW_ROUNDS = 20
REVERSE_S_MAX = 30.0
POLL_S = 0.001
PREPARE_POLL_S = 0.01
RETRY_S = 0.2
UNDO_S_MAX = 600.0
"""A hold that cannot be taken back is tried so long; its writers give it up by themselves."""
BEFORE_PAUSE_S = 0.25
"""Plain clients still write then: it need not come to an end."""
PAUSE_MARGIN_S = 2.0
"""A pause lasts longer than the gate may, so that it does not end by itself before it is looked at."""


class Switch:
    """One switch."""

    def __init__(self, wish: Wish, tools: Tools, means: Means) -> None:
        self._wish, self._means, self._tools = wish, means, tools
        self._watch, self._store, self._books = tools.watch, tools.store, tools.books
        self._follower = means.run.follower
        self._prepare_s = tools.settings.prepare_timeout_s
        self._begun: set[Step] = set()
        self._done: set[Step] = set()
        self._failure = self._hint = self._left = ""
        self._interrupted: InterruptedRun | None = None
        self._steps: list[tuple[str, float]] = []
        self._held: PhaseRecord | None = None
        self._closed_s = self._opened_s = 0.0
        self._until_s = float("inf")
        self._reverse: FollowRun | None = None
        self._compared = 0
        self._survey: BarSurvey | None = None
        self._trouble: ServerError | ServerBusy | None = None
        self._told_late = self._was_barred = self._took_rights = self._replicated = False
        self._libraries = Libraries(
            self._follower.sides, means.tell, wanted=tools.settings.sync.copy.functions
        )
        self.step = ""
        self._does: Mapping[Step, Callable[[], None]] = {
            Step.PREPARE: self._prepare,
            Step.REVERSE: self._attach_reverse,
            Step.NARROW: self._narrow,
            Step.HOLD: self._hold,
            Step.ACKNOWLEDGED: self._acknowledged,
            Step.SEVER: self._sever,
            Step.PAUSE: self._pause,
            Step.SETTLE: self._settle,
            Step.FUNCTIONS: self._functions,
            Step.COMPARE: self._compare,
            Step.BAR: self._bar,
            Step.CHECK_PAUSE: self._check_pause,
            Step.UNPAUSE: self._unpause,
            Step.GIVE_BACK: self._give_back,
            Step.PENDING: self._commit,
            Step.COMMIT: self._commit,
            Step.COMPLETE: self._complete,
            Step.OPEN: self._open,
            Step.UNDO_REVERSE: self._drop_reverse,
            Step.UNDO_HOLD: self._undo_hold,
            Step.UNDO_PAUSE: self._unpause,
            Step.UNDO_BAR: self._undo_bar,
            Step.UNDO_GIVE_BACK: self._undo_give_back,
        }

    def run(self) -> Performed:
        """Leads it to its end: done, undone, or unknown because the losing side does not answer any more.

        Raises:
            ServerError: What was begun can neither be done nor undone now.
        """
        while True:
            step = next_step(self._wish, self._situation())
            if isinstance(step, Over):
                if step.end is End.UNKNOWN and self._ask_again():
                    continue
                return self._performed(step.end)
            began_s = time.monotonic()
            self.step = step.value
            try:
                self._perform(step)
            except BaseException:
                if undoes(step) is None:
                    self._undo_everything()
                raise
            self._steps.append((step.value, time.monotonic() - began_s))

    def _undo_everything(self) -> None:
        """Something came that no step expects; nobody is to wait because of it."""
        self._failure = self._failure or "It was ended."
        self._look_again()
        while (
            not isinstance(step := next_step(self._wish, self._situation()), Over)
            and undoes(step) is not None
        ):
            self._perform(step)

    def _situation(self) -> Situation:
        # A record changes by our own hand, or under it when a writer gives up: only then a look is worth its time.
        records, losing = self._watch.records, self._wish.losing
        forgot = Step.COMMIT in self._done and losing in records and not is_committed(self._wish, records)
        if forgot and not self._failure:
            # Remembered while it is undone: without a failure what was undone would be done again.
            self._failure = f"The {losing} has forgotten the commit: was there a failover?"
        return Situation(records, frozenset(self._begun), frozenset(self._done), self._failure)

    def _ask_again(self) -> bool:
        """Whether the losing side answers again, in the time that there is."""
        until_s = time.monotonic() + UNDO_S_MAX
        while time.monotonic() < until_s:
            try:
                self._watch.look(self._wish.losing)
            except ServerAway:
                self._means.check_stop()
                self._means.poll()
                time.sleep(BACKOFF_S_MAX / 2)
            else:
                return True
        return False

    def _performed(self, end: End) -> Performed:
        if end is End.UNDONE and self._wish.gate.pauses and not self._took_rights:
            self._books.took(self._wish.losing, None)
        gate_s = (self._opened_s or time.monotonic()) - self._closed_s if self._closed_s else None
        return Performed(
            end,
            self._reverse if end is End.DONE else None,
            self._steps,
            gate_s,
            self._failure,
            self._hint,
            self._compared,
            self._left,
            self._interrupted or self._trouble,
        )

    def _perform(self, step: Step) -> None:
        """Does one step; a failure before the commit is remembered for the planner."""
        taken_back = undoes(step)
        # What is undone is undone even where nothing can be noted any more, as on a full disk.
        with contextlib.nullcontext() if taken_back is None else contextlib.suppress(UsageError):
            self._books.begun(step)
        reached(step.value)
        if taken_back is not None:
            self._undo(step)
            self._begun.discard(taken_back)
            self._done.discard(taken_back)
        else:
            self._begun.add(step)
            if not self._do(step):
                return
            self._done.add(step)
        self._books.ended(step)
        reached(f"{step.value}+")
        if self._is_late(step):
            self._failure = self._failure or f"It took longer than {self._means.gate_s:g} s."

    def _is_late(self, step: Step) -> bool:
        return step in GATED and step is not Step.COMMIT and time.monotonic() > self._until_s

    def _do(self, step: Step) -> bool:
        """Whether it came to its end."""
        if step in GATED and not self._closed_s:
            self._closed_s = time.monotonic()
            self._until_s = self._closed_s + self._means.gate_s
        try:
            if step in self._does:
                self._does[step]()
            else:
                self._means.after(step)
        except (KeyferryError, ServerBusy) as error:
            self._fail(step, error)
            return False
        return True

    def _fail(self, step: Step, error: KeyferryError | ServerBusy) -> None:
        if isinstance(error, InterruptedRun):
            self._interrupted = error
        elif isinstance(error, (ServerAway, ServerBusy, ServerRefuses)):
            self._trouble = error
        message = error.sentence if isinstance(error, ServerBusy) else error.message
        if is_committed(self._wish, self._watch.records):
            self._fail_after(step, message)
            return
        if not self._failure:
            self._failure = message
            self._hint = "" if isinstance(error, ServerBusy) else error.hint
        self._look_again()

    def _fail_after(self, step: Step, message: str) -> None:
        """There is no way back any more."""
        if step is Step.COMPLETE:
            # Any writer completes it, too; and so do we as soon as that side answers.
            if not self._told_late:
                self._told_late = True
                self._means.tell(Alert(f"The switch is made, its mark is not complete yet: {message}"))
            self._means.check_stop()
            self._means.poll()
            time.sleep(RETRY_S)
            self._look_again()
            return
        self._means.tell(Alert(f"The switch is made; {step.value} failed: {message}"))
        self._done.add(step)

    def _look_again(self) -> None:
        for side in Side:
            try:
                self._watch.look(side)
            except KeyferryError:  # it counts as one that cannot be asked
                continue

    def _undo(self, step: Step) -> None:
        """Tries until it is done: what stays half undone would hold the application up.

        Raises:
            ServerError: The server has not come back, or refuses; the next start goes on with it.
        """
        until_s = time.monotonic() + UNDO_S_MAX
        while True:
            try:
                self._does[step]()
                return
            except ServerAway as error:
                if time.monotonic() > until_s:
                    raise
                self._say(f"{error.message} Trying again: {step.value}.")
                self._means.check_stop()
                time.sleep(BACKOFF_S_MAX / 2)
            except KeyferryError as error:
                if step is Step.UNDO_HOLD and Step.COMMIT in self._begun:
                    raise  # nobody gets rights back while the commit may still be made; the next start goes on
                self._left = f"{step.value} failed: {error.message}"
                self._say(f"{step.value} failed: {error}")
                return

    def _say(self, sentence: str) -> None:
        """While something is undone: nobody is to wait because it cannot be noted."""
        with contextlib.suppress(UsageError):
            self._means.tell(Alert(sentence))

    # Before anybody waits

    def _prepare(self) -> None:
        losing = self._wish.losing
        record = self._watch.look(losing).record
        if record is None or not record.rules:
            raise NotYet(f"The {losing} does not have authority.", "Look with: keyferry status.")
        if not self._watch.live(losing):
            return
        asked = uuid.uuid4().hex[:12]
        becomes = replace(record, epoch=record.epoch + 1, asked=asked, stamp=self._tools.stamp())
        self._set(Write(losing, record, becomes))
        until_s = time.monotonic() + self._prepare_s
        barred = self._books.taken(self._wish.gaining) is not None
        while True:
            self._watch.look(losing)
            silent = {
                name: entry
                for name, entry in self._watch.live(losing).items()
                if entry.epoch < becomes.epoch or not can_go(entry, asked, barred)
            }
            if not silent:
                return
            if time.monotonic() > until_s:
                said = next((entry.note for entry in silent.values() if entry.note), "")
                raise NotYet(
                    f"{names_of(silent)} did not answer within {self._prepare_s:g} s"
                    f"{f' ({said})' if said else ''}.",
                    "Nobody has waited. See to that process, or wait until its lease is over; then try again.",
                )
            self._turn_for(PREPARE_POLL_S)

    def _attach_reverse(self) -> None:
        self._reverse = self._means.make_reverse()
        self._reverse.attach_equal(self._follower)

    def _drop_reverse(self) -> None:
        self._reverse = None
        self._means.drop_reverse()

    def _narrow(self) -> None:
        """Nobody waits for these comparisons; each leaves what was touched while it ran."""
        follower = self._follower
        until_s = time.monotonic() + NARROW_S_MAX
        self._libraries.carry()
        self._prepare_gate()
        for number in range(NARROW_ROUNDS):
            before = follower.touched
            left = follower.compare_touched(until_s)
            self._hear_reverse()
            if left is None:
                raise NotYet(
                    "Keys change faster than they can be compared.",
                    "Try again when there is less traffic, or --throttle the writers.",
                )
            if left:
                raise NotYet(f"{left:,} keys differ.", "They are settled; verify, then try again.")
            touched = follower.touched
            # A set that does not shrink any more is what changes all the time.
            stays = number >= NARROW_ROUNDS_MIN and touched > NARROW_SHRINKS * before
            if touched <= NARROW_KEYS or (stays and touched <= NARROW_KEYS_MAX):
                self._glance(until_s)
                return
        # As near as it comes; the gate's own bound decides.

    def _glance(self, until_s: float) -> None:
        """The last looks before the gate wait for nothing, so that they leave least."""
        follower = self._follower
        for _ in range(GLANCES):
            before = follower.touched
            if before <= GLANCE_KEYS or follower.compare_touched(until_s, once=True) is None:
                return
            if follower.touched > NARROW_SHRINKS * before:
                return

    def _prepare_gate(self) -> None:
        """What costs round trips and can be known before."""
        losing = self._wish.losing
        self._watch.look(self._wish.gaining)
        self._tools.reaches[self._wish.gaining].renew()
        if self._wish.gate.pauses:
            survey = self._survey = self._tools.bars[losing].survey()
            if not survey.complete:
                raise NotYet(
                    next(iter(survey.obstacles), f"Nobody's write rights can be taken away on the {losing}."),
                    "Or stop the writers yourself, and use --gate none.",
                )
            # Durably, and before anything is taken: rights have no dead man's switch.
            self._books.took(losing, survey.taken, durable=True)

    # The gate

    def _hold(self) -> None:
        losing = self._wish.losing
        record = self._watch.look(losing).record
        if record is None or record.kind is not Kind.AUTHORITY:
            raise NotYet(f"The {losing} says {record or 'nothing'}.", "Look with: keyferry status.")
        hold = stepped(losing, record, Phase.HOLD, self._tools.stamp())
        self._set(hold)
        self._held = hold.becomes

    def _acknowledged(self) -> None:
        held, losing = self._held, self._wish.losing
        assert held is not None
        # A look after the hold: a writer may have come in just before it.
        self._check_held(self._watch.look(losing).record)
        while behind := self._watch.behind(losing, held.epoch):
            if time.monotonic() > self._until_s:
                raise NotYet(f"{names_of(behind)} did not stop writing in time.", "Look at that process.")
            if self._follower.watch.dirty_keys:
                self._follower.turn()
            else:
                time.sleep(POLL_S)
            self._check_held(self._watch.look(losing).record)
        # Whoever takes the lead after this finds the hold and gives it up: then our commit cannot be made.
        self._means.check_lead()
        self._replicated = self._store.confirm(losing).connected > 0

    def _check_held(self, record: PhaseRecord | None) -> None:
        if self._held is None or not self._held.same_as(record):
            raise NotYet(
                "A writer has given up waiting.", "Try again with a longer --timeout, or fewer dirty keys."
            )

    def _sever(self) -> None:
        """Rule 11: nothing that was sent before the hold may arrive at the gaining side after the last fence."""
        losing, gaining = self._wish.losing, self._wish.gaining
        gone = self._watch.gone(losing)
        mirrors = [
            one
            for entry in self._watch.writers(losing).values()
            for one in entry.connections.get(gaining, ())
        ]
        if mirrors:
            self._store.kill(gaining, mirrors)
        if gone:
            its = [one for entry in gone.values() for one in entry.connections.get(losing, ())]
            self._store.kill(losing, its)
            self._store.forget(losing, gone)

    def _pause(self) -> None:
        # What writers have reported is taken off the ledger, which is a write: a pause would hold it up for as long as
        # it lasts. They hold, so all of it is there by now.
        self._follower.settle_all(min(self._until_s, time.monotonic() + BEFORE_PAUSE_S))
        self._tools.pauses[self._wish.losing].begin(
            min(LENGTH_MS_MAX, round((self._means.gate_s + PAUSE_MARGIN_S) * 1000))
        )

    def _settle(self) -> None:
        if not self._follower.settle_all(self._until_s):
            raise NotYet(
                f"{self._follower.watch.dirty_keys:,} dirty keys could not be settled in time.",
                "Wait until fewer are dirty, or give a longer --timeout.",
            )
        self._hear_reverse()

    def _functions(self) -> None:
        self._libraries.carry_if_changed()

    def _compare(self) -> None:
        self._compared = self._follower.touched
        left = self._follower.compare_touched(self._until_s)
        if left is None:
            raise NotYet(
                "What had changed could not be compared in time.", "Try again, or give a longer --timeout."
            )
        if left:
            raise NotYet(
                f"{left:,} keys differ although everything was settled.", "Run: keyferry verify --name."
            )
        # A comparison lets everything go on, and keys expire: nothing of ours may be on its way at the commit.
        if not self._follower.settle_all(self._until_s, again=True):
            raise NotYet(
                "Keys went on changing while writers waited.", "Who writes without following the phase?"
            )
        if self._reverse is not None:
            # What it has heard until here is proved equal: it begins with nothing to do.
            self._reverse.drop_marks(self._until_s)

    def _bar(self) -> None:
        assert self._survey is not None
        self._took_rights = True
        self._tools.bars[self._wish.losing].take(self._survey)

    def _check_pause(self) -> None:
        if lapsed := self._tools.pauses[self._wish.losing].lapsed():
            raise NotYet(lapsed, "Give a longer --timeout.")

    def _unpause(self) -> None:
        self._tools.pauses[self._wish.losing].end()

    def _give_back(self) -> None:
        gaining = self._wish.gaining
        taken = self._books.taken(gaining)
        if taken is not None:
            self._was_barred = True
            for sentence in self._tools.bars[gaining].give_back(taken):
                self._means.tell(sentence)
            self._books.took(gaining, None)

    def _commit(self) -> None:
        """Rule 14: pending there, then lost here, by compare-and-set."""
        losing, held = self._wish.losing, self._held
        assert held is not None
        stamp = self._tools.stamp()
        other = self._watch.records.get(self._wish.gaining)
        write = next_of_commit(losing, held, other, self._wish.phase, stamp)
        mark = completing(losing, write.becomes, other, stamp) if write.side is losing else None
        if mark is not None and self._survey is not None:
            # A server that was started anew since the pause has the rules of its own file again.
            for lapsed in self._tools.bars[losing].lapses(self._survey.taken):
                raise NotYet(lapsed)
        if mark is None or self._replicated:
            # A replica that may be promoted hears of the commit before anybody relies on it.
            self._set(write)
            if mark is not None:
                self._store.confirm(losing)
            return
        made, marked = self._store.commit(write, mark)
        if not made:
            raise self._outrun(write)
        self._watch.made(write)
        if marked:
            self._opened_s = time.monotonic()
            self._watch.made(mark)

    # After the commit

    def _complete(self) -> None:
        losing, gaining = self._wish.losing, self._wish.gaining
        mark = self._watch.records.get(gaining)
        if mark is not None and mark.rules:
            return  # made together with the commit
        lost = self._watch.look(losing).record
        other = self._watch.look(gaining).record
        if lost is not None and (write := completing(losing, lost, other, self._tools.stamp())) is not None:
            self._store.compare_and_set(write)  # a writer may be faster
        mark = self._watch.look(gaining).record
        if mark is None or not mark.rules:
            raise NotYet(f"The {gaining} says {mark or 'nothing'}.")

    def _open(self) -> None:
        self._opened_s = self._opened_s or time.monotonic()
        replicas = self._store.confirm(self._wish.losing)
        if not replicas.connected:
            self._means.tell(
                f"The {self._wish.losing} has no replica: its record is as safe as that one server."
            )
        elif replicas.confirmed < replicas.connected:
            self._means.tell(
                Alert(
                    f"Only {replicas.confirmed} of {replicas.connected} replicas of the {self._wish.losing} have "
                    "confirmed the switch: a failover to another one would forget it."
                )
            )

    # Undoing

    def _undo_hold(self) -> None:
        losing = self._wish.losing
        record = self._watch.look(losing).record
        check_single(
            self._watch.records
        )  # a failover may have forgotten the commit: two write sides are worse
        if record is not None and record.kind is Kind.HOLD and record.back is not None:
            self._store.compare_and_set(stepped(losing, record, record.back, self._tools.stamp()))
            self._watch.look(losing)
        self._opened_s = time.monotonic()

    def _undo_bar(self) -> None:
        losing = self._wish.losing
        taken = self._books.taken(losing)
        if taken is not None:
            for sentence in self._tools.bars[losing].give_back(taken):
                self._say(sentence)
            self._books.took(losing, None)

    def _undo_give_back(self) -> None:
        """The belt on the gaining side is put on again where it was; nothing depends on it."""
        gaining = self._wish.gaining
        if self._was_barred and self._books.taken(gaining) is None:
            survey = self._tools.bars[gaining].survey()
            self._books.took(gaining, survey.taken)
            self._tools.bars[gaining].take(survey)

    # Small things

    def _set(self, write: Write) -> None:
        if not self._store.compare_and_set(write):
            raise self._outrun(write)
        self._watch.made(write)

    @staticmethod
    def _outrun(write: Write) -> NotYet:
        return NotYet(
            f"Somebody else changed the phase record of the {write.side} in the same moment.",
            "Look with: keyferry status; then try again.",
        )

    def _turn_for(self, seconds: float) -> None:
        self._follower.turn_for(seconds)
        self._hear_reverse()

    def _hear_reverse(self) -> None:
        if self._reverse is not None:
            self._reverse.hear()
