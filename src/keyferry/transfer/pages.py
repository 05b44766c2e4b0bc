"""The pure relay's keys: pages that settle together, and runs of neighbours in them."""

from __future__ import annotations

from keyferry.transfer.config import Outcome, Settled


class Page:
    """Keys that settle together, and what became of them."""

    __slots__ = ("_names", "cursor", "keys", "methods", "number", "outcomes", "payload_bytes", "unresolved")

    def __init__(self, number: int, cursor: bytes, keys: list[bytes]) -> None:
        self.number = number
        self.cursor = cursor
        self.keys = keys
        self.unresolved = len(keys)
        self.outcomes = [0, 0, 0, 0, 0]
        self.methods = [0, 0, 0, 0]
        self.payload_bytes = 0
        self._names: list[bytes] = []

    @property
    def names(self) -> list[bytes]:
        """The keys as arguments of a command: made once, for each is asked for and stored under it."""
        if len(self._names) != len(self.keys):
            self._names = [b"$%d\r\n%b\r\n" % (len(key), key) for key in self.keys]
        return self._names

    def resolve(self, outcome: int, payload_bytes: int = 0, method: int = 0) -> None:
        self.outcomes[outcome] += 1
        if outcome == Outcome.COPIED:
            self.methods[method] += 1
            self.payload_bytes += payload_bytes
        self.unresolved -= 1


class Span:
    """Neighbouring keys of one page, ``begin`` to ``end``.

    ``sizes`` are those that were measured, in bytes, in the end's reach: ``begin`` moves on without them. ``counts``:
    whether these keys have yet to tell if most are short strings.
    """

    __slots__ = ("begin", "counts", "end", "page", "sizes")

    def __init__(self, page: Page, begin: int, end: int, sizes: list[int], *, counts: bool) -> None:
        self.page = page
        self.begin = begin
        self.end = end
        self.sizes = sizes
        self.counts = counts

    def __len__(self) -> int:
        return self.end - self.begin

    def cut(self, count: int) -> Span:
        """Takes the first ``count`` keys off."""
        at = len(self.sizes) - len(self)
        sizes = self.sizes[at : at + count] if self.sizes else []
        first = Span(self.page, self.begin, self.begin + count, sizes, counts=self.counts)
        self.begin += count
        return first


def settled(pages: list[Page]) -> Settled:
    """Pages that are done, in order, as one; at least one."""
    o = [sum(column) for column in zip(*(page.outcomes for page in pages), strict=True)]
    m = [sum(column) for column in zip(*(page.methods for page in pages), strict=True)]
    return Settled(
        cursor=pages[-1].cursor,
        outcomes=(o[0], o[1], o[2], o[3], o[4]),
        payload_bytes=sum(page.payload_bytes for page in pages),
        methods=(m[0], m[1], m[2], m[3]),
        pages=tuple(page.number for page in pages),
    )
