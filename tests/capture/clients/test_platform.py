"""What tasks need and threads do not: a worker that is told to end, ends."""

from __future__ import annotations

import asyncio
import threading

from keyferry.capture.clients._async.platform import Event, spawn, wait_event


async def deaf_once() -> None:
    """Forgets its cancellation, as `asyncio.wait_for` may before Python 3.12, and goes on to wait."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
    while True:
        await wait_event(Event(), 60)


def test_a_worker_that_has_forgotten_its_cancellation_ends_at_its_next_wait() -> None:
    async def program() -> None:
        spawn(deaf_once, "deaf")
        await asyncio.sleep(0)

    # asyncio.run cancels what is left once, and waits for it.
    thread = threading.Thread(target=asyncio.run, args=(program(),), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_the_end_of_somebody_elses_task_may_wait() -> None:
    async def program() -> bool:
        said = Event()

        async def work() -> bool:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return not await wait_event(said, 0.01)
            return False

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(program()), "an application that closes its client while it is cancelled"
