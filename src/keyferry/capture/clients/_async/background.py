"""Second legs that the application does not wait for: one bounded queue, one worker, one connection, in order.

The order per key holds because an operation puts its leg in while it still has its turn on its keys, and the worker
sends in the order of the queue. Full means reported, never dropped and never waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from keyferry.capture.clients._async.mirror import Batch
from keyferry.capture.clients._async.platform import Event, Worker, sleep, spawn, wait_event
from keyferry.capture.clients.counts import Reason
from keyferry.capture.clients.errors import MirrorError
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._async.crossing import Crossing, State

log = logging.getLogger("keyferry.clients")

_BITE = 128  # second legs in one packet
_GATHER_SECONDS = (
    0.002  # between two packets that are not full: fewer and fuller ones cost the application less
)
_IDLE_SECONDS = 5.0  # without anything to do for so long the worker ends; the next leg starts another
_STOP_SECONDS = 5.0


class Background:
    """The queue and its worker.

    Args:
        crossing: whose second legs they are.
    """

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._waiting: deque[tuple[State, Side, Batch]] = deque()
        self._wake = Event()
        self._worker: Worker | None = None
        self._stopping = False
        self._asleep = True
        self._idle = False
        self._runs = False
        self._sending = False
        self._mutex = threading.RLock()  # re-entrant: a collected client closes itself wherever that happens
        self._draining = 0
        crossing.order.queues.add(self)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, state: State, side: Side, batch: Batch) -> None:
        """Queues a leg; its operation counts as under way until it is done."""
        crossing = self._crossing
        if len(self._waiting) >= crossing.options.mirror_queue_max:
            crossing.report(batch.all_keys, Reason.OVERFLOW)
            if batch.everything:
                crossing.report_everything(Reason.OVERFLOW)
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
            return
        if len(crossing.order.queues) > 1 and any(crossing.order.queues - {self}):
            # Two queues, of threads and of an event loop for example, are not one order.
            crossing.report(batch.all_keys, Reason.RACED)
        state.operations.append(None)
        with self._mutex:
            self._waiting.append((state, side, batch))
            if not self._runs or self._worker is None or not self._worker.alive():
                self._runs, self._stopping = True, False
                self._worker = spawn(self._work, "keyferry-mirror")
                crossing.ends_at_exit()
        if self._asleep:
            self._asleep = False
            self._wake.set()

    async def _work(self) -> None:
        try:
            while not self._ends():
                await self._send_some()
        except BaseException:
            self._runs = False
            raise

    def _ends(self) -> bool:
        """Whether there is nothing to do and nobody will bring anything to this worker any more."""
        with self._mutex:
            if self._waiting or not (self._stopping or self._idle):
                return False
            self._runs = False
            return True

    async def _send_some(self) -> None:
        waiting = self._waiting
        if not waiting:
            self._wake.clear()
            self._asleep = True
            # Whoever puts one in from here on sees that we sleep; what came before is seen here.
            if not waiting and not self._stopping:
                self._idle = not await wait_event(self._wake, _IDLE_SECONDS)
            return
        self._idle = False
        with self._mutex:
            if not waiting:
                return
            taken = [waiting.popleft()]
            side = taken[0][1]
            while waiting and len(taken) < _BITE and waiting[0][1] is side:
                taken.append(waiting.popleft())
            self._sending = True
        try:
            await self._crossing.mirrors[side].carry([batch for _, _, batch in taken])
        except MirrorError as error:
            log.warning(
                "%s", error, extra=self._crossing.facts()
            )  # nobody waits for this leg: its keys are reported
        finally:
            self._sending = False
            for state, _, _ in taken:
                state.operations.pop()
        if len(waiting) < _BITE and not self._hurries(taken[0][0]):
            await sleep(_GATHER_SECONDS)

    def _hurries(self, state: State) -> bool:
        """Somebody waits for the end of what is queued: a step of the phase, or a client that closes."""
        return self._stopping or self._draining > 0 or state is not self._crossing.state

    async def drain(self, timeout_seconds: float) -> bool:
        """Waits until nothing waits or is on its way any more; False when something does after the time."""
        deadline = time.monotonic() + timeout_seconds
        self._draining += 1
        try:
            while (self._waiting or self._sending) and time.monotonic() < deadline:
                if self._worker is None or not self._worker.alive():
                    break  # the interpreter is ending: nobody sends any more
                await sleep(0.001)
        finally:
            self._draining -= 1
        return not (self._waiting or self._sending)

    async def stop(self) -> None:
        """Sends what waits, then ends the worker; what cannot be sent in time is reported."""
        await self.drain(_STOP_SECONDS)
        crossing = self._crossing
        with self._mutex:
            left = list(self._waiting)
            self._waiting.clear()
        for state, _, batch in left:
            crossing.report(batch.all_keys, Reason.SKIPPED)
            if batch.everything:
                crossing.report_everything(Reason.SKIPPED)
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
            state.operations.pop()
        self._stopping = True
        self._wake.set()
        worker = self._worker
        if worker is not None:
            await worker.stop()
