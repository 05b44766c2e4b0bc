"""Which keys the pure relay asks for next, and which of those that it asked for are to be answered next.

A key waits up to three times: as a new one; to be measured, when a probe said that it is no short string; and for its
DUMP. The source answers in the order in which it was asked, so one queue holds all that is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import accumulate

from keyferry.transfer.pages import Page, Span


class Waiting:
    """Queues of spans.

    Attributes:
        queued_keys: Keys that wait to be asked for.
        fetching_keys: Keys that are asked for and not answered.
        dumping_bytes: Measured sizes of those of them whose DUMP is asked for.
    """

    def __init__(self) -> None:
        self._new: deque[Span] = deque()
        self._probed: deque[Span] = deque()
        self._dumps: deque[Span] = deque()
        self._asked: deque[Span] = deque()
        self.queued_keys = 0
        self.fetching_keys = 0
        self.dumping_bytes = 0

    def add_new(self, page: Page) -> None:
        if page.keys:
            self._add(self._new, Span(page, 0, len(page.keys), [], counts=True))

    def add_probed(self, page: Page, index: int) -> None:
        """A key to be measured."""
        self._add(self._probed, Span(page, index, index + 1, [], counts=False))

    def add_dump(self, page: Page, index: int, size_bytes: int) -> None:
        """A key whose DUMP is to be asked for and that does not count as seen any more."""
        self._add(self._dumps, Span(page, index, index + 1, [size_bytes], counts=False))

    def add_measured(self, measured: Span) -> None:
        """Keys that turned out to be small."""
        self._add(self._dumps, measured)

    def _add(self, queue: deque[Span], span: Span) -> None:
        queue.append(span)
        self.queued_keys += len(span)

    # Asking

    def ask_new(self, limit: int) -> list[Span]:
        """Up to ``limit`` new keys; they count as asked for from now on."""
        return self._ask(self._new, limit)

    def ask_probed(self, limit: int) -> list[Span]:
        return self._ask(self._probed, limit)

    def ask_dumps(self, limit: int, bytes_max: int) -> list[Span]:
        """Keys whose DUMP is due, up to the first that is too large.

        Args:
            bytes_max: The sum of their sizes; a single key that is larger goes when no DUMP of a measured key is
                under way, unless this is 0.
        """
        asked: list[Span] = []
        while limit > 0 and self._dumps:
            span = self._dumps[0]
            sums = list(accumulate(span.sizes[-len(span) :][:limit]))
            fitting = len(sums) if sums[-1] <= bytes_max else bisect_right(sums, bytes_max)
            if not fitting and bytes_max > 0 and not self.dumping_bytes:
                fitting = 1
            if not fitting:
                break
            asked.append(self._take(self._dumps, fitting))
            limit -= fitting
            bytes_max -= sums[fitting - 1]
            self.dumping_bytes += sums[fitting - 1]
        return asked

    def _ask(self, queue: deque[Span], limit: int) -> list[Span]:
        asked: list[Span] = []
        while limit > 0 and queue:
            asked.append(self._take(queue, min(limit, len(queue[0]))))
            limit -= len(asked[-1])
        return asked

    def _take(self, queue: deque[Span], count: int) -> Span:
        """The first ``count`` keys of the first span."""
        span = queue.popleft() if count == len(queue[0]) else queue[0].cut(count)
        self._asked.append(span)
        self.queued_keys -= count
        self.fetching_keys += count
        return span

    # Answers

    @property
    def asked(self) -> Span:
        """The span whose first key is answered next."""
        return self._asked[0]

    def answered(self, count: int) -> Span:
        """The first ``count`` keys of ``asked`` are answered."""
        span = self._asked.popleft() if count == len(self._asked[0]) else self._asked[0].cut(count)
        self.fetching_keys -= count
        self.dumping_bytes -= sum(span.sizes[-count:])
        return span

    def answered_one(self) -> tuple[Page, int, bool]:
        """As ``answered(1)``, for the loop over single keys: its page, its place there, and whether it counts."""
        span = self._asked[0]
        index = span.begin
        if span.sizes:
            self.dumping_bytes -= span.sizes[index - span.end]
        span.begin = index + 1
        if span.begin == span.end:
            self._asked.popleft()
        self.fetching_keys -= 1
        return span.page, index, span.counts
