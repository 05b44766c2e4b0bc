"""A writer's answer to the question in a phase record: it could go to the other side now.

Before a cutover makes anybody wait, it asks; who cannot go over would make everybody wait in vain:

    1. the step that brings the question is taken, and said to be
    2. the other side is tried with the application's own access: it lives, its record can be read, it takes writes
    3. what operations will need there is made ready: connections are dialled now, not while somebody waits
    4. only then the writer's entry repeats the question

All of that has a connection and a thread or task of its own: no renewal waits for a side that is away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from keyferry.capture.clients._async.record_line import AsyncRecordLine
from keyferry.model.phases import Side
from keyferry.model.record import Kind, PhaseRecord, record_key, writers_key

NOTE_CHARS_MAX = 200
_NOBODY = b"-"
"""No writer's id: to take it off proves that we may write, and changes nothing."""


class AsyncAnswer:
    """See the module.

    Args:
        name: The migration's.
        on_prepare: Makes ready what operations on a side need; what it cannot do does not matter.
    """

    def __init__(self, name: str, on_prepare: Callable[[Side], Any] | None) -> None:
        self._key, self._writers = record_key(name), writers_key(name)
        self._on_prepare = on_prepare
        self._failed = ("", "")
        """The question that could not be answered last, and why."""
        self.given = ""
        """The question that was answered last."""

    def owed(self, record: PhaseRecord | None) -> bool:
        """Whether the record asks what has not been answered."""
        return record is not None and record.asked not in ("", self.given)

    def note(self, record: PhaseRecord | None) -> str:
        """What keeps the answer back; empty when nothing does."""
        if record is None or not self.owed(record):
            return ""
        asked, said = self._failed
        return said if asked == record.asked else "the other side has not answered yet"

    async def give(self, record: PhaseRecord, other: Side, line: AsyncRecordLine) -> bool:
        """Tries the other side.

        Args:
            line: To it, new.

        Returns:
            Whether the question is answered now; if not, the note says why, and the line is closed.
        """
        try:
            replies = await line.exchange(
                (b"PING",), (b"HGETALL", self._key), (b"HDEL", self._writers, _NOBODY)
            )
            if _is_barred(*replies[1:]):
                replies.pop()
            refusal = next((one for one in replies if isinstance(one, ResponseError)), None)
            said = "" if refusal is None else f"the {other} refuses: {refusal}"
        except (RedisError, OSError) as error:
            said = f"the {other} cannot be reached: {error}"
        if said:
            self._failed = record.asked, said[:NOTE_CHARS_MAX]
            await line.close()
            return False
        if self._on_prepare is not None:
            await self._on_prepare(other)
        self.given = record.asked
        return True


def _is_barred(record: Any, probe: Any) -> bool:
    """Whether a side that has lost authority refuses writes by its rights.

    That is the work of the switch that took authority away; whoever asks gives the rights back before he commits.
    """
    if not isinstance(probe, NoPermissionError) or not isinstance(record, list):
        return False
    return dict(zip(record[::2], record[1::2], strict=True)).get(b"kind") == Kind.LOST.encode()
