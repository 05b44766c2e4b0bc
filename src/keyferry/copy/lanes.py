"""The connections of one pipeline to the target's primaries, and which slot belongs to which.

A standalone target is one lane that takes every key. A redirection teaches us a new owner, and a new primary gets a
lane when the first redirection names it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.model.topology import Topology
from keyferry.payload.names import SLOTS
from keyferry.wire.channel import Channel

Place = tuple[str, int]
"""Host and port as we reach it."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """What ``MOVED slot host:port`` or ``ASK slot host:port`` says (cluster.c, clusterRedirectClient)."""

    slot: int
    host: str
    port: int
    ask: bool


def redirection(message: str) -> Redirection | None:
    """The redirection in an error's text; None when it is another error. ``host`` empty: the one that answered."""
    words = message.split()
    if len(words) < 3 or words[0] not in ("MOVED", "ASK") or not words[1].isdigit():
        return None
    host, _, port = words[2].rpartition(":")
    if not port.isdigit():
        return None
    return Redirection(int(words[1]), host.strip("[]"), int(port), words[0] == "ASK")


def slot_table(topology: Topology, lanes: dict[str, int]) -> bytes:
    """Each slot's lane as 2 bytes, little-endian, for ``RelayConfig.slots``; by shard id."""
    table = [0] * SLOTS
    for shard in topology.shards:
        for slot in shard.slots:
            table[slot] = lanes[shard.id]
    return struct.pack(f"<{SLOTS}H", *table)


class Lanes:
    """Args: connect: Dials another primary at a place as we reach it."""

    def __init__(self, connect: Callable[[Place], Channel]) -> None:
        self._connect = connect
        self._by_place: dict[Place, int] = {}
        self._places: list[Place] = []
        self.channels: list[Channel] = []

    def __len__(self) -> int:
        return len(self.channels)

    def open(self, place: Place) -> int:
        """The lane to a place; dialled when there is none yet. Raises as a Session does."""
        lane = self._by_place.get(place)
        if lane is None:
            self.channels.append(self._connect(place))
            self._places.append(place)
            lane = self._by_place[place] = len(self._places) - 1
        return lane

    def place(self, lane: int) -> Place:
        return self._places[lane]

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
