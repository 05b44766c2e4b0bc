"""How much may be under way at once: bounded in bytes on every side, enough that no server waits for us.

The next SCAN goes out before the DUMPs of the page that has just arrived, so the source answers it first and
has a full page of DUMPs to do while the next page comes to us and its requests go back:
  1. page 7 arrives; 2. we send SCAN 8, DUMPs of 7; 3. the source sends page 8, then does the DUMPs of 7;
  4. meanwhile we send SCAN 9, DUMPs of 8. It never runs dry while one page takes longer than one round trip.
"""

from __future__ import annotations

from typing import Protocol

TARGET_BACKLOG_BYTES_MAX = 4 << 20
"""Commands that wait for the target to take them; above it the source is not read and not asked."""
REPLY_BYTES_MAX = 4 << 20
"""Payload bytes that the source may be asked for at once, by the average seen so far."""
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


class Flow:
    """Decides when to scan and how many keys to fetch; no I/O, no clock."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._average = float(KEY_BYTES_GUESS)
        self._seen_keys = 0
        self._seen_bytes = 0

    def window(self, counters: Counters) -> int:
        """How many keys may be asked for and not answered yet."""
        keys = counters.fetched_keys - self._seen_keys
        size = counters.fetched_bytes - self._seen_bytes
        if keys >= SAMPLE_KEYS or size > REPLY_BYTES_MAX:
            recent = size / keys
            # Up at once, down slowly: the memory of both servers pays for a guess that is too low.
            self._average = max(recent, self._average * 0.7 + recent * 0.3)
            self._seen_keys, self._seen_bytes = counters.fetched_keys, counters.fetched_bytes
        by_bytes = int(REPLY_BYTES_MAX / max(self._average, 1.0))
        return max(KEYS_MIN, min(by_bytes, 2 * self._batch))

    def wake_bytes(self, counters: Counters) -> int:
        """How many bytes of replies are worth waking up for: many, while many more than those are under way."""
        return WAKE_BYTES if counters.fetching_keys * self._average > 4 * WAKE_BYTES else 1

    def wants_scan(self, counters: Counters) -> bool:
        return counters.queued_keys < 2 * self._batch

    def wants_fetch(self, counters: Counters, target_backlog_bytes: int, allowance: int) -> int:
        """Keys to ask for now."""
        if target_backlog_bytes > TARGET_BACKLOG_BYTES_MAX or counters.storing_keys > STORING_KEYS_MAX:
            return 0
        room = self.window(counters) - counters.fetching_keys
        return max(0, min(counters.queued_keys, room, allowance))
