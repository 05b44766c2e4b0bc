"""What a run does, for Prometheus, by its own client library.

What nobody has looked at for long is not served as if it were new: then there are only `keyferry_up`, the age of the
last look, and which run it is. The clients of an application have metrics of their own (keyferry.metrics); both bear
the label `migration`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from keyferry.app.dashboard.metric_table import METRICS, Described, Labels, Look, Sample

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the time that writes waited: a gate is meant to take tens of milliseconds, and is given up after --timeout."""


def exposition(
    status: Mapping[str, Any] | None, age_s: float | None, *, name: str = "", now_ms: float | None = None
) -> tuple[bytes, str]:
    """The page that Prometheus reads, and its content type.

    Args:
        status: The last one that the run gave; None: it has given none.
        age_s: How old that is; None: there is none.
        name: Of the migration, for when no status says it.
        now_ms: Unix time; by default now.
    """
    said = status or {}
    now_ms = time.time() * 1000 if now_ms is None else now_ms
    look = Look(str(said.get("name") or name), said, age_s if said else None, now_ms)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_RunCollector(look))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _RunCollector(Collector):
    """Of one look."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """Every family, also those without a sample."""
        for one in METRICS:
            samples = one.read(self._look) if one.always or self._look.fresh else ()
            yield _family(one, self._look.name, samples)


def _family(one: Described, name: str, samples: Iterable[Sample]) -> Metric:
    labels = ("migration", *one.labels)
    text = f"{one.meaning}."
    if one.kind == "histogram":
        return _histogram(one.name, text, labels, name, samples)
    kind = CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily
    family = kind(one.name, text, labels=labels)
    for its, value in samples:
        family.add_metric((name, *its), value)
    return family


def _histogram(metric: str, text: str, labels: Labels, name: str, observed: Iterable[Sample]) -> Metric:
    """``observed``: each observation is one sample."""
    family = HistogramMetricFamily(metric, text, labels=labels)
    values: dict[Labels, list[float]] = {}
    for its, value in observed:
        values.setdefault(its, []).append(value)
    for its, found in values.items():
        counts = [(str(limit), sum(value <= limit for value in found)) for limit in BUCKETS_S]
        family.add_metric((name, *its), [*counts, ("+Inf", len(found))], sum(found))
    return family
