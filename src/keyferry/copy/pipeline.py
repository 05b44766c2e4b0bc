"""One shard's database to the target: moves bytes between its sockets and a relay.

Everything that decides is elsewhere: the relay (what to send), the flow (how much at once), the pace (how fast),
the slow path (keys that need a decision). Here are the sockets and the clock; the crew turns many of these.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.bigsettler import BigSettler
from keyferry.copy.carriers import KEEP_ALIVE_S, Carriers
from keyferry.copy.errands import SOURCE, Errands
from keyferry.copy.flow import TARGET_BACKLOG_BYTES_MAX, Flow
from keyferry.copy.lanes import Lanes
from keyferry.copy.pace import Pace
from keyferry.copy.poller import Poller
from keyferry.copy.proof import ExpiryMoved, ExpiryProof
from keyferry.copy.settled import Failure, SettledPages
from keyferry.copy.slowpath import SlowPath
from keyferry.copy.supply import Supply
from keyferry.model.errors import Side
from keyferry.transfer.config import ExpiryMode, Settled
from keyferry.transfer.relay import Relay
from keyferry.wire.channel import Channel
from keyferry.wire.session import ConnectionLost

RECEIVE_BYTES = 256 * 1024
POLL_MS = 5
SILENCE_S_MAX = 30.0
"""A server that owes replies and sends nothing for so long counts as lost."""
ANSWERS_WAIT_MAX = 2000
ANSWERS_WAIT_S_MAX = 0.02
"""Target replies are mere acknowledgements: we need not wake up for each handful of them."""
UNSETTLED_KEYS_MAX = 200_000
"""Names that are remembered behind a key that takes long; then SCAN waits."""
HELD_BYTES_MAX = 8 << 20
"""Payloads that wait for a decision; above it no more keys are asked for."""
TURN_S = 0.2
"""So long SCAN's keys and the supply's keys have their turns, where both have some."""

Totals = Callable[[], tuple[int, int, int]]
"""Of all pipelines that run beside each other: keys and payload bytes that came, keys that are asked for."""


@dataclass(slots=True)
class Parts:
    """What a pipeline is put together from."""

    source: Channel
    lanes: Lanes
    relay: Relay
    errands: Errands
    slow: SlowPath
    carriers: Carriers
    flow: Flow
    pace: Pace
    poller: Poller
    supply: Supply | None = None
    bigs: BigSettler | None = None


class Pipeline:
    """Runs one pass over one shard's database, turn by turn, from ``begin`` until it is ``done``."""

    def __init__(
        self,
        parts: Parts,
        *,
        batch: int,
        source_ahead_ms: float | None,
        totals: Totals,
        on_settled: Callable[[SettledPages], None],
    ) -> None:
        """
        Args:
            source_ahead_ms: The source's clock minus ours, where the target takes no absolute expiries.
            on_settled: Called for pages that the target has acknowledged, in order.
        """
        self._source, self._lanes = parts.source, parts.lanes
        self._relay, self._errands, self._slow = parts.relay, parts.errands, parts.slow
        self._carriers = parts.carriers
        self._flow, self._pace, self._poller = parts.flow, parts.pace, parts.poller
        self._supply, self._bigs = parts.supply, parts.bigs
        self._scanning = False
        self._supplying = False
        self._turn_began_s = 0.0
        self._totals, self._on_settled = totals, on_settled
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        now = time.monotonic()
        self._heard_source = self._heard_target = now
        self._heard: dict[int, float] = {}
        """When each lane last answered, or owed nothing; a lane can come at any time."""
        self._traffic_s: dict[int, float] = {}
        """When a connection last brought something, by lane or ``SOURCE``."""
        self._batch = batch
        self._pages_max = max(4, UNSETTLED_KEYS_MAX // batch)
        self._source_ahead_ms = source_ahead_ms
        self._settled_pages = 0
        unsure = self._relay.config.expiry == ExpiryMode.NONE
        self._proof = ExpiryProof(self._errands, self._lanes, self._collect) if unsure else None
        self.eager = False
        """Somebody waits for the last of what is carried: every answer is taken at once."""
        self._backlog_bytes = 0
        """What the target has not taken yet. What waits for the proof is not part of it: that comes from the source."""

    def begin(self, cursor: str | None) -> None:
        """Copies from ``cursor``; None: only what the supply gives."""
        if self._proof:
            self._proof.begin()
        now = time.monotonic()
        if cursor is not None:
            self._scanning = True
            self._relay.scan(cursor.encode())
        self._turn_began_s = now
        self._send(now)
        self._listen(now)

    @property
    def relay(self) -> Relay:
        return self._relay

    @property
    def done(self) -> bool:
        if self._supply is not None and self._supply.open:
            return False
        return self.scanned and self._relay.idle and not len(self._errands)

    @property
    def is_copied(self) -> bool:
        """Everything that SCAN named has arrived."""
        return not self._scanning or (self.scanned and (self._supplying or self.is_quiet))

    @property
    def scanned(self) -> bool:
        """No SCAN is to be sent any more."""
        relay = self._relay
        return not self._scanning or (relay.next_cursor == b"0" and not relay.scan_pending)

    @property
    def buffered(self) -> bool:
        """TLS holds bytes that poll() does not know of."""
        own = (self._source, *self._lanes.channels)
        return any(channel.buffered for channel in own) or self._carriers.buffered

    def concerns(self, ready: dict[int, int]) -> bool:
        """Whether one of its sockets is among those that poll() named."""
        own = (self._source, *self._lanes.channels)
        return any(channel.fileno() in ready for channel in own) or self._carriers.concerns(ready)

    def turn(self, ready: dict[int, int], now: float) -> None:
        """Takes what came, decides, sends.

        Raises:
            ConnectionLost, ServerBusy: Try again from the last settled cursor.
            ExpiryMoved: Try again from there, asking for expiries.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        relay = self._relay
        self._receive(ready, now)
        for aside in relay.take_asides():
            self._slow.take(aside)
        for token, data, marks in relay.take_raw():
            self._errands.answer(token, data, marks)
        self._carriers.receive(ready, now)
        self._slow.turn(now)
        if self._bigs:
            self._bigs.turn(now)
        self._ask(now)
        settled = relay.take_settled()
        if settled is not None:
            self._settle(settled)
        self._send(now)
        self._carriers.send(now)
        self._listen(now)

    def close(self) -> None:
        for channel in (self._source, *self._lanes.channels):
            self._poller.forget(channel.fileno())
            channel.close()
        self._carriers.close()

    # Bytes

    def _receive(self, ready: dict[int, int], now: float) -> None:
        source = self._source
        # The bytes to come are an estimate: what is there below the low water mark is read a little later.
        late = now - self._heard_source > POLL_MS / 1000 and self._backlog_bytes <= TARGET_BACKLOG_BYTES_MAX
        if late or source.buffered or ready.get(source.fileno(), 0) & ~select.POLLOUT:
            count = source.receive(self._view)
            if count:
                ahead_ms = self._source_ahead_ms
                clock_ms = 0 if ahead_ms is None else int(time.time() * 1000 + ahead_ms)
                self._relay.feed_source(self._view[:count], clock_ms)
                self._heard_source = self._traffic_s[SOURCE] = now
        for lane, channel in enumerate(self._lanes.channels):
            if channel.buffered or ready.get(channel.fileno(), 0) & ~select.POLLOUT:
                count = channel.receive(self._view)
                if count:
                    self._relay.feed_target(self._view[:count], lane)
                    self._heard[lane] = self._heard_target = self._traffic_s[lane] = now

    def _send(self, now: float) -> None:
        relay, source = self._relay, self._source
        if relay.source_out_bytes:
            source.queue(relay.take_source())
        if source.out_bytes:
            source.flush()
        if relay.target_out_bytes:
            self._collect()
        backlog_bytes = 0
        for lane, channel in enumerate(self._lanes.channels):
            if channel.out_bytes:
                before_bytes = channel.out_bytes
                channel.flush()
                if channel.out_bytes < before_bytes:
                    # One that takes a large value slowly is not silent.
                    self._heard[lane] = now
                backlog_bytes += channel.out_bytes
        self._backlog_bytes = backlog_bytes

    def _collect(self) -> None:
        relay = self._relay
        for lane, channel in enumerate(self._lanes.channels):
            if relay.lane_out_bytes(lane):
                commands = relay.take_target(lane)
                if self._proof:
                    self._proof.hold(lane, commands)
                else:
                    channel.queue(commands)

    def _listen(self, now: float) -> None:
        """Says what to be woken for."""
        relay, source = self._relay, self._source
        backlog = self._backlog_bytes > TARGET_BACKLOG_BYTES_MAX
        source.wake_at(1 if self.eager else self._flow.wake_bytes(relay))
        self._poller.watch(source.fileno(), source.wants | (0 if backlog else select.POLLIN))
        lazy = relay.storing_keys < ANSWERS_WAIT_MAX and relay.fetching_keys and not len(self._errands)
        # Not for long: behind a slow source too few would come together, and the target would look dead.
        lazy = lazy and now - self._heard_target < ANSWERS_WAIT_S_MAX
        events = 0 if lazy and not self.eager else select.POLLIN
        for channel in self._lanes.channels:
            self._poller.watch(channel.fileno(), channel.wants | events)

    def check_silence(self, now: float) -> None:
        """Raises ConnectionLost when a server has owed replies for too long.

        A connection that is still is kept alive: servers and what is in between close those that say nothing, and a
        big value may travel on connections of its own for long.
        """
        relay, owed = self._relay, self._errands.owed
        owes = relay.fetching_keys or relay.scan_pending or owed[SOURCE]
        if not owes or self._backlog_bytes:
            self._heard_source = now
        if not owes:
            self._keep_alive(SOURCE, now)
        self._raise_if_silent("source", now - self._heard_source)
        for lane in range(len(self._lanes)):
            owes = relay.lane_storing(lane) or owed[lane]
            if not owes or (self._proof and self._proof.holds(lane)):
                self._heard[lane] = now
            if not owes:
                self._keep_alive(lane, now)
            self._raise_if_silent("target", now - self._heard.setdefault(lane, now))
        self._carriers.check_silence(now, SILENCE_S_MAX)

    def _keep_alive(self, lane: int, now: float) -> None:
        if now - self._traffic_s.setdefault(lane, now) > KEEP_ALIVE_S:
            self._traffic_s[lane] = now
            self._errands.keep_alive(lane)

    def _raise_if_silent(self, side: Side, seconds: float) -> None:
        if seconds > SILENCE_S_MAX:
            raise ConnectionLost(side, f"The {side} has not answered for {SILENCE_S_MAX:g} s.")

    # What to ask for

    def _ask(self, now: float) -> None:
        relay = self._relay
        if self._pace.paused:
            if self._proof:
                self._proof.ask()
            return
        room = relay.newest_page - self._settled_pages < self._pages_max and self._flow.wants_scan(relay)
        if self._supply is None:
            self._scan(room)
        else:
            self._take_turns(self._supply, room, now)
        if relay.queued_keys and self._errands.held_bytes < HELD_BYTES_MAX:
            self._fetch(now)
        if self._proof:
            self._proof.ask()

    def _scan(self, room: bool) -> None:
        relay = self._relay
        if room and not relay.scan_pending and relay.next_cursor not in (b"", b"0"):
            relay.scan(relay.next_cursor)

    def _take_turns(self, supply: Supply, room: bool, now: float) -> None:
        """Keys of SCAN and of the supply are never under way at once.

        1. SCAN's page asks for key K, and gets its old value; 2. K changes, and the supply names it; 3. its new value
        arrives on the target first, because the old one had to be converted. Then the old one overwrites it.
        """
        if self._supplying:
            if self.scanned or not self._is_over(now):
                if room:
                    self._carry(supply, now)
            elif self.is_quiet:
                self._supplying, self._turn_began_s = False, now
        elif not self.scanned and not (self._is_over(now) and supply.presses(now)):
            self._scan(room)
        elif self.is_quiet:
            self._supplying, self._turn_began_s = True, now
            self._carry(supply, now)

    def _is_over(self, now: float) -> bool:
        """Whether the present turn has lasted long enough."""
        return now - self._turn_began_s > TURN_S

    @property
    def is_quiet(self) -> bool:
        """Nothing that it has asked for, or is to write, is under way; big keys travel beside it."""
        return self._relay.idle and not len(self._errands)

    def _carry(self, supply: Supply, now: float) -> None:
        relay = self._relay
        keys = supply.take(self._batch, now)
        if keys:
            supply.sent(relay.add_keys(keys), keys)
        elif not self.scanned and self.is_quiet:
            self._supplying, self._turn_began_s = False, now

    def _fetch(self, now: float) -> None:
        relay, flow = self._relay, self._flow
        allowance = self._pace.allowance(now, *self._totals())
        held_bytes = self._proof.held_bytes if self._proof else 0
        wanted = flow.wants_fetch(relay, self._backlog_bytes + held_bytes + relay.target_out_bytes, allowance)
        if not wanted:
            return
        before_bytes = relay.dumping_bytes
        asked = relay.fetch(wanted, flow.dump_bytes(relay, now))
        flow.dumps(relay.dumping_bytes - before_bytes)
        self._pace.spend(asked)

    def _settle(self, settled: Settled) -> None:
        failures: list[Failure] = []
        notes: Counter[str] = Counter()
        self._settled_pages += len(settled.pages)
        for page in settled.pages:
            its_failures, its_notes = self._slow.take_page(page)
            failures += its_failures
            notes += its_notes
        pages = SettledPages(settled, failures, notes)
        if self._supply is not None and self._supplying:
            self._supply.carried(pages, time.monotonic())
        else:
            self._on_settled(pages)


__all__ = ["ExpiryMoved", "Parts", "Pipeline"]
