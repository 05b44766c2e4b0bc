"""Slots of the source that move while it is followed: compared again at their owners, when they have settled."""

from __future__ import annotations

from keyferry.copy.connect import Sides
from keyferry.copy.probe import Probe
from keyferry.copy.slot_ledger import SlotLedger
from keyferry.follow.comparisons import Comparisons, Job
from keyferry.model.errors import ServerAway
from keyferry.model.topology import Topology, merge, parse_nodes
from keyferry.telemetry.progress import Teller

ANOTHER_PRIMARY = "The source's cluster has another primary now."


class MovedSlots:
    """Of one run, whose source is a cluster and open."""

    def __init__(self, sides: Sides, comparisons: Comparisons, tell: Teller) -> None:
        self._sides, self._comparisons, self._tell = sides, comparisons, tell
        self._ledger = SlotLedger(sides.source.topology)
        self._going_over: frozenset[int] = frozenset()

    @property
    def left(self) -> bool:
        """Some have moved and have not been compared since."""
        return bool(self._ledger.moved)

    def redirected(self, slot: int) -> None:
        """A node sent a key of this slot elsewhere."""
        self._ledger.redirected(slot)

    def observe(self) -> None:
        """Takes the last look at the servers."""
        self._ledger.observe(self._sides.source.topology)

    def look(self, probes: list[Probe], known: set[str], *, scanning: bool) -> None:
        """What the probes were told of who owns what.

        Args:
            known: Shards that are followed.
            scanning: A first copy goes on; slots are compared after it.

        Raises:
            ServerAway: Other primaries are there than those that are followed: everything is to be opened anew.
        """
        # A look at single keys may have met them first.
        if {shard.id for shard in self._sides.source.shards} != known:
            raise ServerAway("source", ANOTHER_PRIMARY)
        topology = self._told(probes)
        if topology is None:
            return
        self._ledger.observe(topology)
        if {shard.id for shard in topology.shards} - known:
            raise ServerAway("source", ANOTHER_PRIMARY)
        if self._going_over:
            if not self._comparisons.is_busy(slots=True):
                self._ledger.finished(self._going_over)
                self._going_over = frozenset()
        elif self._ledger.ready(topology) and not scanning:
            self._begin(known)

    def _told(self, probes: list[Probe]) -> Topology | None:
        try:
            texts = [
                (its.nodes, self._sides.source.endpoint(its.shard).host)
                for its in probes
                if its.side == "source" and its.nodes is not None
            ]
            return merge([parse_nodes(text, host) for text, host in texts]) if texts else None
        except ValueError:
            return None  # said by the next look at the servers, which has one to name

    def _begin(self, known: set[str]) -> None:
        # By a look of this moment, not by an earlier one: a slot that moved in between is at another node by now.
        topology = self._sides.discover("source").topology
        self._ledger.observe(topology)
        ready = self._ledger.ready(topology)
        if not ready or not ready.keys() <= known:
            return
        slots: frozenset[int] = frozenset().union(*ready.values())
        self._going_over = slots
        self._ledger.begin(slots)
        self._tell(
            f"{len(slots):,} {'slot' if len(slots) == 1 else 'slots'} of the source moved: comparing them."
        )
        jobs = [Job("keys", shard, 0, its) for shard, its in ready.items()]
        jobs += [Job("extras", shard.id, 0, slots) for shard in self._sides.target.shards]
        self._comparisons.request(jobs, 0)
