"""What the clients of this process do, for Prometheus; needs the extra `keyferry[metrics]`.

    from keyferry.metrics import register
    register()

One collector for all migrations of the process: it reads the counters when it is asked, and costs nothing before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from keyferry.capture.clients.breaker import Breaker
from keyferry.capture.clients.registry import CROSSINGS
from keyferry.model.phases import Phase

NAMES = (
    (
        "keyferry_client_second_legs",
        "Second legs sent, by kind: mirrored as they were, or rewritten.",
        ("kind",),
    ),
    ("keyferry_client_reported_keys", "Keys reported for settling, by reason.", ("reason",)),
    ("keyferry_client_shadow_reads", "Reads repeated on the other side.", ()),
    ("keyferry_client_shadow_differences", "Shadow reads that differed, by command.", ("command",)),
    ("keyferry_client_unknown_commands", "Commands that Keyferry does not know, by name.", ("command",)),
    ("keyferry_client_waiting_legs", "Second legs that wait in the background.", ()),
    ("keyferry_client_breaker_open", "1 while second legs are skipped and their keys reported.", ()),
    ("keyferry_client_phase", "1 for the phase that the process is in.", ("phase",)),
    ("keyferry_client_epoch", "Number of the phase record that the process has read.", ()),
)
"""Every metric: name, help, labels beside `migration`."""
_GAUGES = {
    "keyferry_client_waiting_legs",
    "keyferry_client_breaker_open",
    "keyferry_client_phase",
    "keyferry_client_epoch",
}
Sample = tuple[str, tuple[str, ...], float]


class ClientCollector(Collector):
    """Reads what there is at every collection."""

    def collect(self) -> Iterable[Metric]:
        """Every family, also those without a sample."""
        sums: dict[str, dict[tuple[str, ...], float]] = {name: {} for name, _, _ in NAMES}
        for crossing in list(CROSSINGS.values()):
            for name, labels, value in _samples(crossing):
                key = (crossing.options.name, *labels)
                # Threads and event loops have their own counters; of a state the highest counts.
                if name in _GAUGES and name != "keyferry_client_waiting_legs":
                    sums[name][key] = max(sums[name].get(key, 0.0), value)
                else:
                    sums[name][key] = sums[name].get(key, 0.0) + value
        for name, text, labels in NAMES:
            kind = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            family = kind(name, text, labels=("migration", *labels))
            for key, value in sums[name].items():
                family.add_metric(key, value)
            yield family


def _samples(crossing: Any) -> Iterator[Sample]:
    counts, standing = crossing.counts, crossing.state.standing
    yield "keyferry_client_second_legs", ("mirrored",), counts.mirrored
    yield "keyferry_client_second_legs", ("rewritten",), counts.rewritten
    for reason, count in list(counts.reported.items()):
        yield "keyferry_client_reported_keys", (str(reason),), count
    yield "keyferry_client_shadow_reads", (), counts.shadow_reads
    for command, count in list(counts.shadow_differences.items()):
        yield "keyferry_client_shadow_differences", (command,), count
    for command, count in list(counts.unknown_commands.items()):
        yield "keyferry_client_unknown_commands", (command,), count
    yield "keyferry_client_waiting_legs", (), crossing.waiting
    opened = any(mirror.breaker.state is not Breaker.State.CLOSED for mirror in crossing.mirrors.values())
    yield "keyferry_client_breaker_open", (), float(opened)
    for phase in Phase:
        yield "keyferry_client_phase", (str(phase),), float(phase is standing.phase)
    yield "keyferry_client_epoch", (), standing.epoch


def register(registry: CollectorRegistry = REGISTRY) -> ClientCollector:
    """Adds the collector to a registry, once per process.

    Args:
        registry: prometheus_client's default one, or another.
    """
    collector = ClientCollector()
    registry.register(collector)
    return collector
