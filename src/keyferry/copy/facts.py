"""What a look at both servers found, and what is asked of the copy: between survey and judgement.

A fact that could not be had is None, and ``refusals`` says what the server answered instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from keyferry.copy.identify import ClockOffset
from keyferry.copy.info import Keyspace
from keyferry.copy.settings import ConflictPolicy
from keyferry.model.announced import DIRECT, AddressMap
from keyferry.model.errors import Side
from keyferry.model.identity import ServerIdentity
from keyferry.model.keynames import NAMES, KeyNames
from keyferry.model.selection import Selection
from keyferry.model.topology import SLOT_COUNT

RightState = Literal["allowed", "command", "key", "missing", "unclear"]
"""``command``: the user may not run it; ``key``: not on the key; ``missing``: the server does not know it
(renamed, disabled by the service, or newer than the server); ``unclear``: we could not look."""
RightUse = Literal["copy", "logical", "helpful"]
FeedState = Literal["allowed", "off", "refused", "unclear"]
Role = Literal["master", "replica", ""]


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What a copy would be asked to do, as far as the servers matter.

    Attributes:
        on_conflict: None refuses a target that holds foreign keys.
        resuming: An unfinished run of this copy left a checkpoint: what the target holds is not foreign.
        source_map: Where the nodes of the source's cluster are reached; ``target_map`` the target's.
        big_key_bytes: A key above this size travels in pieces; 0 is off.
        names: How keys are called; whoever asks for a check by itself is told their names.
    """

    selection: Selection = field(default_factory=Selection)
    on_conflict: ConflictPolicy | None = None
    drop_field_expiry: bool = False
    functions: bool = False
    keep_eviction_hints: bool = False
    resuming: bool = False
    source_map: AddressMap = DIRECT
    target_map: AddressMap = DIRECT
    big_key_bytes: int = 1 << 20
    names: KeyNames = NAMES


@dataclass(frozen=True, slots=True)
class Right:
    """Whether our user may run one command. ``token`` is the ACL rule's name of it, such as ``config|get``.

    ``reply`` is the server's own error, empty when there was none. ``places`` are the nodes of which this is true,
    where other nodes of the same cluster say something better.
    """

    token: str
    state: RightState
    reply: str = ""
    use: RightUse = "copy"
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Bytes; ``maxmemory`` 0 is unlimited."""

    used: int | None = None
    data: int | None = None
    maxmemory: int | None = None
    system: int | None = None
    policy: str = ""
    evicted_keys: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """``writable`` only matters on a replica: ``replica-read-only`` is off."""

    role: Role = ""
    link_up: bool = True
    writable: bool = False
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What every server of a side is asked for: the only one, or each primary of a cluster.

    Attributes:
        place: Where it is reached, as ``host:port`` or a socket's path.
        slots: How many it owns.
        clock: Its clock minus ours; None when it refuses TIME.
        write_refusal: As ``TargetFacts.write_refusal``; of the target only.
    """

    place: str
    user: str
    identity: ServerIdentity
    slots: int = SLOT_COUNT
    round_trip_ms: float = 0.0
    memory: MemoryFacts = MemoryFacts()
    replication: ReplicationFacts = ReplicationFacts()
    keyspace: dict[int, Keyspace] | None = None
    clock: ClockOffset | None = None
    rights: tuple[Right, ...] = ()
    write_refusal: str = ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What both sides are asked for alike. Of a cluster: the sum or the worst of its nodes, as it fits.

    Attributes:
        nodes: One by one; ``nodes_left_out`` are more primaries, which were not looked at.
        address: Without the password.
        user: The ACL user that we are.
        round_trip_ms: Of a PING, the fastest of a few.
        keyspace: Databases in use; None when INFO is forbidden.
        database_count: The ``databases`` parameter.
        absent_databases: Those asked for that SELECT refuses, with its answer.
        bulk_bytes_max: The ``proto-max-bulk-len`` parameter.
        sharing: Connections of others that use our own user; None when CLIENT LIST is forbidden.
        modules: Names of the loaded modules; ``builtin_modules`` are those that came with the server.
        function_libraries: None before 7.0 or when forbidden.
        cluster: Whether the server is a cluster.
        open_slots: Those that are being migrated; empty when ``sees_migrations`` is not true.
        sees_migrations: Whether the nodes tell which slots are being migrated.
        refusals: Command -> what the server answered instead of a fact.
    """

    side: Side
    address: str
    user: str
    identity: ServerIdentity
    round_trip_ms: float = 0.0
    memory: MemoryFacts = MemoryFacts()
    replication: ReplicationFacts = ReplicationFacts()
    nodes: tuple[NodeFacts, ...] = ()
    nodes_left_out: int = 0
    cluster: bool = False
    open_slots: frozenset[int] = frozenset()
    sees_migrations: bool = True
    keyspace: dict[int, Keyspace] | None = None
    database_count: int | None = None
    absent_databases: dict[int, str] = field(default_factory=dict)
    bulk_bytes_max: int | None = None
    users: frozenset[str] | None = None
    sharing: int | None = 0
    modules: frozenset[str] | None = None
    builtin_modules: frozenset[str] = frozenset()
    function_libraries: int | None = None
    rights: tuple[Right, ...] = ()
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampledKey:
    """One key of the sample; ``bytes`` is MEMORY USAGE's estimate."""

    key: bytes
    database: int
    type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A bounded look at the source's keys; ``forbidden`` counts those that our user may not read."""

    keys: tuple[SampledKey, ...] = ()
    forbidden: int = 0


@dataclass(frozen=True, slots=True)
class Feed:
    """Whether the source lets us hear of changed keys in one way; ``detail`` says why not, or what is set."""

    name: Literal["replication", "tracking", "notifications"]
    state: FeedState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """``calls``: commands by number of calls since the counters began; None when INFO does not tell."""

    server: ServerFacts
    selected: tuple[int, ...] = (0,)
    """Databases that the copy would go over."""
    sample: Sample = Sample()
    feeds: tuple[Feed, ...] = ()
    calls: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ForeignKeys:
    """Keys of one target database that are not ours.

    Not ``exact``: DBSIZE is the figure. Not ``known``: the server refuses to say.
    """

    database: int
    keys: int
    exact: bool = True
    known: bool = True


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What only a target is asked for.

    Attributes:
        unknown_commands: Those of the source's ``calls`` that the target does not know; None: could not look.
        write_refusal: What it answers to a write, rights apart (MISCONF, NOREPLICAS, OOM, READONLY); empty
            when it accepts writes.
        tried_keys: Sampled names asked about, of which our user may not write ``forbidden_keys``.
    """

    server: ServerFacts
    foreign: tuple[ForeignKeys, ...] = ()
    unknown_commands: frozenset[str] | None = frozenset()
    write_refusal: str = ""
    tried_keys: int = 0
    forbidden_keys: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """Both sides at one time; ``clock`` is None when a server refuses TIME."""

    source: SourceFacts
    target: TargetFacts
    clock: ClockOffset | None = None
