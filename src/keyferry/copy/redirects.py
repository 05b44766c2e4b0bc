"""Keys that a node of a cluster sends elsewhere, because their slot moves or has moved.

On the target the key is fetched from the source again and written where it belongs now: after MOVED on the new
owner's lane, as all keys of the slot from then on; after ASK on the node that is taking the slot over, this key
alone. What cannot be written while the slot is on its way (a value that is built under a temporary name needs
both names in one place) waits, with growing pauses.

On the source the key is left to a later pass over its slot: a key that has left this node may have arrived on a
node whose scan was past it, so the whole slot is gone over again anyway (slot_ledger).
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.copy.lanes import Lanes, Place, Redirection, redirection
from keyferry.copy.later import Later
from keyferry.copy.replies import ServerBusy
from keyferry.model.announced import AddressMap
from keyferry.model.errors import Side
from keyferry.transfer.config import Aside
from keyferry.transfer.config import Outcome as KeyOutcome
from keyferry.transfer.relay import Relay
from keyferry.wire.resp import Argument, Reply, encode_commands

HOPS_AT_ONCE = 5
HOPS_MAX = 14
"""Then the pipeline is made anew, with a new slot map: nodes that contradict each other for long agree by then."""
PAUSE_S = 0.05
PAUSE_S_MAX = 1.0

_Key = tuple[int, int]


class Redirects:
    """Of one pipeline."""

    def __init__(
        self,
        relay: Relay,
        lanes: Lanes,
        address_map: AddressMap,
        on_source_moved: Callable[[int], None] | None,
        later: Later,
    ) -> None:
        """
        Args:
            address_map: From the addresses that the target's nodes announce to those where we reach them.
            on_source_moved: Takes the slot of a key that the source sent elsewhere; None where it is no cluster.
        """
        self._relay, self._lanes, self._address_map = relay, lanes, address_map
        self._on_source_moved = on_source_moved
        self._hops: dict[_Key, int] = {}
        self._asking: dict[_Key, int] = {}
        self._later = later

    def forget(self, page: int) -> None:
        """The page is settled."""
        for known in (self._hops, self._asking):
            for place in [place for place in known if place[0] == page]:
                del known[place]

    def from_source(self, aside: Aside, message: str) -> bool:
        """Whether the refusal was a redirection; then the key is done with, here."""
        found = redirection(message)
        if found is None or self._on_source_moved is None:
            return False
        self._on_source_moved(found.slot)
        self._relay.resolve(aside.page, KeyOutcome.UNSELECTED)
        return True

    def from_target(self, aside: Aside, message: str, again: Callable[[], None], *, whole: bool) -> bool:
        """Whether the refusal was a redirection; then ``again`` is called at once or later.

        Args:
            again: Carries the key anew.
            whole: The key is written by single-key commands, so it can follow an ASK.

        Raises:
            ServerBusy: It was sent around too often.
            ServerAway: The node that was named cannot be reached.
        """
        found = redirection(message)
        trying = message.startswith("TRYAGAIN")
        if found is None and not trying:
            return False
        place = (aside.page, aside.index)
        self._asking.pop(place, None)
        hops = self._hops[place] = self._hops.get(place, 0) + 1
        if hops > HOPS_MAX:
            raise ServerBusy("target", message)
        waits = trying or hops > HOPS_AT_ONCE
        if found is not None:
            lane = self._lane(found, aside.key)
            if not found.ask:
                self._relay.assign(found.slot, lane)
            elif whole:
                self._asking[place] = lane
            else:
                waits = True
        if waits:
            pause_s = min(PAUSE_S_MAX, PAUSE_S * 2 ** max(0, hops - HOPS_AT_ONCE if not trying else hops))
            self._later.put(pause_s, again)
        else:
            again()
        return True

    def learn(self, key: bytes, side: Side, message: str) -> bool:
        """Whether a refusal of a key that is in no page was a redirection: it is to be tried again a little later."""
        found = redirection(message)
        if found is None:
            return message.startswith("TRYAGAIN")
        if side == "target" and not found.ask:
            self._relay.assign(found.slot, self._lane(found, key))
        elif side == "source" and self._on_source_moved is not None:
            self._on_source_moved(found.slot)
        return True

    def asking(self, aside: Aside) -> int | None:
        """The lane on which this key is to be written with ASKING; None: on its slot's."""
        return self._asking.get((aside.page, aside.index))

    def place_of(self, key: bytes) -> Place:
        """Where the primary that owns the key's slot is reached, as far as we know."""
        return self._lanes.place(self._relay.lane_of(key))

    def _lane(self, found: Redirection, key: bytes) -> int:
        host, port = found.host, found.port
        if host:
            place = self._address_map.reach(host, port)
        else:
            place = (self._lanes.place(self._relay.lane_of(key))[0], port)
        lane = self._lanes.open(place)
        while self._relay.lanes < len(self._lanes):
            self._relay.add_lane()
        return lane


def with_asking(commands: list[tuple[Argument, ...]]) -> bytes:
    """The commands, each behind an ASKING of its own: it counts for the next command only (cluster.c)."""
    return encode_commands([step for command in commands for step in (("ASKING",), command)])


def without_asking(replies: list[Reply]) -> list[Reply]:
    """The replies to the commands themselves."""
    return replies[1::2]
