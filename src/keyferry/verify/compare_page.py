"""Pages of a scan that are judged out of order and settle in order, so that the cursor never passes a doubt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from keyferry.transfer.comparing_config import Names


@dataclass(slots=True, eq=False)
class Page:
    """Keys of one answer to SCAN.

    Attributes:
        lanes: Its names, by the other side's connection that knows them.
        open: Keys that are not judged yet.
        expiring: Whether their expiries are asked for.
        settled: Judged, and nothing more is to be waited for.
        unselected: Keys of types that were not asked for.
    """

    cursor: bytes
    lanes: list[tuple[int, Names]]
    expiring: bool = True
    open: int = 0
    settled: bool = False
    unselected: int = 0
    suspects: list[bytes] = field(default_factory=list)
    big: list[bytes] = field(default_factory=list)
    streams: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open = self.keys

    @property
    def keys(self) -> int:
        return sum(names.number for _, names in self.lanes)

    def again(self) -> None:
        """Forgets what was found: it is judged once more, with expiries."""
        self.open, self.unselected, self.expiring = self.keys, 0, True
        self.suspects, self.big, self.streams = [], [], []


@dataclass(slots=True, eq=False)
class Batch:
    """Some keys of a page that one lane knows.

    Attributes:
        sizes: Of the values in memory, where they were measured.
        counts: Whether these keys have yet to tell if most are short strings.
    """

    page: Page
    lane: int
    names: Names
    sizes: list[int] = field(default_factory=list)
    counts: bool = True


class Pages:
    """Those that are not settled, in order. ``on_settled`` takes each, in order."""

    def __init__(self, cursor: str, on_settled: Callable[[Page], None]) -> None:
        self._waiting: deque[Page] = deque()
        self._on_settled = on_settled
        self.cursor = cursor
        """Where SCAN may go on: everything before it is settled."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, page: Page) -> None:
        self._waiting.append(page)

    def settle(self) -> None:
        """Takes off what is settled, up to the first page that is not."""
        while self._waiting and self._waiting[0].settled:
            page = self._waiting.popleft()
            self._on_settled(page)
            self.cursor = page.cursor.decode("ascii")
