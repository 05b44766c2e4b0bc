"""The target's side of the pure relay: a lane for each primary of the target, and which keys go where.

What is queued in a lane stays there: a slot that moves to another lane takes only the keys with it that come after.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from keyferry.payload.names import SLOTS, slot
from keyferry.transfer.config import LANES_MAX, Aside, RelayConfig, lanes_by_slot
from keyferry.transfer.lane import Lane, RawReplies
from keyferry.transfer.pages import Span


class Lanes:
    """All lanes. Args as those of ``Lane``."""

    def __init__(self, config: RelayConfig, asides: list[Aside], raw: list[RawReplies]) -> None:
        self._asides, self._raw = asides, raw
        self._lanes = [Lane(asides, raw) for _ in range(config.lanes)]
        self._by_slot = lanes_by_slot(config.slots)

    def __len__(self) -> int:
        return len(self._lanes)

    def __getitem__(self, number: int) -> Lane:
        if not 0 <= number < len(self._lanes):
            raise IndexError(f"no lane {number}")
        return self._lanes[number]

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes)

    def add(self) -> int:
        """One more lane; returns its number. Raises ValueError beyond ``LANES_MAX``."""
        if len(self._lanes) == LANES_MAX:
            raise ValueError(f"lanes are 1 to {LANES_MAX}")
        self._lanes.append(Lane(self._asides, self._raw))
        return len(self._lanes) - 1

    def assign(self, number: int, lane: int) -> None:
        """Keys of slot ``number`` go to ``lane`` from now on. Raises IndexError for one that is not there."""
        if not 0 <= number < SLOTS or not 0 <= lane < len(self._lanes):
            raise IndexError(f"no slot {number} or no lane {lane}")
        if not self._by_slot:
            self._by_slot = [0] * SLOTS
        self._by_slot[number] = lane

    def of(self, key: bytes) -> int:
        return self._by_slot[slot(key)] if self._by_slot else 0

    def store_plain(self, span: Span, commands: list[bytes], sizes: list[int], methods: list[int]) -> None:
        """Sends the RESTOREs of all keys of a span, each with its payload's size in bytes and its method."""
        page, begin = span.page, span.begin
        if not self._by_slot:
            for method, group in groupby(range(len(commands)), methods.__getitem__):
                places = list(group)
                first, end = places[0], places[-1] + 1
                whereabouts = range(begin + first, begin + end)
                self._lanes[0].store(page, whereabouts, method, commands[first:end], sizes[first:end])
            return
        for lane, its_places in self._spread(page.keys[begin : span.end]).items():
            for method, group in groupby(its_places, methods.__getitem__):
                places = list(group)
                self._lanes[lane].store(
                    page,
                    [begin + place for place in places],
                    method,
                    [commands[place] for place in places],
                    [sizes[place] for place in places],
                )

    def _spread(self, keys: list[bytes]) -> dict[int, list[int]]:
        """The places of ``keys`` by lane, in order."""
        by_slot = self._by_slot
        places: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(by_slot[slot(key)], []).append(place)
        return places

    @property
    def marks(self) -> tuple[int, ...]:
        """Bytes that were ever made for each lane."""
        return tuple(lane.out.made_bytes for lane in self._lanes)
