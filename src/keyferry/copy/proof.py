"""Copying without asking for expiries: nothing is sent to the target before INFO proves that no key had one.

The RESTOREs wait in memory until an INFO that was asked behind their DUMPs is answered; one look at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.copy.errands import Errands
from keyferry.copy.info import info_number, keyspace, parse_info
from keyferry.copy.lanes import Lanes
from keyferry.wire.resp import Reply

_LOOK = [("INFO", "keyspace"), ("INFO", "stats")]


class ExpiryMoved(Exception):
    """Keys of the database expire after all; the pages since are fetched again with their expiry."""


class ExpiryProof:
    """Holds back, per lane, what is not proven yet."""

    def __init__(self, errands: Errands, lanes: Lanes, collect: Callable[[], None]) -> None:
        """Args: collect: Hands us (``hold``) what the relay has made until now."""
        self._errands, self._lanes, self._collect = errands, lanes, collect
        self._waiting: dict[int, list[bytes]] = {}
        self._proven_bytes: dict[int, int] = {}
        self._asking = False
        self._expired_keys: int | None = None
        self.held_bytes = 0

    def begin(self) -> None:
        """The first look. Its continuation raises ExpiryMoved where INFO does not count expired keys."""
        self._errands.ask_source(_LOOK, self._first_look)

    def hold(self, lane: int, commands: bytes) -> None:
        self._waiting.setdefault(lane, []).append(commands)
        self.held_bytes += len(commands)

    def holds(self, lane: int) -> bool:
        return lane in self._waiting

    def ask(self) -> None:
        """Looks behind the DUMPs whose RESTOREs wait."""
        if not self._asking and self._waiting:
            self._asking = True
            self._errands.ask_source(_LOOK, self._looked)

    def _looked(self, replies: list[Reply]) -> None:
        if self._expiry_moved(replies):
            raise ExpiryMoved
        self._asking = False
        self._collect()
        # A lane that came later has no mark: of it nothing was made before the look.
        marks = dict(enumerate(self._errands.marks))
        for lane in list(self._waiting):
            self._prove(lane, marks.get(lane, 0))

    def _prove(self, lane: int, mark: int) -> None:
        """Sends what the source's replies had made for a lane when INFO answered: ``mark`` bytes since the start."""
        waiting = b"".join(self._waiting.pop(lane))
        proven = max(0, min(len(waiting), mark - self._proven_bytes.get(lane, 0)))
        self._proven_bytes[lane] = self._proven_bytes.get(lane, 0) + proven
        self._lanes.channels[lane].queue(waiting[:proven])
        self.held_bytes -= proven
        if len(waiting) > proven:
            self._waiting[lane] = [waiting[proven:]]

    def _first_look(self, replies: list[Reply]) -> None:
        self._expired_keys = _expired_keys(replies)
        if self._expired_keys is None:
            raise ExpiryMoved

    def _expiry_moved(self, replies: list[Reply]) -> bool:
        """Whether any key expires now, or one has expired since the pass began."""
        spaces = keyspace(parse_info(replies[0])) if isinstance(replies[0], bytes) else None
        if spaces is None or any(space.expires for space in spaces.values()):
            return True
        return _expired_keys(replies) != self._expired_keys


def _expired_keys(replies: list[Reply]) -> int | None:
    return (
        info_number(parse_info(replies[1]), "stats", "expired_keys")
        if isinstance(replies[1], bytes)
        else None
    )
