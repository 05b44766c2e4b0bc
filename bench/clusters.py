"""Clusters against single servers: the same keys, from 3 shards to 3 and to 5, in turn with one server to one."""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.arena import REPLY_TIMEOUT_S, cpu_seconds, key_count
from bench.compare import TOOL_CPU, of_rounds, ratios, speeds
from bench.figures import Goal
from bench.page import Section
from bench.report import problems
from bench.samples import BenchError, RowResult, Sample
from bench.tools import Errand, run_keyferry
from keyferry.model.errors import KeyferryError
from keyferry.testing.cluster import Cluster
from keyferry.testing.dataset import EXPIRING_SHARE, EXPIRY_MS_MAX, EXPIRY_MS_MIN
from keyferry.testing.servers import Server, ServerBinary
from keyferry.testing.topology import even_ranges, hash_slot
from keyferry.wire.resp import encode_command
from keyferry.wire.session import Session

BASE = "one-to-one"
ROWS: dict[str, tuple[str, int, int]] = {
    BASE: ("one server to one", 0, 0),
    "three-to-three": ("3 shards to 3", 3, 3),
    "three-to-five": ("3 shards to 5", 3, 5),
}
"""Name -> title, shards of the source, shards of the target; 0 is a single server."""
FULL_SPEED = ("--max-latency", "0")
TOOL_CPU_RATIO_MAX = 1.25
TOOL_TIMEOUT_S = 60.0
SLOWEST_KEYS_PER_S = 1_000
VALUE_BYTES = 64
COMMANDS_PER_BATCH = 500


def measure_clusters(
    binary: ServerBinary, keys: int, rounds: int, say: Callable[[str], None]
) -> list[RowResult]:
    """Every row in every round, each on a fresh target; the sources are loaded once.

    Raises:
        BenchError: A source cannot be loaded.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    results = [RowResult(name, title) for name, (title, _, _) in ROWS.items()]
    with contextlib.ExitStack() as stack:
        sources: dict[int, Server | Cluster] = {}
        for shards in sorted({source for _, source, _ in ROWS.values()}):
            say(f"loading {keys:,} keys into {f'{shards} shards' if shards else 'one server'}")
            sources[shards] = stack.enter_context(_deployment(binary, shards))
            fill_by_slot(sources[shards], keys)
        for number in range(rounds):
            first = number % len(results)
            for result in results[first:] + results[:first]:
                if result.problem:
                    continue
                _, source, target = ROWS[result.name]
                try:
                    with _deployment(binary, target) as fresh:
                        sample = _run(sources[source], fresh, keys)
                    result.samples.append(sample)
                    said = f"{keys / sample.work.seconds:,.0f} keys/s"
                except (BenchError, KeyferryError) as error:
                    result.problem, result.failed = f"failed: {error}", True
                    said = result.problem
                say(f"round {number + 1}/{rounds}, {result.title}: {said}")
    return results


def cluster_section(keys: int, results: Sequence[RowResult]) -> Section:
    parts = [
        "The same keys in a cluster and in one server. Source and target are clusters of servers on this one "
        "machine, which share its cores with each other and with the tool: speeds show what the cores allow, CPU "
        "per key what the shards cost. Guard against latency off (`--max-latency 0`).",
        speeds(results),
        ratios(results, {name: BASE for name in ROWS if name != BASE}),
        problems(results),
    ]
    title = f"Clusters: {keys:,} strings of {VALUE_BYTES} bytes, {EXPIRING_SHARE:.0%} with expiry"
    return Section("cluster", title, cluster_goals(results), "\n\n".join(filter(None, parts)))


def cluster_goals(results: Sequence[RowResult]) -> list[Goal]:
    base = next(row for row in results if row.name == BASE)
    goals: list[Goal] = []
    for row in results:
        if row is base:
            continue
        text = f"{row.title}: tool CPU per key within {TOOL_CPU_RATIO_MAX - 1:.0%} of one server to one"
        found = of_rounds(row, base, TOOL_CPU)
        if row.failed or base.failed or not found:
            goals.append(Goal(text, "not measured", None))
            continue
        median = statistics.median(found)
        shown = f"{median:.2f} times (rounds: {min(found):.2f} to {max(found):.2f})"
        goals.append(Goal(text, shown, median <= TOOL_CPU_RATIO_MAX))
    return goals


def fill_by_slot(deployment: Server | Cluster, keys: int, seed: int = 1) -> None:
    """Strings as those of the data set, each written straight to its slot's node of a fresh deployment.

    Raises:
        BenchError: A node refused one, or they are not all there.
    """
    rng = random.Random(seed)
    now_ms = time.time_ns() // 1_000_000
    nodes = deployment.nodes
    owners = [index for index, slots in enumerate(even_ranges(len(nodes))) for _ in slots]
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(node.session(timeout_s=REPLY_TIMEOUT_S)) for node in nodes]
        waiting: list[list[bytes]] = [[] for _ in nodes]
        for number in range(keys):
            key = b"string:%d" % number
            value = rng.randbytes(VALUE_BYTES)
            if rng.random() < EXPIRING_SHARE:
                life_ms = EXPIRY_MS_MIN + int(rng.random() * (EXPIRY_MS_MAX - EXPIRY_MS_MIN))
                command = encode_command("SET", key, value, "PXAT", now_ms + life_ms)
            else:
                command = encode_command("SET", key, value)
            owner = owners[hash_slot(key)]
            waiting[owner].append(command)
            if len(waiting[owner]) == COMMANDS_PER_BATCH:
                _send(sessions[owner], waiting[owner])
        for session, commands in zip(sessions, waiting, strict=True):
            _send(session, commands)
    if (found := key_count(deployment)) != keys:
        raise BenchError(f"the source holds {found:,} keys instead of {keys:,}")


def _send(session: Session, commands: list[bytes]) -> None:
    replies = session.exchange(b"".join(commands), len(commands))
    refused = [reply for reply in replies if reply != b"OK"]
    if refused:
        raise BenchError(f"{session.endpoint} says {refused[0]!r}")
    commands.clear()


def _run(source: Server | Cluster, target: Server | Cluster, keys: int) -> Sample:
    source_cpu_s, target_cpu_s = cpu_seconds(source), cpu_seconds(target)
    timeout_s = TOOL_TIMEOUT_S + keys / SLOWEST_KEYS_PER_S
    with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
        errand = Errand(source, target, keys, Path(directory), timeout_s)
        work = run_keyferry(errand, "auto", FULL_SPEED)
    sample = Sample(work, cpu_seconds(source) - source_cpu_s, cpu_seconds(target) - target_cpu_s)
    if (arrived := key_count(target)) != keys:
        raise BenchError(f"the target holds {arrived:,} keys instead of {keys:,}")
    return sample


@contextlib.contextmanager
def _deployment(binary: ServerBinary, shards: int) -> Iterator[Server | Cluster]:
    with Cluster(binary, shards) if shards else Server(binary) as deployment:
        yield deployment
