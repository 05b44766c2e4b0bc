"""Judges what only a cluster can have wrong: slots on the move, nodes that differ, one that is too small. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations

from keyferry.copy.facts import Facts, NodeFacts, ServerFacts
from keyferry.copy.finding import Finding, could_not_look, counted, listed, size
from keyferry.copy.identify import between
from keyferry.copy.judge_data import MEMORY_WARNING_SHARE, needed_bytes
from keyferry.model.topology import SLOT_COUNT, slots_text

SPREAD_WARNING_MS = 1000.0
SLOTS_TEXT_MAX = 60


def clusters(facts: Facts) -> Iterator[Finding]:
    """Nothing where neither side is a cluster."""
    for server in (facts.source.server, facts.target.server):
        if server.cluster:
            yield from _slots(server)
            yield from _differences(server)
            yield from _clock_spread(server)
    if facts.target.server.cluster:
        yield from _small_nodes(facts)


def _slots(server: ServerFacts) -> Iterator[Finding]:
    topic, side = "cluster", server.side
    primaries = len(server.nodes) + server.nodes_left_out
    if server.nodes_left_out:
        yield could_not_look(
            topic,
            f"{server.nodes_left_out:,} of the {side}'s {primaries:,} primaries",
            f"only the first {len(server.nodes)} are looked at one by one",
        )
    if not server.sees_migrations:
        yield could_not_look(
            topic,
            f"which slots of the {side} are being migrated",
            "CLUSTER NODES is refused",
            "Allow +cluster|nodes on every node, or see that nobody moves slots while the copy runs.",
        )
    if server.open_slots:
        text = slots_text(server.open_slots)
        shown = text if len(text) <= SLOTS_TEXT_MAX else counted(len(server.open_slots), "slot")
        yield Finding(
            "warning",
            topic,
            f"Slots of the {side} are being migrated now, or were left half migrated: {shown}.",
            "Let the resharding end first; if none runs, mend it with redis-cli --cluster fix HOST:PORT.",
        )
    else:
        sentence = f"The {side} is a cluster of {_counted(primaries)}; every slot has an owner."
        yield Finding("ok", topic, sentence)


def _counted(primaries: int) -> str:
    return "1 primary" if primaries == 1 else f"{primaries:,} primaries"


def _differences(server: ServerFacts) -> Iterator[Finding]:
    """One sentence for all that is not the same everywhere, naming the nodes with what fewer of them have."""
    described: dict[str, Callable[[NodeFacts], str]] = {
        "version": lambda node: str(node.identity),
        "role": lambda node: node.replication.role,
        "maxmemory": lambda node: _limit(node.memory.maxmemory),
        "eviction policy": lambda node: node.memory.policy,
    }
    for what, describe in described.items():
        by_node = {node.place: describe(node) for node in server.nodes}
        values = Counter(by_node.values()).most_common()
        if len(values) > 1:
            usual = values[0][0]
            odd = [f"{place} {text or 'unknown'}" for place, text in by_node.items() if text != usual]
            yield Finding(
                "warning",
                f"{server.side} nodes",
                f"Not every node of the {server.side} has the same {what}: {usual or 'unknown'}, but {listed(odd, 3)}.",
                "Make them alike first, unless it is meant so.",
            )


def _limit(maxmemory: int | None) -> str:
    return "" if maxmemory is None else size(maxmemory) if maxmemory else "no limit"


def _clock_spread(server: ServerFacts) -> Iterator[Finding]:
    known = [(node.place, node.clock) for node in server.nodes if node.clock is not None]
    worst, places = 0.0, ("", "")
    for (one_place, one), (other_place, other) in combinations(known, 2):
        difference = between(one, other)
        if (sure_ms := abs(difference.offset_ms) - difference.uncertainty_ms) > worst:
            worst, places = sure_ms, (one_place, other_place)
    if worst > SPREAD_WARNING_MS:
        yield Finding(
            "warning",
            "clocks",
            f"The clocks of the {server.side}'s nodes differ by {worst:,.0f} ms ({places[0]} and {places[1]}).",
            "Set them by NTP; a key expires sooner or later by that much when its slot moves.",
        )


def _small_nodes(facts: Facts) -> Iterator[Finding]:
    """Each node takes the keys of its slots: about their share of the data."""
    need = needed_bytes(facts)
    if need is None:
        return
    full, tight = [], []
    for node in facts.target.server.nodes:
        limit, used = node.memory.maxmemory, node.memory.used
        if not limit or used is None:
            continue
        free, share = max(0, limit - used), need * node.slots // SLOT_COUNT
        text = f"{node.place} (about {size(share)} of keys, {size(free)} free)"
        if share > free:
            full.append(text)
        elif share > free * MEMORY_WARNING_SHARE:
            tight.append(text)
    advice = "Raise maxmemory there, or give these nodes fewer slots."
    if full:
        present = any(keys.keys for keys in facts.target.foreign)
        sentence = f"Nodes of the target are too small for their slots: {listed(full, 3)}."
        yield Finding("warning" if present else "stop", "memory", sentence, advice)
    if tight:
        sentence = f"Nodes of the target are nearly too small for their slots: {listed(tight, 3)}."
        yield Finding("warning", "memory", sentence, advice)
