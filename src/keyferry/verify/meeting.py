"""Meeting the servers, first and again after every trouble: safety, and whether what was done still counts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from keyferry.copy.connect import Sides
from keyferry.copy.databases import refuse_databases
from keyferry.copy.deployment import Deployment
from keyferry.copy.info import Keyspace, keyspace, parse_info
from keyferry.copy.probe import Probe
from keyferry.copy.run import LOOK_AT_SLOTS_EVERY_S
from keyferry.copy.safety import refuse_merged, refuse_read_only, refuse_same_server
from keyferry.copy.slot_ledger import SlotLedger
from keyferry.journal.state import State
from keyferry.model.errors import Side
from keyferry.model.topology import Topology, merge, parse_nodes
from keyferry.telemetry.progress import Teller
from keyferry.verify.books import Direction, PassTask, VerifyBooks
from keyferry.verify.naming import share_of
from keyferry.verify.settings import VerifySettings

_DIRECTIONS: dict[Side, Direction] = {"source": "compare", "target": "extras"}


class VerifyMeeting:
    """Of one run."""

    def __init__(
        self, settings: VerifySettings, state: State, books: VerifyBooks, sides: Sides, tell: Teller
    ) -> None:
        self._settings, self._state, self._books = settings, state, books
        self._sides, self._tell = sides, tell
        self.databases: list[int] = []
        """The source's, that are compared."""
        self._slots_looked_s = 0.0

    def deployment(self, side: Side) -> Deployment:
        return self._sides.source if side == "source" else self._sides.target

    def first(self) -> None:
        """The first look of this run.

        Raises:
            UsageError, RefusedError: A safety check says no.
            ServerError: A server cannot be reached or refuses us.
        """
        sides, books, selection = self._sides, self._books, self._settings.copy.selection
        sides.open()
        refuse_same_server(sides.source_run_ids, sides.target_run_ids)
        if self._settings.repair or self._settings.delete_extra:
            for shard in sides.target.shards:
                with sides.session("target", shard=shard.id) as target:
                    refuse_read_only(target)
        self.databases = sorted({*sides.databases(), *books.databases})
        if selection.databases is None:
            self.databases = sorted({*self.databases, *self._only_on_the_target()})
        refuse_databases(self.databases, selection, sides.target.cluster)
        refuse_merged(self.databases, selection)
        if books.resumed:
            done = books.keys_done("compare") + books.keys_done("extras")
            self._tell(f"Going on with an earlier run of this comparison, {done:,} keys in.")
            self.recognise()
        else:
            self._state.discard()
            if self._settings.sample is not None:
                books.share = share_of(self._settings.sample, sides.total_keys(self.databases))
            for side in _DIRECTIONS:
                self._begin(side)
        self._belongs_now()
        books.save(force=True)

    def keys_total(self) -> int:
        """Keys by INFO: of the source, and of the target's databases."""
        places = {self._settings.copy.selection.target_database(database) for database in self.databases}
        total = self._sides.total_keys(self.databases)
        for spaces in self._target_keyspaces():
            total += sum(space.keys for database, space in spaces.items() if database in places)
        return total

    def _only_on_the_target(self) -> list[int]:
        """Databases that the source has emptied, or never used, and whose keys the target has: all of them extra."""
        place_of = self._settings.copy.selection.target_database
        known = {place_of(database) for database in self.databases}
        used = {database for spaces in self._target_keyspaces() for database in spaces}
        return [database for database in used - known if place_of(database) == database]

    def _target_keyspaces(self) -> Iterator[dict[int, Keyspace]]:
        for shard in self._sides.target.shards:
            with self._sides.session("target", shard=shard.id) as session:
                reply = session.call("INFO", "keyspace")
            yield keyspace(parse_info(reply)) if isinstance(reply, bytes) else {}

    def recognise(self) -> None:
        """Makes void what cannot be relied on any more: cursors of other processes, scans of shards that went."""
        checkpoint, books = self._books.checkpoint, self._books
        for side, direction in _DIRECTIONS.items():
            known = checkpoint.source_run_ids if side == "source" else checkpoint.target_run_ids
            now = self._run_ids(side)
            was_cluster = side in books.ledgers
            if self.deployment(side).cluster != was_cluster or (
                not was_cluster and any(now.get(shard) != run_id for shard, run_id in known.items())
            ):
                self._tell(
                    f"The {side} is another process than before: going over its keys from the beginning."
                )
                books.drop(direction)
                self._begin(side)
            elif was_cluster:
                self._recognise_shards(side, known, now)
            else:
                self._begin_new_databases(side)
        self._belongs_now()
        books.save(force=True)

    def _begin(self, side: Side) -> None:
        """All keys of this side are to be gone over."""
        deployment = self.deployment(side)
        self._begin_new_databases(side)
        if deployment.cluster:
            self._books.ledgers[side] = SlotLedger(deployment.topology)
        else:
            self._books.ledgers.pop(side, None)

    def _begin_new_databases(self, side: Side) -> None:
        self._books.begin(
            PassTask(_DIRECTIONS[side], shard.id, database)
            for shard in self.deployment(side).shards
            for database in self.databases
        )

    def _recognise_shards(self, side: Side, known: dict[str, str], now: dict[str, str]) -> None:
        """Shards that went, or were started anew: what they own is gone over by slot."""
        direction, ledger = _DIRECTIONS[side], self._books.ledgers[side]
        ledger.observe(self.deployment(side).topology)
        shards = {shard.id: shard for shard in self.deployment(side).shards}
        for name in self._books.shards(direction):
            if name not in shards:
                self._books.end_shard(direction, name)
            elif name in known and known[name] != now.get(name):
                self._books.end_shard(direction, name)
                for slot in shards[name].slots:
                    ledger.redirected(slot)

    def look_at_slots(self, side: Side) -> Topology:
        """Who owns what now; observed. Raises as ``Sides.discover``."""
        topology = self._sides.discover(side).topology
        ledger = self._books.ledgers.get(side)
        if ledger is not None:
            ledger.observe(topology)
        return topology

    def hear_slots(self, probes: list[Probe]) -> None:
        """What the probes were last told of who owns what."""
        now = time.monotonic()
        if not self._books.ledgers or now - self._slots_looked_s < LOOK_AT_SLOTS_EVERY_S:
            return
        self._slots_looked_s = now
        for side, ledger in self._books.ledgers.items():
            # What cannot be read here is said by the next look, which has a server to name.
            with contextlib.suppress(ValueError, KeyError):
                texts = [
                    (probe.nodes, self.deployment(side).endpoint(probe.shard).host)
                    for probe in probes
                    if probe.side == side and probe.nodes is not None
                ]
                if texts:
                    ledger.observe(merge([parse_nodes(text, host) for text, host in texts]))

    def _run_ids(self, side: Side) -> dict[str, str]:
        return self._sides.source_run_ids if side == "source" else self._sides.target_run_ids

    def _belongs_now(self) -> None:
        checkpoint = self._books.checkpoint
        checkpoint.source_run_ids = dict(self._sides.source_run_ids)
        checkpoint.target_run_ids = dict(self._sides.target_run_ids)
