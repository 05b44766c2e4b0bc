"""Reads single keys on both servers, once, the source first: what ``suspects`` decides from.

A key's size is asked before its value: one that is too big for a DUMP is compared in pieces, over both servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyferry.copy.connect import Sides
from keyferry.copy.identify import time_ms
from keyferry.model.errors import Side
from keyferry.model.identity import Family
from keyferry.payload.differences import OneSide, list_differences
from keyferry.payload.errors import PayloadError
from keyferry.payload.reader import decode
from keyferry.payload.types import FIELD_EXPIRY_SINCE
from keyferry.verify.held import ABSENT, ABSENT_KIND, Dialect, Held, held_of, kind_of
from keyferry.verify.routes import Place, Routes, TargetDatabase
from keyferry.verify.suspects import Look
from keyferry.wire.resp import Argument, Reply, ReplyError

Throttle = Callable[[int, int], None]
"""Called after so many keys and payload bytes were read; waits if that was too fast."""

KEYS_AT_ONCE = 500
BYTES_AT_ONCE = 4 << 20
"""Of payloads that one exchange may bring, by MEMORY USAGE."""


@dataclass(frozen=True, slots=True)
class LookSettings:
    """How keys are read.

    Attributes:
        expiry_tolerance_ms: As ``VerifySettings``.
        big_key_bytes: A larger key is compared in pieces; 0 is never.
        drop_field_expiry: What a target cannot hold of field expiries is no difference.
    """

    expiry_tolerance_ms: int = 1000
    big_key_bytes: int = 1 << 20
    drop_field_expiry: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """What is known of a key on one side before its value is read. ``kind`` "" and ``words``: it was refused."""

    kind: str
    size_bytes: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """A value as DUMP gave it, with its expiry on the target's clock; None: the key is not there."""

    data: bytes | None
    expires_at_ms: int | None = None
    words: str = ""


BigLook = Callable[[Place, Frame, Frame], tuple[bool | None, tuple[dict[str, Any], ...]]]
"""Compares a big value in pieces: whether it is the same, None when it kept changing; and what differs."""


