"""What somebody sees who looks up once: what it does, whether it is well, how long it takes, what to press next.

Only words for what a look already says; nothing is asked of a server. A state that comes and goes many times a second
(the guard, the lag) is not worth a word before it has lasted: ``MigrationGlances`` and ``SyncGlances`` remember since
when it does. They know no clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from keyferry.model.phases import Side
from keyferry.model.words import count, counted, duration, moment, share
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport, in_migration_words

Health = Literal["good", "attention", "trouble"]

LASTING_S = 3.0
"""So long the target is behind, or a writer is, before it is said."""
SLOWED_S = 30.0
"""So long the guard slows without a pause: to spare a server for moments is what it is for."""
SLOW_S = 2.0
"""A server that takes so long to answer hangs, or nearly so."""
STILL_S = 5.0
"""So long nothing has got on, although there is something to do."""
AWAY_AGAIN_S = 5.0
"""A server that is away again so soon, as a full one that refuses each time, has not been back."""
AWAY_TROUBLE_S = 10.0
"""A server that does not answer for so long has not just been restarted."""
WAIT_S = 0.5
"""Of what is dirty; all that is done under the gate comes to less than a second then."""
ASK_VERIFY = "(keyferry verify)"
"""In a reason that a verification takes away (cutover/ready.py)."""
NOTHING_TO_PRESS = "Nothing to press."


@dataclass(frozen=True, slots=True)
class Glance:
    """One look, in words.

    Attributes:
        doing: What it does, as a sentence.
        why: What is the matter, as a sentence; empty when nothing is.
        left: How long what it does will take; empty where nobody knows, or it goes on until it is told otherwise.
        next: What to do or to press, and what not, as sentences.
        command: That ``next`` names to be given now; empty when there is none, or a choice.
    """

    doing: str
    health: Health
    why: str
    left: str
    next: str
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Lasting:
    """How long what comes and goes has lasted, in seconds; 0.0: it is not so now."""

    away_s: float = 0.0
    slowed_s: float = 0.0
    behind_s: float = 0.0
    late_s: float = 0.0
    still_s: float = 0.0


class Since:
    """Remembers since when. Args: lag_target_s: A larger lag is behind."""

    def __init__(self, lag_target_s: float) -> None:
        self._lag_target_s = lag_target_s
        self._since_s: dict[str, float] = {}
        self._done: tuple[int, ...] = ()
        self._away_s: float | None = None

    def look(
        self,
        stage: str,
        sync: SyncProgress | None,
        now_s: float,
        *,
        paused: bool = False,
        writers_late: int = 0,
    ) -> Lasting:
        """How long it lasts by now. Args: now_s: Monotonic."""
        following = stage in ("following", "following back", "verifying")
        return Lasting(
            away_s=self._away(stage == "waiting for a server", now_s),
            slowed_s=self._lasts("slowed", sync is not None and sync.throttle == "slowed", now_s),
            behind_s=self._lasts(
                "behind", following and sync is not None and sync.lag_s > self._lag_target_s, now_s
            ),
            still_s=self._lasts("still", not paused and self._is_still(stage, sync), now_s),
            late_s=self._lasts("late", writers_late > 0 and stage != "switching", now_s),
        )

    def _away(self, is_away: bool, now_s: float) -> float:
        if is_away:
            self._away_s = now_s
            return self._lasts("away", True, now_s)
        if self._away_s is not None and now_s - self._away_s >= AWAY_AGAIN_S:
            self._away_s = None
            self._lasts("away", False, now_s)
        return 0.0

    def _is_still(self, stage: str, sync: SyncProgress | None) -> bool:
        """Whether it has done nothing since the last look."""
        if sync is None or stage not in _PASSES:
            return False
        before, self._done = self._done, (sync.keys_done, sync.settled_keys, sync.generation)
        return before == self._done

    def _lasts(self, what: str, is_so: bool, now_s: float) -> float:
        if not is_so:
            self._since_s.pop(what, None)
            return 0.0
        # Never 0.0 while it is so.
        return max(now_s - self._since_s.setdefault(what, now_s), 1e-6)


class MigrationGlances:
    """Of one process that leads a migration.

    Args:
        lag_target_s: A larger lag keeps it from being ready.
        cutover_when_ready: It cuts over once without being told.
    """

    def __init__(self, lag_target_s: float, *, cutover_when_ready: bool = False) -> None:
        self._since = Since(lag_target_s)
        self._by_itself = cutover_when_ready

    def look(self, progress: MigrationProgress, now_s: float, *, writers_late: int = 0) -> Glance:
        """
        Args:
            now_s: Monotonic.
            writers_late: Live ones that have not taken the phase that counts, or say that something is wrong.
        """
        lasting = self._since.look(
            progress.stage, progress.sync, now_s, paused=progress.paused, writers_late=writers_late
        )
        return glance_of_migration(
            progress, lasting, writers_late=writers_late, cutover_when_ready=self._by_itself
        )


class SyncGlances:
    """Of one sync. Args: until_synced: It ends by itself when both sides are equal."""

    def __init__(self, lag_target_s: float, *, until_synced: bool = False) -> None:
        self._since = Since(lag_target_s)
        self._until_synced = until_synced

    def look(self, progress: SyncProgress, now_s: float) -> Glance:
        """Args: now_s: Monotonic."""
        lasting = self._since.look(progress.stage, progress, now_s)
        return glance_of_sync(progress, lasting, until_synced=self._until_synced)


def glance_of_migration(
    progress: MigrationProgress,
    lasting: Lasting,
    *,
    writers_late: int = 0,
    cutover_when_ready: bool = False,
) -> Glance:
    """The words for a migration. Arguments as of ``MigrationGlances``."""
    late = writers_late if lasting.late_s >= LASTING_S else 0
    health, why = _health(progress, lasting, late)
    by_itself = cutover_when_ready and not _has_switched(progress)
    next_, command = _next(progress, by_itself, late)
    if health == "trouble" and command in ("cutover", "finish"):
        next_, command = f"Look into that first. Then: {next_}", ""
    # A command of the operator's may take as long as it likes.
    unknown = progress.paused or progress.step == "hook"
    left = "" if unknown else _left(progress.stage, progress.sync)
    return Glance(_doing(progress), health, why, left, next_, command)


def glance_of_sync(progress: SyncProgress, lasting: Lasting, *, until_synced: bool = False) -> Glance:
    """The words for a sync. Arguments as of ``SyncGlances``."""
    troubles = _away(progress, lasting)
    attentions = _followed(progress, Side.SOURCE, lasting)
    health, why = _worst(troubles, attentions)
    doing = _passing(progress.stage, progress)
    return Glance(doing, health, why, _left(progress.stage, progress), _next_of_sync(progress, until_synced))


# What it does


def _doing(progress: MigrationProgress) -> str:
    match progress.stage:
        case "switching":
            way = "Cutting over" if progress.authority is Side.SOURCE else "Rolling back"
            return f"{way}: {_step(progress.step)}." if progress.step else f"{way}."
        case "switched":
            return "The service is on the target; nothing is followed any more."
        case "finished":
            return "The migration is over."
    if progress.paused:
        return "Paused: nothing of ours is written; what changes is remembered."
    doing = _passing(progress.stage, in_migration_words(progress))
    if progress.ready and progress.stage == "following":
        return doing.replace("Following:", "Ready for a cutover:")
    return doing


def _step(step: str) -> str:
    if step.startswith("undo"):
        return f"everything is put back ({step})"
    if step in _BEFORE_GATE:
        return f"{_BEFORE_GATE[step]}, nobody waits yet ({step})"
    return f"nobody waits any more ({step})" if step in _AFTER_GATE else f"writes wait ({step})"


_BEFORE_GATE = {
    "prepare": "writers are asked to get ready",
    "reverse": "the way back is made ready",
    "narrow": "what changed last is carried and compared",
}
_AFTER_GATE = frozenset(("bar-after", "hook"))
"""Of plan.Step."""


def _passing(stage: str, sync: SyncProgress | None) -> str:
    if stage in _PASSES and sync is not None and sync.keys_total:
        percent = share(sync.keys_done, sync.keys_total)
        return f"{_PASSES[stage]}: {count(sync.keys_done)} of {count(sync.keys_total)} ({percent} %)."
    if stage in _PASSES:
        return f"{_PASSES[stage]}."
    # While a server hangs, nobody knows what has changed there.
    known = sync is not None and not _hanging(sync, SLOW_S)
    behind = f", {_behind(sync.lag_s)}" if sync is not None and known else ""
    match stage:
        case "following":
            return f"Following: what changes on the source reaches the target{behind}."
        case "following back":
            return f"The service is on the target; the source follows it{behind}."
        case "waiting for a server":
            return f"Waiting: {_who(sync).lower()} does not answer, or refuses."
        case "stopping":
            return "Stopping."
    return "Connecting: both servers are looked at."


def _behind(lag_s: float) -> str:
    """Steady, as long as all is well."""
    return "less than 1 s behind" if lag_s < 1 else f"{duration(lag_s)} behind"


_PASSES = {"copying": "Copying keys", "comparing": "Comparing all keys", "verifying": "Verifying all keys"}


def _left(stage: str, sync: SyncProgress | None) -> str:
    """Rounded, so that it does not change with every look."""
    if stage == "switching":
        return "a few seconds at most"
    if stage not in _PASSES or sync is None or sync.seconds_left is None:
        return ""
    seconds = sync.seconds_left
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {duration(round(seconds / 600) * 600)} left"


# Whether it is well


def _health(progress: MigrationProgress, lasting: Lasting, late: int) -> tuple[Health, str]:
    switch, sync = progress.last_switch, in_migration_words(progress)
    if progress.stage == "finished":
        return _worst([_hook_failed(switch)], [])
    troubles = [*_away(sync, lasting), _differing(progress), _hook_failed(switch)]
    if switch is not None and switch.outcome == "unknown":
        troubles.append(f"How the {switch.direction} ended is not known: look at the phase of your writers.")
    attentions = [
        "It is paused: the longer, the more there is to carry after it." if progress.paused else "",
        *_followed(sync, progress.authority, lasting),
        _not_made(switch),
    ]
    if late:
        attentions.append(
            f"{counted(late, 'live writer')} of {progress.writers:,} not in the phase that counts, or in trouble."
        )
    return _worst(troubles, attentions)


def _worst(troubles: list[str], attentions: list[str]) -> tuple[Health, str]:
    for health, found in (("trouble", troubles), ("attention", attentions)):
        said = [sentence for sentence in found if sentence]
        if said:
            why = said[0] if said[0].endswith("?") else f"{said[0].rstrip('.')}."
            return "trouble" if health == "trouble" else "attention", why
    return "good", ""


def _away(sync: SyncProgress | None, lasting: Lasting) -> list[str]:
    """Trouble only."""
    if lasting.away_s < AWAY_TROUBLE_S:
        return [_hanging(sync, AWAY_TROUBLE_S)]
    return [f"{_who(sync)} has not answered for {duration(lasting.away_s)}."]


def _hanging(sync: SyncProgress | None, slow_s: float) -> str:
    if sync is None:
        return ""
    found = {"source": sync.source_latency_ms or 0.0, "target": sync.target_latency_ms or 0.0}
    side = max(found, key=lambda one: found[one])
    return (
        "" if found[side] < slow_s * 1000 else f"The {side} takes {duration(found[side] / 1000)} to answer."
    )


def _who(sync: SyncProgress | None) -> str:
    return f"The {sync.away}" if sync is not None and sync.away else "A server"


def _followed(sync: SyncProgress | None, authority: Side, lasting: Lasting) -> list[str]:
    """What to have an eye on, of the direction that is followed; the first counts most."""
    if sync is None:
        return []
    found = []
    if lasting.away_s:
        found.append(f"{_who(sync)} does not answer, or refuses (the events say what): it is asked again.")
    found.append(_hanging(sync, SLOW_S))
    if sync.failed:
        found.append(f"{counted(sync.failed, 'key')} cannot be carried: look at the failures.")
    if lasting.behind_s >= LASTING_S:
        limited = ", held to your limit" if sync.throttle == "limited" else ""
        found.append(f"The {authority.other} is {moment(sync.lag_s)} behind{limited}.")
    if sync.foreign_keys:
        found.append(
            f"Somebody else wrote {counted(sync.foreign_keys, 'key')} on the {authority.other}: find out who."
        )
    if lasting.still_s >= STILL_S:
        found.append(f"Nothing has got on for {duration(lasting.still_s)}: does a server answer no more?")
    if lasting.slowed_s >= SLOWED_S:
        found.append("A server answers later than at rest: keys are gone over slowly, to spare it.")
    return found


def _differing(progress: MigrationProgress) -> str:
    verified = progress.verified
    if verified is None or not verified.differences:
        return ""
    verb = "differs" if verified.differences == 1 else "differ"
    return f"The last verification found {counted(verified.differences, 'key')} that {verb}."


def _hook_failed(switch: SwitchReport | None) -> str:
    if switch is None or not switch.hook_failed:
        return ""
    return f"The {switch.direction} is done, and your command failed: {switch.hook}"


def _not_made(switch: SwitchReport | None) -> str:
    if switch is None or switch.outcome not in ("undone", "put off"):
        return ""
    return f"The last {switch.direction} was {switch.outcome}: {switch.reason}".removesuffix(": ")


# What to press


def _has_switched(progress: MigrationProgress) -> bool:
    return progress.last_switch is not None and progress.last_switch.outcome == "done"


def _next(progress: MigrationProgress, by_itself: bool, late: int) -> tuple[str, str]:
    """The sentences, and the command."""
    match progress.stage:
        case "finished":
            return f"{NOTHING_TO_PRESS} keyferry report shows what it has done.", ""
        case "switching" if progress.step == "hook":
            return f"{NOTHING_TO_PRESS} It is switched, and your command runs.", ""
        case "switching":
            return f"{NOTHING_TO_PRESS} It is over in seconds, or everything is undone by itself.", ""
        case "switched":
            return (
                "Press finish when you trust the target: what we hold on both servers is removed.",
                "finish",
            )
        case "waiting for a server":
            return f"{_wait_for(in_migration_words(progress))} Nothing to press here.", ""
    if progress.paused:
        return "Press unpause when what you paused it for is over.", "unpause"
    if progress.authority is Side.TARGET:
        return _next_on_target(progress)
    if progress.stage == "following":
        return _next_following(progress, by_itself, late)
    then = "then it cuts over" if by_itself else "then a cutover can be pressed"
    if progress.stage == "verifying":
        return f"{NOTHING_TO_PRESS} When nothing differs it is ready, {then}.", ""
    return f"{NOTHING_TO_PRESS} It follows what changes and verifies by itself, {then}.", ""


def _next_following(progress: MigrationProgress, by_itself: bool, late: int) -> tuple[str, str]:
    if not progress.ready:
        return _not_yet(progress, "cutover")
    if late:
        return (
            "Look at the writers that are not ready first: a cutover is put off while one does not answer.",
            "",
        )
    if by_itself:
        return f"{NOTHING_TO_PRESS} It is ready and cuts over by itself.", ""
    return f"Press cutover when you like: {_wait(progress)}, and a rollback takes it back.", "cutover"


def _next_on_target(progress: MigrationProgress) -> tuple[str, str]:
    """Never a command by itself: which of the two it is only somebody knows who has looked at the service."""
    if progress.stage != "following back":
        return f"{NOTHING_TO_PRESS} A rollback is possible again when all is compared.", ""
    if not progress.ready:
        why_not, _ = _not_yet(progress, "rollback")
        return f"Look at your service. Press finish when you trust the target. {why_not}", ""
    return (
        "Look at your service. Press finish when you trust the target (it cannot be taken back then), "
        f"rollback when you do not: {_wait(progress)}.",
        "",
    )


def _wait_for(sync: SyncProgress | None) -> str:
    who = f"the {sync.away}" if sync is not None and sync.away else "both servers"
    return f"Look at {who}: it goes on by itself when there is an answer."


def _wait(progress: MigrationProgress) -> str:
    expected_s = progress.sync.cutover_s if progress.sync else None
    if expected_s is None:
        return "writes wait for a moment"
    return f"writes wait {'less than a second' if expected_s < WAIT_S else f'about {duration(expected_s)}'}"


def _not_yet(progress: MigrationProgress, command: str) -> tuple[str, str]:
    """Why not, and whether a verification would help."""
    if not progress.not_ready:
        return NOTHING_TO_PRESS, ""
    more = len(progress.not_ready) - 1
    tail = f" (and {counted(more, 'more reason')})" if more else ""
    helps = any(ASK_VERIFY in reason for reason in progress.not_ready)
    said = progress.not_ready[0].replace(f" {ASK_VERIFY}", "")
    by_itself = " It is verified by itself as soon as it can be." if helps else ""
    return f"No {command} yet: {said}{tail}{by_itself}", ""


def _next_of_sync(progress: SyncProgress, until_synced: bool) -> str:
    if progress.stage == "waiting for a server":
        return _wait_for(progress)
    if until_synced:
        return f"{NOTHING_TO_PRESS} It ends by itself when both sides are equal."
    if progress.stage != "following":
        return f"{NOTHING_TO_PRESS} It follows what changes when all keys are gone over."
    return f"{NOTHING_TO_PRESS} It follows until you stop it (Ctrl-C where it runs)."
