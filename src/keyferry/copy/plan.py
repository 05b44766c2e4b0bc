"""``--dry-run``: what a copy would do, from a bounded sample. Writes nothing on either side."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from keyferry.copy.connect import Sides
from keyferry.copy.safety import refuse_same_server
from keyferry.copy.settings import CopySettings
from keyferry.model.keys import is_reserved
from keyferry.model.methods import Method
from keyferry.payload.plan import PayloadPlan
from keyferry.wire.session import Session

SAMPLE_PAGES = 10
SAMPLE_PAGE_KEYS = 100
SAMPLE_KEY_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What would happen. ``keys`` counts before --match, --exclude and --type, of which ``selected`` is the share."""

    keys: int
    estimated_bytes: int
    methods: dict[str, str]
    seconds_estimate: float | None
    databases: list[tuple[int, int]]
    sampled_keys: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "dry_run": True,
            "keys": self.keys,
            "estimated_bytes": self.estimated_bytes,
            "methods": self.methods,
            "seconds_estimate": self.seconds_estimate,
            "databases": [{"source": source, "target": target} for source, target in self.databases],
            "sampled_keys": self.sampled_keys,
        }


@dataclass(slots=True)
class _Sample:
    seen: int = 0
    selected: int = 0
    dumped: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    methods: dict[str, set[Method]] = field(default_factory=dict)


def plan_copy(settings: CopySettings) -> CopyPlan:
    """Looks at both servers and at a few hundred keys.

    Raises:
        RefusedError: Source and target are the same server.
        ServerError: A server cannot be reached or refuses us.
    """
    sides = Sides(settings)
    sides.open()
    refuse_same_server(sides.source_run_ids, sides.target_run_ids)
    databases = sides.databases()
    sample = _Sample()
    shards = sides.source.shards
    pages = max(1, SAMPLE_PAGES // len(shards))
    for database in databases:
        for shard in shards[:SAMPLE_PAGES]:
            with sides.session("source", database, shard.id) as session:
                _look(session, sides.plan_for(shard.id, session), settings, sample, pages)
    share = sample.selected / sample.seen if sample.seen else 1.0
    keys = round(sides.total_keys(databases) * share)
    average = sample.payload_bytes / sample.dumped if sample.dumped else 0.0
    return CopyPlan(
        keys=keys,
        estimated_bytes=round(keys * average),
        methods={
            name: ", ".join(method.name.lower() for method in sorted(sample.methods[name]))
            for name in sorted(sample.methods)
        },
        seconds_estimate=_seconds(settings, keys, average, sample),
        databases=[(database, settings.selection.target_database(database)) for database in databases],
        sampled_keys=sample.dumped,
    )


def _look(session: Session, plan: PayloadPlan, settings: CopySettings, sample: _Sample, pages: int) -> None:
    selection = settings.selection
    passes = selection.key_filter()
    cursor: bytes = b"0"
    for _ in range(pages):
        reply = session.call("SCAN", cursor, "COUNT", SAMPLE_PAGE_KEYS)
        if not isinstance(reply, list) or not isinstance(reply[0], bytes) or not isinstance(reply[1], list):
            return
        cursor = reply[0]
        keys = [key for key in reply[1] if isinstance(key, bytes) and not is_reserved(key)]
        sample.seen += len(keys)
        keys = [key for key in keys if passes is None or passes(key)]
        if selection.types:
            kinds = session.pipeline([("TYPE", key) for key in keys])
            keys = [
                key
                for key, kind in zip(keys, kinds, strict=True)
                if isinstance(kind, bytes) and kind.decode() in selection.types
            ]
        sample.selected += len(keys)
        sizes = session.pipeline([("MEMORY", "USAGE", key, "SAMPLES", 1) for key in keys])
        small = [
            key
            for key, size in zip(keys, sizes, strict=True)
            if not isinstance(size, int) or size <= SAMPLE_KEY_BYTES_MAX
        ]
        began = time.perf_counter()
        payloads = session.pipeline([("DUMP", key) for key in small])
        sample.seconds += time.perf_counter() - began
        for payload in payloads:
            if isinstance(payload, bytes):
                sample.dumped += 1
                sample.payload_bytes += len(payload)
                method = Method(plan.actions[payload[0]])
                name = plan.type_name(payload[0])
                sample.methods.setdefault(name, set()).add(method)
        if cursor == b"0":
            return


def _seconds(settings: CopySettings, keys: int, average: float, sample: _Sample) -> float | None:
    """By the sample's own DUMP rate, and the user's limits: a rough figure, on the slow side."""
    if not sample.dumped:
        return None
    seconds = keys * sample.seconds / sample.dumped
    if settings.max_rate:
        seconds = max(seconds, keys / settings.max_rate)
    if settings.max_bandwidth:
        seconds = max(seconds, keys * average / settings.max_bandwidth)
    return round(seconds, 1)
