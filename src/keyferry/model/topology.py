"""Which primary owns which slots: from what every node of a cluster says, one picture. Pure.

No node knows the whole truth. Each knows its own slots at once and the others' by gossip, and names only its own
migrating and importing slots. So every primary is asked, and what a node says of itself counts before what others
say of it. A slot for which that leaves a doubt (two nodes claim it, or the one that others name does not) is
called open, as one that is being migrated is: its keys may be on either node.

Sources: https://redis.io/docs/latest/commands/cluster-nodes/, https://redis.io/docs/latest/commands/cluster-slots/,
clusterGenNodeDescription and clusterReplyMultiBulkSlots in cluster.c (cluster_legacy.c since 7.2). The reply types
are spelled out here because this layer knows no wire.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from keyferry.model.address import place_text

SLOT_COUNT = 16_384
ALL_SLOTS = frozenset(range(SLOT_COUNT))
STANDALONE_ID = "0"
"""The one shard of a server that is no cluster."""
_LINE_FIELDS_MIN = 8


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary and its slots.

    Attributes:
        id: The node's id, 40 hex digits; ``STANDALONE_ID`` for a server that is no cluster.
        host: As the node announces itself, as ``port``.
        epoch: The node's configuration epoch; 0 when it is not known.
    """

    id: str
    host: str
    port: int
    slots: frozenset[int] = frozenset()
    epoch: int = 0

    def __str__(self) -> str:
        return place_text(self.host, self.port)


@dataclass(frozen=True, slots=True)
class View:
    """What one node says.

    Attributes:
        primaries: With their slots, those without slots too; not those without an address.
        open_slots: What the node itself migrates or imports.
        myself: The node's own id; empty when it is not known.
        failing: Ids of primaries that it holds for failed, or suspects.
        sees_open: Whether it said which slots it migrates; CLUSTER SLOTS does not.
    """

    primaries: tuple[Shard, ...]
    open_slots: frozenset[int] = frozenset()
    myself: str = ""
    failing: frozenset[str] = frozenset()
    sees_open: bool = True

    def at(self, places: Mapping[str, tuple[str, int]]) -> View:
        """The same with other addresses, by node id, where there are any."""
        moved = (
            replace(shard, host=places[shard.id][0], port=places[shard.id][1])
            if shard.id in places
            else shard
            for shard in self.primaries
        )
        return replace(self, primaries=tuple(moved))


@dataclass(frozen=True, slots=True)
class Topology:
    """The picture that all views together give.

    Attributes:
        shards: Primaries that own slots, by announced address.
        open_slots: Slots whose keys may be on more than one node now.
        idle: Primaries without slots.
        sees_open: Whether every node said which slots it migrates; without it only doubts make a slot open.
    """

    shards: tuple[Shard, ...]
    open_slots: frozenset[int] = frozenset()
    idle: tuple[Shard, ...] = ()
    sees_open: bool = True

    def owner(self, slot: int) -> Shard | None:
        return next((shard for shard in self.shards if slot in shard.slots), None)

    def shard_at(self, host: str, port: int) -> str | None:
        """The id of the primary that announces this address, also of one without slots."""
        for shard in (*self.shards, *self.idle):
            if (shard.host, shard.port) == (host, port):
                return shard.id
        return None

    @property
    def uncovered(self) -> frozenset[int]:
        """Slots that nobody owns."""
        return ALL_SLOTS.difference(*(shard.slots for shard in self.shards))


def standalone(host: str, port: int) -> Topology:
    """A server that is no cluster, as one shard with all slots."""
    return Topology((Shard(STANDALONE_ID, host, port, ALL_SLOTS),))


def parse_nodes(text: bytes, asked_host: str) -> View:
    """Reads CLUSTER NODES.

    Args:
        text: Lines of ``id ip:port@cport[,hostname[,aux=value]...] flags primary ping pong epoch link slot...``
            with slots ``7``, ``0-5``, ``[7->-id]`` (migrating) and ``[7-<-id]`` (importing).
        asked_host: Where the node was asked: one that knows no address of its own leaves it out.

    Raises:
        ValueError: It is something else.
    """
    primaries: list[Shard] = []
    failing: set[str] = set()
    open_slots: frozenset[int] = frozenset()
    myself = ""
    for line in text.decode("utf-8", "backslashreplace").splitlines():
        fields = line.split(" ")
        if len(fields) < _LINE_FIELDS_MIN:
            raise ValueError("a line of CLUSTER NODES is too short")
        node_id, place, flags = fields[0], fields[1], fields[2].split(",")
        if "myself" in flags:
            myself = node_id
            # Only the node's own line has these.
            open_slots = frozenset(
                int(part[1:].partition("-")[0]) for part in fields[8:] if part.startswith("[")
            )
        if "master" not in flags or "noaddr" in flags or "handshake" in flags:
            continue
        if "fail" in flags or "fail?" in flags:
            failing.add(node_id)
        host, _, port = place.partition("@")[0].rpartition(":")
        slots = parse_slots_text(",".join(part for part in fields[8:] if part and not part.startswith("[")))
        primaries.append(Shard(node_id, host or asked_host, int(port), slots, int(fields[6])))
    return View(tuple(primaries), open_slots, myself, frozenset(failing))


