"""One pass over one database: connections, relay and slow path put together, and closed again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from keyferry.copy.connect import Sides
from keyferry.copy.errands import Errands
from keyferry.copy.flow import Flow
from keyferry.copy.pipeline import Pipeline, SettledPages
from keyferry.copy.probe import Probe
from keyferry.copy.settings import CopySettings
from keyferry.copy.slowpath import Rules, SlowPath, wanted_types
from keyferry.copy.watch import Watch
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.methods import Method
from keyferry.payload.crc64 import resign_mask
from keyferry.payload.plan import PayloadPlan
from keyferry.transfer.config import ExpiryMode, HintMode, RelayConfig
from keyferry.transfer.relay import IMPLEMENTATION, make_relay
from keyferry.wire.channel import Channel
from keyferry.wire.session import Session

PAYLOAD_BYTES_MAX = 32 << 20
"""A larger payload is not kept: the key travels in pieces."""
SHORT_BYTES = 1024
"""Strings shorter than this travel without DUMP: GETRANGE costs the source half as much."""
EVERY_KEY_ASIDE = bytes([Method.IMPOSSIBLE]) * 256


@dataclass(frozen=True, slots=True)
class PassContext:
    """What one pass needs of its run.

    Attributes:
        comparing: Every key is compared with the target's before it is written.
        ask_expiry: Ask for expiries although INFO says that no key expires.
        is_foreign: By target database and key.
    """

    settings: CopySettings
    sides: Sides
    database: int
    comparing: bool
    ask_expiry: bool
    is_foreign: Callable[[int, bytes], bool]
    watch: Watch


class DatabasePass:
    """Use as a context: connections are made on entry and closed on exit."""

    def __init__(self, context: PassContext) -> None:
        self._context = context
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> DatabasePass:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.watch.use([])
        self._stack.close()

    def run(
        self, cursor: str, on_settled: Callable[[SettledPages], None], on_turn: Callable[[], None]
    ) -> None:
        """As ``Pipeline.run``."""
        self._pipeline.run(cursor, on_settled, on_turn)

    def _open(self) -> None:
        context = self._context
        settings, sides = context.settings, context.sides
        target_database = settings.selection.target_database(context.database)
        source = self._session(sides.session("source", context.database))
        target = self._session(sides.session("target", target_database))
        plan = sides.plan_for(source)
        relay = make_relay(self._relay_config(plan, source))
        errands = Errands(relay)
        slow = SlowPath(relay, errands, self._rules(plan, target_database))
        probes = self._probes()
        context.watch.database = context.database
        context.watch.use(probes)
        self._pipeline = Pipeline(
            Channel(source),
            Channel(target),
            relay,
            errands,
            slow,
            Flow(settings.batch),
            context.watch.pace,
            probes,
            batch=settings.batch,
            source_ahead_ms=None if sides.absolute else sides.source_ahead_ms,
        )
        context.watch.pace.begin_pass()

    def _session(self, session: Session) -> Session:
        self._stack.callback(session.close)
        return session

    def _probes(self) -> list[Probe]:
        """One each, even with the guard off: the display shows latencies, and evictions must be noticed."""
        every_s = 0.01 if self._context.settings.max_latency_ms else 0.2
        probes = []
        for side in ("source", "target"):
            session = self._session(self._context.sides.session(side))
            probes.append(Probe(session, every_s))
        return probes

    def _relay_config(self, plan: PayloadPlan, source: Session) -> RelayConfig:
        context = self._context
        settings, sides = context.settings, context.sides
        selection = settings.selection
        # What INFO says of expiries can only spare us the question where we may write a key again.
        spare = not context.ask_expiry and not context.comparing and settings.on_conflict in (None, "replace")
        # An empty glob matches the empty name alone, but an empty MATCH is left out of a relay's SCAN.
        single_glob = len(selection.match) == 1 and selection.match[0] and not selection.exclude
        return RelayConfig(
            actions=EVERY_KEY_ASIDE if context.comparing else plan.actions,
            wanted=wanted_types(plan, selection.types),
            source_version=plan.source.rdb_version,
            target_version=plan.target_version,
            resign_mask=resign_mask(plan.source.rdb_version, plan.target_version),
            expiry=ExpiryMode.NONE if spare and not sides.expires(context.database) else sides.expiry_mode,
            clock_offset_ms=sides.clock_offset_ms,
            absolute=sides.absolute,
            replace=settings.on_conflict in (None, "replace"),
            hints=_hint_mode(source) if settings.keep_eviction_hints else HintMode.NONE,
            scan_count=settings.batch,
            scan_match=selection.match[0] if single_glob else b"",
            scan_type=selection.types[0].encode() if len(selection.types) == 1 else b"",
            key_filter=None if single_glob else selection.key_filter(),
            short_bytes=self._short_bytes(source),
            payload_bytes_max=min(PAYLOAD_BYTES_MAX, sides.target_bulk_bytes_max),
        )

    def _short_bytes(self, source: Session) -> int:
        """GETRANGE pays where CRC64 is compiled and payloads are not compared; and only where we may use it.

        Not with eviction hints: it touches a key that is then asked about again.
        """
        context = self._context
        if context.comparing or context.settings.keep_eviction_hints or IMPLEMENTATION != "compiled":
            return 0
        reply = source.call("GETRANGE", RESERVED_PREFIX + b"none", 0, 0)
        return SHORT_BYTES if isinstance(reply, bytes) else 0

    def _rules(self, plan: PayloadPlan, target_database: int) -> Rules:
        context = self._context
        settings = context.settings
        return Rules(
            plan=plan,
            database=context.database,
            on_conflict=settings.on_conflict or "replace",
            delete_vanished=settings.on_conflict == "replace",
            drop_field_expiry=settings.drop_field_expiry,
            comparing=context.comparing,
            types=settings.selection.types,
            target_bulk_bytes_max=context.sides.target_bulk_bytes_max,
            clock_offset_ms=context.sides.clock_offset_ms,
            is_foreign=lambda key: context.is_foreign(target_database, key),
        )


def _hint_mode(source: Session) -> HintMode:
    """FREQ under an LFU policy, else IDLETIME: OBJECT answers only the one that the policy keeps."""
    match source.call("CONFIG", "GET", "maxmemory-policy"):
        case [_, bytes(policy)] if b"lfu" in policy:
            return HintMode.FREQ
    return HintMode.IDLETIME
