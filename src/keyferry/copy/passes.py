"""One pass over one shard's database: connections, relay and slow path put together, and closed again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.copy.bigsettler import BigSettler
from keyferry.copy.carriers import Carrier, Carriers
from keyferry.copy.connect import Sides, node_and_run
from keyferry.copy.errands import Errands
from keyferry.copy.flow import Flow
from keyferry.copy.lanes import Lanes, Place, slot_table
from keyferry.copy.later import Later
from keyferry.copy.pace import Pace
from keyferry.copy.pipeline import RECEIVE_BYTES, Parts, Pipeline, Totals
from keyferry.copy.poller import Poller
from keyferry.copy.predecessors import writer_name
from keyferry.copy.redirects import Redirects
from keyferry.copy.replies import raise_if_busy
from keyferry.copy.rules import Rules
from keyferry.copy.settings import CopySettings
from keyferry.copy.settled import SettledPages
from keyferry.copy.slowpath import SlowPath, wanted_types
from keyferry.copy.supply import BigSupply, GivenKeys, Supply
from keyferry.copy.under_way import KeysUnderWay
from keyferry.model.address import Endpoint
from keyferry.model.errors import ServerError
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.methods import Method
from keyferry.payload.crc64 import resign_mask
from keyferry.payload.names import SLOTS
from keyferry.payload.plan import PayloadPlan
from keyferry.transfer.config import ExpiryMode, HintMode, RelayConfig
from keyferry.transfer.relay import IMPLEMENTATION, make_relay
from keyferry.wire.channel import Channel
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

PAYLOAD_BYTES_MAX = 32 << 20
"""A larger payload is not kept: the key travels in pieces."""
SHORT_BYTES = 1024
"""Strings shorter than this travel without DUMP: GETRANGE costs the source half as much."""
PINGS = 3
EVERY_KEY_ASIDE = bytes([Method.IMPOSSIBLE]) * 256


@dataclass(frozen=True, slots=True)
class Task:
    """What one pass is to do.

    Attributes:
        shard: Of the source, by its id.
        cursor: Where SCAN goes on.
        slots: Only keys of these slots; None is all.
        comparing: Every key is compared with the target's before it is written.
        keys: Only these, and no SCAN; what the source does not have is deleted on the target under ``replace``.
    """

    shard: str
    database: int
    cursor: str = "0"
    slots: frozenset[int] | None = None
    comparing: bool = False
    keys: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Following:
    """What a pass is told that also carries keys that change.

    Attributes:
        supply: Of such keys.
        bigs: Takes every key that is too big for one DUMP, of SCAN too.
        on_stream: Is told of every key that holds a stream.
        keeps: Whether a key that the source does not have stays on the target; None: none does.
    """

    supply: Supply
    bigs: BigSupply
    on_stream: Callable[[bytes], None]
    keeps: Callable[[bytes], bool] | None = None


@dataclass(frozen=True, slots=True)
class PassContext:
    """What the passes of a run have in common.

    Attributes:
        ask_expiry: Ask for expiries although INFO says that no key expires.
        is_foreign: By target database and key.
        on_source_moved: Takes slots of keys that a source node sent elsewhere.
        on_target_met: Takes the id and the run id of a primary of the target before anything is written to it.
        owner: Of temporary names: this copy, in letters and digits.
        under_way: Keys that are being built, by target database.
    """

    settings: CopySettings
    sides: Sides
    pace: Pace
    ask_expiry: bool
    is_foreign: Callable[[int, bytes], bool]
    on_source_moved: Callable[[int], None]
    on_target_met: Callable[[str, str], None]
    owner: bytes
    under_way: set[tuple[int, bytes]] = field(default_factory=set)


def open_pass(
    context: PassContext,
    task: Task,
    poller: Poller,
    totals: Totals,
    on_settled: Callable[[Task, SettledPages], None],
    following: Following | None = None,
) -> Pipeline:
    """Connects to the shard and to every primary of the target; the pipeline has not begun yet.

    Raises:
        ServerAway: A server cannot be reached now.
        ServerError: One refuses us.
    """
    with contextlib.ExitStack() as stack:
        work = _Opening(context, task, stack, following)
        pipeline = work.pipeline(poller, totals, lambda pages: on_settled(task, pages))
        stack.pop_all()  # from here on the pipeline closes them
        return pipeline


class _Opening:
    """Puts one pipeline together; what it opened is closed by ``stack`` if that fails."""

    def __init__(
        self, context: PassContext, task: Task, stack: contextlib.ExitStack, following: Following | None
    ) -> None:
        self._context, self._task, self._stack = context, task, stack
        self._following = following
        self._settings, self._sides = context.settings, context.sides
        self._target_database = self._settings.selection.target_database(task.database)

    def pipeline(
        self, poller: Poller, totals: Totals, on_settled: Callable[[SettledPages], None]
    ) -> Pipeline:
        settings, sides, task = self._settings, self._sides, self._task
        source = sides.session("source", task.database, task.shard)
        self._stack.callback(source.close)
        lanes = Lanes(self._connect)
        self._stack.callback(lanes.close)
        slots = self._open_lanes(lanes)
        plan = sides.plan_for(task.shard, source)
        limits = BigKeyLimits(settings.big_key_bytes, settings.big_key_members)
        relay = make_relay(self._relay_config(plan, source, len(lanes), slots, limits))
        errands, later = Errands(relay), Later()
        redirects = Redirects(
            relay,
            lanes,
            settings.target_map,
            self._context.on_source_moved if sides.source.cluster else None,
            later,
        )
        carriers = Carriers(lambda: self._connect_carrier(plan, poller))
        under_way = KeysUnderWay(self._context.under_way, self._target_database, later)
        rules = self._rules(plan, limits)
        supply: Supply | None = self._following.supply if self._following else None
        if task.keys is not None:
            supply = GivenKeys(task.keys, on_settled)
        parts = Parts(
            supply=supply,
            bigs=self._big_settler(carriers, redirects, later, rules, under_way),
            source=Channel(source),
            lanes=lanes,
            relay=relay,
            errands=errands,
            slow=SlowPath(
                relay,
                errands,
                redirects,
                carriers,
                under_way,
                later,
                self._context.pace,
                rules,
            ),
            carriers=carriers,
            flow=Flow(settings.batch, measured=limits.look_bytes > 0, round_trip_ms=_round_trip_ms(source)),
            pace=self._context.pace,
            poller=poller,
        )
        ahead_ms = None if sides.absolute else sides.source_shards[task.shard].ahead_ms
        return Pipeline(
            parts, batch=settings.batch, source_ahead_ms=ahead_ms, totals=totals, on_settled=on_settled
        )

    def _big_settler(
        self,
        carriers: Carriers,
        redirects: Redirects,
        later: Later,
        rules: Rules,
        under_way: KeysUnderWay,
    ) -> BigSettler | None:
        if self._following is None:
            return None
        return BigSettler(
            self._following.bigs, carriers, redirects, later, self._context.pace, rules, under_way
        )

    def _open_lanes(self, lanes: Lanes) -> bytes:
        """One lane for each primary of the target; gives each slot's lane."""
        target = self._sides.target
        if not target.cluster:
            lanes.open(_place(target.endpoint(target.shards[0].id)))
            return b""
        by_shard = {shard.id: lanes.open(_place(target.endpoint(shard.id))) for shard in target.shards}
        return slot_table(target.topology, by_shard)

    def _connect(self, place: Place) -> Channel:
        target = self._sides.target
        seed = target.endpoint(target.shards[0].id)
        endpoint = seed.at(*place) if target.cluster else seed
        session = self._sides.session_at(endpoint, "target", self._target_database)
        try:
            session.call("CLIENT", "SETNAME", writer_name(self._context.owner))
            if target.cluster:
                self._context.on_target_met(*node_and_run(session))
        except BaseException:
            session.close()
            raise
        return Channel(session)

    def _connect_carrier(self, plan: PayloadPlan, poller: Poller) -> Carrier:
        source = Channel(self._sides.session("source", self._task.database, self._task.shard))
        config = RelayConfig(
            actions=EVERY_KEY_ASIDE,
            source_version=plan.source.rdb_version,
            target_version=plan.target_version,
            resign_mask=resign_mask(plan.source.rdb_version, plan.target_version),
            expiry=ExpiryMode.ABSOLUTE,
        )
        view = memoryview(bytearray(RECEIVE_BYTES))
        return Carrier(source, Lanes(self._connect), make_relay(config), poller, view)

    def _relay_config(
        self, plan: PayloadPlan, source: Session, lanes: int, slots: bytes, limits: BigKeyLimits
    ) -> RelayConfig:
        context, task = self._context, self._task
        settings, sides = context.settings, context.sides
        selection, shard = settings.selection, sides.source_shards[task.shard]
        # What INFO says of expiries can only spare us the question where we may write a key again.
        spare = not context.ask_expiry and not task.comparing and settings.on_conflict in (None, "replace")
        spare = spare and self._following is None and task.keys is None
        # An empty glob matches the empty name alone, but an empty MATCH is left out of a relay's SCAN.
        single_glob = len(selection.match) == 1 and selection.match[0] and not selection.exclude
        return RelayConfig(
            actions=self._actions(plan),
            wanted=b"\x01" * 256 if self._following else wanted_types(plan, selection.types),
            source_version=plan.source.rdb_version,
            target_version=plan.target_version,
            resign_mask=resign_mask(plan.source.rdb_version, plan.target_version),
            expiry=ExpiryMode.NONE
            if spare and not sides.expires(task.shard)
            else sides.expiry_mode(task.shard),
            clock_offset_ms=shard.clock_offset_ms,
            absolute=sides.absolute,
            replace=settings.on_conflict in (None, "replace"),
            hints=_hint_mode(source) if settings.keep_eviction_hints else HintMode.NONE,
            scan_count=settings.batch,
            scan_match=selection.match[0] if single_glob else b"",
            scan_type=selection.types[0].encode() if len(selection.types) == 1 else b"",
            key_filter=None if single_glob else selection.key_filter(),
            short_bytes=self._short_bytes(source),
            lanes=lanes,
            slots=slots,
            wanted_slots=b"" if task.slots is None else bytes(slot in task.slots for slot in range(SLOTS)),
            look_bytes=_look_bytes(source, limits),
            payload_bytes_max=min(PAYLOAD_BYTES_MAX, sides.target_bulk_bytes_max),
        )

    def _actions(self, plan: PayloadPlan) -> bytes:
        """As the plan says, but for types that somebody wants to know of: IMPOSSIBLE sends a key aside."""
        if self._task.comparing:
            return EVERY_KEY_ASIDE
        if self._following is None:
            return plan.actions
        wanted = wanted_types(plan, self._settings.selection.types)
        return bytes(
            action if wanted[kind] and plan.type_name(kind) != "stream" else Method.IMPOSSIBLE
            for kind, action in enumerate(plan.actions)
        )

    def _short_bytes(self, source: Session) -> int:
        """GETRANGE pays where CRC64 is compiled and payloads are not compared; and only where we may use it.

        Not with eviction hints: it touches a key that is then asked about again.
        """
        context = self._context
        if self._task.comparing or context.settings.keep_eviction_hints or IMPLEMENTATION != "compiled":
            return 0
        types = context.settings.selection.types
        if self._following and types and "string" not in types:
            return 0  # a string is told then, not carried
        reply = source.call("GETRANGE", RESERVED_PREFIX + b"none", 0, 0)
        elsewhere = isinstance(reply, ReplyError) and reply.code in ("MOVED", "ASK")
        return SHORT_BYTES if isinstance(reply, bytes) or elsewhere else 0

    def _rules(self, plan: PayloadPlan, limits: BigKeyLimits) -> Rules:
        context, task = self._context, self._task
        settings, sides = self._settings, self._sides
        return Rules(
            plan=plan,
            database=task.database,
            on_conflict=settings.on_conflict or "replace",
            delete_vanished=settings.on_conflict == "replace",
            drop_field_expiry=settings.drop_field_expiry,
            comparing=task.comparing,
            types=settings.selection.types,
            target_bulk_bytes_max=sides.target_bulk_bytes_max,
            clock_offset_ms=sides.source_shards[task.shard].clock_offset_ms,
            is_foreign=lambda key: context.is_foreign(self._target_database, key),
            big_keys=limits,
            owner=context.owner,
            on_big=self._following.bigs.hand_over if self._following else None,
            on_big_met=self._following.bigs.meet if self._following else None,
            on_stream=self._following.on_stream if self._following else None,
            keeps=self._following.keeps if self._following else None,
        )


