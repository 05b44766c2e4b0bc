# Written by `make generate` from _async/ear.py: change that one.
"""Listens for steps on one side: a subscription to the record's channel, on a connection of its own.

What is told only hastens a look at the record; what is missed is found by the next renewal. Not for two users at
once; any thread may ``interrupt``, and any may ``open_spare``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from keyferry.capture.clients._sync.record_line import RecordLine, SideAccess
from keyferry.capture.clients.clock import now_s
from keyferry.model.phases import Side
from keyferry.model.record import Told, told

ALIVE_S = 1.0
"""An ear that heard nothing for so long is asked for a sign of life, and given as long for it."""


class Ear:
    """On one side.

    Args:
        access: How the side is reached.
        key: Of the record, which says to which node of a cluster.
        channel: Where steps are told.
    """

    def __init__(self, side: Side, access: SideAccess, key: bytes, channel: bytes) -> None:
        self.side = side
        self._line = RecordLine(access, key)
        self._channel = channel
        self._alive_s = float("-inf")

    def open(self) -> None:
        """Listens from now on: what is told later is heard, if only later. Raises as ``AsyncRecordLine.subscribe``."""
        self._line.subscribe(self._channel)
        self._alive_s = now_s()

    def hear(self, until_s: float) -> Told | None:
        """What is told next; None when nothing is until the time, on our clock.

        Raises:
            RedisError: The connection is gone, or gives no sign of life.
        """
        began_s, asked = now_s(), False
        if began_s - self._alive_s >= ALIVE_S:
            self._line.ping()
            asked = True
        while True:
            message = self._line.message(max(0.001, until_s - now_s()))
            if message is None:
                if asked and now_s() - began_s >= ALIVE_S:
                    raise RedisConnectionError("the subscription gives no sign of life")
                return None
            self._alive_s, asked = now_s(), False
            if message[0] == b"message":
                return told(message[2])

    def interrupt(self) -> None:
        """Ends a ``hear`` of another thread."""
        self._line.interrupt()

    def close(self) -> None:
        """Ends it."""
        self._line.close()

    def abandon(self) -> Any:
        """As ``AsyncRecordLine.abandon``."""
        return self._line.abandon()


class Ears:
    """The ear on the side with authority, and where a commit is expected one on the other side, from before it.

    Args:
        accesses: How the sides are reached.
        key, channel: As of ``AsyncEar``.
    """

    def __init__(self, accesses: Mapping[Side, SideAccess], key: bytes, channel: bytes) -> None:
        self._accesses, self._key, self._channel = accesses, key, channel
        self._ear: Ear | None = None
        self._spare: Ear | None = None
        self._old: list[Ear] = []

    @property
    def side(self) -> Side | None:
        """Where we listen."""
        return self._ear.side if self._ear is not None else None

    def turn(self, side: Side) -> bool:
        """Listens there from now on, if that side has been listened to; nothing that was told meanwhile is missed."""
        if self.side is side:
            return True
        if self._spare is None or self._spare.side is not side:
            return False
        self._old += [self._ear] if self._ear is not None else []
        self._ear, self._spare = self._spare, None
        return True

    def open(self, side: Side) -> None:
        """Listens there, and nowhere else. Raises as ``AsyncEar.open``."""
        self.close()
        ear = self._ear = Ear(side, self._accesses[side], self._key, self._channel)
        ear.open()

    def open_spare(self, side: Side) -> None:
        """Listens on that side, too. Raises as ``AsyncEar.open``."""
        ear = Ear(side, self._accesses[side], self._key, self._channel)
        ear.open()
        if self._spare is None:
            self._spare = ear
        else:
            ear.close()

    def hear(self, until_s: float) -> Told | None:
        """As ``AsyncEar.hear``."""
        if self._ear is None:
            raise RedisConnectionError("nothing is listened to")
        return self._ear.hear(until_s)

    def tidy(self, *, spare: bool) -> None:
        """Closes what has been turned away from.

        Args:
            spare: The other side's as well: no commit is expected any more.
        """
        if spare and self._spare is not None:
            self._old.append(self._spare)
            self._spare = None
        while self._old:
            self._old.pop().close()

    def close(self) -> None:
        """Closes all."""
        self._old += [self._ear] if self._ear is not None else []
        self._ear = None
        self.tidy(spare=True)

    def interrupt(self) -> None:
        """Ends a ``hear`` of another thread."""
        if self._ear is not None:
            self._ear.interrupt()

    def abandon(self) -> list[Any]:
        """As ``AsyncRecordLine.abandon``, all."""
        return [ear.abandon() for ear in (self._ear, self._spare, *self._old) if ear is not None]
