"""Meeting the servers, first and again after every trouble: safety, and whether what was done still counts."""

from __future__ import annotations

from collections.abc import Callable

from keyferry.copy.books import Books
from keyferry.copy.connect import Sides
from keyferry.copy.databases import refuse_databases
from keyferry.copy.safety import (
    all_keys,
    foreign_keys,
    refuse_foreign,
    refuse_merged,
    refuse_other_policy,
    refuse_same_server,
)
from keyferry.copy.settings import CopySettings
from keyferry.copy.slot_ledger import SlotLedger
from keyferry.copy.watch import Watch
from keyferry.journal.state import State
from keyferry.model.errors import ServerAway
from keyferry.telemetry.progress import Alert, Teller

NOTING_LOOKS_MAX = 5
"""A target whose slots move all the time is looked at no more often: no key moves on before each of these looks."""


class Meeting:
    """Of one run."""

    def __init__(
        self,
        settings: CopySettings,
        state: State,
        books: Books,
        sides: Sides,
        watch: Watch,
        tell: Teller,
        check_stop: Callable[[], None],
    ) -> None:
        self._settings, self._state, self._books = settings, state, books
        self._sides, self._watch, self._tell, self._check_stop = sides, watch, tell, check_stop
        self.begun = books.resumed
        """Whether the target may hold keys that this copy wrote."""
        sides.met_targets.update(books.checkpoint.target_run_ids)
        self._databases: list[int] = []

    def first(self) -> list[int]:
        """The first look of this run. Returns the source's databases that are copied.

        Raises:
            UsageError, RefusedError: A safety check says no.
            ServerError: A server cannot be reached or refuses us.
        """
        sides, books, settings = self._sides, self._books, self._settings
        sides.open()
        refuse_same_server(sides.source_run_ids, sides.target_run_ids)
        self._databases = databases = sides.databases()
        refuse_databases(databases, settings.selection, sides.target.cluster)
        refuse_merged(databases, settings.selection)
        if books.resumed:
            refuse_other_policy(books.checkpoint.on_conflict, settings.on_conflict)
            self._tell(f"Going on with an earlier run of this copy, {books.earlier.scanned:,} keys in.")
            self.recognise()
        else:
            self._state.discard()
            books.slots = SlotLedger(sides.source.topology) if sides.source.cluster else None
        new = [database for database in databases if database not in books.databases]
        self._look_at_target(new)
        for database in new:
            self._begin(database)
        self._belongs_now()
        # From here on what the target holds may be ours: a checkpoint before this moment would say so of foreign keys.
        self.begun = True
        books.save(force=True)
        self._watch.evictions(sides.evicted_keys)
        return databases

    def _begin(self, database: int) -> None:
        for shard in self._sides.source.shards:
            self._books.begin_shard(shard.id, database)

    def _look_at_target(self, databases: list[int]) -> None:
        """What it holds before we write to it: refused, remembered, or to be replaced. Args: the source's."""
        if not databases:
            return
        policy = self._settings.on_conflict
        targets = sorted({self._settings.selection.target_database(database) for database in databases})
        foreign = 0
        for shard in self._sides.target.shards:
            with self._sides.session("target", shard=shard.id) as session:
                foreign += foreign_keys(session, targets)
        if policy is None:
            refuse_foreign(foreign)
        elif foreign and policy != "replace":
            self._remember_foreign(targets)

    def _remember_foreign(self, targets: list[int]) -> None:
        """Which keys the target holds before we write: the only ones that can be in conflict.

        A key can move from a node that is still to be looked at to one that was. Then all are looked at once more.
        """
        sides = self._sides
        self._tell("Noting the keys that the target holds already.")
        open_slots: frozenset[int] = frozenset()
        for _ in range(NOTING_LOOKS_MAX):
            ledger = SlotLedger(sides.target.topology)
            for shard in sides.target.shards:
                self._note_keys(shard.id, targets)
            if not sides.target.cluster:
                return
            topology = sides.discover("target").topology
            ledger.observe(topology)
            # What has been open since before the last look was looked at twice, at both its nodes.
            if ledger.moved <= open_slots:
                return
            open_slots = topology.open_slots

    def _note_keys(self, shard: str, targets: list[int]) -> None:
        with self._sides.session("target", shard=shard) as session:
            for database in targets:
                for keys in all_keys(session, database):
                    self._check_stop()
                    self._state.add_foreign(database, keys)

    def recognise(self) -> None:
        """Makes void what cannot be relied on any more: cursors of other processes, copies on a lost target."""
        reason = self._reason_to_compare()
        if reason:
            self._compare_all(reason)
        elif self._books.slots is not None:
            self._recognise_shards(self._books.slots)
        else:
            self._belongs_now()

    def _reason_to_compare(self) -> str:
        """Why all keys must be compared; empty when they need not."""
        sides, checkpoint = self._sides, self._books.checkpoint
        was_cluster = self._books.slots is not None
        other = []
        if sides.source.cluster != was_cluster or (
            not was_cluster and _changed(checkpoint.source_run_ids, sides.source_run_ids)
        ):
            other.append("source")
        # A primary that came is no loss; one that went, or was started anew, may have taken keys with it.
        if _changed(checkpoint.target_run_ids, sides.target_run_ids):
            other.append("target")
        if other:
            verb = "is" if len(other) == 1 else "are"
            return f"The {' and the '.join(other)} {verb} another process than before"
        if (sides.evicted_keys or 0) > (checkpoint.evicted_keys or 0):
            return "The target has evicted keys meanwhile"
        return ""

    def _compare_all(self, reason: str) -> None:
        sides, books = self._sides, self._books
        self._tell(Alert(f"{reason}: going over all keys again by comparison."))
        databases = sorted(books.databases)
        books.forget_positions()
        for database in databases:
            self._begin(database)
        books.slots = SlotLedger(sides.source.topology) if sides.source.cluster else None
        books.checkpoint.comparing = True
        self._belongs_now()
        self._watch.forget_evictions()
        books.save(force=True)

    def _recognise_shards(self, slots: SlotLedger) -> None:
        """Shards of the source that went, or were started anew: what they own is gone over by slot."""
        sides, books = self._sides, self._books
        slots.observe(sides.source.topology)
        now = {shard.id: shard for shard in sides.source.shards}
        for name in books.shards:
            if name not in now:
                books.end_shard(name)
                continue
            before = books.checkpoint.source_run_ids.get(name)
            if before is not None and before != sides.source_run_ids[name]:
                where = sides.source.endpoint(name).location
                self._tell(Alert(f"The source's {where} was started anew: going over its keys again."))
                books.end_shard(name)
                for slot in now[name].slots:
                    slots.redirected(slot)
        self._belongs_now()
        books.save(force=True)

    def met_target(self, shard: str, run_id: str) -> None:
        """Notes a primary of the target's cluster before anything is written to it: it may have come since the last look.

        Raises:
            ServerAway: It is another process than before, so what it has acknowledged may be lost.
        """
        known = self._books.checkpoint.target_run_ids
        if not shard or known.get(shard) == run_id:
            return
        if shard in known:
            raise ServerAway("target", "A primary of the target was started anew.")
        known[shard] = run_id
        self._sides.met_targets.add(shard)
        self._books.save(force=True)

    def _belongs_now(self) -> None:
        checkpoint = self._books.checkpoint
        checkpoint.source_run_ids = dict(self._sides.source_run_ids)
        owners = {shard.id for shard in self._sides.target.shards}
        known = owners | checkpoint.target_run_ids.keys()
        checkpoint.target_run_ids = {
            shard: run_id for shard, run_id in self._sides.target_run_ids.items() if shard in known
        }
        checkpoint.evicted_keys = self._sides.evicted_keys


def _changed(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether a process of before is gone."""
    return any(now.get(shard) != run_id for shard, run_id in before.items())
