"""Both sides of a copy: sessions, who they are, which databases, and what follows for payloads and expiries."""

from __future__ import annotations

import time

from keyferry.copy.identify import clock_offset, identify, with_footer
from keyferry.copy.info import Keyspace, info_number, keyspace, module_names, parse_info
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import ServerError, Side
from keyferry.model.identity import ServerIdentity
from keyferry.payload.plan import PayloadPlan
from keyferry.transfer.config import ExpiryMode
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.session import Session

PROTO_MAX_BULK_BYTES = 512 << 20
"""The servers' default, assumed where CONFIG GET is forbidden."""
CLOCK_AGREES_MS = 1.0


class Sides:
    """Opened before the first pass, and again after every trouble."""

    source_identity: ServerIdentity
    target_identity: ServerIdentity
    plan: PayloadPlan

    def __init__(self, settings: CopySettings, on_wait: OnWait = no_wait_ends) -> None:
        """Args: on_wait: Called a few times a second while a server lets us wait; ends that by raising."""
        self._settings = settings
        self._on_wait = on_wait
        self.clock_offset_ms = 0
        self.target_bulk_bytes_max = PROTO_MAX_BULK_BYTES
        self.source_ahead_ms = 0.0
        """The source's clock minus ours."""
        self.evicted_keys: int | None = None
        """Of the target since it started; None when it does not say."""

    def session(self, side: Side, database: int | None = None) -> Session:
        """A new connection. ``database``: None is the address's own.

        Raises:
            ServerAway: It cannot be reached now.
            ServerError: It refuses us.
        """
        endpoint = self._settings.source if side == "source" else self._settings.target
        session = Session(endpoint, side, db=database, on_wait=self._on_wait)
        if side == "source":
            # Since 7.2: our reads leave idle times and frequencies as they are. What cannot, says no: no harm.
            try:
                session.call("CLIENT", "NO-TOUCH", "ON")
            except BaseException:
                session.close()
                raise
        return session

    def open(self) -> None:
        """Asks both who they are. Raises as ``session``."""
        settings = self._settings
        with self.session("source") as source, self.session("target") as target:
            self.source_identity, self.target_identity = identify(source), identify(target)
            for session in (source, target):
                _refuse_cluster(session)
            self.source_ahead_ms = _ahead_ms(source)
            offset = clock_offset(source, target)
            if offset is not None and abs(offset.offset_ms) > max(CLOCK_AGREES_MS, offset.uncertainty_ms):
                self.clock_offset_ms = round(offset.offset_ms)
            else:
                self.clock_offset_ms = 0
            self.target_bulk_bytes_max = _bulk_bytes_max(target)
            self.evicted_keys = evicted_keys(target)
            self._modules = _modules(target)
            self.plan = self._plan(self.source_identity)
            self._keyspace = _keyspace(source)
        if settings.selection.databases is None and self._keyspace is None:
            raise ServerError(
                "source",
                "The source does not say which databases it uses (INFO keyspace is refused).",
                "Name them with --db.",
            )

    def plan_for(self, session: Session) -> PayloadPlan:
        """The plan with the payload version that this database's own keys show, where one can be seen."""
        if self.source_identity.rdb_version:
            seen = identify(session)
            if seen.rdb_version != self.source_identity.rdb_version:
                self.source_identity = with_footer(self.source_identity, seen.rdb_version)
                self.plan = self._plan(self.source_identity)
        return self.plan

    def _plan(self, source: ServerIdentity) -> PayloadPlan:
        return PayloadPlan(
            source,
            self.target_identity,
            target_modules=self._modules,
            drop_field_expiry=self._settings.drop_field_expiry,
        )

    @property
    def absolute(self) -> bool:
        """Whether the target takes absolute expiries (RESTORE's ABSTTL)."""
        return self.target_identity.version >= (5, 0, 0)

    @property
    def expiry_mode(self) -> ExpiryMode:
        """How expiries are asked for, where they must be: PEXPIRETIME since Redis 7.0."""
        return ExpiryMode.ABSOLUTE if self.source_identity.version >= (7, 0, 0) else ExpiryMode.REMAINING

    def databases(self) -> list[int]:
        """The source's databases that are copied, in order."""
        wanted = self._settings.selection.databases
        return sorted(self._keyspace or {}) if wanted is None else sorted(set(wanted))

    def expires(self, database: int) -> bool:
        """Whether any key of the source's database expires, as far as INFO says."""
        if self._keyspace is None:
            return True
        return any(space.expires for space in self._keyspace.values())

    def total_keys(self, databases: list[int]) -> int:
        spaces = self._keyspace or {}
        return sum(spaces[database].keys for database in databases if database in spaces)


def _keyspace(session: Session) -> dict[int, Keyspace] | None:
    reply = session.call("INFO", "keyspace")
    return keyspace(parse_info(reply)) if isinstance(reply, bytes) else None


def _ahead_ms(session: Session) -> float:
    match session.call("TIME"):
        case [bytes(seconds), bytes(micros)]:
            return int(seconds) * 1000 + int(micros) / 1000 - time.time() * 1000
    return 0.0


def evicted_keys(session: Session) -> int | None:
    """Keys that the server has evicted since it started; None when it does not say."""
    reply = session.call("INFO", "stats")
    return info_number(parse_info(reply), "stats", "evicted_keys") if isinstance(reply, bytes) else None


def _bulk_bytes_max(session: Session) -> int:
    reply = session.call("CONFIG", "GET", "proto-max-bulk-len")
    match reply:
        case [_, bytes(number)] if number.isdigit():
            return int(number)
    return PROTO_MAX_BULK_BYTES


def _modules(session: Session) -> frozenset[str]:
    """Names of the loaded modules; INFO says them too, where MODULE LIST is forbidden."""
    reply = session.call("MODULE", "LIST")
    if isinstance(reply, list):
        names = [
            item[item.index(b"name") + 1] for item in reply if isinstance(item, list) and b"name" in item
        ]
        return frozenset(
            name.decode("utf-8", "backslashreplace") for name in names if isinstance(name, bytes)
        )
    info = session.call("INFO", "modules")
    return module_names(info) if isinstance(info, bytes) else frozenset()


def _refuse_cluster(session: Session) -> None:
    reply = session.call("INFO", "cluster")
    if isinstance(reply, bytes) and info_number(parse_info(reply), "cluster", "cluster_enabled"):
        raise ServerError(
            session.side,
            f"The {session.side} {session.endpoint} is a cluster.",
            "This version copies standalone servers only.",
        )
