"""How much may be under way at once: bounded in bytes and in the source's time, enough that no server waits for us.

The next SCAN goes out before the DUMPs of the page that has just arrived, so the source answers it first and
has a full page of DUMPs to do while the next page comes to us and its requests go back:
  1. page 7 arrives; 2. we send SCAN 8, DUMPs of 7; 3. the source sends page 8, then does the DUMPs of 7;
  4. meanwhile we send SCAN 9, DUMPs of 8. It never runs dry while one page takes longer than one round trip.

A server works off what one client has sent in portions of 16 KiB of commands (PROTO_IOBUF_LEN), and only then
turns to the others. Small keys cost it a fraction of a millisecond per portion; but some hundred DUMPs of 100 KB
each fit in one as well. So the values whose DUMP is asked for are bounded by their measured size, too, in what
is under way (``DUMP_BYTES_MAX``) and per second of wall time, so that a distant source is asked for more at once
without ever getting more than it does in that time.
"""

from __future__ import annotations

from typing import Protocol

TARGET_BACKLOG_BYTES_MAX = 4 << 20
"""Commands that wait for the target to take them; above it the source is not read and not asked."""
REPLY_BYTES_MAX = 4 << 20
"""Payload bytes that the source may be asked for at once, by the average seen so far."""
DUMP_BYTES_MAX = 384 << 10
"""Measured bytes of values whose DUMP may be asked for in one go: 1-3 ms of a server that needs up to 7 us per KB."""
DUMP_BYTES_PER_S = 200 << 20
"""How fast a source works them off, about; slower ones are seen by what is still under way."""
DISTANT_BYTES_MAX = 16 << 20
KEY_BYTES_GUESS = 64 * 1024
"""A payload's size before the first is seen: a page of giants must not be asked for at once."""
KEYS_MIN = 2
SAMPLE_KEYS = 32
WAKE_BYTES = 32 * 1024
STORING_KEYS_MAX = 20_000


class Counters(Protocol):
    """What a flow looks at; a relay has them."""

    @property
    def queued_keys(self) -> int: ...
    @property
    def fetching_keys(self) -> int: ...
    @property
    def storing_keys(self) -> int: ...
    @property
    def fetched_keys(self) -> int: ...
    @property
    def fetched_bytes(self) -> int: ...
    @property
    def dumping_bytes(self) -> int: ...


class Flow:
    """Decides when to scan and how many keys to fetch; no I/O, the clock comes in as an argument."""

    def __init__(self, batch: int, *, measured: bool = False, round_trip_ms: float = 0.0) -> None:
        """Args: measured: Keys are measured before their DUMP. round_trip_ms: To the source, at rest."""
        self._batch = batch
        self._measured = measured
        self._average = 0.0 if measured else float(KEY_BYTES_GUESS)
        self._seen_keys = 0
        self._seen_bytes = 0
        distant = int(round_trip_ms / 1000 * DUMP_BYTES_PER_S)
        self._dumping_bytes_max = min(DISTANT_BYTES_MAX, DUMP_BYTES_MAX + distant)
        self._tokens = float(DUMP_BYTES_MAX)
        self._at_s = -1.0
        self._dumping = 0

    def window(self, counters: Counters) -> int:
        """How many keys may be asked for and not answered yet."""
        keys = counters.fetched_keys - self._seen_keys
        size = counters.fetched_bytes - self._seen_bytes
        if keys >= SAMPLE_KEYS or size > REPLY_BYTES_MAX:
            recent = size / keys
            # Up at once, down slowly: the memory of both servers pays for a guess that is too low.
            self._average = max(recent, self._average * 0.7 + recent * 0.3)
            self._seen_keys, self._seen_bytes = counters.fetched_keys, counters.fetched_bytes
        if self._measured:
            return 2 * self._batch
        by_bytes = int(REPLY_BYTES_MAX / max(self._average, 1.0))
        return max(KEYS_MIN, min(by_bytes, 2 * self._batch))

    def wake_bytes(self, counters: Counters) -> int:
        """How many bytes of replies are worth waking up for: many, while many more than those are under way.

        Of measured values a DUMP may take a quarter of what they take in memory; sizes themselves are a few bytes.
        """
        if counters.dumping_bytes:
            return WAKE_BYTES if counters.dumping_bytes > 8 * WAKE_BYTES else 1
        return WAKE_BYTES if counters.fetching_keys * self._average > 4 * WAKE_BYTES else 1

    def wants_scan(self, counters: Counters) -> bool:
        return counters.queued_keys < 2 * self._batch

    def wants_fetch(self, counters: Counters, target_backlog_bytes: int, allowance: int) -> int:
        """Keys to ask for now."""
        if target_backlog_bytes > TARGET_BACKLOG_BYTES_MAX or counters.storing_keys > STORING_KEYS_MAX:
            return 0
        room = self.window(counters) - counters.fetching_keys
        return max(0, min(counters.queued_keys, room, allowance))

    def dump_bytes(self, counters: Counters, now_s: float) -> int:
        """Measured bytes of values whose DUMP may be asked for now. Above 0 lets a single larger one through."""
        asked = counters.dumping_bytes
        if self._at_s < 0:
            self._at_s = now_s
        earned = (now_s - self._at_s) * DUMP_BYTES_PER_S
        self._at_s = now_s
        self._tokens = min(float(DUMP_BYTES_MAX), self._tokens + earned)
        if not asked:
            # It has worked off everything: it is never behind what it was given.
            self._tokens = float(DUMP_BYTES_MAX)
        return max(0, min(int(self._tokens), self._dumping_bytes_max - asked))

    def dumps(self, size_bytes: int) -> None:
        """DUMPs of values of this measured size were asked for."""
        self._tokens -= size_bytes
