"""Memberships to test with: of threads and of tasks behind one set of calls, and of whole processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from keyferry.capture.clients._async.ends import end_of as async_end_of
from keyferry.capture.clients._async.membership import AsyncMembership
from keyferry.capture.clients._async.record_line import AsyncSideAccess
from keyferry.capture.clients._sync.ends import end_of
from keyferry.capture.clients._sync.membership import Membership
from keyferry.capture.clients._sync.record_line import SideAccess
from keyferry.cutover.phase_steps import Outcome, Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.model.address import parse_endpoint
from keyferry.model.announced import DIRECT
from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import PhaseRecord, Stamp, channel, encode, record_key, writers_key
from keyferry.model.writers import WriterEntry, WriterFacts, decode_entry
from keyferry.wire.session import Session

NAME = "orders"
LEASE_MS = 900
TIMEOUT_S = 0.3
SOON_S = 10.0


class Reached(Protocol):
    """A server or a cluster."""

    @property
    def url(self) -> str: ...


def urls(source: Reached, target: Reached) -> dict[Side, str]:
    return {Side.SOURCE: source.url, Side.TARGET: target.url}


def until(condition: Callable[[], Any], what: str = "it", seconds: float = SOON_S) -> Any:
    """What the condition gives, as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come to be within {seconds:g} s")


# The record, by hand


def put(session: Session, record: PhaseRecord, *, push: bool = True) -> None:
    """Writes a record as no careful tool would."""
    fields = [part for pair in encode(record).items() for part in pair]
    session.pipeline([("DEL", record_key(NAME)), ("HSET", record_key(NAME), *fields)])
    if push:
        session.call("PUBLISH", channel(NAME), record.epoch)


def entries(session: Session) -> dict[str, WriterEntry]:
    """The writers as they stand on a side."""
    reply = session.call("HGETALL", writers_key(NAME))
    assert isinstance(reply, list)
    parts = [part for part in reply if isinstance(part, bytes)]
    return {
        name.decode(): decode_entry(name.decode(), value)
        for name, value in zip(parts[::2], parts[1::2], strict=True)
    }


def store(places: Mapping[Side, str]) -> RecordStore:
    return RecordStore(
        NAME,
        {side: parse_endpoint(url) for side, url in places.items()},
        {Side.SOURCE: DIRECT, Side.TARGET: DIRECT},
    )


def set_phase(
    places: Mapping[Side, str], phase: Phase, *, yes: bool = False, wait_s: float = SOON_S
) -> Outcome:
    """As ``keyferry phase set``."""
    with store(places) as records:
        return Performer(records, Plan(phase, yes, Stamp(1, "test"))).run(wait_s)


# Memberships


class Member:
    """One membership; of threads, or of tasks on an event loop of its own.

    Args:
        kind: "sync" or "async".
        slow: Called for every step; the step is not taken before it returns.
    """

    def __init__(
        self,
        kind: str,
        places: Mapping[Side, str],
        *,
        lease_ms: int = LEASE_MS,
        slow: Callable[[Standing], None] = lambda _: None,
    ) -> None:
        self.kind = kind
        self.seen: list[tuple[float, Standing]] = []
        self._slow = slow
        self._loop: asyncio.AbstractEventLoop | None = None
        facts = WriterFacts("testhost", os.getpid(), "tests", kind)
        if kind == "sync":
            self._ends: list[Any] = [end_of(side, url, None) for side, url in places.items()]
            accesses = {end.side: SideAccess(end, TIMEOUT_S) for end in self._ends}
            self.it: Any = Membership(
                NAME, accesses, facts, on_step=slow, on_seen=self._on_seen, lease_ms=lease_ms
            )
        else:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
            self.it = self._run(self._make_async(places, facts, lease_ms))

    async def _make_async(
        self, places: Mapping[Side, str], facts: WriterFacts, lease_ms: int
    ) -> AsyncMembership:
        async def on_step(standing: Standing) -> None:
            await asyncio.get_running_loop().run_in_executor(None, self._slow, standing)

        self._ends = [async_end_of(side, url, None) for side, url in places.items()]
        accesses = {end.side: AsyncSideAccess(end, TIMEOUT_S) for end in self._ends}
        return AsyncMembership(
            NAME, accesses, facts, on_step=on_step, on_seen=self._on_seen, lease_ms=lease_ms
        )

    def _on_seen(self, standing: Standing) -> None:
        self.seen.append((time.monotonic(), standing))

    def _run(self, coroutine: Any) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def call(self, method: str, *arguments: Any) -> Any:
        result = getattr(self.it, method)
        return result(*arguments) if self._loop is None else self._run(result(*arguments))

    def start(self) -> Standing:
        found: Standing = self.call("start")
        return found

    def look_again(self) -> Standing:
        found: Standing = self.call("look_again")
        return found

    @property
    def id(self) -> str:
        found: str = self.it.writer_id
        return found

    @property
    def standing(self) -> Standing:
        found: Standing = self.it.standing
        return found

    def valid(self, standing: Standing | None = None) -> bool:
        found: bool = self.it.lease_valid(standing or self.standing)
        return found

    def knows(self, phase: Phase) -> bool:
        return self.standing.phase is phase

    def stop(self) -> None:
        self.call("stop")
        for end in self._ends:
            if self._loop is None:
                end.close()
            else:
                self._run(end.close())
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            until(lambda: self._loop is not None and not self._loop.is_running(), "the loop's end")
            self._loop.close()


@contextlib.contextmanager
def member(kind: str, places: Mapping[Side, str], **more: Any) -> Iterator[Member]:
    """A membership that has been started; stopped at the end."""
    made = Member(kind, places, **more)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class MemberProcess:
    """A process that is a member, told what to do by lines: see ``main``."""

    def __init__(self, places: Mapping[Side, str], lease_ms: int = LEASE_MS) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", __file__,
             places[Side.SOURCE], places[Side.TARGET], str(lease_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> str:
        """Ends it by the end of its input; what it wrote to standard error."""
        _, errors = self._process.communicate(timeout=30)
        assert self._process.returncode == 0, errors
        return errors

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def processes(count: int, places: Mapping[Side, str], **more: Any) -> Iterator[list[MemberProcess]]:
    """Processes that have registered; killed at the end if they still run."""
    made = [MemberProcess(places, **more) for _ in range(count)]
    try:
        for one in made:
            one.ask("start")
        yield made
    finally:
        for one in made:
            one.close()


def main(source: str, target: str, lease_ms: str) -> None:
    """Answers each line with a line of JSON: start, look, valid, quiet (ends without a goodbye)."""
    joined = Member("sync", {Side.SOURCE: source, Side.TARGET: target}, lease_ms=int(lease_ms))
    began: Standing | None = None
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        match line.strip():
            case "start":
                began = joined.start()
            case "look":
                joined.look_again()
            case "valid":
                answer["valid"] = joined.valid()
        standing = joined.standing
        answer |= {
            "phase": standing.phase,
            "epoch": standing.epoch,
            "authority": standing.authority,
            "id": joined.id,
        }
        answer["seen"] = [one.phase for _, one in joined.seen]
        answer["began"] = began.phase if began else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
