"""Which slots are gone over again; a model with moves between any two steps never loses a key."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.copy.slot_ledger import SlotLedger
from keyferry.model.topology import Shard, Topology


def look(*shards: tuple[str, set[int], int], open_slots: set[int] | None = None) -> Topology:
    return Topology(
        tuple(Shard(name, name, 1, frozenset(slots), epoch) for name, slots, epoch in shards if slots),
        frozenset(open_slots or ()),
        tuple(Shard(name, name, 1, frozenset(), epoch) for name, slots, epoch in shards if not slots),
    )


BASE = look(("a", {1, 2, 3}, 1), ("b", {4, 5, 6}, 2))


def test_nothing_moved() -> None:
    ledger = SlotLedger(BASE)
    ledger.observe(BASE)
    assert ledger.moved == frozenset()
    assert ledger.ready(BASE) == {}


def test_a_slot_with_another_owner_is_gone_over_there() -> None:
    ledger = SlotLedger(BASE)
    now = look(("a", {1, 2}, 1), ("b", {3, 4, 5, 6}, 2))
    ledger.observe(now)
    assert ledger.ready(now) == {"b": {3}}


def test_an_open_slot_waits_until_it_is_closed() -> None:
    ledger = SlotLedger(look(("a", {1, 2, 3}, 1), ("b", {4, 5, 6}, 2), open_slots={3}))
    opened = look(("a", {1, 2, 3}, 1), ("b", {4, 5, 6}, 2), open_slots={4})
    ledger.observe(opened)
    assert ledger.moved == {3, 4}
    assert ledger.ready(opened) == {"a": {3}}
    ledger.observe(BASE)
    assert ledger.ready(BASE) == {"a": {3}, "b": {4}}


def test_a_new_epoch_may_hide_a_slot_that_went_away_and_came_back() -> None:
    ledger = SlotLedger(BASE)
    now = look(("a", {1, 2, 3}, 3), ("b", {4, 5, 6}, 2))
    ledger.observe(now)
    assert ledger.ready(now) == {"a": {1, 2, 3}}


def test_a_slot_that_was_gained_does_not_explain_a_new_epoch_away() -> None:
    ledger = SlotLedger(BASE)
    ledger.observe(look(("a", {1, 2, 3, 4}, 3), ("b", {5, 6}, 2)))
    assert ledger.moved == {1, 2, 3, 4}


def test_a_promoted_replica_is_gone_over() -> None:
    ledger = SlotLedger(BASE)
    ledger.observe(look(("a", {1, 2, 3}, 1), ("c", {4, 5, 6}, 3)))
    assert ledger.moved == {4, 5, 6}


def test_a_slot_without_owner_is_not_lost_sight_of() -> None:
    ledger = SlotLedger(BASE)
    without = look(("a", {1, 2}, 1), ("b", {4, 5, 6}, 2))
    ledger.observe(without)
    assert ledger.moved == {3}
    assert ledger.ready(without) == {}


def test_settled_only_when_nothing_was_observed_meanwhile() -> None:
    ledger = SlotLedger(BASE)
    for slot in (1, 2, 4):
        ledger.redirected(slot)
    ledger.begin({1, 2, 4})
    ledger.redirected(2)
    ledger.observe(look(("a", {1, 2, 3}, 1), ("b", {4, 5, 6}, 2), open_slots={4}))
    ledger.finished({1, 2, 4})
    assert ledger.moved == {2, 4}
    ledger.finished({2, 4})
    assert ledger.moved == {2, 4}
    ledger.begin({2, 4})
    ledger.finished({2, 4})
    assert ledger.moved == frozenset()


def test_text_and_back() -> None:
    ledger = SlotLedger(BASE)
    ledger.redirected(1)
    ledger.begin({1})
    text = json.dumps(ledger.as_dict())
    assert json.loads(text) == {"moved": "1", "owners": {"a": "1:1-3", "b": "2:4-6"}}
    again = SlotLedger.of_dict(json.loads(text))
    again.finished({1})
    assert again.moved == {1}
    again.observe(look(("a", {1, 2, 3, 4}, 1), ("b", {5, 6}, 2)))
    assert again.moved == {1, 4}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"moved": "x", "owners": {}},
        {"moved": "", "owners": {"a": 1}},
        {"moved": "", "owners": {"a": "1"}},
    ],
)
def test_other_records_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SlotLedger.of_dict(data)


# --- The model

NODES, SLOTS = 3, 3
PLACES = [(slot, i) for slot in range(SLOTS) for i in (0, 1)]
"""Two keys in every slot; a scan passes the places of its node in this order."""
Step = tuple[str, int, int]


class Cluster:
    """Slots that move whole or key by key; an importer takes a new epoch as the servers do."""

    def __init__(self) -> None:
        self.owner = list(range(SLOTS))
        self.keys = [{key for key in PLACES if self.owner[key[0]] == node} for node in range(NODES)]
        self.epochs = [1, 2, 3]
        self.opened: dict[int, int] = {}
        self.seen_open: set[int] = set()

    def do(self, step: Step) -> None:
        kind, slot, other = step
        if kind in ("move", "open") and other != self.owner[slot]:
            self.opened.setdefault(slot, other)
        if kind == "migrate" and slot in self.opened:
            self._carry((slot, other % 2), self.owner[slot], self.opened[slot])
        if kind in ("move", "close") and slot in self.opened:
            self._close(slot)
        if kind == "cancel" and slot in self.seen_open:
            for i in (0, 1):
                self._carry((slot, i), self.opened[slot], self.owner[slot])
            self._forget(slot)

    def close_all(self) -> None:
        for slot in list(self.opened):
            self._close(slot)

    def look(self) -> Topology:
        self.seen_open = set(self.opened)
        owned = [{slot for slot in range(SLOTS) if self.owner[slot] == node} for node in range(NODES)]
        return look(
            *((str(node), owned[node], self.epochs[node]) for node in range(NODES)),
            open_slots=set(self.opened),
        )

    def _close(self, slot: int) -> None:
        to = self.opened[slot]
        for i in (0, 1):
            self._carry((slot, i), self.owner[slot], to)
        self.owner[slot] = to
        if self.epochs[to] != max(self.epochs):
            self.epochs[to] = max(self.epochs) + 1
        self._forget(slot)

    def _carry(self, key: tuple[int, int], giver: int, taker: int) -> None:
        if key in self.keys[giver]:
            self.keys[giver].remove(key)
            self.keys[taker].add(key)

    def _forget(self, slot: int) -> None:
        del self.opened[slot]
        self.seen_open.discard(slot)


class Copy:
    """Scans of all nodes, each at its own speed, then slots again until the ledger says that nothing moved."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ledger = SlotLedger(cluster.look())
        self.copied: set[tuple[int, int]] = set()
        self._passed = [0] * NODES

    def scan(self, node: int, places: int) -> None:
        begin, end = self._passed[node], self._passed[node] + places
        self.copied |= self.cluster.keys[node].intersection(PLACES[begin:end])
        self._passed[node] = min(end, len(PLACES))

    def rescan(self, steps: Iterator[Step]) -> bool:
        """One round; whether nothing was to do."""
        topology = self.cluster.look()
        self.ledger.observe(topology)
        ready = self.ledger.ready(topology)
        for name, slots in ready.items():
            self.ledger.begin(slots)
            for place in PLACES:
                if place[0] in slots:
                    self.cluster.do(next(steps, ("none", 0, 0)))
                    self.copied |= self.cluster.keys[int(name)] & {place}
        self.ledger.observe(self.cluster.look())
        for slots in ready.values():
            self.ledger.finished(slots)
        return not self.ledger.moved