def parse_slots(reply: object, asked_host: str) -> View:
    """Reads CLUSTER SLOTS, for want of CLUSTER NODES: no epochs, no open slots, no primaries without slots.

    Arguments and errors as ``parse_places``.
    """
    slots: defaultdict[str, set[int]] = defaultdict(set)
    places: dict[str, tuple[str, int]] = {}
    for first, last, node_id, place in _ranges(reply, asked_host):
        slots[node_id].update(range(first, last + 1))
        places[node_id] = place
    primaries = (Shard(name, *place, slots=frozenset(slots[name])) for name, place in places.items())
    return View(tuple(primaries), sees_open=False)


def parse_places(reply: object, asked_host: str) -> dict[str, tuple[str, int]]:
    """Reads of CLUSTER SLOTS where clients are to find each primary, by its id.

    Args:
        reply: Arrays of first slot, last slot, then nodes, the primary first: endpoint, port, id and, since 7.0,
            metadata. The endpoint is empty or null for the host that was asked, and ``?`` for a hostname that the
            node has not been told; the metadata may have its ip then.
        asked_host: Where the node was asked.

    Raises:
        ValueError: It is something else.
    """
    return {node_id: place for _, _, node_id, place in _ranges(reply, asked_host)}


def _ranges(reply: object, asked_host: str) -> Iterator[tuple[int, int, str, tuple[str, int]]]:
    for part in reply if isinstance(reply, list) else [None]:
        match part:
            case [int(first), int(last), [host, int(port), bytes(name), *metadata], *_]:
                place = _client_host(host, metadata, asked_host), port
                yield first, last, name.decode("ascii", "backslashreplace"), place
            case _:
                raise ValueError("a part of CLUSTER SLOTS has another form")


def _client_host(host: object, metadata: Sequence[object], asked_host: str) -> str:
    if host == b"?":
        match metadata:
            case [[*pairs]] if b"ip" in pairs[::2]:
                host = pairs[pairs.index(b"ip") + 1]
            case _:
                host = None
    return host.decode("utf-8", "backslashreplace") if isinstance(host, bytes) and host else asked_host


def merge(views: Iterable[View]) -> Topology:
    """One picture from the views of several nodes.

    A node's own claims count first, among two of them the higher epoch. A slot that no asked node claims for itself
    belongs to whom the others name, and is open when that one was asked.
    """
    views = list(views)
    shards = _latest(views)
    asked = {view.myself for view in views if view.myself}
    claims, hearsay = _said(views, of_themselves=True), _said(views, of_themselves=False)
    claimed = frozenset[int]().union(*claims.values())
    unclaimed = {name: slots - claimed for name, slots in hearsay.items()}
    owned: defaultdict[str, set[int]] = defaultdict(set)
    open_slots = set[int]().union(*(view.open_slots for view in views))
    for said in (claims, unclaimed):
        given: set[int] = set()
        for name in sorted(said, key=lambda name: (shards[name].epoch, name), reverse=True):
            owned[name] |= said[name] - given
            open_slots |= said[name] & given
            given |= said[name]
    for name in asked & unclaimed.keys():
        open_slots |= unclaimed[name]
    found = sorted(shards.values(), key=lambda shard: (shard.host, shard.port, shard.id))
    found = [replace(shard, slots=frozenset(owned[shard.id])) for shard in found]
    return Topology(
        shards=tuple(shard for shard in found if shard.slots),
        open_slots=frozenset(open_slots),
        idle=tuple(shard for shard in found if not shard.slots),
        sees_open=all(view.sees_open for view in views),
    )


def _said(views: list[View], *, of_themselves: bool) -> dict[str, set[int]]:
    """Slots by node id, as nodes say of themselves or of others."""
    slots: defaultdict[str, set[int]] = defaultdict(set)
    for view in views:
        for shard in view.primaries:
            if (shard.id == view.myself) is of_themselves:
                slots[shard.id] |= shard.slots
    return slots


def _latest(views: list[View]) -> dict[str, Shard]:
    """Each primary at its highest epoch, its own word before that of others."""
    found: dict[str, tuple[tuple[int, bool], Shard]] = {}
    for view in views:
        for shard in view.primaries:
            rank = shard.epoch, shard.id == view.myself
            if shard.id not in found or rank > found[shard.id][0]:
                found[shard.id] = rank, shard
    return {name: shard for name, (_, shard) in found.items()}


def slots_text(slots: Iterable[int]) -> str:
    """``0-5460,5462``; empty for no slot."""
    parts: list[str] = []
    ordered = sorted(slots)
    start = 0
    for i, slot in enumerate(ordered):
        if i + 1 == len(ordered) or ordered[i + 1] != slot + 1:
            parts.append(str(slot) if start == i else f"{ordered[start]}-{slot}")
            start = i + 1
    return ",".join(parts)


def parse_slots_text(text: str) -> frozenset[int]:
    """The reverse of ``slots_text``.

    Raises:
        ValueError: It is something else, or names a slot that does not exist.
    """
    slots: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        begin, end = int(first), int(last if dash else first)
        if not 0 <= begin <= end < SLOT_COUNT:
            raise ValueError(f"{part!r} is no range of slots")
        slots.update(range(begin, end + 1))
    return frozenset(slots)
