"""What a comparison asks of both servers about a batch of keys, and how the answers find together. Bytes only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.transfer.comparing_config import Names, Times
from keyferry.transfer.comparing_names import woven
from keyferry.transfer.config import ExpiryMode
from keyferry.transfer.cutting import Incomplete
from keyferry.transfer.replies import time_reply
from keyferry.transfer.requests import TIME, measure_pieces
from keyferry.verify.compare_line import Line
from keyferry.wire.resp import ProtocolError

_EXPIRY: dict[ExpiryMode, bytes] = {
    ExpiryMode.ABSOLUTE: b"*2\r\n$11\r\nPEXPIRETIME\r\n",
    ExpiryMode.REMAINING: b"*2\r\n$4\r\nPTTL\r\n",
}
_NO_TIMES: Times = (0, 0)


@dataclass(frozen=True, slots=True)
class Question:
    """Some commands per key: the pieces that stand around its name, and what follows from them.

    Attributes:
        replies: Per key.
        timed: TIME before and behind all of them.
    """

    pieces: list[bytes]
    replies: int = 1
    timed: bool = False

    def ask(self, line: Line, names: Names, then: Callable[[bytes, Times], None]) -> None:
        """``then`` gets the answers about the keys, and the server's time before and after them."""
        commands, replies = woven(names, self.pieces), names.number * self.replies
        if self.timed:
            line.ask(TIME + commands + TIME, replies + 2, lambda data: then(*_untimed(data)))
        else:
            line.ask(commands, replies, lambda data: then(data, _NO_TIMES))


def value_question(short_bytes: int, mode: ExpiryMode) -> Question:
    """The first ``short_bytes`` bytes of each key, or its DUMP where that is 0; and its expiry by ``mode``."""
    if short_bytes:
        last = b"%d" % (short_bytes - 1)
        pieces = [b"*4\r\n$8\r\nGETRANGE\r\n", b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(last), last)]
    else:
        pieces = [b"*2\r\n$4\r\nDUMP\r\n", b""]
    if mode == ExpiryMode.NONE:
        return Question(pieces)
    pieces[-1] += _EXPIRY[mode]
    return Question([*pieces, b""], 2, mode == ExpiryMode.REMAINING)


def size_question() -> Question:
    """The memory that each key takes, by a few of its members."""
    return Question(measure_pieces())


class Both:
    """Asks two servers the same keys; ``then`` is called when both have answered."""

    __slots__ = ("_source", "_target", "_then")

    def __init__(self, then: Callable[[bytes, Times, bytes, Times], None]) -> None:
        self._source: tuple[bytes, Times] | None = None
        self._target: tuple[bytes, Times] | None = None
        self._then = then

    def source(self, data: bytes, times: Times) -> None:
        self._source = data, times
        if self._target is not None:
            self._then(data, times, *self._target)

    def target(self, data: bytes, times: Times) -> None:
        self._target = data, times
        if self._source is not None:
            self._then(*self._source, data, times)


def _untimed(data: bytes) -> tuple[bytes, Times]:
    """The answers between two of TIME, and these. Raises ProtocolError for something else."""
    # Nothing that follows the head of the last answer, two numbers, reads like a head of two.
    last = data.rfind(b"*2\r\n")
    try:
        before_ms, begin, refused = time_reply(data, 0)
        after_ms, end, refused_after = time_reply(data, max(last, 0))
    except Incomplete:
        raise ProtocolError("A server answered TIME with something else.") from None
    if refused or refused_after or last < begin or end != len(data):
        raise ProtocolError("A server does not tell its TIME.")
    return data[begin:last], (before_ms, after_ms)
