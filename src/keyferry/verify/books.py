"""What a comparison has done so far: positions, suspects, differences, kept together and saved together."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keyferry.copy.slot_ledger import SlotLedger
from keyferry.journal.state import Checkpoint, Position, State
from keyferry.model.errors import Side, UsageError
from keyferry.telemetry.comparing import Difference, Reason, VerifyReport
from keyferry.verify.difference_log import DifferenceLog
from keyferry.verify.routes import Place
from keyferry.verify.settings import VerifySettings

SAVE_EVERY_S = 0.5
FIRST_MAX = 20

Direction = Literal["compare", "extras"]
"""``compare``: the source's keys with the target's; ``extras``: the target's keys that the source does not have."""


@dataclass(frozen=True, slots=True)
class PassTask:
    """What one pass is to do.

    Attributes:
        shard: Of the source, or with ``extras`` of the target.
        database: The source's.
        slots: Only keys of these slots; None is all.
    """

    direction: Direction
    shard: str
    database: int
    cursor: str = "0"
    slots: frozenset[int] | None = None

    @property
    def name(self) -> str:
        return f"{self.direction}:{self.shard}/{self.database}"


class VerifyBooks:
    """Of one run; begins with what an earlier, unfinished run left.

    The state's set of foreign keys is here the set of keys whose difference has been told: a key that SCAN names
    twice is not told twice.
    """

    def __init__(self, settings: VerifySettings, state: State) -> None:
        """Raises UsageError when the checkpoint cannot be read."""
        self._state = state
        self._began_s = self._saved_s = time.monotonic()
        loaded = state.load()
        self.resumed = loaded is not None
        self.checkpoint = loaded or Checkpoint()
        self.report = VerifyReport()
        self.pending: dict[Place, None] = {}
        """Suspects that are still to be looked at, in the order in which they came."""
        self._unsaved: list[Place] = []
        self.ledgers: dict[Side, SlotLedger] = {}
        """Of the sides that are clusters: slots that are to be gone over again."""
        self.share: int | None = None
        """Of 2^32, as the sample chooses; None: all keys."""
        self.passes_done = 0
        self._any_told = False
        self._seconds_before = self.checkpoint.seconds
        self.log = DifferenceLog(
            settings.differences_file, (loaded.failures_file, loaded.failures_bytes) if loaded else None
        )
        if loaded is not None:
            self._load(loaded.more)

    # Positions

    def begin(self, tasks: Iterable[PassTask]) -> None:
        """These passes are to be made; harmless where they have begun."""
        for task in tasks:
            self.checkpoint.positions.setdefault(task.name, Position())

    def tasks(self, direction: Direction, shards: Iterable[str], databases: Iterable[int]) -> list[PassTask]:
        """First passes of these shards that are not done."""
        found = []
        for shard in shards:
            for database in databases:
                task = PassTask(direction, shard, database)
                position = self.checkpoint.positions.get(task.name)
                if position is not None and not position.done:
                    found.append(PassTask(direction, shard, database, position.cursor))
        return found

    def shards(self, direction: Direction) -> set[str]:
        """Those with a position."""
        names = (name.partition(":") for name in self.checkpoint.positions)
        return {rest.rpartition("/")[0] for kind, _, rest in names if kind == direction}

    @property
    def databases(self) -> set[int]:
        """The source's, of those with a position."""
        return {int(name.rpartition("/")[2]) for name in self.checkpoint.positions}

    def end_shard(self, direction: Direction, shard: str) -> None:
        """Its cursors are void, or it is gone: its keys are gone over by slot."""
        for name, position in self.checkpoint.positions.items():
            if name.startswith(f"{direction}:{shard}/"):
                position.done = True

    def drop(self, direction: Direction) -> None:
        """Its cursors are void: all its keys are gone over again."""
        positions = self.checkpoint.positions
        for name in [name for name in positions if name.startswith(f"{direction}:")]:
            del positions[name]

    def moved_on(self, task: PassTask, cursor: str, keys: int) -> None:
        """A first pass has come to ``cursor``, with ``keys`` more keys than at the last call."""
        position = self.checkpoint.positions.get(task.name)
        if position is not None and task.slots is None:
            position.cursor = cursor
            position.scanned += keys

    def done(self, task: PassTask) -> None:
        self.passes_done += 1
        position = self.checkpoint.positions.get(task.name)
        if position is not None and task.slots is None:
            position.done = True

    def keys_done(self, direction: Direction) -> int:
        return sum(
            position.scanned
            for name, position in self.checkpoint.positions.items()
            if name.startswith(f"{direction}:")
        )

    # Suspects

    def suspect(self, database: int, keys: list[bytes]) -> None:
        for key in keys:
            place = (database, key)
            if place not in self.pending and not (self._any_told and self._state.is_foreign(*place)):
                self.pending[place] = None
                self._unsaved.append(place)

    def judged(self, suspects: int, told: list[tuple[Difference, bool]]) -> None:
        """All pending suspects have been looked at, and these differ, each with whether it was settled since."""
        report = self.report
        report.suspects += suspects
        for difference, repaired in told:
            if repaired:
                if difference.reason == "only on the target":
                    report.deleted += 1
                else:
                    report.repaired += 1
                continue
            report.reasons[difference.reason] = report.reasons.get(difference.reason, 0) + 1
            if len(report.first) < FIRST_MAX:
                report.first.append(difference)
        self.log.write(told)
        self._any_told = self._any_told or bool(told)
        self.pending.clear()
        self._unsaved.clear()
        self._save(judged=[(difference.database, difference.key) for difference, _ in told])

    # Saving

    @property
    def seconds(self) -> float:
        """Of all runs of this comparison."""
        return self._seconds_before + time.monotonic() - self._began_s

    def save(self, *, force: bool = False) -> None:
        if force or time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self._save()

    def _save(self, *, judged: list[Place] | None = None) -> None:
        """Args: judged: What was told; then all suspects have been looked at."""
        checkpoint, report = self.checkpoint, self.report
        if self._unsaved:
            # Before the cursors that lie behind them.
            self._state.note_keys(self._unsaved)
            self._unsaved = []
        checkpoint.seconds = self.seconds
        checkpoint.failures_file, checkpoint.failures_bytes = self.log.place
        checkpoint.slots = {side: ledger.as_dict() for side, ledger in self.ledgers.items()}
        checkpoint.more = {
            "suspects": report.suspects,
            "reasons": dict(report.reasons),
            "repaired": report.repaired,
            "deleted": report.deleted,
            "share": self.share,
            "first": [_as_dict(difference) for difference in report.first],
        }
        self._state.save(checkpoint, forget_noted=judged is not None, foreign=judged or ())
        self._saved_s = time.monotonic()

    def _load(self, more: dict[str, Any]) -> None:
        try:
            self.report.suspects = int(more["suspects"])
            self.report.reasons = {_reason(name): int(count) for name, count in more["reasons"].items()}
            self.report.repaired, self.report.deleted = int(more["repaired"]), int(more["deleted"])
            self.report.first = [_difference(item) for item in more["first"]]
            self.share = more["share"]
            slots: dict[Any, Any] = self.checkpoint.slots
            self.ledgers = {side: SlotLedger.of_dict(slots[side]) for side in slots}
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(f"The checkpoint is damaged: {error!r}.", "Discard it with --restart.") from None
        self._any_told = bool(self.report.reasons) or self.report.repaired + self.report.deleted > 0
        self.pending = dict.fromkeys(self._state.noted_keys())


def _as_dict(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {"key": base64.b64encode(difference.key).decode("ascii")}


def _difference(data: dict[str, Any]) -> Difference:
    return Difference(**(data | {"key": base64.b64decode(data["key"]), "differs": tuple(data["differs"])}))


def _reason(name: str) -> Reason:
    reason: Any = name
    return reason  # type: ignore[no-any-return]
