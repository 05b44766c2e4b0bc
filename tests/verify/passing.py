"""Runs a comparison's passes to their end, and keeps what they hand out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyferry.copy.connect import Sides
from keyferry.copy.pace import Pace
from keyferry.copy.poller import Poller
from keyferry.copy.settings import CopySettings
from keyferry.testing.deployment import Deployment
from keyferry.verify.passes import CompareContext, KeyPass, open_compare, open_extras

PASS_S_MAX = 60.0


@dataclass
class Found:
    """What passes handed out, as (source database, key)."""

    suspects: list[tuple[int, bytes]] = field(default_factory=list)
    big: list[tuple[int, bytes]] = field(default_factory=list)
    streams: list[tuple[int, bytes]] = field(default_factory=list)
    moved: set[int] = field(default_factory=set)
    compared: int = 0
    looked_for: int = 0
    cursors: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[bytes]:
        return sorted({key for _, key in self.suspects})

    @property
    def big_names(self) -> list[bytes]:
        return sorted({key for _, key in self.big})


class Passing:
    """Args: settings: CopySettings' own."""

    def __init__(
        self,
        source: Deployment,
        target: Deployment,
        *,
        tolerance_ms: int = 1000,
        chooses: Any = None,
        streams: bool = True,
        max_rate: float | None = None,
        **settings: Any,
    ) -> None:
        self.settings = CopySettings(source.endpoint, target.endpoint, state_dir=Path("unused"), **settings)
        self.sides = Sides(self.settings)
        self.sides.open()
        self.poller = Poller()
        self.found = Found()
        found = self.found
        self._running: list[KeyPass] = []
        self.context = CompareContext(
            sides=self.sides,
            settings=self.settings,
            pace=Pace(max_rate, None, 0.0),
            poller=self.poller,
            totals=self._totals,
            expiry_tolerance_ms=tolerance_ms,
            chooses=chooses,
            on_suspects=lambda db, keys: found.suspects.extend((db, key) for key in keys),
            on_big=lambda db, keys: found.big.extend((db, key) for key in keys),
            on_streams=(lambda db, keys: found.streams.extend((db, key) for key in keys))
            if streams
            else None,
            on_moved=found.moved.add,
        )

    def run(self) -> Found:
        """Both directions, all shards and databases, one after the other."""
        for database in self.sides.databases():
            for shard in self.sides.source.shards:
                self.found.compared += self.drive(open_compare(self.context, shard.id, database))
            for shard in self.sides.target.shards:
                self.found.looked_for += self.drive(open_extras(self.context, shard.id, database))
        return self.found

    def drive(self, key_pass: KeyPass) -> int:
        """One pass to its end; how many keys it judged."""
        deadline_s = time.monotonic() + PASS_S_MAX
        self._running.append(key_pass)
        try:
            key_pass.begin()
            while not key_pass.done:
                ready = self.poller.wait(0 if key_pass.buffered else 5)
                now_s = time.monotonic()
                assert now_s < deadline_s, "the pass does not end"
                key_pass.turn(ready, now_s)
                key_pass.check_silence(now_s)
                self.found.cursors.append(key_pass.cursor)
            assert key_pass.cursor == "0"
            assert key_pass.asked[2] == 0
            return key_pass.keys_done
        finally:
            self._running.remove(key_pass)
            key_pass.close()

    def _totals(self) -> tuple[int, int, int]:
        keys = size = asked = 0
        for one in self._running:
            keys, size, asked = keys + one.asked[0], size + one.asked[1], asked + one.asked[2]
        return keys, size, asked


def compare(source: Deployment, target: Deployment, **options: Any) -> Found:
    return Passing(source, target, **options).run()
