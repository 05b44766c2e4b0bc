"""Real clusters for tests: several servers that know each other and share the slots.

A cluster takes two seconds to start, however many nodes it has: a primary does not serve before
(CLUSTER_WRITABLE_DELAY in cluster.c). All the rest fits into that time. Nodes learn each other's slots by their
pings, which go out every half node timeout; that is why the timeout is short until all agree, and only then
as long as the tests need it: long enough for a server that is kept busy not to be called dead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType

from keyferry.model.address import Endpoint
from keyferry.model.errors import KeyferryError, Side
from keyferry.model.identity import Family
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.cluster_client import ClusterClient
from keyferry.testing.servers import HOST, Server
from keyferry.testing.topology import SLOTS, Node, even_ranges, hash_slot, owners, parse_nodes
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import Session

AGREE_TIMEOUT_S = 30.0
AGREE_EVERY_S = 0.02
FORMING_TIMEOUT_MS = 1_000
NODE_TIMEOUT_MS = 5_000
MIGRATE_TIMEOUT_MS = 10_000
KEYS_PER_STEP = 10

_NO_CONFIG: Mapping[str, str] = MappingProxyType({})


class Cluster:
    """Primaries with the slots evenly among them, and replicas when asked for.

    Args:
        binary: The program to run.
        shards: How many primaries.
        replicas: How many of each primary.
        config: Directives for every node's configuration file; ``cluster-node-timeout`` counts from when the
            nodes agree.

    Attributes:
        nodes: The primaries in the order of their slots, then the first one's replicas, and so on; nodes that
            joined later stand last. A node keeps its index, whatever becomes of it.
    """

    def __init__(
        self,
        binary: ServerBinary,
        shards: int = 3,
        *,
        replicas: int = 0,
        config: Mapping[str, str] = _NO_CONFIG,
    ) -> None:
        self.binary = binary
        self._shards = shards
        self._replicas = replicas
        self._node_timeout_ms = int(config.get("cluster-node-timeout", NODE_TIMEOUT_MS))
        self._forming_timeout_ms = min(FORMING_TIMEOUT_MS, self._node_timeout_ms)
        self._password = config.get("requirepass", "")
        self._config = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            # A primary that gave its last slot away stays one.
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": "0",
            **config,
            "cluster-node-timeout": str(self._forming_timeout_ms),
        }
        self.nodes = [self._server() for _ in range(shards * (1 + replicas))]
        self._ids: dict[Server, str] = {}
        self._down: set[Server] = set()
        self._half_moved: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Cluster {self.binary.name} on ports {', '.join(str(node.port) for node in self.nodes)}>"

    @property
    def url(self) -> str:
        """Of the first node; the others can be found out from it."""
        return self.nodes[0].url

    @property
    def cluster_url(self) -> str:
        """Names the primaries that the cluster started with."""
        primaries = self.nodes[: self._shards]
        return f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in primaries)}"

    @property
    def endpoint(self) -> Endpoint:
        """The first node's."""
        return self.nodes[0].endpoint

    @property
    def data_dir(self) -> Path:
        """The first node's."""
        return self.nodes[0].data_dir

    @property
    def running(self) -> list[Server]:
        """All nodes but those that were killed."""
        return [node for node in self.nodes if node not in self._down]

    @property
    def primaries(self) -> list[Server]:
        """Those that run and are primaries now, with slots or without, in the order of ``nodes``."""
        by_id = {node.node_id: node for node in self.view()}
        return [node for node in self.running if by_id[self._ids[node]].is_primary]

    def session(self, db: int = 0, *, side: Side = "source", timeout_s: float = 30.0) -> ClusterClient:
        """A client that sends every command to its key's node; see there.

        Raises:
            KeyferryError: Another database than 0 is asked for.
        """
        if db:
            raise KeyferryError("A cluster has no other database than 0.")
        return ClusterClient(self, side=side, timeout_s=timeout_s)

    def client(self) -> ClusterClient:
        return self.session()

    def node_id(self, index: int) -> str:
        return self._ids[self.nodes[index]]

    def node_by_id(self, node_id: str) -> Server:
        return next(node for node, known in self._ids.items() if known == node_id)

    def view(self) -> list[Node]:
        """All nodes, as the first one that runs sees them."""
        with self.running[0].session() as session:
            return _nodes(session)

    def slots_of(self, index: int) -> frozenset[int]:
        """What the node owns now, without what it is only being given."""
        return next(node.slots for node in self.view() if node.node_id == self.node_id(index))

    def owner_of(self, where: int | bytes | str) -> Server:
        """The node of a slot or of a key.

        Raises:
            KeyferryError: Nobody has that slot.
        """
        slot = (
            where
            if isinstance(where, int)
            else hash_slot(where if isinstance(where, bytes) else where.encode())
        )
        owner = owners(self.view()).get(slot)
        if owner is None:
            raise KeyferryError(f"Slot {slot} has no owner.")
        return self.node_by_id(owner)

    def log(self) -> str:
        """The tails of all nodes' logs."""
        return "\n".join(f"{node!r}\n{node.log()}" for node in self.nodes)

    def start(self) -> None:
        """Starts all nodes at once and returns when each serves and all agree on who has which slot.

        Raises:
            ServerStartError: One does not start.
            KeyferryError: They do not agree within ``AGREE_TIMEOUT_S``.
        """
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            for started in [threads.submit(node.start) for node in self.nodes]:
                started.result()
        with self._sessions() as sessions:
            ranges = even_ranges(self._shards)
            for i, (node, session) in enumerate(sessions.items()):
                self._ids[node] = _text(session, "CLUSTER", "MYID")
                # Before they meet: a node that knows others takes no epoch. Equal ones would collide.
                _ok(session, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                if i < self._shards:
                    _ok(session, *self._add_slots(ranges[i]))
            # Everyone meets everyone: gossip alone would take several rounds of pings.
            for i, session in enumerate(sessions.values()):
                for other in self.nodes[i + 1 :]:
                    _ok(session, "CLUSTER", "MEET", HOST, other.port)
            if self._replicas:
                self._wait(lambda: self._stranger(sessions))
                for i, node in enumerate(self.nodes[self._shards :]):
                    _ok(sessions[node], "CLUSTER", "REPLICATE", self.node_id(i // self._replicas))
        self.wait_until_agreed()
        self._set_node_timeout(self._node_timeout_ms)

    def stop(self) -> None:
        """Ends all nodes and removes their directories. Harmless when it was done before."""
        for node in self.nodes:
            node.stop()

    def flush(self) -> None:
        """Takes all keys and functions away."""
        has_functions = self.binary.family is Family.VALKEY or self.binary.version >= (7, 0, 0)
        for node in self.primaries:
            with node.session() as session:
                _ok(session, "FLUSHALL")
                if has_functions:
                    _ok(session, "FUNCTION", "FLUSH")

    def reset(self) -> None:
        """``flush``, and every slot goes back to where it was at the start. Not for after a failover."""
        self.wait_until_agreed()
        self.flush()
        for slot in list(self._half_moved):
            self.finish_slot(slot)
        owner = owners(self.view())
        for i, slots in enumerate(even_ranges(self._shards)):
            for slot in slots:
                if owner[slot] != self.node_id(i):
                    self.move_slot(slot, i)

    def kill(self, index: int) -> None:
        """SIGKILL. The others notice after the node timeout."""
        self.nodes[index].kill()
        self._down.add(self.nodes[index])

    def restart(self, *indexes: int, keep_data: bool = False) -> None:
        """The same nodes in other processes, as ``Server.restart``; returns when all agree again.

        A primary serves two seconds after its start; one that the others have called dead, which takes them a
        node timeout, is back two node timeouts after that.
        """
        for index in indexes:
            self.nodes[index].restart(keep_data)
            self._down.discard(self.nodes[index])
        self.wait_until_agreed()
        self._set_node_timeout(self._node_timeout_ms)

    def add_node(self) -> Server:
        """One more primary, without slots; returns when all know it and it serves."""
        node = self._server()
        self.nodes.append(node)
        node.start()
        with self.nodes[0].session() as session, node.session() as newcomer:
            self._ids[node] = _text(newcomer, "CLUSTER", "MYID")
            epoch = int(_info(session, "CLUSTER", "INFO")["cluster_current_epoch"]) + 1
            _ok(newcomer, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        with self.agreeing(), node.session() as newcomer:
            for other in self.running[:-1]:
                _ok(newcomer, "CLUSTER", "MEET", HOST, other.port)
        return node

    def fail_over(self, index: int) -> Server:
        """A replica of the primary ``nodes[index]`` takes its place, in agreement with it; returns the replica.

        Raises:
            KeyferryError: It has none that runs.
        """
        replica_ids = [node.node_id for node in self.view() if node.primary_id == self.node_id(index)]
        replicas = [node for node in self.running if self._ids[node] in replica_ids]
        if not replicas:
            raise KeyferryError(f"{self.nodes[index]!r} has no replica.")
        with self.agreeing(), replicas[0].session() as session:
            _ok(session, "CLUSTER", "FAILOVER")
            self.wait_for_views(lambda view: self._ids[replicas[0]] in _primary_ids(view))
        return replicas[0]

    def move_slot(
        self,
        slot: int,
        to_index: int,
        *,
        keys_per_step: int = KEYS_PER_STEP,
        between: Callable[[], object] | None = None,
        finish: bool = True,
    ) -> None:
        """Moves a slot and its keys to ``nodes[to_index]``, as an operator's tool does while clients go on.

        Args:
            keys_per_step: How many keys one MIGRATE takes.
            between: Called after each step: when the slot is opened, and when keys have been moved.
            finish: False leaves the slot open after its first keys were moved: those are at their new node, the
                others at the owner, and clients are sent after them with ASK. ``finish_slot`` goes on.

        Raises:
            KeyferryError: A node refuses a step.
        """
        giver = self.nodes.index(self.owner_of(slot))
        if giver == to_index:
            return
        with self.nodes[giver].session() as source, self.nodes[to_index].session() as target:
            _ok(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(giver))
            _ok(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(to_index))
        self._half_moved[slot] = giver, to_index
        if between is not None:
            between()
        if finish:
            self.finish_slot(slot, keys_per_step=keys_per_step, between=between)
        else:
            self._migrate(slot, keys_per_step, between)

    def finish_slot(
        self,
        slot: int,
        *,
        keys_per_step: int = KEYS_PER_STEP,
        between: Callable[[], object] | None = None,
    ) -> None:
        """Moves the rest of a slot that ``move_slot`` left open, and tells everyone. Arguments as there."""
        deadline_s = time.monotonic() + AGREE_TIMEOUT_S
        while self._migrate(slot, keys_per_step, between):
            if time.monotonic() > deadline_s:
                raise KeyferryError(f"Slot {slot} gets no emptier in {AGREE_TIMEOUT_S:g} s.")
        giver, taker = self._half_moved.pop(slot)
        # The new owner first: were it the old one, a client could be sent to and fro between them.
        first = [self.nodes[taker], self.nodes[giver]]
        for node in [*first, *(node for node in self.primaries if node not in first)]:
            with node.session() as session:
                _ok(session, "CLUSTER", "SETSLOT", slot, "NODE", self.node_id(taker))

    def configure(self, name: str, value: Argument, *, only: Server | None = None) -> None:
        """CONFIG SET on every node that runs, or on one."""
        for node in [only] if only else self.running:
            with node.session() as session:
                _ok(session, "CONFIG", "SET", name, value)

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """A block that changes what the nodes have to agree on; they do when it ends, as soon as possible."""
        self._set_node_timeout(self._forming_timeout_ms)
        yield
        self.wait_until_agreed()
        self._set_node_timeout(self._node_timeout_ms)

    def wait_until_agreed(self) -> None:
        """Until every node that runs serves, knows all others, and names the same owners and primaries.

        Raises:
            KeyferryError: Not within ``AGREE_TIMEOUT_S``.
        """
        with self._sessions() as sessions:
            self._wait(lambda: self._stranger(sessions) or self._disagreement(sessions))

    def wait_for_views(self, condition: Callable[[list[Node]], bool]) -> None:
        """Until the condition holds for what each node that runs sees. Raises as ``wait_until_agreed``."""
        with self._sessions() as sessions:
            self._wait(
                lambda: (
                    ""
                    if all(condition(_nodes(session)) for session in sessions.values())
                    else "not seen by all"
                )
            )

    def _server(self) -> Server:
        return Server(self.binary, config=self._config)

    def _add_slots(self, slots: range) -> tuple[Argument, ...]:
        if self.binary.family is Family.VALKEY or self.binary.version >= (7, 0, 0):
            return ("CLUSTER", "ADDSLOTSRANGE", slots.start, slots.stop - 1)
        return ("CLUSTER", "ADDSLOTS", *slots)

    @contextlib.contextmanager
    def _sessions(self) -> Iterator[dict[Server, Session]]:
        with contextlib.ExitStack() as stack:
            yield {node: stack.enter_context(node.session()) for node in self.running}

    def _set_node_timeout(self, timeout_ms: int) -> None:
        self.configure("cluster-node-timeout", timeout_ms)

    def _migrate(self, slot: int, keys_max: int, between: Callable[[], object] | None) -> bool:
        """One step; False when there is nothing left to move."""
        giver, taker = (self.nodes[index] for index in self._half_moved[slot])
        with giver.session() as session:
            keys = session.call("CLUSTER", "GETKEYSINSLOT", slot, keys_max)
            if not isinstance(keys, list):
                raise KeyferryError(f"{giver!r} does not list the keys of slot {slot}: {keys!r}.")
            if not keys:
                return False
            names = [key for key in keys if isinstance(key, bytes)]
            secret = ("AUTH", self._password) if self._password else ()
            # NOKEY: they have all expired since.
            _expect(
                session, (b"OK", b"NOKEY"),
                "MIGRATE", HOST, taker.port, "", 0, MIGRATE_TIMEOUT_MS, *secret, "KEYS", *names,
            )  # fmt: skip
        if between is not None:
            between()
        return True

    def _wait(self, problem: Callable[[], str]) -> None:
        """Until ``problem`` says that there is none."""
        deadline_s = time.monotonic() + AGREE_TIMEOUT_S
        while said := problem():
            if time.monotonic() > deadline_s:
                raise KeyferryError(f"The cluster of {self.binary} is not ready: {said}.\n{self.log()}")
            time.sleep(AGREE_EVERY_S)

    def _stranger(self, sessions: Mapping[Server, Session]) -> str:
        """A node that another one that runs does not know well, if any."""
        running = {self._ids[node] for node in sessions}
        everyone = set(self._ids.values())
        for node, session in sessions.items():
            seen = _nodes(session)
            strangers = everyone ^ {other.node_id for other in seen}
            unhealthy = {other.node_id for other in seen if other.node_id in running and not other.is_healthy}
            if strangers or unhealthy:
                return f"to {node!r} {len(strangers | unhealthy)} nodes are strange"
        return ""

    def _disagreement(self, sessions: Mapping[Server, Session]) -> str:
        """What the nodes that run do not agree on, if anything."""
        views = set()
        for node, session in sessions.items():
            state = _info(session, "CLUSTER", "INFO")["cluster_state"]
            if state != "ok":
                return f"the state of {node!r} is {state}"
            link = _info(session, "INFO", "replication").get("master_link_status", "up")
            if link != "up":
                return f"the link of {node!r} to its primary is {link}"
            seen = _nodes(session)
            owned = owners(seen)
            if len(owned) < SLOTS:
                return f"{node!r} knows the owners of {len(owned)} slots"
            views.add(
                (tuple(sorted(owned.items())), frozenset((other.node_id, other.primary_id) for other in seen))
            )
        return "" if len(views) == 1 else "the nodes disagree on owners or primaries"


def _primary_ids(view: list[Node]) -> set[str]:
    return {node.node_id for node in view if node.is_primary}


def _nodes(session: Session) -> list[Node]:
    return parse_nodes(_text(session, "CLUSTER", "NODES").encode())


def _info(session: Session, *command: Argument) -> dict[str, str]:
    lines = (line.partition(":") for line in _text(session, *command).split("\r\n"))
    return {name: value for name, _, value in lines}


def _text(session: Session, *command: Argument) -> str:
    reply = session.call(*command)
    if not isinstance(reply, bytes):
        raise _refusal(session, command, reply)
    return reply.decode("ascii")


def _ok(session: Session, *command: Argument) -> None:
    _expect(session, (b"OK",), *command)


def _expect(session: Session, wanted: tuple[bytes, ...], *command: Argument) -> None:
    reply = session.call(*command)
    if reply not in wanted:
        raise _refusal(session, command, reply)


def _refusal(session: Session, command: tuple[Argument, ...], reply: Reply) -> KeyferryError:
    words = " ".join(str(word) for word in command[:3])
    said = reply.message if isinstance(reply, ReplyError) else repr(reply)
    return KeyferryError(f"{session.endpoint} does not do {words}: {said}")
