"""Keys too big for one DUMP: which they are, and how they get their turn in pieces.

The relay has asked each key's MEMORY USAGE. What is above the threshold of a second look comes here; the number of
its members decides with it. A value that no command reads in pieces (of a module) is not dumped unasked.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.carriers import Carrier, Carriers
from keyferry.copy.errands import Errands
from keyferry.copy.under_way import KeysUnderWay
from keyferry.payload.read_pieces import READERS
from keyferry.payload.write_commands import LENGTH_COMMANDS
from keyferry.transfer.config import Aside
from keyferry.wire.resp import Reply, ReplyError

ELEMENT_BYTES_MIN = 2
"""No element of a list, the densest of all, takes less (one byte and its length)."""


@dataclass(frozen=True, slots=True)
class BigKeyLimits:
    """From when on a key travels in pieces. ``key_bytes`` 0: never."""

    key_bytes: int
    members: int

    @property
    def look_bytes(self) -> int:
        """Above this MEMORY USAGE a key's type and length are asked for. 0: no key is measured."""
        return min(self.key_bytes, ELEMENT_BYTES_MIN * self.members)

    def in_pieces(self, size_bytes: int, members: int) -> bool:
        """Args: members: 0 for a string."""
        return size_bytes > self.key_bytes or members > self.members


@dataclass(frozen=True, slots=True)
class BigKeyActions:
    """What a look ends with.

    Attributes:
        dump: With the measured size.
        carry: In pieces; ``BigKeys.carried`` when it has ended, with the same key and carrier.
        gone: The key is not there any more.
        unselected: It is of a type that was not asked for.
        elsewhere: It was handed over, and is done with here.
        refused: With the source's words.
        fail: With our own.
        hand_over: Where there is one, it takes the key and its size (0: not known) instead of ``carry``.
        met: Is told of every key that was looked at: its size (0: not known), its type, and how many members it has
            (None: not counted).
    """

    dump: Callable[[Aside, int], None]
    carry: Callable[[Aside, Carrier], None]
    gone: Callable[[Aside], None]
    unselected: Callable[[Aside], None]
    elsewhere: Callable[[Aside], None]
    refused: Callable[[Aside, str], None]
    fail: Callable[[Aside, str], None]
    hand_over: Callable[[bytes, int], None] | None = None
    met: Callable[[bytes, int, str, int | None], None] | None = None


class BigKeys:
    """Of one pipeline."""

    def __init__(
        self,
        errands: Errands,
        carriers: Carriers,
        under_way: KeysUnderWay,
        limits: BigKeyLimits,
        types: tuple[str, ...],
        actions: BigKeyActions,
    ) -> None:
        """Args: types: Names of the types that are wanted; none is all."""
        self._errands, self._carriers, self._under_way = errands, carriers, under_way
        self._limits, self._types, self._actions = limits, types, actions
        self._waiting: deque[Aside] = deque()

    def look(self, aside: Aside, size_bytes: int | None) -> None:
        """Decides about a key by its size and length. ``size_bytes`` None: too big for one RESTORE."""

        def typed(replies: list[Reply]) -> None:
            kind = replies[0]
            if isinstance(kind, ReplyError):
                self._actions.refused(aside, kind.message)
            elif kind == b"none" or not isinstance(kind, bytes):
                self._actions.gone(aside)
            elif self._types and kind.decode("ascii", "replace") not in self._types:
                self._actions.unselected(aside)
            elif kind not in READERS:
                self._other_type(aside, size_bytes, kind)
            elif kind == b"string":
                self._meet(aside, size_bytes, kind, None)
                self._decide(aside, size_bytes, 0)
            else:
                counted = functools.partial(self._counted, aside, size_bytes, kind)
                self._errands.ask_source([(LENGTH_COMMANDS[kind], aside.key)], counted)

        self._errands.ask_source([("TYPE", aside.key)], typed)

    def _counted(self, aside: Aside, size_bytes: int | None, kind: bytes, replies: list[Reply]) -> None:
        if isinstance(replies[0], int):
            self._meet(aside, size_bytes, kind, replies[0])
            self._decide(aside, size_bytes, replies[0])
        elif isinstance(replies[0], ReplyError):
            self._actions.refused(aside, replies[0].message)

    def _meet(self, aside: Aside, size_bytes: int | None, kind: bytes, members: int | None) -> None:
        if self._actions.met:
            self._actions.met(aside.key, size_bytes or 0, kind.decode("ascii", "replace"), members)

    def _decide(self, aside: Aside, size_bytes: int | None, members: int) -> None:
        if size_bytes is None or self._limits.in_pieces(size_bytes, members):
            if self._actions.hand_over:
                self._actions.hand_over(aside.key, size_bytes or 0)
                self._actions.elsewhere(aside)
                return
            self._waiting.append(aside)
            self._next()
        else:
            self._actions.dump(aside, size_bytes)

    def _other_type(self, aside: Aside, size_bytes: int | None, kind: bytes) -> None:
        self._meet(aside, size_bytes, kind, None)
        if size_bytes is not None and size_bytes <= self._limits.key_bytes:
            self._actions.dump(aside, size_bytes)
            return
        name = kind.decode("utf-8", "backslashreplace")
        if size_bytes is None:
            reason = f"Too big for one RESTORE, and no command reads the type {name} in pieces."
        else:
            reason = (
                f"{size_bytes:,} bytes of the type {name}, which no command reads in pieces: "
                "raise --big-key-bytes above that to have it dumped whole."
            )
        self._actions.fail(aside, reason)

    def carried(self, key: bytes, carrier: Carrier) -> None:
        """The key has ended, in whatever way."""
        self._under_way.end(key)
        self._carriers.give_back(carrier)
        self._next()

    def _next(self) -> None:
        """Begins what can be begun."""
        for _ in range(len(self._waiting)):
            aside = self._waiting.popleft()
            carrier = self._carriers.take()
            if carrier is None:
                self._waiting.appendleft(aside)
                return
            if self._under_way.begin(aside.key):
                self._actions.carry(aside, carrier)
            else:
                self._carriers.give_back(carrier)
                self._under_way.later(functools.partial(self._begin_again, aside))

    def _begin_again(self, aside: Aside) -> None:
        self._waiting.append(aside)
        self._next()
