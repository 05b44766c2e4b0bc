"""Which slots of the source must be gone over again, because they moved while we scanned. Pure.

Every primary is scanned by its own pipeline, at its own speed. The race that this guards:

    1. The scan of B ends.
    2. Slot 7 migrates from A to B, with key k.
    3. The scan of A comes to where k was. It is gone; nobody will look at B again.

So the slots that moved since the scans began are gone over at their present owner afterwards, and what moves
meanwhile once more, until a look finds that nothing moved. What shows a move:

- Another owner than at the last look.
- The slot is open: a node migrates or imports it, or two claim it. Its keys are on two nodes, one by one.
- A primary's configuration epoch rose. A slot can go away and come back between two looks:

      1. A look: A owns slot 7.
      2. Slot 7 migrates to B, with key k.   B imports: it takes a new highest epoch, if it has not got it.
      3. The scan of A passes where k was.
      4. Slot 7 migrates back to A.          A imports: B has the highest epoch, so A takes a new one.
      5. A look: A owns slot 7, and k was never seen.

  Which slot it was nobody says, so all slots of that primary count as moved. That it gained other slots
  meanwhile explains nothing away: one new epoch may stand for many imports. (clusterCommandSpecial, SETSLOT NODE,
  and clusterBumpConfigEpochWithoutConsensus in cluster.c, cluster_legacy.c since 7.2: an importer that has the
  highest epoch keeps it.) It costs one more scan of a primary whenever it begins to import.
- We were redirected.

What shows nothing, and is not seen unless a look or a redirection falls into it: keys migrated one by one and back
without a change of owner, all between two looks; slots given away without IMPORTING (DELSLOTS, ADDSLOTS). Looks
should therefore be seconds apart, not minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keyferry.model.topology import Shard, Topology, parse_slots_text, slots_text


@dataclass(frozen=True, slots=True)
class _Seen:
    epoch: int
    slots: frozenset[int]


class SlotLedger:
    """What moved since a baseline that was looked at before the scans began.

    The caller goes round: look at the topology, ``observe`` it, take ``ready``; ``begin`` these slots, scan them; look
    again, ``observe``, and only then ``finished``. A look that began before the scan ended proves nothing about it.
    """

    def __init__(self, baseline: Topology, moved: frozenset[int] = frozenset()) -> None:
        """Args: baseline: A look before the first scan; what is open there counts as moved at once."""
        self._seen = {shard.id: _seen(shard) for shard in (*baseline.shards, *baseline.idle)}
        self._moved = set(moved | baseline.open_slots)
        self._quiet: set[int] = set()
        """Slots that are being gone over, of which nothing was observed since that began."""

    @property
    def moved(self) -> frozenset[int]:
        """What must be gone over, open or not."""
        return frozenset(self._moved)

    def observe(self, topology: Topology) -> None:
        """Compares a look with the last one, and keeps it."""
        now = {shard.id: _seen(shard) for shard in (*topology.shards, *topology.idle)}
        for name, shard in now.items():
            before = self._seen.get(name)
            if before is None or shard.epoch > before.epoch:
                self._mark(shard.slots)
            else:
                self._mark(shard.slots - before.slots)
        self._mark(topology.open_slots)
        # A slot that nobody owns now will have an owner that gains it; until then it is not lost sight of.
        owned: frozenset[int] = frozenset().union(*(shard.slots for shard in now.values()))
        for before in self._seen.values():
            self._mark(before.slots - owned)
        self._seen = now

    def redirected(self, slot: int) -> None:
        """A MOVED or ASK was met for a key of this slot."""
        self._mark((slot,))

    def ready(self, topology: Topology) -> dict[str, frozenset[int]]:
        """What can be gone over now: moved slots that are not open, by the id of their present owner."""
        waiting = self._moved - topology.open_slots
        found = {shard.id: shard.slots & waiting for shard in topology.shards}
        return {name: slots for name, slots in found.items() if slots}

    def begin(self, slots: Iterable[int]) -> None:
        """These are gone over from now on, at the owner that the last observed look shows."""
        self._quiet.update(slots)

    def finished(self, slots: Iterable[int]) -> None:
        """They were gone over to the end, and a look that began after that end was observed.

        A slot of which nothing was observed meanwhile is settled; the others stay moved.
        """
        done = set(slots)
        self._moved -= done & self._quiet
        self._quiet -= done

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint: ``moved`` as ``0-5,7``, ``owners`` as ``epoch:slots`` by node id.

        What was being gone over is moved still: after a stop it begins again.
        """
        return {
            "moved": slots_text(self._moved),
            "owners": {name: f"{seen.epoch}:{slots_text(seen.slots)}" for name, seen in self._seen.items()},
        }

    @classmethod
    def of_dict(cls, data: dict[str, Any]) -> SlotLedger:
        """The reverse of ``as_dict``.

        Raises:
            ValueError: It is something else.
        """
        match data:
            case {"moved": str(moved), "owners": dict(owners)}:
                ledger = cls(Topology(()), parse_slots_text(moved))
                ledger._seen = {str(name): _seen_of_text(text) for name, text in owners.items()}
                return ledger
        raise ValueError("no record of slots")

    def _mark(self, slots: Iterable[int]) -> None:
        slots = frozenset(slots)
        self._moved |= slots
        self._quiet -= slots


def _seen(shard: Shard) -> _Seen:
    return _Seen(shard.epoch, shard.slots)


def _seen_of_text(text: object) -> _Seen:
    if not isinstance(text, str):
        raise ValueError("no owner of slots")
    epoch, colon, slots = text.partition(":")
    if not colon:
        raise ValueError("no owner of slots")
    return _Seen(int(epoch), parse_slots_text(slots))