def _place(endpoint: Endpoint) -> Place:
    return (endpoint.unix_path or endpoint.host, endpoint.port)


def _round_trip_ms(session: Session) -> float:
    """The fastest of a few PINGs."""
    found = []
    for _ in range(PINGS):
        began_s = time.perf_counter()
        session.call("PING")
        found.append((time.perf_counter() - began_s) * 1000)
    return min(found)


def _look_bytes(source: Session, limits: BigKeyLimits) -> int:
    """Raises ServerError where MEMORY USAGE is refused: without it a giant would be dumped unasked; and ServerBusy."""
    if not limits.look_bytes:
        return 0
    reply = source.call("MEMORY", "USAGE", RESERVED_PREFIX + b"none", "SAMPLES", 1)
    if isinstance(reply, ReplyError) and reply.code not in ("MOVED", "ASK"):
        raise_if_busy("source", reply.message)
        raise ServerError(
            "source",
            f"The source does not tell how big its keys are: {reply.message.rstrip('.')}.",
            "Allow MEMORY USAGE, or dump every key in one go, however big, with --big-key-bytes 0.",
        )
    return limits.look_bytes


def _hint_mode(source: Session) -> HintMode:
    """FREQ under an LFU policy, else IDLETIME: OBJECT answers only the one that the policy keeps."""
    match source.call("CONFIG", "GET", "maxmemory-policy"):
        case [_, bytes(policy)] if b"lfu" in policy:
            return HintMode.FREQ
    return HintMode.IDLETIME
