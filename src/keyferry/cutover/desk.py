"""Where requests of operators wait for the migration's own thread, which alone acts on servers.

Anybody may ask and look, from any thread; the migration takes one request at a time, says what happens, and ends it.
Nobody ever waits for whoever asked: a reader that is slow, or gone, costs sentences of its own and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from keyferry.cutover.requests import End, Event, Request, Said
from keyferry.model.errors import ExitCode, KeyferryError, RefusedError
from keyferry.telemetry.samples import Samples, rows_after

WAITING_MAX = 16
SENTENCES_MAX = 256
"""Of one request, not read yet; the oldest make room."""


class Ticket:
    """One request under way: what the migration says of it, for whoever asked."""

    def __init__(self, ended: Callable[[End], None] | None = None) -> None:
        """``ended``: told of the end, in the thread that says it; must not wait."""
        self._changed = threading.Condition()
        self._ended = ended
        self._events: deque[Event] = deque()
        self._end: End | None = None
        self._begun = False
        self._withdrawn = False

    def say(self, sentence: str, **facts: Any) -> None:
        """Something happened on the way. After the end nothing is said any more."""
        with self._changed:
            if self._end is None:
                if len(self._events) >= SENTENCES_MAX:
                    self._events.popleft()
                self._events.append(Said(sentence, facts))
                self._changed.notify_all()

    def end(self, exit_code: int, sentence: str, hint: str = "", **facts: Any) -> None:
        """The last word; a second one is not heard."""
        with self._changed:
            self._finish(End(exit_code, sentence, hint, facts))

    def fail(self, error: KeyferryError, **facts: Any) -> None:
        """Ends it as a command ends that raises this."""
        self.end(error.exit_code, error.message, error.hint, **facts)

    @property
    def begun(self) -> bool:
        return self._begun

    @property
    def ended(self) -> bool:
        return self._end is not None

    def next_event(self, timeout_s: float) -> Event | None:
        """The next sentence or the end; None when there was none for so long. For one reader."""
        with self._changed:
            if not self._events:
                self._changed.wait_for(lambda: bool(self._events), timeout_s)
            return self._events.popleft() if self._events else None

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """Everything up to the end, that included. Stops early after ``timeout_s`` seconds in all."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = 1.0 if until is None else min(1.0, until - time.monotonic())
            if left <= 0:
                return
            event = self.next_event(left)
            if event is not None:
                yield event
            if isinstance(event, End):
                return

    def begin(self) -> bool:
        """It is done from now on; False when it was withdrawn before: then it is not to be done any more.

        For whatever waits between its taking from the desk and its doing. What is done and ended at once needs none.
        """
        with self._changed:
            self._begun = not self._withdrawn
            return self._begun

    def withdraw(self) -> bool:
        """Whoever asked has gone. A request that nobody has begun is not to be done later, unseen; one that has been
        begun goes on. Returns whether it was withdrawn."""
        with self._changed:
            if not self._begun and self._end is None:
                self._withdrawn = True
                self._finish(End(ExitCode.REFUSED, "Withdrawn before it was begun."))
            return self._withdrawn

    def _finish(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self._events.append(end)
            self._changed.notify_all()
            if self._ended is not None:
                self._ended(end)


class Clerk(Protocol):
    """Notes what is asked, by which process, and with which end. From any thread; must not wait."""

    def asked(self, request: Request, process: int | None) -> None: ...

    def answered(self, request: Request, process: int | None, end: End) -> None: ...


class Desk(Protocol):
    """What the control socket needs of a migration. From any thread, and never waits for the migration."""

    def look(self, request: Request) -> Mapping[str, Any]: ...

    def ask(self, request: Request, process: int | None = None) -> Ticket: ...


class QueueDesk:
    """The desk of a migration that works in a thread of its own.

    Args:
        first: What ``status`` says until something is published.
        report: Makes the report so far, in the thread of whoever asks; None where there is none.
        clerk: Notes what is asked.
    """

    def __init__(
        self,
        first: Mapping[str, Any] | None = None,
        *,
        report: Callable[[], Mapping[str, Any]] | None = None,
        clerk: Clerk | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._clerk = clerk
        self._report = report
        self._history: Mapping[str, Any] = Samples().as_dict()
        self._published = (time.monotonic(), first or {"stage": "connecting"})
        self._waiting: deque[tuple[Request, Ticket]] = deque()
        self._open: list[Ticket] = []
        self._closed: tuple[int, str, str] | None = None

    def publish(self, status: Mapping[str, Any]) -> None:
        """What ``status`` says from now on: plain values for JSON, not changed any more by the caller."""
        self._published = (time.monotonic(), status)

    def publish_history(self, history: Mapping[str, Any]) -> None:
        """What ``history`` says from now on: as ``Samples.as_dict``, not changed any more by the caller."""
        self._history = history

    def look(self, request: Request) -> Mapping[str, Any]:
        """The answer to a request that only looks (``LOOKS``).

        Raises:
            KeyferryError: There is none.
        """
        match request.command:
            case "status":
                return self.status()
            case "history":
                return self.history(request.options["after_ms"])
            case _ if self._report is not None:
                return self._report()
        raise RefusedError("There is no report of this run.", "keyferry migrate makes one.")

    def history(self, after_ms: float = 0) -> Mapping[str, Any]:
        """How it has gone over time (telemetry/samples.py); only rows after that time, in ms since 1970."""
        history = self._history
        return {**history, "rows": rows_after(history["rows"], after_ms)}

    def status(self) -> Mapping[str, Any]:
        """What was published last, and how old that is: ``age_seconds``."""
        at_s, status = self._published
        return {**status, "age_seconds": round(time.monotonic() - at_s, 3)}

    def ask(self, request: Request, process: int | None = None) -> Ticket:
        """Puts it in the queue. A full or closed desk gives a ticket that has ended already.

        Args:
            process: Whose request it is, where that is known.
        """
        ticket = self._new_ticket(request, process)
        with self._lock:
            self._waiting = deque(waiting for waiting in self._waiting if not waiting[1].ended)
            if self._closed is not None:
                ticket.end(*self._closed)
            elif len(self._waiting) >= WAITING_MAX:
                ticket.end(
                    ExitCode.REFUSED,
                    f"{WAITING_MAX} requests are waiting for this migration already.",
                    "Ask again when they are done; keyferry status shows what it does.",
                )
            else:
                self._waiting.append((request, ticket))
                self._open = [one for one in self._open if not one.ended]
                self._open.append(ticket)
        return ticket

    def _new_ticket(self, request: Request, process: int | None) -> Ticket:
        clerk = self._clerk
        if clerk is None:
            return Ticket()
        clerk.asked(request, process)
        return Ticket(lambda end: clerk.answered(request, process, end))

    def take(self) -> tuple[Request, Ticket] | None:
        """The next request, for the migration's own thread; None when there is none. Never waits.

        Until its ``begin`` it can be withdrawn.
        """
        if not self._waiting:
            return None
        with self._lock:
            while self._waiting:
                request, ticket = self._waiting.popleft()
                if not ticket.ended:
                    return request, ticket
        return None

    def close(
        self,
        sentence: str = "The migration's process is ending; this was not done, or not to its end.",
        hint: str = "Start it again with the same command: it goes on.",
        exit_code: int = ExitCode.SERVER,
    ) -> None:
        """Ends whatever is open or is asked from now on."""
        with self._lock:
            self._closed = (exit_code, sentence, hint)
            self._waiting.clear()
            for ticket in self._open:
                ticket.end(*self._closed)
            self._open = []
