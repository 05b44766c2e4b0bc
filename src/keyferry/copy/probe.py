"""Watches one server on a connection of its own: the latency that a client feels, and a few counters of INFO.

A latency is measured as its lower bound: from the earliest time at which the reply can have come. Our own work
between two looks therefore never counts as the server's slowness.
"""

from __future__ import annotations

import select
import time

from keyferry.copy.info import Info, parse_info
from keyferry.model.errors import Side
from keyferry.wire.channel import Channel
from keyferry.wire.resp import ProtocolError, Push, Reply, ReplyParser, encode_command, encode_commands
from keyferry.wire.session import Session

PING_EVERY_S = 0.01
INFO_EVERY_S = 1.0
SHOWN_SAMPLES = 50
SILENT_MS = 1000.0
"""Less may be our own work between two looks."""
BASELINE_PINGS = 20
BASELINE_S_MAX = 0.3
"""A distant server is asked less often: its round trips are long, not its moods."""
BASELINE_PINGS_MIN = 3

_PING = encode_command("PING")
_LOOK = encode_commands([("PING",), ("INFO", "stats"), ("INFO", "memory")])
_NODES = encode_command("CLUSTER", "NODES")
_INFOS = 3


class Probe:
    """One server's probe: ``turn`` sends what is due, ``read`` takes what came."""

    def __init__(
        self, session: Session, ping_every_s: float = PING_EVERY_S, *, shard: str = "0", cluster: bool = False
    ) -> None:
        """Measures the idle latency first (up to ``BASELINE_PINGS`` round trips), then hands the socket to poll().

        Args:
            cluster: Ask for CLUSTER NODES as well.
        """
        self.side: Side = session.side
        self.shard = shard
        self.nodes: bytes | None = None
        """Its last answer to CLUSTER NODES; None while there is none, or where it is forbidden."""
        self._cluster = cluster
        self._every_s = ping_every_s
        self.baseline_ms = _baseline_ms(session)
        self._channel = Channel(session)
        self._parser = ReplyParser()
        self._view = memoryview(bytearray(65536))
        self._sent_s = -1.0
        self._info_s = 0.0
        self._expected = self._asked = 0
        self._recent: list[float] = []
        self.added_ms: list[float] = []
        self.info: Info = {}

    @property
    def latency_ms(self) -> float | None:
        """The worst of the last samples, as shown."""
        return self.baseline_ms + max(self._recent) if self._recent else None

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def events(self) -> int:
        return select.POLLIN | self._channel.wants

    def close(self) -> None:
        self._channel.close()

    def turn(self, now_s: float) -> None:
        """Sends the next PING when it is due and the last one was answered."""
        if self._expected == 0 and now_s >= self._sent_s + self._every_s:
            look = now_s >= self._info_s + INFO_EVERY_S
            if look:
                self._info_s = now_s
            self._channel.queue(_LOOK if look else _PING)
            if look and self._cluster:
                self._channel.queue(_NODES)
            self._channel.flush()
            self._expected = self._asked = _INFOS + self._cluster if look else 1
            self._sent_s = now_s

    def waiting_ms(self, now_s: float) -> float:
        """How long the server has let us wait for an answer that is still missing."""
        return max(0.0, (now_s - self._sent_s) * 1000 - self.baseline_ms) if self._expected else 0.0

    def shown_ms(self, now_s: float) -> float | None:
        """As ``latency_ms``, or how long an answer is missing when that is long: a server that hangs gives no samples."""
        waiting_ms = self.waiting_ms(now_s)
        return self.latency_ms if waiting_ms < SILENT_MS else max(waiting_ms, self.latency_ms or 0.0)

    def read(self, came_s: float) -> None:
        """Takes replies.

        Args:
            came_s: The earliest time at which they can have come.

        Raises:
            ConnectionLost: The connection broke.
            ProtocolError: The peer does not speak RESP.
        """
        count = self._channel.receive(self._view)
        if not count:
            return
        self._parser.feed(self._view[:count])
        for reply in self._parser.replies():
            self._take(reply, came_s)

    def _take(self, reply: Reply, came_s: float) -> None:
        if isinstance(reply, Push):
            return
        if not self._expected:
            raise ProtocolError(f"The {self.side} sent a reply that nothing asked for.")
        place = self._asked - self._expected
        if place == 0:
            added = max(0.0, (came_s - self._sent_s) * 1000 - self.baseline_ms)
            self.added_ms.append(added)
            self._recent = [*self._recent[-SHOWN_SAMPLES + 1 :], added]
        elif place >= _INFOS:
            self.nodes = reply if isinstance(reply, bytes) else None
        elif isinstance(reply, bytes):
            self.info.update(parse_info(reply))
        self._expected -= 1

    def take_samples(self) -> list[float]:
        samples, self.added_ms = self.added_ms, []
        return samples


def _baseline_ms(session: Session) -> float:
    """The fastest of a few round trips."""
    found: list[float] = []
    until_s = time.perf_counter() + BASELINE_S_MAX
    while len(found) < BASELINE_PINGS_MIN or (len(found) < BASELINE_PINGS and time.perf_counter() < until_s):
        began_s = time.perf_counter()
        session.call("PING")
        found.append((time.perf_counter() - began_s) * 1000)
    return min(found)
