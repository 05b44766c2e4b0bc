"""What a sync stands on: who the servers are, whether they are those of before, and what the checkpoint says."""

from __future__ import annotations

import time
from collections.abc import Iterable

from keyferry.copy.connect import Sides
from keyferry.copy.databases import refuse_databases
from keyferry.copy.safety import foreign_keys, refuse_merged, refuse_same_server
from keyferry.follow.settings import SyncSettings
from keyferry.journal.state import State
from keyferry.journal.sync_state import FORMAT, SyncCheckpoint
from keyferry.model.errors import RefusedError
from keyferry.telemetry.progress import Teller

SHRUNK_SHARE = 0.5
"""A source that was started anew and lacks more than this share of its keys is not followed unasked."""
SAVE_EVERY_S = 1.0


class Ground:
    """Of one run.

    Args:
        sides: Is opened here.
    """

    def __init__(self, settings: SyncSettings, state: State, sides: Sides, tell: Teller) -> None:
        """Raises UsageError when the checkpoint cannot be read."""
        self._settings, self._state, self._sides, self._tell = settings, state, sides, tell
        loaded = state.load_as(FORMAT, SyncCheckpoint.of_dict)
        self.resumed = loaded is not None
        self.checkpoint = loaded or SyncCheckpoint()
        self.begun = self.resumed
        """Whether the target may hold keys that this sync wrote."""
        self._began_s = self._saved_s = time.monotonic()
        self._seconds_before = self.checkpoint.seconds

    def first(self) -> int:
        """The first look of this run. Gives how many keys the target holds that no run of this sync wrote.

        Raises:
            UsageError, RefusedError: A safety check says no.
            ServerError: A server cannot be reached or refuses us.
        """
        sides, settings = self._sides, self._settings
        sides.open()
        refuse_same_server(sides.source_run_ids, sides.target_run_ids)
        self.add_databases(sides.databases())
        if self.resumed:
            self._tell("Going on with an earlier run of this sync: what it has carried is compared.")
            self._refuse_other_extras()
            self._check_shrunk()
            return 0
        self.checkpoint.keep_extra = settings.keep_extra
        foreign = self._foreign()
        if settings.copy.on_conflict is None:
            _refuse_foreign(foreign)
        return foreign

    def add_databases(self, databases: list[int]) -> None:
        """These are moved from now on. Raises RefusedError or UsageError where the target has no place for them."""
        known = sorted({*self.checkpoint.databases, *databases})
        selection = self._settings.copy.selection
        refuse_databases(known, selection, self._sides.target.cluster)
        refuse_merged(known, selection)
        self.checkpoint.databases = known

    @property
    def databases(self) -> list[int]:
        return self.checkpoint.databases

    def begin_equal(self, databases: Iterable[int]) -> None:
        """The first look of a run whose servers another run makes equal; what an earlier run of its own knew is void.

        Args: databases: Of the source, that may be empty still.

        Raises: as ``first``.
        """
        sides = self._sides
        sides.open()
        refuse_same_server(sides.source_run_ids, sides.target_run_ids)
        self.add_databases([*sides.databases(), *databases])
        self.checkpoint.keep_extra = self._settings.keep_extra
        self.checkpoint.scanned.clear()
        self.checkpoint.source_keys.clear()

    def _foreign(self) -> int:
        selection = self._settings.copy.selection
        targets = sorted({selection.target_database(database) for database in self.databases})
        foreign = 0
        for shard in self._sides.target.shards:
            with self._sides.session("target", shard=shard.id) as session:
                foreign += foreign_keys(session, targets)
        return foreign

    # Meeting them again

    def source_changes(self) -> set[str]:
        """Shards of the source that are another process than before, or were not there.

        Raises:
            RefusedError: A source that was started anew has lost most of its keys.
        """
        self._check_shrunk()
        before, now = self.checkpoint.source_run_ids, self._sides.source_run_ids
        return {shard for shard, run_id in now.items() if before.get(shard) != run_id}

    def target_changed(self) -> bool:
        """Whether a primary of the target is gone or was started anew: what it acknowledged may be lost."""
        now = self._sides.target_run_ids
        return any(now.get(shard) != run_id for shard, run_id in self.checkpoint.target_run_ids.items())

    def met(self) -> None:
        """These are the processes that we work with."""
        self.checkpoint.source_run_ids = dict(self._sides.source_run_ids)
        self.checkpoint.target_run_ids = dict(self._sides.target_run_ids)
        self.checkpoint.evicted_keys = self._sides.evicted_keys
        self.count_keys({shard: self._keys(shard) for shard in self._sides.source_run_ids})

    def met_target(self, shard: str, run_id: str) -> None:
        """A primary of the target's cluster, before anything is written to it."""
        known = self.checkpoint.target_run_ids
        if shard and known.get(shard) != run_id:
            known[shard] = run_id
            self._sides.met_targets.add(shard)
            self.save(force=True)

    def count_keys(self, keys: dict[str, int]) -> None:
        """What the source's shards hold now, while their feeds are attached."""
        self.checkpoint.source_keys.update(keys)
        present = self._sides.source_run_ids
        self.checkpoint.source_keys = {
            shard: count for shard, count in self.checkpoint.source_keys.items() if shard in present
        }

    def _keys(self, shard: str) -> int:
        return self._sides.total_keys(self.databases, shard)

    def _check_shrunk(self) -> None:
        """1. The source restarts without its data; 2. everything is compared; 3. all keys are extra on the target.

        Raises:
            RefusedError: That is what it looks like.
        """
        if self._settings.accept_shrunk_source:
            return
        before = self.checkpoint.source_keys
        now_ids = self._sides.source_run_ids
        affected = [
            shard for shard in before if now_ids.get(shard) != self.checkpoint.source_run_ids.get(shard)
        ]
        had = sum(before[shard] for shard in affected)
        lost = sum(before.values()) - sum(self._keys(shard) for shard in now_ids)
        if had and lost > SHRUNK_SHARE * had:
            raise RefusedError(
                f"The source was started anew and came back with {lost:,} keys less than before "
                f"({sum(before.values()):,}): following it would delete them on the target.",
                "Restore its data, or say with --accept-shrunk-source that they are to go.",
            )

    # The checkpoint

    def position(self, shard: str, database: int) -> str:
        """Where the first copy of a shard's database goes on: a cursor, "" when there is nothing left to be scanned."""
        return self.checkpoint.scanned.get(f"{shard}/{database}", "")

    def is_new(self, shard: str) -> bool:
        """Whether nothing of a shard has been carried yet, and all of it is going to be scanned."""
        names = [f"{shard}/{database}" for database in self.databases]
        return all(self.checkpoint.scanned.get(name) == "0" for name in names)

    def _refuse_other_extras(self) -> None:
        before = self.checkpoint.keep_extra
        if before != self._settings.keep_extra:
            was, now = ("with", "without") if before else ("without", "with")
            raise RefusedError(
                f"This sync was begun {was} --keep-extra, and is to go on {now} it.",
                "Which keys only the target had cannot be told any more. Go on as it was begun, or begin anew with "
                "--restart.",
            )

    def begin_scan(self, shard: str, database: int) -> None:
        self.checkpoint.scanned[f"{shard}/{database}"] = "0"

    def scanned_to(self, shard: str, database: int, cursor: bytes) -> None:
        """Everything before the cursor is acknowledged by the target; ``0``: all."""
        self.checkpoint.scanned[f"{shard}/{database}"] = "" if cursor == b"0" else cursor.decode()

    def end_scans(self, shard: str) -> None:
        """Its cursors are void: what it has is compared."""
        for name in self.checkpoint.scanned:
            if name.partition("/")[0] == shard:
                self.checkpoint.scanned[name] = ""

    def save(self, *, force: bool = False) -> None:
        """Every now and then. Raises UsageError when the file cannot be written."""
        now = time.monotonic()
        if not self.begun or (not force and now - self._saved_s < SAVE_EVERY_S):
            return
        self._saved_s = now
        self.checkpoint.seconds = self._seconds_before + now - self._began_s
        self._state.save_as(FORMAT, self.checkpoint.as_dict())

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began_s


def _refuse_foreign(count: int) -> None:
    """Raises RefusedError with the choices when the target holds keys that no run of this sync wrote."""
    if count:
        raise RefusedError(
            f"The target already holds {count:,} {'key' if count == 1 else 'keys'} that this sync did not write.",
            "Choose --on-conflict replace (the source wins; what only the target has is deleted, or kept with "
            "--keep-extra), or name an empty target.",
        )
