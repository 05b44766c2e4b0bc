"""The target's side of the pure relay: which replies are due, and what they say of the keys.

Runs of RESTOREs are answered by runs of +OK, so they are compared as a whole; only a refusal is looked at alone.
"""

from __future__ import annotations

from collections import deque

from keyferry.transfer.config import Aside, AsideKind, Outcome
from keyferry.transfer.cutting import Incomplete, replies_end, reply_line
from keyferry.wire.resp import ProtocolError

_OK = b"+OK\r\n"


class Page:
    """Keys that settle together, and what became of them."""

    __slots__ = ("cursor", "keys", "methods", "number", "outcomes", "payload_bytes", "unresolved")

    def __init__(self, number: int, cursor: bytes, keys: list[bytes]) -> None:
        self.number = number
        self.cursor = cursor
        self.keys = keys
        self.unresolved = len(keys)
        self.outcomes = [0, 0, 0, 0, 0]
        self.methods = [0, 0, 0, 0]
        self.payload_bytes = 0


class Stores:
    """RESTOREs of one page and one method, back to back; ``at`` is the first that is not answered."""

    __slots__ = ("at", "keys", "method", "page", "sizes")

    def __init__(self, page: Page, method: int) -> None:
        self.page = page
        self.method = method
        self.keys: list[bytes] = []
        self.sizes: list[int] = []
        self.at = 0


class Own:
    """Replies to somebody's own commands."""

    __slots__ = ("replies", "token")

    def __init__(self, token: int, replies: int) -> None:
        self.token = token
        self.replies = replies


class Answers:
    """A queue of replies that are due.

    Args:
        asides: Gets the keys that were refused.
        raw: Gets (token, bytes of all replies, 0) of own commands.
    """

    def __init__(self, asides: list[Aside], raw: list[tuple[int, bytes, int]]) -> None:
        self._asides = asides
        self._raw = raw
        self._runs: deque[Stores | Own] = deque()
        self._in = bytearray()
        self._need = 0
        self.storing = 0
        """RESTOREs that are not answered."""

    @property
    def idle(self) -> bool:
        return not self._runs

    def own(self, token: int, replies: int) -> None:
        """Somebody's own commands were sent."""
        self._runs.append(Own(token, replies))

    def stores(self, page: Page, method: int) -> Stores:
        """The run that the next RESTORE belongs to."""
        last = self._runs[-1] if self._runs else None
        if not isinstance(last, Stores) or last.page is not page or last.method != method:
            last = Stores(page, method)
            self._runs.append(last)
        return last

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes that the target sent. Raises ProtocolError when they are not the replies that are due."""
        self._in += data
        if len(self._in) < self._need:
            return
        self._need = 0
        buffer = bytes(self._in)
        position = 0
        runs = self._runs
        try:
            while position < len(buffer):
                if not runs:
                    raise ProtocolError("The target sent a reply that nothing asked for.")
                first = runs[0]
                if isinstance(first, Own):
                    position = self._read_own(buffer, position, first)
                else:
                    position = self._read_answers(buffer, position, first)
        except Incomplete as more:
            position = max(position, more.start)
            self._need = max(0, more.need - position)
        self._in = bytearray(buffer[position:])

    def _read_answers(self, buffer: bytes, position: int, stores: Stores) -> int:
        """Answers to RESTOREs of one run: as many as are there, or up to and with the first refusal."""
        left = len(stores.keys) - stores.at
        agreed = min(left, (len(buffer) - position) // 5)
        if buffer[position : position + 5 * agreed] != _OK * agreed:
            agreed = 0
            while buffer.startswith(_OK, position + 5 * agreed):
                agreed += 1
        if agreed:
            self._agreed(stores, agreed)
            position += 5 * agreed
        if stores.at == len(stores.keys):
            self._runs.popleft()
            return position
        if position == len(buffer):
            return position
        try:
            line, after = reply_line(buffer, position)
        except Incomplete:
            raise Incomplete(0, position) from None
        self._asides.append(
            Aside(AsideKind.TARGET_ERROR, stores.page.number, stores.keys[stores.at], line, 0, -1)
        )
        stores.at += 1
        self.storing -= 1
        if stores.at == len(stores.keys):
            self._runs.popleft()
        return after

    def _agreed(self, stores: Stores, count: int) -> None:
        page = stores.page
        page.outcomes[Outcome.COPIED] += count
        page.methods[stores.method] += count
        page.payload_bytes += sum(stores.sizes[stores.at : stores.at + count])
        page.unresolved -= count
        stores.at += count
        self.storing -= count

    def _read_own(self, buffer: bytes, start: int, own: Own) -> int:
        end = replies_end(buffer, start, own.replies)
        self._runs.popleft()
        self._raw.append((own.token, buffer[start:end], 0))
        return end
