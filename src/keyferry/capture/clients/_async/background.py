"""Second legs that the application does not wait for: one bounded queue, one worker, one connection, in order.

The order per key holds because an operation puts its leg in while it still has its turn on its keys, and the worker
sends in the order of the queue. Full means reported, never dropped and never waited for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from keyferry.capture.clients._async.mirror import Batch
from keyferry.capture.clients._async.platform import Event, Worker, sleep, spawn, wait_event
from keyferry.capture.clients.counts import Reason
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._async.crossing import Crossing, State

_BITE = 128  # second legs in one packet
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

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, state: State, side: Side, batch: Batch) -> None:
        """Queues a leg; its operation counts as under way until it is done."""
        crossing = self._crossing
        if len(self._waiting) >= crossing.options.mirror_queue_max:
            crossing.report(batch.all_keys, Reason.OVERFLOW)
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
            return
        state.operations.append(None)
        self._waiting.append((state, side, batch))
        if self._worker is None or not self._worker.alive():
            self._worker = spawn(self._work, "keyferry-mirror")
        if not self._wake.is_set():
            self._wake.set()

    async def _work(self) -> None:
        waiting = self._waiting
        while True:
            if not waiting:
                if self._stopping or not await wait_event(self._wake, _IDLE_SECONDS):
                    # Whoever puts one in now either finds this worker alive and is seen by the last look, or starts one.
                    self._worker = None
                    if not waiting:
                        return
                self._wake.clear()
                continue
            taken = [waiting.popleft()]
            side = taken[0][1]
            while waiting and len(taken) < _BITE and waiting[0][1] is side:
                taken.append(waiting.popleft())
            try:
                await self._crossing.mirrors[side].carry([batch for _, _, batch in taken])
            finally:
                for state, _, _ in taken:
                    state.operations.pop()

    async def drain(self, timeout_seconds: float) -> bool:
        """Waits until nothing waits any more; False when something does after the time."""
        step = 0.005
        while self._waiting and timeout_seconds > 0:
            await sleep(step)
            timeout_seconds -= step
        return not self._waiting

    async def stop(self) -> None:
        """Sends what waits, then ends the worker; what cannot be sent in time is reported."""
        await self.drain(_STOP_SECONDS)
        while self._waiting:
            state, _, batch = self._waiting.popleft()
            self._crossing.report(batch.all_keys, Reason.UNKNOWN)
            state.operations.pop()
        self._stopping = True
        self._wake.set()
        worker = self._worker
        if worker is not None:
            await worker.stop()
