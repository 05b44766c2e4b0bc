"""What is shown of each server of the side that is followed; made a few times a second, from what is known anyway."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from keyferry.copy.connect import Sides
from keyferry.copy.deployment import Deployment
from keyferry.copy.probe import Probe
from keyferry.follow.source import Followed
from keyferry.telemetry.following import ShardLook

SHARDS_SHOWN = 64


class ShardLooks:
    """Of one run."""

    def __init__(self, sides: Sides, sources: dict[str, Followed]) -> None:
        self._sides, self._sources = sides, sources
        self._deployment: Deployment | None = None
        self._addresses: dict[str, str] = {}

    def look(
        self, feed: str, probes: Iterable[Probe], now_s: float, *, copying: bool
    ) -> tuple[ShardLook, ...]:
        """In the order of the deployment; where there are too many, those with most dirty keys.

        Args:
            feed: That the run uses.
            now_s: Monotonic.
            copying: The first copy goes on: how far each is counts.
        """
        if not self._sources:
            return ()
        self._learn_addresses()
        latencies = {probe.shard: probe.shown_ms(now_s) for probe in probes if probe.side == "source"}
        known = [self._sources[shard] for shard in self._addresses if shard in self._sources]
        if len(known) > SHARDS_SHOWN:
            most = {id(one) for one in heapq.nlargest(SHARDS_SHOWN, known, key=lambda one: one.dirty_keys)}
            known = [one for one in known if id(one) in most]
        return tuple(
            ShardLook(
                shard=self._addresses[source.shard],
                dirty_keys=source.dirty_keys,
                feed=feed if source.attached else "",
                keys_total=self._keys_total(source),
                keys_done=source.scanned if copying else None,
                latency_ms=latencies.get(source.shard),
            )
            for source in known
        )

    def _learn_addresses(self) -> None:
        deployment = self._sides.source
        if deployment is not self._deployment:
            self._deployment = deployment
            self._addresses = {
                shard.id: deployment.endpoint(shard.id).location for shard in deployment.shards
            }

    def _keys_total(self, source: Followed) -> int | None:
        if source.shard not in self._sides.source_shards:
            return None
        return self._sides.total_keys(list(source.supplies), source.shard)
