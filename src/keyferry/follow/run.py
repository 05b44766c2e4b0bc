"""A whole sync: attach the feeds, copy what is there, follow what changes, survive what breaks, prove it.

    look -> feeds -> copy (or, after an earlier run, compare) -> follow ... -> verify -> synced

The feeds are attached before anything is read, and heard all the time. Whatever might have escaped them (a lost
connection, another process, a flush, SWAPDB, too many dirty keys) begins a new generation: the feed is attached
first, then everything is compared, and what differs becomes dirty.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Protocol

from keyferry.copy.patience import BACKOFF_S, BACKOFF_S_MAX, TROUBLES_MIN
from keyferry.copy.predecessors import end_writers
from keyferry.copy.replies import ServerBusy, ServerRefuses
from keyferry.copy.stop import StopFlag
from keyferry.follow.follower import Follower
from keyferry.follow.settings import SyncSettings
from keyferry.follow.verifying import Verification
from keyferry.journal.state import State, state_name
from keyferry.model.address import Endpoint
from keyferry.model.errors import InterruptedRun, RefusedError, ServerAway, ServerError, UsageError
from keyferry.telemetry.following import SyncObserver, SyncReport
from keyferry.telemetry.progress import Alert, Teller

VERIFY_AGAIN_S = 2.0
VERIFY_AGAIN_S_MAX = 60.0
EXTRAS_MIN = 100
HEALING = frozenset(("OOM", "MISCONF", "NOREPLICAS"))
"""What a server refuses now, and may take in a moment. The feeds are heard meanwhile, so nothing is missed."""


def sync_name(settings: SyncSettings) -> str:
    """Tells this sync from every other: its name, or the two locations and the selection."""
    copy = settings.copy
    places = _place(copy.source), _place(copy.target), copy.selection.fingerprint()
    return state_name(*places) if settings.name is None else state_name(*places, settings.name)


def _place(endpoint: Endpoint) -> str:
    return ",".join(sorted(endpoint.location.split(","))) if endpoint.cluster else endpoint.location


def run_sync(settings: SyncSettings, *, observe: SyncObserver, tell: Teller, stop: StopFlag) -> SyncReport:
    """Makes the target equal to the source, and keeps it so.

    Args:
        observe: Gets a snapshot at most ten times a second.
        tell: Gets a sentence for each thing worth one.
        stop: Ends the run cleanly when requested.

    Returns:
        Only with ``until_synced``; else it goes on until it is stopped.

    Raises:
        UsageError: The settings, the state directory or the checkpoint cannot be used.
        RefusedError: A safety check says no.
        ServerError: A server cannot be reached, refuses us, or is lost for good.
        InterruptedRun: ``stop`` was requested; the checkpoint is written.
    """
    if settings.copy.on_conflict in ("skip", "fail"):
        raise UsageError(
            f"A sync cannot keep --on-conflict {settings.copy.on_conflict}: the target follows the source.",
            "Use --on-conflict replace, with --keep-extra to keep what only the target has; or copy.",
        )
    name = sync_name(settings)
    with State(settings.copy.state_dir, name, restart=settings.copy.restart, kind="sync") as state:
        return FollowRun(settings, state, name, observe, tell, stop).run()


@dataclass(slots=True)
class _Trouble:
    """Troubles in a row. Attributes: progress: What had been done when the first came."""

    since_s: float
    progress: tuple[int, int, int]
    message: str = ""
    count: int = 0

    def pause_s(self) -> float:
        """Before the next try."""
        self.count += 1
        return min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(self.count - 1, 10))


class Lead(Protocol):
    """Who leads a run: a migration does more than one of them, and more in between."""

    def poll(self) -> None:
        """Called in every turn and in every wait, also while a server is away; quick. Ends the run by raising."""

    def opened(self) -> None:
        """Called when connections were made, before anything is written on them. Ends the run by raising."""

    def turn(self, follower: Follower) -> bool:
        """Called after every turn while neither a server is waited for nor ``verification`` runs; True ends the run."""


class FollowRun:
    """One run, from the first look to its end.

    Args:
        state: Of this run alone, and open.
        name: As ``sync_name`` gives it, or any that tells it from every other run.
        lead: Leads it; without one it follows until it is stopped, or synced.
        equal: Another run makes both servers equal, or has made them: the target's keys are no strangers.

    Attributes:
        follower: What follows.
        verification: Of everything; to be run by the lead when it likes.
    """

    def __init__(
        self,
        settings: SyncSettings,
        state: State,
        name: str,
        observe: SyncObserver,
        tell: Teller,
        stop: StopFlag,
        *,
        lead: Lead | None = None,
        equal: bool = False,
    ) -> None:
        self._settings, self._tell, self._stop = settings, tell, stop
        self._lead, self._equal, self._attached = lead, equal, False
        self.follower = Follower(
            settings, state, name.encode(), observe, tell, self._check_stop, writes=not equal
        )
        self._began_cpu_s = time.process_time()
        self.verification = Verification(self.follower, settings)
        self._verify_at_s = 0.0
        self._verify_pause_s = VERIFY_AGAIN_S
        self._trouble: _Trouble | None = None
        self._closed = False

    # A begin on servers that another run makes equal

    def attach_equal(self, opposite: Follower) -> None:
        """Attaches the feeds of both servers while ``opposite`` still works in the other direction.

        No key is written. What is saved makes a later run compare everything, as after every end.

        Args: opposite: Its target is the source here. It knows which databases and streams there are, and who mirrors.

        Raises:
            UsageError, RefusedError: A safety check says no, or the feed that was asked for is not available.
            ServerError: A server cannot be reached or refuses us. Then ``close``.
        """
        assert self._equal, "made for another begin"
        self.follower.begin_equal(opposite)
        here = {self._settings.copy.selection.target_database(one): one for one in opposite.target_databases}
        self.follower.watch.remember(
            replace(big, database=here[big.database])
            for big in opposite.watch.biggest()
            if big.database in here
        )
        self._attached = True

    def hear(self) -> None:
        """Takes what the feeds have named, without waiting: to be called often, while the other run works."""
        self.follower.engine.pump(0)

    def drop_marks(self, until_s: float | None = None) -> None:
        """Forgets what was named until now: nobody writes, and both servers were proved equal since the last write.

        Args: until_s: By the monotonic clock; None: two seconds from now.

        Raises:
            ServerAway: A server did not answer until then, or a feed that was lost cannot be attached again.
            ServerError: One refuses us.
        """
        self.follower.equal.drop_marks(until_s)

    def close(self) -> None:
        """Ends a run that ``run`` was not called of, or has ended. Harmless when called again."""
        if not self._closed:
            self._closed = True
            self.follower.close()

    # Running

    def run(self) -> SyncReport:
        """Follows until ``lead.turn`` says True, or, with ``until_synced``, until both servers are equal.

        After ``attach_equal`` nothing is copied or compared, unless something was missed since.

        Returns:
            What it did.

        Raises:
            As ``run_sync``; InterruptedRun when it was stopped; and whatever the lead raises.
        """
        follower = self.follower
        try:
            if not self._attached:
                self._begin_in_time()
            while True:
                try:
                    follower.open()
                    if self._lead is not None:
                        self._lead.opened()
                    if self._follow():
                        return self._report()
                except (ServerAway, ServerBusy) as trouble:
                    self._recover(trouble)
                except ServerRefuses as refusal:
                    if refusal.code not in HEALING:
                        raise
                    self._recover(refusal)
        finally:
            self.close()

    def _begin_in_time(self) -> None:
        """A run that goes on waits for a server that is away; the first one says so at once.

        Raises:
            ServerAway: It was not there in time.
        """
        began_s = time.monotonic()
        while True:
            try:
                self._begin()
                return
            except (ServerAway, ServerBusy) as trouble:
                message = trouble.sentence if isinstance(trouble, ServerBusy) else trouble.message
                waited_s = time.monotonic() - began_s
                first = not (self.follower.ground.resumed or self._equal)
                if first or waited_s > self._settings.copy.retry_s:
                    hint = trouble.hint if isinstance(trouble, ServerAway) else "Give the same command again."
                    raise ServerAway(trouble.side, message, hint) from None
                self._tell(Alert(f"{message} Trying again."))
                self._pause(BACKOFF_S_MAX / 2)

    def _begin(self) -> None:
        """Looks, and says what is going to happen before anything is written."""
        follower = self.follower
        if self._equal and not follower.ground.resumed:
            follower.ground.begin_equal(())
            foreign = 0
        else:
            foreign = follower.ground.first()
        follower.choose_feed()
        if follower.ground.resumed or self._equal:
            end_writers(follower.sides, follower.owner)
            follower.tidy()
            follower.compare_later()
            if not self._settings.keep_extra:
                self._say_extras()
        else:
            if foreign:
                self._say_extras()
            follower.begin_scans()
        follower.ground.begun = True
        follower.ground.met()
        follower.ground.save(force=True)
        follower.watch.evictions(follower.sides.evicted_keys)

    def _say_extras(self) -> None:
        """Keys of the target that the source does not have: how many go, or are kept."""
        self.follower.watch.enter("comparing")
        extras = self.follower.count_extras()
        if self.follower.ground.resumed or self._equal:
            self._check_extras(extras)
            return
        if not extras:
            return
        they = f"The target holds {extras:,} {'key' if extras == 1 else 'keys'} that the source does not have"
        if self._settings.keep_extra:
            self._tell(f"{they}: they are kept.")
        else:
            self._tell(f"{they}: they are going to be deleted. (--keep-extra keeps them.)")

    def _check_extras(self, extras: int) -> None:
        """What an earlier run wrote and the source has deleted since goes; what somebody else put there must not.

        Raises:
            RefusedError: The target is another process than before, and holds mostly what is not ours.
        """
        ground = self.follower.ground
        ours = sum(ground.checkpoint.source_keys.values())
        if extras > EXTRAS_MIN and extras > ours / 2 and ground.target_changed():
            raise RefusedError(
                f"The target is another process than before, and holds {extras:,} keys that the source does not have.",
                "If they may go, begin anew with --restart --on-conflict replace; else name another target.",
            )
        if extras:
            self._tell(
                f"The target holds {extras:,} {'key' if extras == 1 else 'keys'} that the source does not have "
                "any more: they are going to be deleted."
            )

    def _follow(self) -> bool:
        """Until it is stopped, or synced: True."""
        follower = self.follower
        while True:
            follower.gate.end()  # the lead has put a switch off, or undone it
            follower.turn()
            if self._lead is not None and self._lead.turn(follower):
                return True
            now = time.monotonic()
            level = self._settings.until_synced and now >= self._verify_at_s and follower.is_level(now)
            if level and self._verify():
                return True

    def _verify(self) -> bool:
        """Whether nothing is left to wait for."""
        follower = self.follower
        left = self.verification.run()
        failures = {(failure.database, failure.key) for failure in follower.accounts.failures()}
        cannot = sum((one.database, one.key) in failures for one in self.verification.differences)
        if restless := self.verification.restless:
            self._tell(
                f"{restless:,} keys change all the time: they are followed, and could not be caught standing still."
            )
        if not left:
            return True
        if left == cannot:
            self._tell(
                Alert(f"{left:,} {'key' if left == 1 else 'keys'} cannot be carried, all others are equal.")
            )
            return True
        self._tell(
            f"The verification found {left:,} keys that still differ; settling them and looking again."
        )
        self._verify_at_s = time.monotonic() + self._verify_pause_s
        self._verify_pause_s = min(VERIFY_AGAIN_S_MAX, 2 * self._verify_pause_s)
        return False

    def _recover(self, trouble: ServerAway | ServerBusy | ServerRefuses) -> None:
        """Waits until both servers can be met again; the feeds that are left are heard meanwhile.

        Raises:
            ServerError: Nothing could be settled for ``retry_s``, or one refuses us for good.
        """
        follower = self.follower
        side = trouble.side
        message = trouble.sentence if isinstance(trouble, ServerBusy) else trouble.message
        hint = "Give the same command again when it is back: it compares both servers and goes on."
        if isinstance(trouble, ServerRefuses):
            hint = trouble.hint
        follower.close_workers()
        now = time.monotonic()
        if self._trouble is None or follower.watch.progress != self._trouble.progress:
            self._trouble = _Trouble(now, follower.watch.progress)
        if message != self._trouble.message:
            self._trouble.message = message
            self._tell(Alert(f"{message} Trying again."))
        follower.watch.enter("waiting for a server", side)
        retry_s, away_s = self._settings.copy.retry_s, now
        while True:
            now = time.monotonic()
            # One trouble after the other, with nothing settled in between, or one that does not end.
            often = self._trouble.count >= TROUBLES_MIN and now - self._trouble.since_s > retry_s
            if often or now - away_s > retry_s:
                raise ServerError(side, f"{message} It has not been better for {retry_s:g} s.", hint)
            self._pause(self._trouble.pause_s())
            try:
                follower.meet_again()
            except (ServerAway, ServerBusy) as error:
                side = follower.watch.away = error.side
                message = error.sentence if isinstance(error, ServerBusy) else error.message
            else:
                return

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._check_stop()
            self.follower.pump()

    def _check_stop(self) -> None:
        if self._lead is not None:
            self._lead.poll()
        if not self._stop.requested:
            return
        ground = self.follower.ground
        if not ground.begun:
            raise InterruptedRun("Interrupted before the sync began; nothing was written.")
        ground.save(force=True)
        raise InterruptedRun(
            "Interrupted.", "Give the same command again to go on: it compares what was carried before."
        )

    def _report(self) -> SyncReport:
        follower = self.follower
        report = follower.report()
        follower.close_workers()
        if (
            follower.watch.generation > 1 and self._lead is None
        ):  # after a switch writers work, and nobody follows yet
            follower.tidy()
        report.synced = not follower.accounts.failed
        report.verified = self.verification.compared
        report.cpu_seconds = time.process_time() - self._began_cpu_s
        follower.ground.save(force=True)
        follower.watch.turn(force=True)
        return report


__all__ = ["FollowRun", "Lead", "run_sync", "sync_name"]
