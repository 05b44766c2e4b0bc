"""What the two directions of a comparison share: one server is scanned, others are asked about its keys.

Everything is turned by the owner's loop: ``turn`` takes what came, judges, asks and sends, and never waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.flow import TARGET_BACKLOG_BYTES_MAX, Flow
from keyferry.copy.lanes import redirection
from keyferry.copy.pace import Pace
from keyferry.copy.pipeline import UNSETTLED_KEYS_MAX
from keyferry.copy.replies import ServerBusy, Verdict, stopping_error, verdict
from keyferry.payload.names import slot
from keyferry.transfer.comparing_config import Sieve
from keyferry.transfer.comparing_names import sifted
from keyferry.verify.compare_line import Line
from keyferry.verify.compare_page import Page, Pages
from keyferry.wire.resp import Argument, encode_command, error_words


@dataclass(slots=True)
class Counts:
    """What is under way, as a flow looks at it."""

    queued_keys: int = 0
    fetching_keys: int = 0
    storing_keys: int = 0
    fetched_keys: int = 0
    fetched_bytes: int = 0
    dumping_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ScanParts:
    """What a pass is put together from.

    Attributes:
        scanned: The server whose keys are gone over.
        others: Those that are asked about them, by lane.
        scan_tail: What follows the cursor in SCAN.
        on_settled: Takes every page whose keys are all judged, in order.
        on_moved: Takes slots of keys that a cluster sent elsewhere.
    """

    scanned: Line
    others: list[Line]
    sieve: Sieve
    scan_tail: tuple[Argument, ...]
    batch: int
    flow: Flow
    pace: Pace
    totals: Callable[[], tuple[int, int, int]]
    on_settled: Callable[[Page], None]
    on_moved: Callable[[int], None]


class ScanPass(ABC):
    """Goes over one server's database; what is asked about its keys is the subclass's."""

    def __init__(self, parts: ScanParts, cursor: str) -> None:
        self._parts = parts
        self._scanned, self._others = parts.scanned, parts.others
        self._counts = Counts()
        self._pages = Pages(cursor, self._settled)
        self._pages_max = max(4, UNSETTLED_KEYS_MAX // parts.batch)
        self._next_cursor = cursor.encode()
        self._scan_pending = False
        self._ended = False
        self._keys_done = 0

    # For the owner

    def begin(self) -> None:
        self._scan()
        for line in self._lines:
            line.send(0.0)
            line.listen(1)

    @property
    def done(self) -> bool:
        return self._ended and not self._pages

    @property
    def keys_done(self) -> int:
        """Keys that were judged."""
        return self._keys_done

    @property
    def cursor(self) -> str:
        """Where SCAN may go on: everything before it is judged."""
        return self._pages.cursor

    @property
    def asked(self) -> tuple[int, int, int]:
        """Keys that came, their bytes, keys that are asked for something and not answered."""
        counts = self._counts
        return counts.fetched_keys, counts.fetched_bytes, counts.fetching_keys

    @property
    def buffered(self) -> bool:
        """TLS holds bytes that poll() does not know of."""
        return any(line.buffered for line in self._lines)

    def concerns(self, ready: dict[int, int]) -> bool:
        """Whether one of its sockets is among those that poll() named."""
        return any(line.concerns(ready) for line in self._lines)

    def turn(self, ready: dict[int, int], now: float) -> None:
        """Takes what came, judges, asks, sends.

        Raises:
            ConnectionLost, ServerBusy: Try again from ``cursor``.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        for line in self._lines:
            line.receive(ready, now)
        self._pages.settle()
        self._ask(now)
        wake_bytes = self._parts.flow.wake_bytes(self._counts)
        for line in self._lines:
            line.send(now)
            # With several lanes nobody knows how much is to come in which.
            line.listen(wake_bytes if line is self._scanned or len(self._others) == 1 else 1)

    def check_silence(self, now: float) -> None:
        """Raises ConnectionLost when a server has owed answers for too long."""
        for line in self._lines:
            line.check_silence(now)

    def close(self) -> None:
        for line in self._lines:
            line.close()

    # For the subclass

    @abstractmethod
    def _queue(self, page: Page) -> None:
        """The keys of a page are to be asked about; they are in ``queued_keys`` already."""

    @abstractmethod
    def _fetch(self, limit: int, now: float) -> int:
        """Asks about some of at most ``limit`` keys; how many they are."""

    @property
    def _lines(self) -> tuple[Line, ...]:
        return (self._scanned, *self._others)

    def _settled(self, page: Page) -> None:
        self._parts.on_settled(page)
        self._keys_done += page.keys - page.unselected

    def _ask(self, now: float) -> None:
        counts, flow, pace = self._counts, self._parts.flow, self._parts.pace
        if (
            not self._scan_pending
            and not self._ended
            and len(self._pages) < self._pages_max
            and flow.wants_scan(counts)
        ):
            self._scan()
        if not counts.queued_keys:
            return
        allowance = pace.allowance(now, *self._parts.totals())
        if max(line.backlog_bytes for line in self._lines) > TARGET_BACKLOG_BYTES_MAX:
            return
        wanted = flow.wants_fetch(counts, 0, allowance)
        # Where the window is all that is in the way, a page is rather asked for whole a moment later.
        windowed = wanted < min(counts.queued_keys, allowance)
        half = min(self._parts.batch, wanted + counts.fetching_keys) // 2
        if wanted and not (windowed and wanted < half):
            pace.spend(self._fetch(wanted, now))

    def _scan(self) -> None:
        command = encode_command(b"SCAN", self._next_cursor, *self._parts.scan_tail)
        self._scanned.ask(command, 1, self._scanned_page)
        self._scan_pending = True

    def _scanned_page(self, data: bytes) -> None:
        if data.startswith(b"-"):
            self.refused(self._scanned, b"", data[1:-2])
            raise stopping_error(self._scanned.side, error_words(data[1:-2]))
        cursor, lanes = sifted(data, self._parts.sieve)
        self._scan_pending = False
        self._next_cursor = cursor
        self._ended = cursor == b"0"
        page = Page(cursor, lanes)
        self._pages.add(page)
        self._counts.queued_keys += page.keys
        if page.open:
            self._queue(page)
        else:
            page.settled = True

    def refused(self, line: Line, key: bytes, text: bytes) -> None:
        """What a refusal means: the key is a suspect, or the pass ends.

        Raises:
            ServerBusy: The server asks us to wait.
            ServerError: It refuses for good.
        """
        message = error_words(text)
        if line.cluster:
            found = redirection(message)
            if found is not None or message.startswith("TRYAGAIN"):
                self._parts.on_moved(slot(key) if found is None else found.slot)
                return
        match verdict(message):
            case Verdict.WAIT:
                raise ServerBusy(line.side, message)
            case Verdict.STOP:
                raise stopping_error(line.side, message)