class Looker:
    """Looks at keys. Use as a context, or ``close`` it; good for any number of looks while ``sides`` is open.

    Nothing is written. Every method raises ``ServerAway`` or ``ServerBusy`` when a server cannot answer now
    (then make another one), and ``ServerError`` when one refuses for good.
    """

    def __init__(
        self, sides: Sides, routes: Routes, settings: LookSettings, target_database: TargetDatabase
    ) -> None:
        """
        Args:
            routes: Is not closed here.
        """
        self._sides, self._routes, self._settings = sides, routes, settings
        self._target_database = target_database
        self.dialect = dialect_of(sides, drop_field_expiry=settings.drop_field_expiry)

    def look(
        self,
        places: Sequence[Place],
        known: Callable[[Place], Look | None] = lambda place: None,
        *,
        measured: bool = False,
        throttle: Throttle = lambda keys, size: None,
        big: BigLook | None = None,
    ) -> Iterator[tuple[Place, Look]]:
        """One look at each key, in portions.

        Args:
            known: The last look at a key: what has not changed since is not decoded again.
            measured: The keys were small a moment ago: their sizes are not asked.
            big: None leaves big keys out.
        """
        self._routes.look_around()
        for portion in self._portions(places):
            frames = {} if measured else self._frames(portion)
            small = [place for place in portion if measured or not self._is_big(frames[place])]
            for part in self._parts(small, frames):
                found = self._read(part, known)
                throttle(len(part), sum(look.source.size_bytes + look.target.size_bytes for _, look in found))
                yield from found
            for place in portion:
                if big is not None and not measured and self._is_big(frames[place]):
                    yield place, self._look_at_big(place, frames[place], big)

    def describe(self, places: Sequence[Place]) -> Iterator[tuple[Place, tuple[dict[str, Any], ...] | None]]:
        """What differs in each key now, nothing where it does not; None for what is big or cannot be read."""
        self._routes.look_around()
        for portion in self._portions(places):
            frames = self._frames(portion)
            small = [place for place in portion if not self._is_big(frames[place])]
            for part in self._parts(small, frames):
                source, target = self._dump("source", part)[0], self._dump("target", part)[0]
                for place in part:
                    yield place, self._described(place, source[place], target[place])
            yield from ((place, None) for place in portion if self._is_big(frames[place]))

    def _described(self, place: Place, source: Payload, target: Payload) -> tuple[dict[str, Any], ...] | None:
        if source.words or target.words:
            return None
        try:
            return list_differences(
                self._one_side("source", place, source),
                self._one_side("target", place, target),
                expiry_tolerance_ms=self._settings.expiry_tolerance_ms,
                field_expiry=self.dialect.field_expiry,
            )
        except PayloadError:
            return None

    def _one_side(self, side: Side, place: Place, payload: Payload) -> OneSide:
        if payload.data is None:
            return OneSide(ABSENT_KIND)
        value = decode(payload.data, self.family(side, place[1]))
        return OneSide(kind_of(value), value, payload.expires_at_ms)

    def family(self, side: Side, key: bytes) -> Family:
        """Whose payloads these are."""
        if side == "target":
            return self._sides.target_identity.family
        return self._sides.source_shards[self._source_shard(key)].identity.family

    # Portions

    def _portions(self, places: Sequence[Place]) -> Iterator[list[Place]]:
        for begin in range(0, len(places), KEYS_AT_ONCE):
            yield list(places[begin : begin + KEYS_AT_ONCE])

    def _parts(self, places: list[Place], frames: dict[Place, tuple[Frame, Frame]]) -> Iterator[list[Place]]:
        """Cut so that one exchange brings a bounded number of bytes."""
        part: list[Place] = []
        size = 0
        for place in places:
            own = sum(frame.size_bytes for frame in frames[place]) if place in frames else 0
            if part and size + own > BYTES_AT_ONCE:
                yield part
                part, size = [], 0
            part.append(place)
            size += own
        if part:
            yield part

    def _is_big(self, frames: tuple[Frame, Frame]) -> bool:
        limit = self._settings.big_key_bytes
        return bool(limit) and any(frame.size_bytes > limit for frame in frames)

    # Asking

    def _frames(self, places: list[Place]) -> dict[Place, tuple[Frame, Frame]]:
        source = self._frames_of("source", places)
        target = self._frames_of("target", places)
        return {place: (source[place], target[place]) for place in places}

    def _frames_of(self, side: Side, places: list[Place]) -> dict[Place, Frame]:
        if not self._settings.big_key_bytes:
            return dict.fromkeys(places, Frame("", 0))
        replies = self._routes.ask(
            side,
            places,
            lambda key: [("MEMORY", "USAGE", key), ("TYPE", key)],
            lambda database: self._database(side, database),
        )
        return {place: _frame(size, kind) for place, (size, kind) in replies}

    def _read(self, places: list[Place], known: Callable[[Place], Look | None]) -> list[tuple[Place, Look]]:
        source, _ = self._dump("source", places)
        target, clock_ms = self._dump("target", places)
        at_s = time.monotonic()
        found = []
        for place in places:
            last = known(place)
            look = Look(
                self._held("source", place, source[place], last.source if last else None),
                self._held("target", place, target[place], last.target if last else None),
                at_s,
                clock_ms,
            )
            found.append((place, look))
        return found

    def _dump(self, side: Side, places: list[Place]) -> tuple[dict[Place, Payload], int]:
        """Payloads, and the target's clock when the last of them came (of the source: none, 0)."""
        found: dict[Place, Payload] = {}
        clock_ms = 0
        for (database, shard), keys in self._routes.by_server(side, places).items():
            absolute = self._version(side, shard) >= (7, 0, 0)
            expiry = "PEXPIRETIME" if absolute else "PTTL"
            asked: list[list[tuple[Argument, ...]]] = [[("DUMP", key), (expiry, key)] for _, key in keys]
            clock: list[tuple[Argument, ...]] = [("TIME",)]
            replies = self._routes.exchange(
                side, self._database(side, database), shard, [clock, *asked, clock]
            )
            begin_ms, end_ms = (time_ms(reply[0]) or 0.0 for reply in (replies[0], replies[-1]))
            # The source's expiries are told on the target's clock.
            known = self._sides.source_shards.get(shard) if side == "source" else None
            offset_ms = known.clock_offset_ms if known else 0
            since_ms = 0 if absolute else round((begin_ms + end_ms) / 2)
            for place, (payload, expires) in zip(keys, replies[1:-1], strict=True):
                found[place] = _payload(payload, expires, since_ms + offset_ms)
            if side == "target":
                clock_ms = max(clock_ms, int(end_ms))
        return found, clock_ms

    def _held(self, side: Side, place: Place, payload: Payload, known: Held | None) -> Held:
        if payload.words:
            return Held("", unreadable=f"The {side} refused it: {payload.words}")
        if payload.data is None:
            return ABSENT
        try:
            return held_of(
                payload.data, self.family(side, place[1]), payload.expires_at_ms, self.dialect, known
            )
        except PayloadError as error:
            return Held("", unreadable=f"What the {side} gave cannot be read: {error}")

    def _look_at_big(self, place: Place, frames: tuple[Frame, Frame], big: BigLook) -> Look:
        """Of a big value only whether it is the same is known: digests stand for that."""
        source, target = (
            self._big_held(place, side, frame) for side, frame in zip(_SIDES, frames, strict=True)
        )
        at_s = time.monotonic()
        if source.unreadable or target.unreadable or source.kind != target.kind:
            return Look(source, target, at_s)
        same, differs = big(place, *frames)
        expiry = differs[0] if len(differs) == 1 and differs[0].get("what") == "expiry" else None
        if expiry is not None:
            source = replace(source, expires_at_ms=expiry["source_ms"])
            target = replace(target, expires_at_ms=expiry["target_ms"])
        if same or expiry is not None:
            digests = (b"same", b"same")
        elif same is None:
            # Nothing is known but that it moved: another one at every look.
            digests = (b"source %r" % at_s, b"target %r" % at_s)
        else:
            digests = (b"source", repr(differs).encode())
        return Look(
            replace(source, digest=digests[0]),
            replace(target, digest=digests[1]),
            time.monotonic(),
            differs=differs,
        )

    def _big_held(self, place: Place, side: Side, frame: Frame) -> Held:
        if frame.words:
            return Held("", unreadable=f"The {side} refused it: {frame.words}")
        return Held(frame.kind, size_bytes=frame.size_bytes)

    # Where

    def _database(self, side: Side, database: int) -> int:
        return database if side == "source" else self._target_database(database)

    def _source_shard(self, key: bytes) -> str:
        shard = self._routes.shard_of("source", key)
        return shard if shard in self._sides.source_shards else next(iter(self._sides.source_shards))

    def _version(self, side: Side, shard: str) -> tuple[int, int, int]:
        if side == "target":
            return self._sides.target_identity.version
        known = self._sides.source_shards.get(shard)
        return known.identity.version if known else (0, 0, 0)


