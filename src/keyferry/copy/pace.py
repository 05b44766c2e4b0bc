"""How fast the copy may go: the user's limits, and the guard that slows it down before the application feels it.

Pure: the clock comes in as an argument, in seconds.
"""

from __future__ import annotations

from collections import deque

from keyferry.telemetry.progress import ThrottleState

INTERVAL_S = 0.1
"""One decision of the guard per interval: long enough that its effect shows in the next samples."""
DECREASE = 0.6
INCREASE = 0.05
"""Share of the fastest rate seen that is added back in each calm interval: 2 s from a standstill to full speed."""
RATE_MIN = 200.0
"""Keys per second: the guard never stops the copy, or a server that is slow by itself would stop it for ever."""
SLOWED_SHARE = 0.25
FLOOR_INTERVALS = 10
SAMPLES_MAX = 1000
BURST_S = 0.02
QUANTUM_S = 0.004
"""Under a limit, keys are asked for in portions of so many seconds' worth: a handful at a time costs us more than it."""
UNLIMITED = 1 << 30
PIECE_KEYS = 100
PIECE_KEY_BYTES = 4096
"""A piece of some hundred members, or of a megabyte, costs a server as much as a few hundred small keys."""


class Guard:
    """Additive increase, multiplicative decrease of the rate, by the latency added on either server.

    A latency that stays when the copy has long slowed down is not ours: on a busy machine, or behind a busy
    server, slowing down further would stop the copy and help nobody. Its least value while slowed is taken as
    the floor, and only what comes on top of it counts.
    """

    def __init__(self, latency_max_ms: float) -> None:
        """Args: latency_max_ms: Added latency at which to slow down; 0 is off."""
        self._latency_max_ms = latency_max_ms
        self._samples: list[float] = []
        self._while_slowed: deque[float] = deque(maxlen=FLOOR_INTERVALS)
        self._floor_ms = 0.0
        self._keys = 0
        self._since = -1.0
        self._fastest = RATE_MIN
        self.rate: float | None = None
        self.rate_min = RATE_MIN
        """Keys per second below which it never goes."""
        self.slowed_s = 0.0

    def limit(self, latency_max_ms: float) -> None:
        """Another bound from now on; 0 is off."""
        self._latency_max_ms = latency_max_ms
        if not latency_max_ms:
            self.rate = None
            self._samples.clear()
            self._while_slowed.clear()

    @property
    def latency_max_ms(self) -> float:
        return self._latency_max_ms

    def needs(self, rate: float) -> None:
        """So fast keys change on the source: slower than this the work would only grow."""
        self.rate_min = max(RATE_MIN, rate)
        if self.rate is not None:
            self.rate = max(self.rate, self.rate_min)

    def sample(self, added_ms: float) -> None:
        """One measured latency, over what the idle server answers in."""
        if len(self._samples) < SAMPLES_MAX:
            self._samples.append(added_ms)

    def begin_pass(self) -> None:
        """The count of keys begins anew."""
        self._since = -1.0

    def tick(self, now_s: float, keys_done: int) -> None:
        """Decides when an interval is over. ``keys_done`` counts all keys so far."""
        if not self._latency_max_ms:
            return
        if self._since < 0:
            self._since, self._keys = now_s, keys_done
            return
        elapsed = now_s - self._since
        if elapsed < INTERVAL_S or not self._samples:
            return
        measured = (keys_done - self._keys) / elapsed
        self._fastest = max(self._fastest, measured)
        if self.rate is not None:
            self.slowed_s += elapsed
        self._decide(_second_worst(self._samples), measured)
        self._samples.clear()
        self._since, self._keys = now_s, keys_done

    def _decide(self, worst_ms: float, measured: float) -> None:
        if self.rate is not None and self.rate < SLOWED_SHARE * self._fastest:
            self._while_slowed.append(worst_ms)
            if len(self._while_slowed) == FLOOR_INTERVALS:
                self._floor_ms = min(self._while_slowed)
        self._floor_ms = min(self._floor_ms, worst_ms)
        if worst_ms > self._floor_ms + self._latency_max_ms:
            self.rate = max(self.rate_min, DECREASE * min(measured or RATE_MIN, self.rate or measured))
        elif self.rate is not None:
            self.rate += INCREASE * self._fastest
            if self.rate > 1.1 * self._fastest:
                self.rate = None
                self._while_slowed.clear()


