"""Passes over all keys of two servers, in both directions: what differs, and what only the target has.

A pass is single-shot: on trouble its owner closes it and opens another one at ``cursor``. What it hands out are
suspects; under live traffic a difference is one only when it stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.copy.connect import Sides
from keyferry.copy.flow import Flow
from keyferry.copy.lanes import slot_table
from keyferry.copy.pace import Pace
from keyferry.copy.pipeline import RECEIVE_BYTES
from keyferry.copy.poller import Poller
from keyferry.copy.replies import raise_if_busy
from keyferry.copy.settings import CopySettings
from keyferry.copy.slowpath import wanted_types
from keyferry.model.errors import ServerError, Side
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.payload.names import SLOTS
from keyferry.payload.plan import PayloadPlan
from keyferry.payload.types import SHARED_TYPE_MAX
from keyferry.transfer.comparing_config import PairRules, Sieve
from keyferry.transfer.config import ExpiryMode
from keyferry.verify.compare_line import Line
from keyferry.verify.compare_page import Page
from keyferry.verify.compare_pass import KEYSPACE, ComparePass, CompareRules, expires
from keyferry.verify.compare_scan import ScanParts
from keyferry.verify.compare_values import ValueRules
from keyferry.verify.extras_pass import ExtrasPass
from keyferry.verify.named_pass import NamedPass, Names
from keyferry.wire.channel import Channel
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import Session

SHORT_BYTES = 1024
"""Strings shorter than this are compared without DUMP."""
WINDOW_SHARE = 8
"""Pages are a little longer than a batch; so much of one is allowed for."""


@dataclass(frozen=True, slots=True)
class CompareContext:
    """What the passes of a comparison have in common.

    Attributes:
        sides: Opened.
        settings: Selection, databases and their mapping, batch, limits of big keys, maps.
        totals: Of all passes that run beside each other: keys that came, their bytes, keys that are asked for.
        expiry_tolerance_ms: Expiries that are further apart differ.
        chooses: A sample; None is all keys.
        on_suspects: (source database, keys) that differ, are missing or extra, or could not be judged.
        on_big: (source database, keys) that are too big to be compared here; they were not dumped.
        on_streams: (source database, keys) of the streams that were met on the source; None: they are not named.
        on_moved: Takes the slot of a key that a node of either cluster sent elsewhere. Such keys are suspects, too.
    """

    sides: Sides
    settings: CopySettings
    pace: Pace
    poller: Poller
    totals: Callable[[], tuple[int, int, int]]
    expiry_tolerance_ms: int
    chooses: Callable[[bytes], bool] | None
    on_suspects: Callable[[int, list[bytes]], None]
    on_big: Callable[[int, list[bytes]], None]
    on_streams: Callable[[int, list[bytes]], None] | None
    on_moved: Callable[[int], None]


class KeyPass(Protocol):
    """One pass over one server's database. Documented at ``compare_scan.ScanPass``."""

    def begin(self) -> None: ...
    def turn(self, ready: dict[int, int], now: float) -> None: ...
    def check_silence(self, now: float) -> None: ...
    def concerns(self, ready: dict[int, int]) -> bool: ...
    @property
    def buffered(self) -> bool: ...
    @property
    def done(self) -> bool: ...
    @property
    def keys_done(self) -> int: ...
    @property
    def cursor(self) -> str: ...
    @property
    def asked(self) -> tuple[int, int, int]: ...
    def close(self) -> None: ...


def open_compare(
    context: CompareContext,
    shard: str,
    database: int,
    *,
    cursor: str = "0",
    slots: frozenset[int] | None = None,
) -> KeyPass:
    """Scans a source shard's database and compares each key with the target's: there, type, value, expiry.

    Args:
        slots: Only keys of these; None is all.

    Raises:
        ServerAway: A server cannot be reached now.
        ServerError: One refuses us, or what is needed.
    """
    with contextlib.ExitStack() as stack:
        opening = _Opening(context, database, stack)
        return opening.done(opening.compare(shard, cursor, slots))


def open_named(context: CompareContext, shard: str, database: int, names: Names) -> KeyPass:
    """Compares the keys of a source shard's database that ``names`` gives, on and on. Errors as ``open_compare``."""
    with contextlib.ExitStack() as stack:
        opening = _Opening(context, database, stack)
        parts, rules = opening.comparing(shard, None)
        return opening.done(NamedPass(parts, rules, names))


