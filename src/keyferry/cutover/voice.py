"""What a migration says: to its terminal, to its journal, and to whoever waits for an answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from keyferry.cutover.desk import Ticket
from keyferry.journal.migration import MigrationJournal
from keyferry.telemetry.migrating import EVENTS_SHOWN, WARNINGS_MAX, EventKind
from keyferry.telemetry.progress import Alert


class Voice:
    """Of one process.

    Attributes:
        ticket: Of the request that is being done; None without one.
        events: The newest sentences, with their time in ms since 1970.
        warnings: Once each.
    """

    def __init__(self, journal: MigrationJournal, tell: Callable[[str], None]) -> None:
        self._journal, self._tell = journal, tell
        self.ticket: Ticket | None = None
        told = journal.events([EventKind.TOLD], EVENTS_SHOWN)
        self.events: deque[tuple[int, str]] = deque(
            ((event.at_ms, event.facts["text"]) for event in told), maxlen=EVENTS_SHOWN
        )
        self.warnings: dict[str, None] = {}

    def tell(self, sentence: str) -> None:
        """For the operator."""
        self.events.append((round(time.time() * 1000), sentence))
        self._journal.event(EventKind.TOLD, text=sentence)
        if self.ticket is not None:
            self.ticket.say(sentence)
        self._tell(sentence)

    def warn(self, sentence: str) -> None:
        """The same, once each, and for the report."""
        if sentence not in self.warnings and len(self.warnings) < WARNINGS_MAX:
            self.warnings[sentence] = None
            self._journal.event(EventKind.WARNING, text=sentence)
            self.tell(Alert(sentence))
