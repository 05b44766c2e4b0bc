"""One shard's database to the target: the loop that moves bytes between two sockets and a relay.

Everything that decides is elsewhere: the relay (what to send), the flow (how much at once), the pace (how fast),
the slow path (keys that need a decision). Here are the sockets, the probes and the clock.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.errands import Errands
from keyferry.copy.flow import TARGET_BACKLOG_BYTES_MAX, Flow
from keyferry.copy.info import info_number, keyspace, parse_info
from keyferry.copy.pace import Pace
from keyferry.copy.probe import Probe
from keyferry.copy.slowpath import Failure, SlowPath
from keyferry.model.errors import Side
from keyferry.transfer.config import ExpiryMode, Settled
from keyferry.transfer.relay import Relay
from keyferry.wire.channel import Channel
from keyferry.wire.resp import Reply
from keyferry.wire.session import ConnectionLost

RECEIVE_BYTES = 256 * 1024
POLL_MS = 5
HOUSE_EVERY_S = 0.005
SLEPT_S = 0.0002
SILENCE_S_MAX = 30.0
"""A server that owes replies and sends nothing for so long counts as lost."""
WAITING_MS = 20.0
"""A ping that has waited so long counts before it is answered: a server that stands still must not look calm."""
ANSWERS_WAIT_MAX = 2000
ANSWERS_WAIT_S_MAX = 0.02
"""Target replies are mere acknowledgements: we need not wake up for each handful of them."""
UNSETTLED_KEYS_MAX = 200_000
"""Names that are remembered behind a key that takes long; then SCAN waits."""
HELD_BYTES_MAX = 8 << 20
"""Payloads that wait for a decision; above it no more keys are asked for."""


class ExpiryMoved(Exception):
    """Keys of the database expire after all; the pages since are fetched again with their expiry."""


@dataclass(frozen=True, slots=True)
class SettledPages:
    """What ``on_settled`` gets: acknowledged by the target, whole."""

    settled: Settled
    failures: list[Failure]
    notes: Counter[str]


class Pipeline:
    """Runs one pass over one database. Closes its connections with ``close``."""

    def __init__(
        self,
        source: Channel,
        target: Channel,
        relay: Relay,
        errands: Errands,
        slow: SlowPath,
        flow: Flow,
        pace: Pace,
        probes: list[Probe],
        *,
        batch: int,
        source_ahead_ms: float | None,
    ) -> None:
        """Args: source_ahead_ms: The source's clock minus ours, where the target takes no absolute expiries."""
        self._source, self._target = source, target
        self._relay, self._errands, self._slow = relay, errands, slow
        self._flow, self._pace, self._probes = flow, pace, probes
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        self._poll = select.poll()
        self._watched: dict[int, int] = {}
        self._polled_s = time.monotonic()
        self._heard: dict[Side, float] = {"source": time.monotonic(), "target": time.monotonic()}
        self._pages_max = max(4, UNSETTLED_KEYS_MAX // batch)
        self._source_ahead_ms = source_ahead_ms
        self._settled_pages = 0
        self._unproven: list[bytes] = []
        """RESTOREs of keys whose expiry was not asked for; they wait until INFO proves that none had one."""
        self._proven_bytes = 0
        self._asking = False
        self._expired_keys: int | None = None

    def run(
        self, cursor: str, on_settled: Callable[[SettledPages], None], on_turn: Callable[[], None]
    ) -> None:
        """Copies from ``cursor`` to the end.

        Args:
            on_settled: Called for pages that the target has acknowledged, in order.
            on_turn: Called every few milliseconds; ends the run by raising.

        Raises:
            ConnectionLost, ServerBusy: Try again from the last settled cursor.
            ExpiryMoved: Try again from there, asking for expiries.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        relay = self._relay
        self._register()
        if relay.config.expiry == ExpiryMode.NONE:
            self._errands.ask("source", [("INFO", "keyspace"), ("INFO", "stats")], self._first_look)
        relay.scan(cursor.encode())
        house_s = 0.0
        while True:
            now = self._turn()
            for aside in relay.take_asides():
                self._slow.take(aside)
            for token, data, mark in relay.take_raw():
                self._errands.answer(token, data, mark)
            self._ask()
            settled = relay.take_settled()
            if settled is not None:
                self._settle(settled, on_settled)
            if relay.next_cursor == b"0" and not relay.scan_pending and relay.idle and not len(self._errands):
                return
            if now >= house_s:
                house_s = now + HOUSE_EVERY_S
                self._keep_house(now)
                on_turn()

    def close(self) -> None:
        self._source.close()
        self._target.close()

    def _register(self) -> None:
        self._poll.register(self._source.fileno(), select.POLLIN)
        self._poll.register(self._target.fileno(), select.POLLIN)
        for probe in self._probes:
            self._poll.register(probe.fileno(), select.POLLIN)

    # Bytes

    def _turn(self) -> float:
        """Sends and receives what can be; returns the time at which it looked."""
        relay, source, target = self._relay, self._source, self._target
        if relay.source_out_bytes:
            source.queue(relay.take_source())
        if source.out_bytes:
            source.flush()
        if relay.target_out_bytes:
            self._take_target()
        if target.out_bytes:
            target.flush()
        now = time.monotonic()
        backlog = target.out_bytes > TARGET_BACKLOG_BYTES_MAX
        source.wake_at(self._flow.wake_bytes(relay))
        lazy = relay.storing_keys < ANSWERS_WAIT_MAX and relay.fetching_keys and not len(self._errands)
        # Not for long: behind a slow source too few would come together, and the target would look dead.
        lazy = lazy and now - self._heard["target"] < ANSWERS_WAIT_S_MAX
        self._watch(source.fileno(), source.wants | (0 if backlog else select.POLLIN))
        self._watch(target.fileno(), target.wants | (0 if lazy else select.POLLIN))
        buffered = source.buffered or target.buffered
        before = time.monotonic()
        ready = dict(self._poll.poll(0 if buffered else POLL_MS))
        after = time.monotonic()
        # Had a probe's answer been there before, poll() would not have slept; had it not slept, the answer may
        # have come at any time since it last returned: then the earliest is taken.
        came = after if after - before > SLEPT_S else self._polled_s
        self._polled_s = after
        # The bytes to come are an estimate: what is there below the low water mark is read a little later.
        late = not backlog and now - self._heard["source"] > POLL_MS / 1000
        if late or source.buffered or ready.get(source.fileno(), 0) & ~select.POLLOUT:
            self._receive_source(now)
        if target.buffered or ready.get(target.fileno(), 0) & ~select.POLLOUT:
            self._receive_target(now)
        for probe in self._probes:
            if ready.get(probe.fileno(), 0) & ~select.POLLOUT:
                probe.read(came)
        return now

    def _take_target(self) -> None:
        commands = self._relay.take_target()
        if not commands:
            return
        if self._relay.config.expiry == ExpiryMode.NONE:
            self._unproven.append(commands)
        else:
            self._target.queue(commands)

    @property
    def _backlog_bytes(self) -> int:
        """What waits to be sent to the target."""
        return self._target.out_bytes + self._relay.target_out_bytes + sum(map(len, self._unproven))

    def _watch(self, descriptor: int, events: int) -> None:
        if self._watched.get(descriptor) != events:
            self._watched[descriptor] = events
            self._poll.modify(descriptor, events)

    def _keep_house(self, now: float) -> None:
        """What need not be done in every turn: probes, the guard's samples, dead servers."""
        for probe in self._probes:
            probe.turn(now)
            self._watch(probe.fileno(), probe.events)
            for sample in probe.take_samples():
                self._pace.guard.sample(sample)
            if (waiting_ms := probe.waiting_ms(now)) > WAITING_MS:
                self._pace.guard.sample(waiting_ms)
        self._check_silence(now)

    def _receive_source(self, now: float) -> None:
        count = self._source.receive(self._view)
        if count:
            ahead_ms = self._source_ahead_ms
            clock_ms = 0 if ahead_ms is None else int(time.time() * 1000 + ahead_ms)
            self._relay.feed_source(self._view[:count], clock_ms)
            self._heard["source"] = now

    def _receive_target(self, now: float) -> None:
        count = self._target.receive(self._view)
        if count:
            self._relay.feed_target(self._view[:count])
            self._heard["target"] = now

    def _check_silence(self, now: float) -> None:
        relay = self._relay
        owing: dict[Side, bool] = {
            "source": bool(relay.fetching_keys or relay.scan_pending or self._errands.owed["source"])
            and self._target.out_bytes == 0,
            "target": bool(relay.storing_keys or self._errands.owed["target"]) and not self._unproven,
        }
        for side, owes in owing.items():
            if not owes:
                self._heard[side] = now
            elif now - self._heard[side] > SILENCE_S_MAX:
                raise ConnectionLost(side, f"The {side} has not answered for {SILENCE_S_MAX:g} s.")

    # What to ask for

    def _ask(self) -> None:
        relay = self._relay
        more = not relay.scan_pending and relay.next_cursor not in (b"", b"0")
        if (
            more
            and relay.newest_page - self._settled_pages < self._pages_max
            and self._flow.wants_scan(relay)
        ):
            relay.scan(relay.next_cursor)
        if relay.queued_keys and self._errands.held_bytes < HELD_BYTES_MAX:
            self._fetch()
        self._prove_expiry()

    def _fetch(self) -> None:
        relay = self._relay
        allowance = self._pace.allowance(
            time.monotonic(), relay.fetched_keys, relay.fetched_bytes, relay.fetching_keys
        )
        wanted = self._flow.wants_fetch(relay, self._backlog_bytes, allowance)
        if wanted:
            self._pace.spend(relay.fetch(wanted))

    # Copying without asking for expiries: nothing is sent before INFO proves that no key had one

    def _prove_expiry(self) -> None:
        """Looks at INFO behind the DUMPs whose RESTOREs wait; one look at a time."""
        if self._asking or not self._unproven:
            return
        self._asking = True

        def then(replies: list[Reply]) -> None:
            if self._expiry_moved(replies):
                raise ExpiryMoved
            self._asking = False
            mark = self._errands.mark
            self._take_target()
            waiting = b"".join(self._unproven)
            proven = mark - self._proven_bytes
            self._target.queue(waiting[:proven])
            self._proven_bytes = mark
            self._unproven = [waiting[proven:]] if len(waiting) > proven else []

        self._errands.ask("source", [("INFO", "keyspace"), ("INFO", "stats")], then)

    def _first_look(self, replies: list[Reply]) -> None:
        self._expired_keys = _expired_keys(replies)
        if self._expired_keys is None:
            raise ExpiryMoved

    def _expiry_moved(self, replies: list[Reply]) -> bool:
        """Whether any key expires now, or one has expired since the pass began."""
        spaces = keyspace(parse_info(replies[0])) if isinstance(replies[0], bytes) else None
        if spaces is None or any(space.expires for space in spaces.values()):
            return True
        return _expired_keys(replies) != self._expired_keys

    def _settle(self, settled: Settled, on_settled: Callable[[SettledPages], None]) -> None:
        failures: list[Failure] = []
        notes: Counter[str] = Counter()
        self._settled_pages += len(settled.pages)
        for page in settled.pages:
            its_failures, its_notes = self._slow.take_page(page)
            failures += its_failures
            notes += its_notes
        on_settled(SettledPages(settled, failures, notes))


def _expired_keys(replies: list[Reply]) -> int | None:
    return (
        info_number(parse_info(replies[1]), "stats", "expired_keys")
        if isinstance(replies[1], bytes)
        else None
    )