def open_extras(
    context: CompareContext,
    target_shard: str,
    database: int,
    *,
    cursor: str = "0",
    slots: frozenset[int] | None = None,
) -> KeyPass:
    """Scans the database of a target primary that the source's ``database`` goes to, for keys that the source lacks.

    Args and errors as ``open_compare``.
    """
    with contextlib.ExitStack() as stack:
        opening = _Opening(context, database, stack)
        return opening.done(opening.extras(target_shard, cursor, slots))


class _Opening:
    """Puts one pass together; what it opened is closed by ``stack`` if that fails."""

    def __init__(self, context: CompareContext, database: int, stack: contextlib.ExitStack) -> None:
        self._context, self._database, self._stack = context, database, stack
        self._settings, self._sides = context.settings, context.sides
        self._target_database = context.settings.selection.target_database(database)
        self._view = memoryview(bytearray(RECEIVE_BYTES))

    def done(self, key_pass: KeyPass) -> KeyPass:
        self._stack.pop_all()  # from here on the pass closes them
        return key_pass

    def compare(self, shard: str, cursor: str, slots: frozenset[int] | None) -> KeyPass:
        parts, rules = self.comparing(shard, slots)
        return ComparePass(parts, rules, cursor)

    def comparing(self, shard: str, slots: frozenset[int] | None) -> tuple[ScanParts, CompareRules]:
        """Of a pass over a source shard."""
        source = self._session("source", shard)
        targets, table = self._all("target")
        settings, sessions = self._settings, [source, *targets]
        limits = BigKeyLimits(settings.big_key_bytes, settings.big_key_members)
        plan = self._sides.plan
        wanted = wanted_types(plan, settings.selection.types)
        short_bytes = SHORT_BYTES if wanted[0] and all(map(_may_range, sessions)) else 0
        if limits.look_bytes:
            for session in sessions:
                _refuse_unmeasured(session)
        rules = CompareRules(
            database=self._database,
            target_database=self._target_database,
            source_mode=self._sides.expiry_mode(shard),
            target_mode=_expiry_mode(self._sides),
            expiring=self._expiring(sessions),
            short_bytes=short_bytes,
            look_bytes=limits.look_bytes,
            limits=limits,
            pairs=self._pair_rules(shard, plan, wanted, short_bytes),
            values=self._value_rules(plan),
            types=settings.selection.types,
            streams=self._context.on_streams is not None,
        )
        return self._parts(source, targets, table, slots, measured=limits.look_bytes > 0), rules

    def extras(self, target_shard: str, cursor: str, slots: frozenset[int] | None) -> KeyPass:
        target = self._session("target", target_shard)
        sources, table = self._all("source")
        parts = self._parts(target, sources, table, slots, measured=True)
        return ExtrasPass(parts, self._settings.selection.types, cursor)

    # Connections

    def _session(self, side: Side, shard: str | None = None) -> Session:
        database = self._database if side == "source" else self._target_database
        session = self._sides.session(side, database, shard)
        self._stack.callback(session.close)
        if side == "target" and not self._sides.target.cluster:
            # As Sides does on the source, and where it does: what cannot, says no, and no harm is done.
            session.call("CLIENT", "NO-TOUCH", "ON")
        return session

    def _all(self, side: Side) -> tuple[list[Session], bytes]:
        """One connection for each primary, and each slot's; no slots where the side is no cluster."""
        deployment = self._sides.source if side == "source" else self._sides.target
        if not deployment.cluster:
            return [self._session(side)], b""
        shards = [shard.id for shard in deployment.shards]
        table = slot_table(deployment.topology, {name: lane for lane, name in enumerate(shards)})
        return [self._session(side, shard) for shard in shards], table

    def _line(self, session: Session) -> Line:
        deployment = self._sides.source if session.side == "source" else self._sides.target
        return Line(Channel(session), self._context.poller, self._view, cluster=deployment.cluster)

    # What is asked, and how

    def _parts(
        self,
        scanned: Session,
        others: list[Session],
        table: bytes,
        slots: frozenset[int] | None,
        *,
        measured: bool,
    ) -> ScanParts:
        context, batch = self._context, self._settings.batch
        selection = self._settings.selection
        # An empty glob matches the empty name alone, but an empty MATCH is left out.
        glob = selection.match[0] if len(selection.match) == 1 and not selection.exclude else b""
        tail: tuple[Argument, ...] = (b"MATCH", glob) if glob else ()
        tail += (b"COUNT", batch)
        if len(selection.types) == 1:
            tail += (b"TYPE", selection.types[0])
        sieve = Sieve(
            lanes=len(others),
            slots=table,
            wanted_slots=b"" if slots is None else bytes(slot in slots for slot in range(SLOTS)),
            passes=_both(None if glob else selection.key_filter(), context.chooses),
        )
        return ScanParts(
            scanned=self._line(scanned),
            others=[self._line(session) for session in others],
            sieve=sieve,
            scan_tail=tail,
            batch=batch,
            flow=Flow(batch + batch // WINDOW_SHARE, measured=measured),
            pace=context.pace,
            totals=context.totals,
            on_settled=self._hand_out,
            on_moved=context.on_moved,
        )

    def _hand_out(self, page: Page) -> None:
        context = self._context
        if page.suspects:
            context.on_suspects(self._database, page.suspects)
        if page.big:
            context.on_big(self._database, page.big)
        if page.streams and context.on_streams is not None:
            context.on_streams(self._database, list(dict.fromkeys(page.streams)))

    def _expiring(self, sessions: list[Session]) -> bool:
        databases = {"source": self._database, "target": self._target_database}
        return any(expires(session.exchange_raw(KEYSPACE), databases[session.side]) for session in sessions)

    def _pair_rules(self, shard: str, plan: PayloadPlan, wanted: bytes, short_bytes: int) -> PairRules:
        names_streams = self._context.on_streams is not None
        return PairRules(
            ranged=False,
            short_bytes=short_bytes,
            expiring=True,
            clock_offset_ms=self._sides.source_shards[shard].clock_offset_ms,
            tolerance_ms=self._context.expiry_tolerance_ms,
            wanted=wanted,
            streams=bytes(names_streams and plan.type_name(kind) == "stream" for kind in range(256)),
            same_types_max=255 if plan.source.family == plan.target.family else SHARED_TYPE_MAX,
        )

    def _value_rules(self, plan: PayloadPlan) -> ValueRules:
        return ValueRules(
            plan.source.family,
            plan.target.family,
            self._context.expiry_tolerance_ms,
            self._settings.drop_field_expiry,
        )


def _both(
    one: Callable[[bytes], bool] | None, other: Callable[[bytes], bool] | None
) -> Callable[[bytes], bool] | None:
    if one is None or other is None:
        return one or other
    return lambda key: one(key) and other(key)


def _expiry_mode(sides: Sides) -> ExpiryMode:
    """The target's; see ``Sides.expiry_mode``."""
    return ExpiryMode.ABSOLUTE if sides.target_identity.version >= (7, 0, 0) else ExpiryMode.REMAINING


def _may_range(session: Session) -> bool:
    """Whether GETRANGE may be used. Raises ServerBusy."""
    reply = session.call("GETRANGE", RESERVED_PREFIX + b"none", 0, 0)
    if isinstance(reply, ReplyError):
        raise_if_busy(session.side, reply.message)
    return isinstance(reply, bytes) or (isinstance(reply, ReplyError) and reply.code in ("MOVED", "ASK"))


def _refuse_unmeasured(session: Session) -> None:
    """Raises ServerError where MEMORY USAGE is refused: without it a giant would be dumped unasked; and ServerBusy."""
    reply = session.call("MEMORY", "USAGE", RESERVED_PREFIX + b"none", "SAMPLES", 1)
    if isinstance(reply, ReplyError) and reply.code not in ("MOVED", "ASK"):
        raise_if_busy(session.side, reply.message)
        raise ServerError(
            session.side,
            f"The {session.side} does not tell how big its keys are: {reply.message.rstrip('.')}.",
            "Let the user read all keys (ACL SETUSER ... ~*); verify has to."
            if reply.code == "NOPERM" and " key" in reply.message
            else "Allow MEMORY USAGE, or compare every key in one go, however big, with --big-key-bytes 0.",
        )