def steps(kinds: list[str], count: int) -> st.SearchStrategy[list[Step]]:
    step = st.tuples(st.sampled_from(kinds), st.integers(0, SLOTS - 1), st.integers(0, NODES - 1))
    return st.lists(step, min_size=count // 2, max_size=count)


MOVES = ["move", "move", "open", "migrate", "close", "cancel"]


@settings(max_examples=1500, deadline=None)
@given(steps([*MOVES, "scan", "scan", "scan", "look"], 16), steps(MOVES, 12), st.booleans())
def test_no_key_is_lost(first: list[Step], later: list[Step], stopped: bool) -> None:
    cluster = Cluster()
    copy = Copy(cluster)
    for step in first:
        if step[0] == "scan":
            copy.scan(step[1], 2 + 2 * step[2])
        elif step[0] == "look":
            copy.ledger.observe(cluster.look())
        else:
            cluster.do(step)
    for node in range(NODES):
        copy.scan(node, len(PLACES))
    if stopped:
        copy.ledger = SlotLedger.of_dict(copy.ledger.as_dict())
    unrest = iter(later)
    for _ in range(2 * len(later) + 4):
        if copy.rescan(unrest):
            break
        if not copy.ledger.ready(cluster.look()):
            cluster.close_all()
    assert copy.ledger.moved == frozenset()
    assert copy.copied == set(PLACES)
