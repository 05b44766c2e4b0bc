"""Commands of our own on a relay's two connections, each with what to do when its replies are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyferry.model.errors import Side
from keyferry.transfer.relay import Relay
from keyferry.wire.resp import Argument, Reply, ReplyParser, encode_commands

ERRAND_BYTES = 1024
"""What an errand itself takes, about."""

Then = Callable[[list[Reply]], None]


class Errands:
    """Numbers each errand and finds its continuation again."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._next = 0
        self._waiting: dict[int, tuple[Side, Then, int]] = {}
        self.owed: dict[Side, int] = {"source": 0, "target": 0}
        """Errands under way, by the side that has to answer."""
        self.mark = 0
        """Of the replies that a continuation is looking at."""
        self.held_bytes = 0
        """What the continuations keep in memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(
        self, side: Side, commands: Sequence[tuple[Argument, ...]], then: Then, *, holding_bytes: int = 0
    ) -> None:
        """Sends the commands back to back; ``then`` gets their replies, errors as values.

        ``holding_bytes``: of the payload that ``then`` waits with.
        """
        self._next += 1
        self._waiting[self._next] = side, then, holding_bytes + ERRAND_BYTES
        self.owed[side] += 1
        self.held_bytes += holding_bytes + ERRAND_BYTES
        send = self._relay.source_command if side == "source" else self._relay.target_command
        send(self._next, encode_commands(list(commands)), len(commands))

    def answer(self, token: int, data: bytes, mark: int) -> None:
        """Hands replies to their continuation. ``mark``: as ``Relay.take_raw`` gives it."""
        self.mark = mark
        parser = ReplyParser()
        parser.feed(data)
        side, then, held_bytes = self._waiting.pop(token)
        self.owed[side] -= 1
        self.held_bytes -= held_bytes
        then(parser.replies())