_SIDES: tuple[Side, Side] = ("source", "target")


def dialect_of(sides: Sides, *, drop_field_expiry: bool) -> Dialect:
    """What the two can both say."""
    identities = [sides.target_identity, *(shard.identity for shard in sides.source_shards.values())]
    target = sides.target_identity
    holds = target.version[:2] >= FIELD_EXPIRY_SINCE[target.family]
    return Dialect(
        stream_counters=all(identity.version >= (7, 0, 0) for identity in identities),
        field_expiry=holds or not drop_field_expiry,
    )


def _frame(size: Reply, kind: Reply) -> Frame:
    refusal = next((reply for reply in (kind, size) if isinstance(reply, ReplyError)), None)
    if refusal is not None:
        return Frame("", 0, refusal.message)
    return Frame(
        kind.decode("utf-8", "backslashreplace") if isinstance(kind, bytes) else "none",
        size if isinstance(size, int) else 0,
    )


def _payload(payload: Reply, expires: Reply, since_ms: int) -> Payload:
    for reply in (payload, expires):
        if isinstance(reply, ReplyError):
            return Payload(None, words=reply.message)
    if not isinstance(payload, bytes) or expires == -2:
        return Payload(None)
    return Payload(payload, since_ms + expires if isinstance(expires, int) and expires >= 0 else None)
