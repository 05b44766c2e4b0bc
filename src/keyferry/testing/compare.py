"""Are two databases equal? Asked with plain read commands, never with DUMP, so that it shares no code path
with what it judges. Either may be that of a cluster.

Every key of either side is read from both: type, expiry, value; of streams the groups, consumers and pending
entries, too. A difference counts when a second look finds it again: keys expire while we read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from keyferry.model.errors import KeyferryError
from keyferry.model.keys import is_reserved
from keyferry.testing.cluster_client import ClusterClient, gathered
from keyferry.testing.deployment import Client
from keyferry.testing.differences import Found, Snapshot, differences
from keyferry.testing.servers import Server
from keyferry.testing.sieve import Sieve
from keyferry.testing.snapshots import Reader

SCAN_COUNT = 1_000
DIFFERENCES_MAX = 100

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """One aspect in which a key differs.

    Attributes:
        aspect: ``missing`` (on the target), ``extra`` (on the target only), ``type``, ``expiry``, ``value``,
            ``field-expiry``, ``unreadable``; ``misplaced``, of a key that a cluster also or only has at a node
            that does not own its slot; of streams ``entries``, ``last-id``, ``entries-added``,
            ``max-deleted-id``, ``groups``, ``group-last-id``, ``entries-read``, ``consumers``, ``pending``.
        source: What the source has, as short printable text.
        target: What the target has.
    """

    key: bytes
    aspect: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome.

    Attributes:
        keys_source: Distinct keys of the source, without those under ``keyferry:``.
        keys_target: The same of the target.
        differing_keys: How many keys differ in some aspect.
        differences: The first of their differences, at most ``differences_max``.
    """

    keys_source: int
    keys_target: int
    differing_keys: int
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        return not self.differing_keys


def compare_databases(
    source: Client,
    target: Client,
    *,
    source_db: int = 0,
    target_db: int = 0,
    expiry_tolerance_ms: int = 10,
    ignore: Collection[str] = (),
    differences_max: int = DIFFERENCES_MAX,
    on_progress: Progress | None = None,
) -> Comparison:
    """Compares all keys of two databases, both ways, without those under ``keyferry:``.

    Of a cluster no slot may be on its way.

    Args:
        source: Left on ``source_db``; 0 is the only one of a cluster.
        target: Left on ``target_db``.
        expiry_tolerance_ms: How far apart two expiries may be that count as equal.
        ignore: Aspects (see ``Difference``) that do not count.
        differences_max: How many differences are kept; all are counted.
        on_progress: Called with (keys done, about how many there are).

    Raises:
        KeyferryError: A server refuses to be read.
    """
    _select(source, source_db)
    _select(target, target_db)
    limits = _Limits(expiry_tolerance_ms, frozenset(ignore), differences_max)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="compare-target") as target_thread:
        judge = _Judge(source, target, target_thread, limits)
        total = max(_size(source), _size(target))
        seen: set[bytes] = set()
        for page in judge.pages(source):
            fresh = [key for key in dict.fromkeys(page) if key not in seen]
            seen.update(fresh)
            judge.look(fresh)
            if on_progress:
                on_progress(len(seen), max(total, len(seen)))
        on_target: set[bytes] = set()
        for page in judge.pages(target):
            only_there = [key for key in dict.fromkeys(page) if key not in seen and key not in on_target]
            on_target.update(page)
            judge.look(only_there)
        if on_progress:
            on_progress(len(seen), len(seen))
    return Comparison(len(seen), len(on_target), judge.differing_keys, judge.found)


@dataclass(frozen=True, slots=True)
class _Limits:
    expiry_tolerance_ms: int
    ignore: frozenset[str]
    differences_max: int


class _Judge:
    """Looks at keys on both sides and collects what differs."""

    def __init__(self, source: Client, target: Client, thread: ThreadPoolExecutor, limits: _Limits) -> None:
        self._clients = source, target
        self._source, self._target = Reader(source), Reader(target)
        self._target_thread = thread
        self._limits = limits
        self._sieve = Sieve(self._source, self._target, thread, limits.expiry_tolerance_ms)
        self.found: list[Difference] = []
        self.differing_keys = 0

    def pages(self, client: Client) -> Iterator[list[bytes]]:
        """All keys of one side, node by node; those at a wrong node are noted."""
        if not isinstance(client, ClusterClient):
            yield from _pages(client)
            return
        client.refresh()
        for node, session in client.parts():
            for page in _pages(session):
                for key in page:
                    if client.owner(key) is not node:
                        self._add(key, [_misplaced(client, key, node)])
                yield page

    def look(self, keys: list[bytes]) -> None:
        keys = gathered(keys, *self._clients)
        doubtful = self._sieve.in_doubt(keys) if keys else []
        suspects = [key for key, source, target in self._read(doubtful) if self._differences(source, target)]
        for key, source, target in self._read(suspects):
            self._add(key, self._differences(source, target))

    def _add(self, key: bytes, found: list[Found]) -> None:
        self.differing_keys += bool(found)
        room = self._limits.differences_max - len(self.found)
        self.found += [Difference(key, *what) for what in found[:room]]

    def _read(self, keys: list[bytes]) -> Iterator[tuple[bytes, Snapshot, Snapshot]]:
        if not keys:
            return iter(())
        target = self._target_thread.submit(self._target.read, keys)
        source = self._source.read(keys)
        return zip(keys, source, target.result(), strict=True)

    def _differences(self, source: Snapshot, target: Snapshot) -> list[Found]:
        found = differences(source, target, self._limits.expiry_tolerance_ms)
        return [what for what in found if what[0] not in self._limits.ignore]


def _misplaced(client: ClusterClient, key: bytes, node: Server) -> Found:
    text = f"at port {node.port}, owned by {client.owner(key).port}"
    return ("misplaced", text, "") if client.side == "source" else ("misplaced", "", text)


def _pages(client: Client) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        reply = client.call("SCAN", cursor, "COUNT", SCAN_COUNT)
        if not isinstance(reply, list) or not isinstance(reply[0], bytes) or not isinstance(reply[1], list):
            raise KeyferryError(f"The {client.side} does not scan: {reply!r}.")
        cursor = reply[0]
        yield [key for key in reply[1] if isinstance(key, bytes) and not is_reserved(key)]
        if cursor == b"0":
            return


def _select(client: Client, db: int) -> None:
    reply = client.call("SELECT", db)
    if reply != b"OK":
        raise KeyferryError(f"The {client.side} does not give us database {db}: {reply!r}.")


def _size(client: Client) -> int:
    reply = client.call("DBSIZE")
    return reply if isinstance(reply, int) else 0
