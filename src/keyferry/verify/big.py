"""Compares a key that is too big for one DUMP, in pieces and over both servers."""

from __future__ import annotations

from typing import Any

from keyferry.copy.connect import Sides
from keyferry.payload.differ import compare_in_pieces
from keyferry.payload.differ_found import Different, NotByDifference, Same, Settlement
from keyferry.payload.exchange import Destination, Refused, Replies, Steps
from keyferry.transfer.drive import answer
from keyferry.verify.big_streams import compare_streams
from keyferry.verify.look import Frame, LookSettings, Throttle
from keyferry.verify.routes import Place, Routes, TargetDatabase
from keyferry.wire.resp import Reply
from keyferry.wire.session import Session


class BigLooks:
    """Of one run; the two sessions of a key are its own while it is compared (WATCH).

    Args:
        throttle: Called after every piece.
    """

    def __init__(
        self,
        sides: Sides,
        routes: Routes,
        settings: LookSettings,
        target_database: TargetDatabase,
        throttle: Throttle = lambda keys, size: None,
    ) -> None:
        self._throttle = throttle
        self._sides, self._routes, self._settings = sides, routes, settings
        self._target_database = target_database

    def look(
        self, place: Place, source: Frame, target: Frame
    ) -> tuple[bool | None, tuple[dict[str, Any], ...]]:
        """As ``BigLook``.

        Raises:
            ServerAway: A server cannot answer now.
        """
        database, key = place
        shard = self._routes.shard_of("source", key)
        here = self._routes.session("source", database, shard)
        there = self._routes.session(
            "target", self._target_database(database), self._routes.shard_of("target", key)
        )
        if source.kind == target.kind == "stream":
            return compare_streams(key, here, there, self._throttle)
        known = self._sides.source_shards.get(shard) or next(iter(self._sides.source_shards.values()))
        steps = compare_in_pieces(
            Destination(key, None, replace=False, target=self._sides.target_identity),
            known.identity,
            apply=False,
            clock_offset_ms=known.clock_offset_ms,
            expiry_tolerance_ms=self._settings.expiry_tolerance_ms,
        )
        return _found(run_steps(steps, here, there, self._throttle))


def run_steps(steps: Steps[Settlement], source: Session, target: Session, throttle: Throttle) -> Settlement:
    """Runs them to their end over two sessions. Raises as ``Session.exchange``."""
    try:
        request = next(steps)
        while True:
            replies = answer(request, source, target)
            throttle(0, _size(replies))
            request = steps.send(replies)
    except StopIteration as end:
        outcome: Settlement = end.value
        return outcome
    finally:
        steps.close()


def _size(replies: Replies) -> int:
    """Of the strings in them, near enough for a limit."""
    return sum(map(_reply_size, (replies.source, replies.target)))


def _reply_size(reply: Reply) -> int:
    if isinstance(reply, list):
        return sum(map(_reply_size, reply))
    return len(reply) if isinstance(reply, bytes) else 0


def _found(outcome: Settlement) -> tuple[bool | None, tuple[dict[str, Any], ...]]:
    match outcome:
        case Same():
            return True, ()
        case Different(differs):
            return False, differs
        case NotByDifference(kind):
            return False, (_unread(f"too big for one DUMP, and no command reads the type {kind} in pieces"),)
        case Refused(reason, code, side) if code not in _PASSING:
            return False, (_unread(f"the {side} refused it: {reason}"),)
    # Torn, or sent elsewhere: nothing is known.
    return None, ()


_PASSING = frozenset(("MOVED", "ASK", "TRYAGAIN", "torn", "CLUSTERDOWN", "LOADING"))


def _unread(why: str) -> dict[str, Any]:
    return {"what": "unreadable", "why": why}
