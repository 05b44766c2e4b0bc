"""What a comparison of this run goes over, how its passes are made, and where what they doubt goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from keyferry.copy.connect import Sides
from keyferry.copy.pace import Pace
from keyferry.copy.settings import CopySettings
from keyferry.follow.comparisons import Job
from keyferry.follow.engine import Engine
from keyferry.follow.extras import count_extras
from keyferry.follow.ground import Ground
from keyferry.follow.judging import EXPIRY_TOLERANCE_MS
from keyferry.follow.marking import Marking
from keyferry.journal.state import State
from keyferry.verify.passes import CompareContext


class Rescans:
    """Of one run.

    Args:
        keep_extra: Keys that only the target had when the run began are kept.
        on_slot_moved: Takes slots of keys that a cluster sent elsewhere.

    Attributes:
        collect: Gets what a verification doubts.
        extras: Keys found so far that only the target has.
    """

    def __init__(
        self,
        settings: CopySettings,
        state: State,
        sides: Sides,
        ground: Ground,
        engine: Engine,
        pace: Pace,
        marking: Marking,
        on_slot_moved: Callable[[int], None],
        *,
        keep_extra: bool,
    ) -> None:
        self._settings, self._state, self._sides, self._ground = settings, state, sides, ground
        self._engine, self._pace, self._marking = engine, pace, marking
        self._on_slot_moved, self._keep_extra = on_slot_moved, keep_extra
        self.collect: set[tuple[int, bytes]] | None = None
        self.extras = 0

    def jobs(self, shards: Iterable[str]) -> list[Job]:
        """Everything of these shards of the source, and what only the target has."""
        keys = [Job("keys", shard, database) for shard in shards for database in self._ground.databases]
        return keys + self.extras_jobs()

    def extras_jobs(self) -> list[Job]:
        """What only the target has."""
        return [
            Job("extras", shard.id, database)
            for shard in self._sides.target.shards
            for database in self._ground.databases
        ]

    def context(self, job: Job | None) -> CompareContext:
        """What a pass is made with; None: one over named keys."""
        extras = job is not None and job.kind == "extras"
        return CompareContext(
            sides=self._sides,
            settings=self._settings,
            pace=self._pace,
            poller=self._engine.poller,
            totals=self._engine.totals,
            expiry_tolerance_ms=EXPIRY_TOLERANCE_MS,
            chooses=None,
            on_suspects=self._on_extras if extras else self._on_suspects,
            on_big=self._on_suspects,
            on_streams=self._marking.add_streams,
            on_moved=self._on_slot_moved,
        )

    def looking(self) -> CompareContext:
        """The same for keys that the target's feed has named; what differs is dirty, and no verification's affair."""
        mark = self._marking.mark
        return replace(self.context(None), on_suspects=mark, on_big=mark)

    def _on_suspects(self, database: int, keys: list[bytes]) -> None:
        if self.collect is not None:
            self.collect.update((database, key) for key in keys)
        self._marking.mark(database, keys)

    def _on_extras(self, database: int, keys: list[bytes]) -> None:
        keys = [key for key in keys if not self.is_kept(database, key)]
        self.extras += len(keys)
        self._on_suspects(database, keys)

    def is_kept(self, database: int, key: bytes) -> bool:
        """Whether the target had the key before this sync, without the source."""
        target = self._settings.selection.target_database(database)
        return self._keep_extra and self._state.is_foreign(target, key)

    def count_extras(self, on_turn: Callable[[int], None]) -> int:
        """Keys of the target that the source does not have; with ``keep_extra`` they are noted as foreign.

        Args: on_turn: As ``extras.count_extras``.
        """
        selection = self._settings.selection

        def found(database: int, keys: list[bytes]) -> None:
            if self._keep_extra:
                self._state.add_foreign(selection.target_database(database), keys)

        return count_extras(
            self.extras_jobs(),
            self._engine.poller,
            lambda job, take, counting: replace(self.context(job), on_suspects=take, totals=counting.asked),
            found,
            on_turn,
        )
