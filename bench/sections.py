"""From a section's name to what measures it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.big import measure_big
from bench.big_data import BIG_KINDS
from bench.big_report import big_section
from bench.clients import measure_clients
from bench.clients_report import clients_section
from bench.clusters import cluster_section, measure_clusters
from bench.cutover import measure_cutover
from bench.cutover_report import cutover_section
from bench.datasets import DATA_SETS
from bench.guard import guard_section, measure_guard
from bench.options import Options
from bench.page import Section
from bench.report import data_section
from bench.schedule import measure
from bench.sync import measure_sync
from bench.sync_report import sync_section
from bench.verifying import measure_verify, verify_section
from keyferry.testing.servers import ServerBinary

REST_S, SMALL_REST_S = 5.0, 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """``rounds`` in words; ``failed`` when a row did."""

    section: Section
    rounds: str
    failed: bool


def measure_section(name: str, binary: ServerBinary, options: Options) -> Measured:
    """Measures one of ``SECTIONS``.

    Raises:
        BenchError: It cannot be measured: a source does not take its data.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    if name in DATA_SETS:
        return _data(name, binary, options)
    say = _sayer(name)
    rounds = options.rounds
    if name == "guard":
        guarded = measure_guard(binary, options, say)
        failed = any(row.failed for data in guarded for row in data.rows)
        return Measured(guard_section(guarded), _interleaved(rounds), failed)
    if name == "cluster":
        keys = options.keys_of("strings")
        rows = measure_clusters(binary, keys, rounds, say)
        failed = any(row.failed for row in rows)
        return Measured(cluster_section(keys, rows), _interleaved(rounds), failed)
    if name == "sync":
        sync = measure_sync(binary, options.sync_size, options.latency_rounds, say)
        failed = any(row.failed for row in sync.rows)
        return Measured(sync_section(sync), _interleaved(options.latency_rounds), failed)
    if name == "verify":
        verified = measure_verify(binary, options, say)
        failed = any(row.failed for data in verified for row in data.rows)
        return Measured(verify_section(verified), _interleaved(rounds), failed)
    if name == "clients":
        pairs = measure_clients(binary, options.client_pairs, say)
        return Measured(clients_section(pairs), f"{options.client_pairs} pairs per row, interleaved", False)
    if name == "cutover":
        cutover = measure_cutover(binary, options.cutover_size, say)
        failed = any(row.failed for row in cutover.rows)
        return Measured(
            cutover_section(cutover), f"{options.cutover_size.pairs} times there and back", failed
        )
    kind = BIG_KINDS[name.removeprefix("big-")]
    big = measure_big(
        kind, binary, options.big_size, options.big_rounds, SMALL_REST_S if options.small else REST_S, say
    )
    failed = any(row.failed for row in big.rows)
    return Measured(big_section(big), _interleaved(options.big_rounds), failed)


def _data(name: str, binary: ServerBinary, options: Options) -> Measured:
    # A quick run looks at latency once: it shall end soon.
    latency = not options.quick or name == next(iter(DATA_SETS))
    data = measure(name, binary, options, latency=latency)
    rounds = f"{_count(options.rounds)} for speed and cost"
    if latency:
        rounds += f", then {options.latency_rounds} for latency"
    return Measured(data_section(data), f"{rounds}; rows interleaved", any(row.failed for row in data.rows))


def _interleaved(rounds: int) -> str:
    return f"{_count(rounds)}, rows interleaved" if rounds > 1 else _count(rounds)


def _count(rounds: int) -> str:
    return f"{rounds} round{'s' if rounds > 1 else ''}"


def _sayer(section: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"{section}: {line}", file=sys.stderr, flush=True)

    return say
