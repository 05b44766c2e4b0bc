"""Expiries of keys that were copied as if they never expired.

Expiries are not asked for while INFO says that no key of the source expires. Then this can happen:
  1. a key that lives 50 ms comes, and is copied without its expiry; 2. INFO says that a key expires now;
  3. the key expires before we ask for its page again. No SCAN names it any more, and it would live for ever.
So the keys of every page that is not proven get their expiry, or their end, before anything else is done.
"""

from __future__ import annotations

from keyferry.copy.connect import Sides
from keyferry.copy.replies import ServerBusy, Verdict, stopping_error, verdict
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import ServerError, Side
from keyferry.transfer.config import ExpiryMode
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import Session

KEYS_MAX = 1000
"""Asked about at once."""


def mend_expiries(sides: Sides, settings: CopySettings, database: int, keys: list[bytes]) -> None:
    """Gives the target's keys the expiry that they have on the source, and removes those that are gone there.

    Raises:
        ServerError: A server is away, or refuses.
        ServerBusy: A server asks us to wait.
    """
    target_database = settings.selection.target_database(database)
    with sides.session("source", database) as source, sides.session("target", target_database) as target:
        for begin in range(0, len(keys), KEYS_MAX):
            some = keys[begin : begin + KEYS_MAX]
            commands: list[tuple[Argument, ...]] = []
            for key, expires_at_ms in zip(some, _expiries(sides, source, some), strict=True):
                if expires_at_ms is None:
                    commands.append(("UNLINK", key))
                elif expires_at_ms >= 0:
                    commands.append(("PEXPIREAT", key, expires_at_ms + sides.clock_offset_ms))
            _checked("target", target.pipeline(commands))


def _expiries(sides: Sides, source: Session, keys: list[bytes]) -> list[int | None]:
    """Unix milliseconds on the source's clock, -1 for never, None for a key that is gone."""
    if sides.expiry_mode == ExpiryMode.ABSOLUTE:
        replies = _checked("source", source.pipeline([("PEXPIRETIME", key) for key in keys]))
        return [None if at == -2 or not isinstance(at, int) else at for at in replies]
    asked: list[tuple[Argument, ...]] = [command for key in keys for command in (("TIME",), ("PTTL", key))]
    replies = _checked("source", source.pipeline(asked))
    return [_absolute(now, left) for now, left in zip(replies[::2], replies[1::2], strict=True)]


def _absolute(now: Reply, left_ms: Reply) -> int | None:
    match now, left_ms:
        case [bytes(seconds), bytes(micros)], int():
            if left_ms < 0:
                return None if left_ms == -2 else -1
            return int(seconds) * 1000 + int(micros) // 1000 + left_ms
    raise ServerError("source", "The source answered TIME or PTTL with something else.")


def _checked(side: Side, replies: list[Reply]) -> list[Reply]:
    for reply in replies:
        if isinstance(reply, ReplyError):
            if verdict(reply.message) is Verdict.WAIT:
                raise ServerBusy(side, reply.message)
            raise stopping_error(side, reply.message)
    return replies
