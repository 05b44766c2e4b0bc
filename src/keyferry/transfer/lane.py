"""One lane of the pure relay: what is to be sent to one target, which replies are due, and what they say of the keys.

Runs of RESTOREs are answered by runs of +OK, so they are compared as a whole; only a refusal is looked at alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from keyferry.transfer.config import Aside, AsideKind, Outcome
from keyferry.transfer.cutting import Incomplete, replies_end, reply_line
from keyferry.transfer.pages import Page
from keyferry.wire.resp import ProtocolError

_OK = b"+OK\r\n"


class Out:
    """Bytes that wait to be sent.

    Attributes:
        waiting_bytes: What waits for ``take``.
        made_bytes: What was ever put in.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting_bytes = 0
        self.made_bytes = 0

    def put(self, data: bytes) -> None:
        self._parts.append(data)
        self.waiting_bytes += len(data)
        self.made_bytes += len(data)

    def take(self) -> bytes:
        """Everything that is to be sent now."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.waiting_bytes = 0
        return data


class Stores:
    """RESTOREs of one page and one method, back to back; ``at`` is the first that is not answered.

    ``places`` are the keys' places in the page.
    """

    __slots__ = ("at", "method", "page", "places", "sizes")

    def __init__(self, page: Page, method: int) -> None:
        self.page = page
        self.method = method
        self.places: list[int] = []
        self.sizes: list[int] = []
        self.at = 0


class Own:
    """Replies to somebody's own commands."""

    __slots__ = ("replies", "token")

    def __init__(self, token: int, replies: int) -> None:
        self.token = token
        self.replies = replies


RawReplies = tuple[int, bytes, tuple[int, ...]]
"""What an own command was answered: its token, the bytes of all replies, its marks (see ``take_raw``)."""


class Lane:
    """One connection to a target.

    Args:
        asides: Gets the keys that were refused.
        raw: Gets the replies to own commands.

    Attributes:
        out: What is to be sent.
        storing_keys: RESTOREs that are not answered.
    """

    def __init__(self, asides: list[Aside], raw: list[RawReplies]) -> None:
        self._asides = asides
        self._raw = raw
        self._runs: deque[Stores | Own] = deque()
        self.out = Out()
        self._in = bytearray()
        self._need = 0
        self.storing_keys = 0

    @property
    def idle(self) -> bool:
        return not self._runs

    def own(self, token: int, data: bytes, replies: int) -> None:
        """Sends somebody's own commands."""
        self.out.put(data)
        self._runs.append(Own(token, replies))

    def store(
        self, page: Page, places: Sequence[int], method: int, commands: Sequence[bytes], sizes: Sequence[int]
    ) -> None:
        """Sends RESTOREs of keys of one page and one method; ``sizes`` are their payloads' bytes."""
        last = self._runs[-1] if self._runs else None
        if not isinstance(last, Stores) or last.page is not page or last.method != method:
            last = Stores(page, method)
            self._runs.append(last)
        last.places += places
        last.sizes += sizes
        self.storing_keys += len(places)
        self.out.put(b"".join(commands))

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
        left = len(stores.places) - stores.at
        agreed = min(left, (len(buffer) - position) // 5)
        if buffer[position : position + 5 * agreed] != _OK * agreed:
            agreed = 0
            while buffer.startswith(_OK, position + 5 * agreed):
                agreed += 1
        if agreed:
            self._agreed(stores, agreed)
            position += 5 * agreed
        if stores.at == len(stores.places):
            self._runs.popleft()
            return position
        if position == len(buffer):
            return position
        try:
            line, after = reply_line(buffer, position)
        except Incomplete:
            raise Incomplete(0, position) from None
        page, place = stores.page, stores.places[stores.at]
        self._asides.append(Aside(AsideKind.TARGET_ERROR, page.number, place, page.keys[place], line, 0, -1))
        stores.at += 1
        self.storing_keys -= 1
        if stores.at == len(stores.places):
            self._runs.popleft()
        return after

    def _agreed(self, stores: Stores, count: int) -> None:
        page = stores.page
        page.outcomes[Outcome.COPIED] += count
        page.methods[stores.method] += count
        page.payload_bytes += sum(stores.sizes[stores.at : stores.at + count])
        page.unresolved -= count
        stores.at += count
        self.storing_keys -= count

    def _read_own(self, buffer: bytes, start: int, own: Own) -> int:
        end = replies_end(buffer, start, own.replies)
        self._runs.popleft()
        self._raw.append((own.token, buffer[start:end], ()))
        return end
