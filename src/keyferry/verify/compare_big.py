"""Keys whose memory is above the bound of a second look: small enough after all, or handed out.

As the copy does (copy.bigkeys): by their type and the number of their members, of both servers.
"""

from __future__ import annotations

from typing import Protocol

from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.payload.write_commands import LENGTH_COMMANDS
from keyferry.transfer.comparing_config import Names, Times
from keyferry.transfer.comparing_names import framed
from keyferry.verify.compare_asking import Both
from keyferry.verify.compare_line import Line, replies_of
from keyferry.verify.compare_page import Batch, Page
from keyferry.wire.resp import Argument, Reply, ReplyError, encode_commands

Measured = tuple[bytes, int, int]
"""A key and its memory in bytes on both servers."""
_NO_TIMES: Times = (0, 0)


class Rules(Protocol):
    """What a look goes by."""

    @property
    def limits(self) -> BigKeyLimits: ...
    @property
    def types(self) -> tuple[str, ...]: ...
    @property
    def streams(self) -> bool: ...


class Actions(Protocol):
    """What a look ends with."""

    def lines(self, lane: int) -> tuple[Line, Line]: ...
    def suspect(self, page: Page, key: bytes) -> None: ...
    def hand_out(self, page: Page, key: bytes) -> None: ...
    def leave_out(self, page: Page) -> None: ...
    def dump(self, batch: Batch, names: Names, sizes: list[int]) -> None: ...
    def refused(self, line: Line, key: bytes, text: bytes) -> None: ...


class BigLook:
    """Of one pass."""

    def __init__(self, actions: Actions, rules: Rules) -> None:
        self._actions, self._rules = actions, rules

    def look(self, batch: Batch, keys: list[Measured]) -> None:
        """Asks both servers for the types, then for the numbers of members."""

        def typed(source: bytes, _: Times, target: bytes, __: Times) -> None:
            counted: list[tuple[Measured, bytes]] = []
            for key, here, there in zip(keys, replies_of(source), replies_of(target), strict=True):
                if self._types_agree(batch, key, here, there):
                    assert isinstance(here, bytes)
                    counted.append((key, here))
            if counted:
                self._count(batch, counted)

        self._ask(batch, [("TYPE", key) for key, _, _ in keys], Both(typed))

    def suspect(self, batch: Batch, keys: list[bytes]) -> None:
        """These differ; they are suspects unless they are of a type that was not asked for."""

        def typed(source: bytes, _: Times, target: bytes, __: Times) -> None:
            for key, here, there in zip(keys, replies_of(source), replies_of(target), strict=True):
                if not (self._is_error(batch, key, here, there) or self._is_unselected(batch, here, there)):
                    self._actions.suspect(batch.page, key)

        self._ask(batch, [("TYPE", key) for key in keys], Both(typed))

    def _types_agree(self, batch: Batch, measured: Measured, here: Reply, there: Reply) -> bool:
        """Whether the key is to be looked at further, as one of this type; else it is done with."""
        page, key = batch.page, measured[0]
        if self._is_error(batch, key, here, there):
            return False
        if isinstance(here, bytes) and here == b"stream" and self._rules.streams:
            page.streams.append(key)
        if self._is_unselected(batch, here, there):
            return False
        if here != there:
            self._actions.suspect(page, key)
        elif here == b"string" or here not in LENGTH_COMMANDS:
            # Of a module's value nobody knows the number of members.
            self._decide(batch, measured, 0)
        else:
            return True
        return False

    def _count(self, batch: Batch, keys: list[tuple[Measured, bytes]]) -> None:
        def counted(source: bytes, _: Times, target: bytes, __: Times) -> None:
            for (measured, _kind), here, there in zip(
                keys, replies_of(source), replies_of(target), strict=True
            ):
                if self._is_error(batch, measured[0], here, there):
                    continue
                if isinstance(here, int) and here == there:
                    self._decide(batch, measured, here)
                else:
                    self._actions.suspect(batch.page, measured[0])

        self._ask(batch, [(LENGTH_COMMANDS[kind], key) for (key, _, _), kind in keys], Both(counted))

    def _decide(self, batch: Batch, measured: Measured, members: int) -> None:
        key, *sizes = measured
        size_bytes = max(sizes)
        if self._rules.limits.in_pieces(size_bytes, members):
            self._actions.hand_out(batch.page, key)
        else:
            self._actions.dump(batch, framed([key]), [size_bytes])

    def _is_unselected(self, batch: Batch, here: Reply, there: Reply) -> bool:
        """By the source's word, or the target's where the source does not have it."""
        known = there if here == b"none" else here
        types = self._rules.types
        if not types or known == b"none" or not isinstance(known, bytes):
            return False
        if known.decode("utf-8", "backslashreplace") in types:
            return False
        self._actions.leave_out(batch.page)
        return True

    def _is_error(self, batch: Batch, key: bytes, here: Reply, there: Reply) -> bool:
        for line, reply in zip(self._actions.lines(batch.lane), (here, there), strict=True):
            if isinstance(reply, ReplyError):
                self._actions.refused(line, key, reply.message.encode())
                self._actions.suspect(batch.page, key)
                return True
        return False

    def _ask(self, batch: Batch, commands: list[tuple[Argument, ...]], both: Both) -> None:
        data, (source, target) = encode_commands(commands), self._actions.lines(batch.lane)
        source.ask(data, len(commands), lambda replies: both.source(replies, _NO_TIMES))
        target.ask(data, len(commands), lambda replies: both.target(replies, _NO_TIMES))
