"""Both sides of a copy: sessions, who they are, which databases, and what follows for payloads and expiries."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from keyferry.copy.deployment import Deployment, discover
from keyferry.copy.identify import clock_offset, identify, with_footer
from keyferry.copy.info import Keyspace, info_number, info_text, keyspace, module_names, parse_info
from keyferry.copy.settings import CopySettings
from keyferry.model.address import Endpoint
from keyferry.model.errors import ServerAway, ServerError, Side
from keyferry.model.identity import ServerIdentity
from keyferry.payload.plan import PayloadPlan
from keyferry.transfer.config import ExpiryMode
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.session import Session

PROTO_MAX_BULK_BYTES = 512 << 20
"""The servers' default, assumed where CONFIG GET is forbidden."""
CLOCK_AGREES_MS = 1.0


@dataclass(slots=True)
class SourceShard:
    """What one source server says of itself.

    Attributes:
        keyspace: None when INFO is refused.
        ahead_ms: Its clock minus ours.
        clock_offset_ms: The target's clock minus its, 0 where they agree.
    """

    identity: ServerIdentity
    keyspace: dict[int, Keyspace] | None
    ahead_ms: float
    clock_offset_ms: int


class Sides:
    """Opened before the first pass, and again after every trouble."""

    source: Deployment
    target: Deployment
    target_identity: ServerIdentity
    """Of the oldest of its servers: what it reads, all read."""

    def __init__(
        self, settings: CopySettings, on_wait: OnWait = no_wait_ends, *, writes: bool = True
    ) -> None:
        """
        Args:
            on_wait: Called a few times a second while a server lets us wait; ends that by raising.
            writes: False never writes to the target, not even the short-lived key that shows its payload version.
        """
        self._settings = settings
        self._on_wait = on_wait
        self._writes = writes
        self.target_bulk_bytes_max = PROTO_MAX_BULK_BYTES
        self.evicted_keys: int | None = None
        """Of the target since it started; None when it does not say."""
        self.source_shards: dict[str, SourceShard] = {}
        self.target_run_ids: dict[str, str] = {}
        self.met_targets: set[str] = set()
        """Ids of primaries of the target that may have been written to."""
        self._modules: frozenset[str] = frozenset()
        self._known: dict[Side, tuple[Endpoint, ...]] = {}
        """Primaries of the last look, for when none of the nodes that the user named is there any more."""

    def session(self, side: Side, database: int | None = None, shard: str | None = None) -> Session:
        """A new connection.

        Args:
            database: None is the address's own.
            shard: None is the first one.

        Raises:
            ServerAway: It cannot be reached now.
            ServerError: It refuses us.
        """
        deployment = self.source if side == "source" else self.target
        try:
            endpoint = deployment.endpoint(shard or deployment.shards[0].id)
        except (KeyError, IndexError):
            raise ServerAway(side, f"A node of the {side}'s cluster is not there any more.") from None
        return self.session_at(endpoint, side, database)

    def session_at(self, endpoint: Endpoint, side: Side, database: int | None = None) -> Session:
        """A new connection to one server. Raises as ``session``."""
        session = Session(endpoint, side, db=database, on_wait=self._on_wait)
        reads_only = side == "source" or not self._writes
        if reads_only and not (self.source if side == "source" else self.target).cluster:
            # Since 7.2: our reads leave idle times and frequencies as they are. What cannot, says no: no harm.
            # Not in a cluster: Redis 7.4 to 8.2 dies of it when the key's slot is being migrated (lookupKey has no
            # executing client in getNodeByQuery; redis/redis pull request 14415).
            try:
                session.call("CLIENT", "NO-TOUCH", "ON")
            except BaseException:
                session.close()
                raise
        return session

    def open(self) -> None:
        """Finds out which servers there are, and asks each who it is. Raises as ``session``."""
        self.discover("source")
        self.discover("target")
        self._open_target()
        with self.session("target") as target:
            self.source_shards = {
                shard.id: self._look_at_source(shard.id, target) for shard in self.source.shards
            }
        if self._settings.selection.databases is None and self._keyspaces is None:
            raise ServerError(
                "source",
                "The source does not say which databases it uses (INFO keyspace is refused).",
                "Name them with --db.",
            )

    def discover(self, side: Side) -> Deployment:
        """Looks anew which servers there are and which slots they own. Raises as ``session``."""
        settings = self._settings
        if side == "source":
            self.source = discover(
                settings.source, side, settings.source_map, self._on_wait, self._known.get(side, ())
            )
            found = self.source
        else:
            self.target = discover(
                settings.target, side, settings.target_map, self._on_wait, self._known.get(side, ())
            )
            found = self.target
        if found.cluster:
            self._known[side] = tuple(found.endpoint(shard.id) for shard in found.shards)
        return found

    def _open_target(self) -> None:
        identities, evicted, limits, modules = [], [], [], []
        self.target_run_ids = {}
        for shard in self.target.shards:
            with self.session("target", shard=shard.id) as session:
                identities.append(identify(session, shard.slots, writes=self._writes))
                self.target_run_ids[shard.id] = identities[-1].run_id
                evicted.append(evicted_keys(session))
                limits.append(_bulk_bytes_max(session))
                modules.append(_modules(session))
        for idle in self.target.topology.idle:
            # One that is being given its first slot may have been written to already.
            if idle.id not in self.met_targets:
                continue
            with contextlib.suppress(ServerError), self.session("target", shard=idle.id) as session:
                self.target_run_ids[idle.id] = node_and_run(session)[1]
        self.target_identity = min(identities, key=lambda identity: (identity.rdb_version, identity.version))
        known = [number for number in evicted if number is not None]
        self.evicted_keys = sum(known) if len(known) == len(evicted) else None
        self.target_bulk_bytes_max = min(limits)
        self._modules = frozenset.intersection(*modules)

    def _look_at_source(self, shard: str, target: Session) -> SourceShard:
        with self.session("source", shard=shard) as source:
            offset = clock_offset(source, target)
            offset_ms = 0
            if offset is not None and abs(offset.offset_ms) > max(CLOCK_AGREES_MS, offset.uncertainty_ms):
                offset_ms = round(offset.offset_ms)
            return SourceShard(identify(source), _keyspace(source), _ahead_ms(source), offset_ms)

    def plan_for(self, shard: str, session: Session) -> PayloadPlan:
        """The plan with the payload version that this database's own keys show, where one can be seen."""
        known = self.source_shards[shard]
        if known.identity.rdb_version:
            seen = identify(session)
            if seen.rdb_version != known.identity.rdb_version:
                known.identity = with_footer(known.identity, seen.rdb_version)
        return self._plan(known.identity)

    @property
    def plan(self) -> PayloadPlan:
        """Between the first source server and the target."""
        return self._plan(self.source_shards[self.source.shards[0].id].identity)

    def _plan(self, source: ServerIdentity) -> PayloadPlan:
        return PayloadPlan(
            source,
            self.target_identity,
            target_modules=self._modules,
            drop_field_expiry=self._settings.drop_field_expiry,
        )

    @property
    def source_run_ids(self) -> dict[str, str]:
        return {shard: known.identity.run_id for shard, known in self.source_shards.items()}

    @property
    def absolute(self) -> bool:
        """Whether the target takes absolute expiries (RESTORE's ABSTTL)."""
        return self.target_identity.version >= (5, 0, 0)

    def expiry_mode(self, shard: str) -> ExpiryMode:
        """How expiries are asked for, where they must be: PEXPIRETIME since Redis 7.0."""
        version = self.source_shards[shard].identity.version
        return ExpiryMode.ABSOLUTE if version >= (7, 0, 0) else ExpiryMode.REMAINING

    def databases(self) -> list[int]:
        """The source's databases that are copied, in order."""
        wanted = self._settings.selection.databases
        if wanted is not None:
            return sorted(set(wanted))
        return sorted({database for spaces in self._keyspaces or [] for database in spaces})

    @property
    def _keyspaces(self) -> list[dict[int, Keyspace]] | None:
        """Of every shard; None when one does not say."""
        spaces = [known.keyspace for known in self.source_shards.values()]
        known_spaces = [space for space in spaces if space is not None]
        return known_spaces if len(known_spaces) == len(spaces) else None

    def expires(self, shard: str) -> bool:
        """Whether any key of a source shard expires, as far as INFO says."""
        spaces = self.source_shards[shard].keyspace
        return spaces is None or any(space.expires for space in spaces.values())

    def total_keys(self, databases: list[int], shard: str | None = None) -> int:
        """Keys by INFO, of one shard or of all."""
        shards = [self.source_shards[shard]] if shard else list(self.source_shards.values())
        return sum(
            (known.keyspace or {})[database].keys
            for known in shards
            for database in databases
            if database in (known.keyspace or {})
        )


def node_and_run(session: Session) -> tuple[str, str]:
    """A cluster node's id and the id of its process; empty where it does not say. Raises ConnectionLost."""
    name, info = session.pipeline([("CLUSTER", "MYID"), ("INFO", "server")])
    return (
        name.decode("ascii", "backslashreplace") if isinstance(name, bytes) else "",
        info_text(parse_info(info), "server", "run_id") if isinstance(info, bytes) else "",
    )


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
