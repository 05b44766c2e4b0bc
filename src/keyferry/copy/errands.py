"""Commands of our own on a relay's connections, each with what to do when its replies are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from keyferry.transfer.relay import Relay
from keyferry.wire.resp import Argument, Reply, ReplyParser, encode_commands

ERRAND_BYTES = 1024
"""What an errand itself takes, about."""
SOURCE = -1
"""The source's place among the target's lanes, 0 and up."""

Then = Callable[[list[Reply]], None]
ThenRaw = Callable[[bytes], None]


class Errands:
    """Numbers each errand and finds its continuation again."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._next = 0
        self._waiting: dict[int, tuple[int, ThenRaw, int]] = {}
        self.owed: Counter[int] = Counter()
        """Errands under way, by the lane that has to answer, or ``SOURCE``."""
        self.marks: tuple[int, ...] = ()
        """Of the replies that a continuation is looking at."""
        self.held_bytes = 0
        """What the continuations keep in memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    def ask_source(
        self, commands: Sequence[tuple[Argument, ...]], then: Then, *, holding_bytes: int = 0
    ) -> None:
        """Sends the commands back to back; ``then`` gets their replies, errors as values.

        ``holding_bytes``: of the payload that ``then`` waits with.
        """
        self.send(SOURCE, encode_commands(list(commands)), len(commands), parsed(then), holding_bytes)

    def ask_target(
        self, key: bytes, commands: Sequence[tuple[Argument, ...]], then: Then, *, holding_bytes: int = 0
    ) -> None:
        """The same on the lane where the target keeps ``key``."""
        lane = self._relay.lane_of(key)
        self.send(lane, encode_commands(list(commands)), len(commands), parsed(then), holding_bytes)

    def send(self, lane: int, commands: bytes, count: int, then: ThenRaw, holding_bytes: int = 0) -> None:
        """Sends ``count`` encoded commands; ``then`` gets the bytes of their replies."""
        self._next += 1
        self._waiting[self._next] = lane, then, holding_bytes + ERRAND_BYTES
        self.owed[lane] += 1
        self.held_bytes += holding_bytes + ERRAND_BYTES
        if lane == SOURCE:
            self._relay.source_command(self._next, commands, count)
        else:
            self._relay.target_command(self._next, commands, count, lane)

    def keep_alive(self, lane: int) -> None:
        """A PING, so that nobody closes a connection that is still; its answer says nothing."""
        self.send(lane, encode_commands([("PING",)]), 1, lambda data: None)

    def answer(self, token: int, data: bytes, marks: tuple[int, ...]) -> None:
        """Hands replies to their continuation. ``marks``: as ``Relay.take_raw`` gives them."""
        self.marks = marks
        lane, then, held_bytes = self._waiting.pop(token)
        self.owed[lane] -= 1
        self.held_bytes -= held_bytes
        then(data)


def parsed(then: Then) -> ThenRaw:
    """A continuation that takes bytes, from one that takes replies."""
    return lambda data: then(replies_of(data))


def replies_of(data: bytes) -> list[Reply]:
    """Complete replies, errors as values."""
    parser = ReplyParser()
    parser.feed(data)
    return parser.replies()
