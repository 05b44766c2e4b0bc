"""What the tests of copies between clusters have in common: keys of a chosen slot, and moments to act at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from copying import assert_equal, fill
from keyferry.telemetry.progress import Progress
from keyferry.testing.cluster import Cluster
from keyferry.testing.compare import Comparison
from keyferry.testing.deployment import Deployment
from keyferry.testing.topology import SLOTS, even_ranges, hash_slot
from keyferry.wire.resp import Argument


def tag_of(slot: int) -> bytes:
    """A hash tag of this slot."""
    return _TAGS[slot]


def _tags() -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < SLOTS:
        tag = b"%d" % number
        found.setdefault(hash_slot(tag), tag)
        number += 1
    return found


_TAGS = _tags()


def some_slots(shard: int, count: int, shards: int = 3) -> list[int]:
    """Slots that a fresh cluster of ``shards`` has at its node ``shard``, far from each other."""
    slots = even_ranges(shards)[shard]
    return [slots[i * (len(slots) // count)] for i in range(count)]


def names_in(slots: Iterable[int], each: int, prefix: bytes = b"k") -> list[bytes]:
    """Names of ``each`` keys per slot."""
    return [b"%b:%d:{%b}" % (prefix, i, tag_of(slot)) for slot in slots for i in range(each)]


def fill_slots(
    server: Deployment, slots: Iterable[int], each: int, *, prefix: bytes = b"k", expiring: bool = True
) -> list[bytes]:
    """Strings, hashes and lists, every fifth with an expiry; returns their names."""
    names = names_in(slots, each, prefix)
    commands: list[tuple[Argument, ...]] = []
    for i, name in enumerate(names):
        commands.append(
            (("SET", name, b"value of %b" % name), ("HSET", name, "f", name), ("RPUSH", name, "a", name))[
                i % 3
            ]
        )
        if expiring and i % 5 == 0:
            commands.append(("PEXPIREAT", name, 4_102_444_800_000 + i))
    fill(server, commands)
    return names


def move_slots(cluster: Cluster, slots: Iterable[int], to_index: int) -> None:
    for slot in slots:
        cluster.move_slot(slot, to_index)


def half_move(cluster: Cluster, slots: Iterable[int], to_index: int) -> None:
    """A few keys of each slot are at the new node, the others still at the old one."""
    for slot in slots:
        cluster.move_slot(slot, to_index, keys_per_step=7, finish=False)


def finish_slots(cluster: Cluster, slots: Iterable[int]) -> None:
    for slot in slots:
        cluster.finish_slot(slot)


@dataclass
class Moments:
    """Acts once at each moment, in their order; the copy stands still meanwhile.

    Use as ``Copying.on_progress``; ``add`` says at how many keys what is done.
    """

    steps: list[tuple[Callable[[Progress], bool], Callable[[], object]]] = field(default_factory=list)

    def at(self, keys: int, act: Callable[[], object]) -> Moments:
        return self.when(lambda progress: progress.keys_done >= keys, act)

    def when(self, condition: Callable[[Progress], bool], act: Callable[[], object]) -> Moments:
        self.steps.append((condition, act))
        return self

    def __call__(self, progress: Progress) -> None:
        if self.steps and self.steps[0][0](progress):
            self.steps.pop(0)[1]()

    @property
    def over(self) -> bool:
        """Whether every moment has come."""
        return not self.steps


class Telling(list[str]):
    """As ``Copying.told``; acts once when a sentence with these words is told."""

    def __init__(self, words: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._words, self._act = words, act
        self.acted = False

    def append(self, sentence: str) -> None:
        super().append(sentence)
        if self._words in sentence and not self.acted:
            self.acted = True
            self._act()


def own_names(deployment: Deployment) -> list[bytes]:
    """What is left under ``keyferry:`` at any primary, also at one that does not own the slot."""
    found: list[bytes] = []
    for node in deployment.primaries:
        with node.session() as session:
            reply = session.call("KEYS", "keyferry:*")
        assert isinstance(reply, list)
        found += [key for key in reply if isinstance(key, bytes)]
    return found


def assert_same(source: Deployment, target: Deployment, ignore: tuple[str, ...] = ()) -> Comparison:
    """Equal over all primaries, no key elsewhere, nothing of ours on either side."""
    assert own_names(source) == own_names(target) == []
    return assert_equal(source, target, ignore=ignore)


def fill_types(server: Deployment, slots: Iterable[int], each: int = 1) -> list[bytes]:
    """In every slot ``each`` keys of every type, small and large encodings, some with an expiry."""
    commands: list[tuple[Argument, ...]] = []
    names: list[bytes] = []
    for name in names_in(slots, each, b"types"):
        for kind, made in _values(name).items():
            key = kind + name
            names.append(key)
            commands += [(command[0], key, *command[1:]) for command in made]
            if len(names) % 4 == 0:
                commands.append(("PEXPIREAT", key, 4_102_444_800_000 + len(names)))
        group = b"grouped" + name
        names.append(group)
        commands += [
            ("XADD", group, "1-1", "a", "1"),
            ("XADD", group, "2-1", "a", "2"),
            ("XGROUP", "CREATE", group, "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", group, ">"),
        ]
    fill(server, commands)
    return names


def _values(name: bytes) -> dict[bytes, list[tuple[Argument, ...]]]:
    many = range(600)
    return {
        b"text": [("SET", name)],
        b"long": [("SET", name * 100)],
        b"number": [("SET", 12345)],
        b"hash": [("HSET", "f", name, "g", 1)],
        b"table": [("HSET", *(part for i in many for part in (b"f%d" % i, i)))],
        b"list": [("RPUSH", "a", 1, name)],
        b"nodes": [("RPUSH", *(name * 3 + b"%d" % i for i in many))],
        b"intset": [("SADD", 1, 2, 70_000)],
        b"set": [("SADD", *(b"m%d" % i for i in many))],
        b"zset": [("ZADD", 1, "a", "2.5", name)],
        b"skiplist": [("ZADD", *(part for i in many for part in (repr(i / 3), b"m%d" % i)))],
        b"stream": [("XADD", f"{i}-1", "field", name) for i in range(1, 6)],
    }


def redirections(cluster: Cluster) -> dict[str, int]:
    """How often the nodes have said MOVED, ASK and TRYAGAIN since ``forget_redirections``."""
    found = dict.fromkeys(("MOVED", "ASK", "TRYAGAIN"), 0)
    for node in cluster.primaries:
        with node.session() as session:
            info = session.call("INFO", "errorstats")
        assert isinstance(info, bytes)
        for line in info.decode().splitlines():
            name, _, count = line.removeprefix("errorstat_").partition(":count=")
            if name in found:
                found[name] += int(count)
    return found


def forget_redirections(cluster: Cluster) -> None:
    for node in cluster.primaries:
        with node.session() as session:
            assert session.call("CONFIG", "RESETSTAT") == b"OK"