def _second_worst(samples: list[float]) -> float:
    """One slow answer in an interval may be the machine's scheduler; two are the server."""
    ordered = sorted(samples)
    return ordered[-2] if len(ordered) >= 4 else ordered[-1]


class Bucket:
    """A token bucket that may go into debt: what was not known in advance (bytes) is paid for afterwards."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at = -1.0

    def allowance(self, rate: float, now_s: float) -> float:
        if self._at < 0:
            self._at = now_s
        self._tokens = min(self._tokens + (now_s - self._at) * rate, max(1.0, rate * BURST_S))
        self._at = now_s
        return self._tokens

    def spend(self, amount: float) -> None:
        self._tokens -= amount


class Pace:
    """The user's limits and the guard together."""

    def __init__(self, max_rate: float | None, max_bandwidth: float | None, latency_max_ms: float) -> None:
        """Args: max_rate: Keys/s. max_bandwidth: Payload bytes/s. latency_max_ms: 0 turns the guard off."""
        self.guard = Guard(latency_max_ms)
        self._max_rate = max_rate
        self._max_bandwidth = max_bandwidth
        self._keys = Bucket()
        self._bytes = Bucket()
        self._pieces = Bucket()
        self._piece_keys = 0.0
        self._keys_done = 0
        self._keys_charged = 0
        self._bytes_charged = 0.0
        self._key_bytes: float | None = None
        self._seen = (0, 0)
        self._waiting_since = -1.0
        self.paused = False
        """Nothing may be asked for."""
        self.urgent = False
        """Writers wait for what is carried now: no limit counts, and none of it is charged to later work."""
        self.limited_s = 0.0

    @property
    def throttled_s(self) -> float:
        """Seconds in which the guard or a limit held the copy back."""
        return self.guard.slowed_s + self.limited_s

    @property
    def state(self) -> ThrottleState:
        if self.guard.rate is not None:
            return "slowed"
        if self._waiting_since >= 0:
            return "limited"
        return "free" if self.guarded else "off"

    @property
    def guarded(self) -> bool:
        return self.guard.latency_max_ms > 0

    @property
    def limits(self) -> tuple[float, float]:
        """Keys per second and added milliseconds; 0 where there is no limit."""
        return self._max_rate or 0.0, self.guard.latency_max_ms

    def set_limits(self, max_rate: float | None, latency_max_ms: float | None) -> None:
        """Other limits from now on. Args: None leaves one as it is, 0 takes it away; else as ``Pace``."""
        if max_rate is not None:
            self._max_rate = max_rate or None
            self._keys = Bucket()
        if latency_max_ms is not None:
            self.guard.limit(latency_max_ms)

    def begin_pass(self) -> None:
        """The counts of keys and bytes begin anew."""
        self._bytes_charged = 0.0
        self._piece_keys = 0.0
        self._keys_done = self._keys_charged = 0
        self._seen = (0, 0)
        self.guard.begin_pass()

    def allowance(self, now_s: float, keys_done: int, payload_bytes: int, keys_waiting: int) -> int:
        """Keys that may be asked for now.

        Args:
            keys_done: Keys whose payload has arrived in this pass.
            payload_bytes: Of those keys.
            keys_waiting: Keys that are asked for something and not answered.
        """
        self._tick(now_s, keys_done)
        allowed = float(UNLIMITED)
        rates = [rate for rate in (self._max_rate, self.guard.rate) if rate is not None]
        # A key may be asked for its size before its value. It counts once, when it comes: what has been answered and
        # has not come is given back.
        owed = keys_done + keys_waiting
        if self.paused or self.urgent:
            self._forgive(owed, keys_done, payload_bytes, keys_waiting)
            self._note(False, now_s)
            return 0 if self.paused else UNLIMITED
        if rates:
            self._keys.spend(owed - self._keys_charged)
            allowed = self._keys.allowance(min(rates), now_s)
            if allowed < max(1.0, QUANTUM_S * min(rates)):
                allowed = 0.0
        self._keys_charged = owed
        if self._max_bandwidth is not None:
            allowed = min(allowed, self._by_bytes(now_s, keys_done, payload_bytes, keys_waiting))
        self._note(allowed < 1 and self.guard.rate is None, now_s)
        return int(max(0.0, allowed))

    def _forgive(self, owed: int, keys_done: int, payload_bytes: int, keys_waiting: int) -> None:
        """What has been asked for until now is not to be paid for."""
        self._keys_charged, self._seen = owed, (keys_done, payload_bytes)
        self._bytes_charged = payload_bytes + keys_waiting * (self._key_bytes or 0.0)

    def spend(self, keys: int) -> None:
        """So many keys were asked for."""
        if self.urgent:
            self._keys_charged += keys
            self._bytes_charged += keys * (self._key_bytes or 0.0)
            return
        if self._max_rate is not None or self.guard.rate is not None:
            self._keys.spend(keys)
        self._keys_charged += keys
        if self._key_bytes is not None:
            self._bytes_charged += keys * self._key_bytes
            self._bytes.spend(keys * self._key_bytes)

    def allows_piece(self, now_s: float) -> bool:
        """Whether the next piece of a big value may be asked for now."""
        self._tick(now_s, self._keys_done)
        if self.paused or self.urgent:
            return self.urgent and not self.paused
        allowed = True
        if self.guard.rate is not None:
            allowed = self._pieces.allowance(self.guard.rate, now_s) > 0
        if self._max_bandwidth is not None:
            allowed = self._bytes.allowance(self._max_bandwidth, now_s) > 0 and allowed
        return allowed

    def spend_piece(self, size_bytes: int) -> None:
        """A piece of so many bytes has come; to the guard it counts as the keys that cost a server as much."""
        keys = PIECE_KEYS + size_bytes / PIECE_KEY_BYTES
        self._piece_keys += keys
        if self.urgent:
            return
        if self.guard.rate is not None:
            self._pieces.spend(keys)
        if self._max_bandwidth is not None:
            self._bytes.spend(size_bytes)

    def _tick(self, now_s: float, keys_done: int) -> None:
        self._keys_done = keys_done
        self.guard.tick(now_s, keys_done + int(self._piece_keys))

    def _by_bytes(self, now_s: float, keys_done: int, payload_bytes: int, keys_waiting: int) -> float:
        """Keys that the bandwidth allows: charged by the average when they are asked for, corrected when they come."""
        assert self._max_bandwidth is not None
        keys, size = keys_done - self._seen[0], payload_bytes - self._seen[1]
        if keys > 0:
            recent = size / keys
            self._key_bytes = (
                recent if self._key_bytes is None else self._key_bytes + (recent - self._key_bytes) / 4
            )
            self._seen = (keys_done, payload_bytes)
        owed = payload_bytes + keys_waiting * (self._key_bytes or 0.0)
        self._bytes.spend(owed - self._bytes_charged)
        self._bytes_charged = owed
        tokens = self._bytes.allowance(self._max_bandwidth, now_s)
        if tokens <= 0:
            return 0.0
        if self._key_bytes is None:
            return 0.0 if keys_waiting else 1.0
        return max(1.0, tokens / max(1.0, self._key_bytes))

    def _note(self, limited: bool, now_s: float) -> None:
        if self._waiting_since >= 0:
            self.limited_s += now_s - self._waiting_since
        self._waiting_since = now_s if limited else -1.0
