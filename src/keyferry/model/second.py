"""The second leg of a write as a value, and the reading of replies that its rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from keyferry.model.key_positions import Args


class _Untold:
    """A reply of which nothing can be said beforehand."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNTOLD"


UNTOLD: Final = _Untold()


class Second:
    """What follows a write that succeeded on the authority. Not changed once it is made.

    Attributes:
        commands: for the mirror side, in this order; arguments as redis-py packs them.
        reported: keys to settle, whatever becomes of ``commands``; as they were passed or as the reply names them.
        everything_unknown: any key may have changed: a script that names none.
        expected: to each of the commands what a mirror side with the same data answers, raw as the reply was;
            UNTOLD where that cannot be said. Another answer is a sign that the sides have diverged.
    """

    __slots__ = ("commands", "everything_unknown", "expected", "reported")

    def __init__(
        self,
        commands: Sequence[Args] = (),
        reported: Sequence[Any] = (),
        everything_unknown: bool = False,
        expected: Sequence[Any] = (),
    ) -> None:
        self.commands = commands
        self.reported = reported
        self.everything_unknown = everything_unknown
        self.expected = expected

    def __repr__(self) -> str:
        return (
            f"Second({self.commands!r}, reported={self.reported!r}, "
            f"everything_unknown={self.everything_unknown!r}, expected={self.expected!r})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Second):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]


NOTHING: Final = Second()

Rule = Callable[[Args, Any, int, bool], Second]
"""(args, reply, now_ms, absolute_expiry): how one command is rewritten."""


def one(*command: Any, expected: Any = UNTOLD) -> Second:
    """A second leg of one command."""
    return Second((command,), (), False, (expected,))


def as_is(args: Args, reply: Any) -> Second:
    """The command itself, which an equal server answers in the same way."""
    return Second((args,), (), False, (reply,))


def raw(value: Any) -> bytes:
    """A value as it goes over the wire, for comparing an argument with a reply."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return (repr(value) if isinstance(value, float) else str(value)).encode()


def pairs(reply: Iterable[Any]) -> list[Any]:
    """The first of each pair, which RESP3 nests and RESP2 mostly does not: members of [member, score, ...]."""
    if isinstance(reply, dict):
        return list(reply)
    items = list(reply)
    if items and isinstance(items[0], (list, tuple)):
        return [item[0] for item in items]
    return items[::2]


def only_when_one(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """As it is, when the reply is the number 1 or more: it took effect."""
    return as_is(args, reply) if isinstance(reply, int) and reply > 0 else NOTHING


def unless_nil(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """As it is, unless the reply is nil: there was nothing to do it with."""
    return NOTHING if reply is None else as_is(args, reply)
