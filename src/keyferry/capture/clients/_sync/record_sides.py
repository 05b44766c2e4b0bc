# Written by `make generate` from _async/record_sides.py: change that one.
"""The record of a migration as one writer reads it: one connection to each side, and what their answers mean.

Not for two users at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from keyferry.capture.clients._sync.record_line import RecordLine, SideAccess
from keyferry.capture.clients.record_errors import (
    MigrationRecordError,
    is_barred,
    not_to_be_relied_on,
    takes_no_writes,
)
from keyferry.model.phases import Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordUnreadable,
    Write,
    channel,
    check_write,
    decode,
    encode,
    record_key,
    telling,
    writers_key,
)

log = logging.getLogger("keyferry.clients")


class RecordSides:
    """See the module.

    Args:
        name: The migration's.
        accesses: How the sides are reached.
    """

    def __init__(self, name: str, accesses: Mapping[Side, SideAccess]) -> None:
        self._name = name
        self._accesses = accesses
        self._key, self._writers = record_key(name), writers_key(name)
        self._lines = {side: self.new_line(side) for side in accesses}

    def new_line(self, side: Side) -> RecordLine:
        """One more connection to where a side's record is."""
        return RecordLine(self._accesses[side], self._key)

    def use(self, side: Side, line: RecordLine) -> None:
        """Takes another line to a side from now on."""
        self._lines[side], line = line, self._lines[side]
        line.close()

    def read(
        self, side: Side, writer: bytes = b"", entry: bytes | None = None
    ) -> tuple[PhaseRecord | None, bool]:
        """The record of a side, and whether the writer's entry is there now.

        Args:
            writer: Its id.
            entry: What is to stand there; None: nothing is written.

        Raises:
            RedisConnectionError, RedisTimeoutError: It is away.
            MigrationRecordError: It refuses us. Where our user may only read any more, in a hold and after a switch,
                the record is enough: it says where to go.
            RecordUnreadable: What is there is no record.
        """
        line = self._lines[side]
        refusal = None
        if entry is not None:
            replies = line.exchange(
                (b"MULTI",),
                (b"HSET", self._writers, writer, entry),
                (b"HGETALL", self._key),
                (b"EXEC",),
                again=True,
            )
            if isinstance(replies[-1], list):
                written, fields = replies[-1]
                return self._decoded(side, fields, written), True
            refusal = next((one for one in replies if isinstance(one, ResponseError)), replies[-1])
            if not takes_no_writes(refusal) and not is_barred(refusal):
                raise self._refused(side, refusal)
        (fields,) = line.exchange((b"HGETALL", self._key), again=True)
        record = self._decoded(side, fields, None)
        if is_barred(refusal) and (record is None or record.kind not in (Kind.HOLD, Kind.LOST)):
            raise self._refused(side, refusal)
        return record, False

    def complete(self, write: Write) -> None:
        """Makes the other side's mark (rule 15); somebody else may be faster. Raises as ``read``."""
        check_write(write)
        line = self._lines[write.side]
        _, fields = line.exchange((b"WATCH", self._key), (b"HGETALL", self._key))
        if decode(write.side, dict(zip(fields[::2], fields[1::2], strict=True))) != write.expected:
            line.exchange((b"UNWATCH",))
            return
        line.exchange(
            (b"MULTI",),
            (b"HSET", self._key, *(part for pair in encode(write.becomes).items() for part in pair)),
            (b"PUBLISH", channel(self._name), telling(write.becomes)),
            (b"EXEC",),
        )

    def take_off(self, side: Side, writer: bytes) -> None:
        """Takes a writer's entry away; when that cannot be done it does not matter."""
        try:
            self._lines[side].exchange((b"HDEL", self._writers, writer))
        except (RedisError, OSError) as error:
            log.debug("keyferry: not taken off the %s: %s", side, error, extra={"migration": self._name})

    def close(self, *sides: Side) -> None:
        """Closes the connections to these sides, or to both; the next use opens others."""
        for side in sides or self._lines:
            self._lines[side].close()

    def abandon(self) -> list[Any]:
        """As ``AsyncRecordLine.abandon``, both."""
        return [line.abandon() for line in self._lines.values()]

    def _decoded(self, side: Side, fields: Any, written: Any) -> PhaseRecord | None:
        for reply in (fields, written):
            if isinstance(reply, ResponseError):
                if str(reply).startswith("WRONGTYPE"):
                    raise RecordUnreadable(
                        f"On the {side}, another value than Keyferry's stands in its place."
                    )
                raise self._refused(side, reply)
        return decode(side, dict(zip(fields[::2], fields[1::2], strict=True)))

    def _refused(self, side: Side, reply: object) -> RedisError:
        if not_to_be_relied_on(reply):
            return RedisConnectionError(f"the {side} says: {reply}")
        return MigrationRecordError(
            f"migration {self._name!r}: the {side} refuses its phase record: {reply}. "
            "The user needs the keys ~keyferry:*, the channel &keyferry:*, and the commands "
            "multi, exec, watch, hset, hgetall, hdel, publish, subscribe, ping."
        )
