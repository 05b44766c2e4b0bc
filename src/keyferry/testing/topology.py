"""What a cluster's nodes say of each other, and where a key belongs. Decides only; ``cluster`` asks.

It shares no code with the copy's own slot map, which it helps to judge.
"""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

SLOTS = 16_384


def hash_slot(key: bytes) -> int:
    """The slot of a key: CRC16 (XMODEM) of what stands between its first braces, or of all of it.

    Source: the cluster specification, "Hash tags"; ``keyHashSlot`` in cluster.c.
    """
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def even_ranges(shards: int) -> list[range]:
    """All slots in ``shards`` parts of the same size, give or take one."""
    edges = [SLOTS * i // shards for i in range(shards + 1)]
    return [range(begin, end) for begin, end in itertools.pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Node:
    """A line of CLUSTER NODES.

    Attributes:
        address: "host:port" as the node announces it.
        primary_id: Whose replica it is; empty for a primary.
        slots: Those that it owns. Slots on their way are still their giver's.
    """

    node_id: str
    address: str
    hostname: str
    flags: frozenset[str]
    primary_id: str
    slots: frozenset[int]

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags

    @property
    def is_healthy(self) -> bool:
        """Known by its own id, and nobody fears that it is down."""
        return not self.flags & {"handshake", "noaddr", "fail", "fail?"}


def parse_nodes(text: bytes) -> list[Node]:
    """Reads a reply to CLUSTER NODES.

    A line: id, ip:port@busport[,hostname[,name=value...]], flags, primary's id or "-", ping, pong, epoch, link
    state, and then slots: "7", "0-5460", and in brackets those on their way.
    """
    return [_node(line.split(" ")) for line in text.decode("ascii").splitlines() if line]


def owners(nodes: Iterable[Node]) -> dict[int, str]:
    """The owner's id by slot, of the slots that have one."""
    return {slot: node.node_id for node in nodes for slot in node.slots}


def _node(fields: list[str]) -> Node:
    node_id, where, flags, primary_id = fields[:4]
    address, _, aside = where.partition("@")
    names = aside.split(",")[1:2]
    slots: set[int] = set()
    for part in fields[8:]:
        if not part.startswith("["):
            first, _, last = part.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
    return Node(
        node_id,
        address,
        names[0] if names else "",
        frozenset(flags.split(",")),
        primary_id.strip("-"),
        frozenset(slots),
    )
