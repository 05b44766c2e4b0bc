"""Connections of their own for values that travel in pieces.

A carry in pieces watches its key on the source, and may be in the middle of a long command on the target: both
need a connection that nobody else uses meanwhile. Two values at a time, so that one server works for the second while the
other works for the first. They are dialled when the first big key comes; most passes have none.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from keyferry.copy.errands import SOURCE, Errands
from keyferry.copy.lanes import Lanes, Place
from keyferry.copy.poller import Poller
from keyferry.model.errors import Side
from keyferry.transfer.relay import Relay
from keyferry.wire.channel import Channel
from keyferry.wire.session import ConnectionLost

CARRIERS_MAX = 2
KEEP_ALIVE_S = 5.0


class Carrier:
    """Carries one value at a time.

    Args:
        lanes: Has none yet; a primary of the target is dialled when its first value comes.
        relay: Only counts replies here; no key is asked for through it.
    """

    def __init__(self, source: Channel, lanes: Lanes, relay: Relay, poller: Poller, view: memoryview) -> None:
        self._source, self._lanes, self._relay, self._poller = source, lanes, relay, poller
        self._view = view
        self._heard_s: dict[int, float] = {}
        self._open_lane: int | None = None
        self.errands = Errands(relay)

    def lane(self, place: Place) -> int:
        """The lane to a primary of the target, by where it is reached."""
        lane = self._lanes.open(place)
        while self._relay.lanes < len(self._lanes):
            self._relay.add_lane()
        return lane

    def send_open(self, lane: int, data: bytes) -> None:
        """Bytes that end in the middle of a command; the next ``end_open`` or ``send_open`` goes on with it."""
        self._open_lane = lane
        channel = self._lanes.channels[lane]
        channel.queue(self._relay.take_target(lane))
        channel.queue(data)

    def end_open(self) -> None:
        """What is sent next ends the command that is open, if one is."""
        self._open_lane = None

    def backlog_bytes(self, lane: int) -> int:
        """What the target's primary has not taken yet."""
        return self._lanes.channels[lane].out_bytes

    @property
    def buffered(self) -> bool:
        """TLS holds bytes that poll() does not know of."""
        return any(channel.buffered for channel in (self._source, *self._lanes.channels))

    def concerns(self, ready: dict[int, int]) -> bool:
        """Whether one of its sockets is among those that poll() named."""
        return any(channel.fileno() in ready for channel in (self._source, *self._lanes.channels))

    def receive(self, ready: dict[int, int], now_s: float) -> None:
        """Takes what came, and hands it to whom it is for. Raises ConnectionLost."""
        relay = self._relay
        for lane, channel in enumerate((self._source, *self._lanes.channels), start=SOURCE):
            if channel.buffered or ready.get(channel.fileno(), 0) & ~select.POLLOUT:
                count = channel.receive(self._view)
                if not count:
                    continue
                self._heard_s[lane] = now_s
                if lane == SOURCE:
                    relay.feed_source(self._view[:count])
                else:
                    relay.feed_target(self._view[:count], lane)
        for token, data, marks in relay.take_raw():
            self.errands.answer(token, data, marks)

    def send(self, now_s: float) -> None:
        """Sends what can be sent, and says what to be woken for. Raises ConnectionLost."""
        if self._relay.source_out_bytes:
            self._source.queue(self._relay.take_source())
        for lane, channel in enumerate(self._lanes.channels):
            if self._relay.lane_out_bytes(lane):
                channel.queue(self._relay.take_target(lane))
        for lane, channel in enumerate((self._source, *self._lanes.channels), start=SOURCE):
            if channel.out_bytes:
                before_bytes = channel.out_bytes
                channel.flush()
                if channel.out_bytes < before_bytes:
                    self._heard_s[lane] = now_s
            self._poller.watch(channel.fileno(), channel.wants | select.POLLIN)

    def check_silence(self, now_s: float, silence_s_max: float) -> None:
        """Raises ConnectionLost when a server has owed replies, or taken nothing, for too long.

        A connection that is still is kept alive: servers and what is in between close those that say nothing.
        """
        for lane, channel in enumerate((self._source, *self._lanes.channels), start=SOURCE):
            still_s = now_s - self._heard_s.setdefault(lane, now_s)
            if not (self.errands.owed[lane] or channel.out_bytes):
                if lane == self._open_lane:
                    self._heard_s[lane] = now_s
                elif still_s > KEEP_ALIVE_S:
                    self.errands.keep_alive(lane)
            elif still_s > silence_s_max:
                side: Side = channel.side
                raise ConnectionLost(side, f"The {side} has not answered for {silence_s_max:g} s.")

    def close(self) -> None:
        for channel in (self._source, *self._lanes.channels):
            self._poller.forget(channel.fileno())
            channel.close()


class Carriers:
    """Those of one pipeline. Args: connect: Dials the source."""

    def __init__(self, connect: Callable[[], Carrier]) -> None:
        self._connect = connect
        self._all: list[Carrier] = []
        self._free: list[Carrier] = []

    def take(self) -> Carrier | None:
        """One that carries nothing, until ``give_back``; None when all do. Raises as a Session does."""
        if not self._free and len(self._all) < CARRIERS_MAX:
            carrier = self._connect()
            self._all.append(carrier)
            self._free.append(carrier)
        return self._free.pop() if self._free else None

    def give_back(self, carrier: Carrier) -> None:
        self._free.append(carrier)

    @property
    def buffered(self) -> bool:
        return any(carrier.buffered for carrier in self._all)

    def concerns(self, ready: dict[int, int]) -> bool:
        return any(carrier.concerns(ready) for carrier in self._all)

    def receive(self, ready: dict[int, int], now_s: float) -> None:
        for carrier in list(self._all):
            carrier.receive(ready, now_s)

    def send(self, now_s: float) -> None:
        for carrier in self._all:
            carrier.send(now_s)

    def check_silence(self, now_s: float, silence_s_max: float) -> None:
        for carrier in self._all:
            carrier.check_silence(now_s, silence_s_max)

    def close(self) -> None:
        for carrier in self._all:
            carrier.close()
