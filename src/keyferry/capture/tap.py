"""Listens to MONITOR on several servers, within bounds.

MONITOR has no output-buffer limit and costs its server time for every command. So each server has a pulse beside it,
and a tap is closed at the first of: its time, its lines, its bytes, a late pulse. What came is kept as it is and read
afterwards: reading it at once would take the time in which the server's buffer grows and the pulse seems late.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyferry.capture.pulse import Pulse
from keyferry.model.address import Endpoint
from keyferry.model.errors import Side
from keyferry.wire.channel import Channel
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.resp import encode_command
from keyferry.wire.session import ConnectionLost, Session

REST_PINGS = 9
REST_EVERY_S = 0.02
VIEW_BYTES = 256 * 1024
TURN_S = 0.05

LIMIT_WORDS = {
    "lines": "it has sent as many lines as are taken",
    "bytes": "it has sent as many bytes as are taken",
    "latency": "it answered later than at rest (--max-latency)",
    "stopped": "the audit was ended",
}
"""What a ``Tapped.why`` other than ``time`` means."""

OnTurn = Callable[[float, int], bool]
"""Gets seconds and lines so far; False ends all taps."""


@dataclass(frozen=True, slots=True)
class TapLimits:
    """Of one server.

    Attributes:
        seconds: How long it listens.
        lines_max, bytes_max: It stops when so much came; what came at once beyond that is still kept.
        rise_ms: It stops when the server answers so many milliseconds later than at rest; 0 is off.
    """

    seconds: float = 10.0
    lines_max: int = 200_000
    bytes_max: int = 32_000_000
    rise_ms: float = 5.0


@dataclass(frozen=True, slots=True)
class Tapped:
    """What one server said.

    Attributes:
        data: As it came; may end in the middle of a line.
        why: Why the tap was closed: ``time``, ``lines``, ``bytes``, ``latency``, ``stopped``, or a sentence of the
            server's.
    """

    data: bytes
    seconds: float
    why: str


class Tap:
    """One server's MONITOR and its pulse, on two connections. Raises ServerError when they cannot be made."""

    def __init__(
        self, endpoint: Endpoint, side: Side, limits: TapLimits, on_wait: OnWait = no_wait_ends
    ) -> None:
        self._limits = limits
        self._nonce = b"keyferry-" + os.urandom(8).hex().encode()
        self._pings = 0
        self._taken = bytearray()
        self._lines = 0
        self._view = memoryview(bytearray(VIEW_BYTES))
        self._began_s = self._ended_s = 0.0
        self.why = ""
        with contextlib.ExitStack() as stack:
            pulse = stack.enter_context(Session(endpoint, side, on_wait=on_wait))
            ear = stack.enter_context(Session(endpoint, side, on_wait=on_wait))
            self._pulse = Pulse(_rest_s(pulse), limits.rise_ms / 1000)
            self._pulse_channel, self._ear = Channel(pulse), Channel(ear)
            self._close = stack.pop_all()

    @property
    def own_calls(self) -> dict[str, int]:
        """What the server has counted of us since ``begin``."""
        return {"ping": self._pings, "monitor": 1}

    @property
    def nonce(self) -> bytes:
        """An argument of our own PINGs."""
        return self._nonce

    @property
    def lines(self) -> int:
        return self._lines

    @property
    def taken(self) -> bytes:
        """What has come so far."""
        return bytes(self._taken)

    def begin(self, now_s: float) -> None:
        self._began_s = now_s
        self._ear.queue(encode_command("MONITOR"))
        self._guarded(self._ear.flush)

    def end(self, why: str, now_s: float) -> None:
        """Closes both connections; only the first reason counts."""
        if not self.why:
            self.why = why
            self._ended_s = now_s
            self._close.close()

    def take(self) -> Tapped:
        return Tapped(self.taken, max(0.0, self._ended_s - self._began_s), self.why)

    def register(self, poll: select.poll) -> None:
        for channel in (self._ear, self._pulse_channel):
            poll.register(channel.fileno(), select.POLLIN | channel.wants)

    def turn(self, now_s: float) -> None:
        """Takes what is there; sends the next PING; closes when a limit is reached."""
        if self.why:
            return
        # The pulse first: reading the lines takes time of ours that is not the server's.
        self._guarded(lambda: self._beat(now_s))
        self._guarded(lambda: self._listen(now_s))
        if now_s - self._began_s >= self._limits.seconds:
            self.end("time", now_s)

    def _beat(self, now_s: float) -> None:
        if self._pulse_channel.receive(self._view):
            self._pulse.answered(now_s)
        if self._pulse.due(now_s):
            self._pulse.sent(now_s)
            self._pings += 1
            self._pulse_channel.queue(encode_command("PING", self._nonce))
        self._pulse_channel.flush()
        if self._pulse.has_risen(now_s):
            self.end("latency", now_s)

    def _listen(self, now_s: float) -> None:
        if self.why:
            return
        self._ear.flush()
        size = self._ear.receive(self._view)
        self._lines += self._view[:size].tobytes().count(b"\n")
        self._taken += self._view[:size]
        if self._taken[:1] == b"-" and b"\n" in self._taken:
            self.end(self._taken[1:].partition(b"\r\n")[0].decode("utf-8", "backslashreplace"), now_s)
        elif self._lines >= self._limits.lines_max:
            self.end("lines", now_s)
        elif len(self._taken) >= self._limits.bytes_max:
            self.end("bytes", now_s)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ConnectionLost as error:
            self.end(error.message, time.monotonic())


def listen(taps: Sequence[Tap], on_turn: OnTurn) -> list[Tapped]:
    """Listens on all at once until each has reached one of its limits."""
    began_s = time.monotonic()
    for tap in taps:
        tap.begin(began_s)
    try:
        while open_taps := [tap for tap in taps if not tap.why]:
            poll = select.poll()
            for tap in open_taps:
                tap.register(poll)
            poll.poll(TURN_S * 1000)
            now_s = time.monotonic()
            for tap in open_taps:
                tap.turn(now_s)
            if not on_turn(now_s - began_s, sum(tap.lines for tap in taps)):
                break
    finally:
        ended_s = time.monotonic()
        for tap in taps:
            tap.end("stopped", ended_s)
    return [tap.take() for tap in taps]


def _rest_s(session: Session) -> float:
    """How long an answer takes now: the median of a few."""
    took_s = []
    for _ in range(REST_PINGS):
        began_s = time.monotonic()
        session.call("PING")
        took_s.append(time.monotonic() - began_s)
        time.sleep(REST_EVERY_S)
    return statistics.median(took_s)
