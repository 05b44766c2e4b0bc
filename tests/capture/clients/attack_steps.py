"""Moves a phase record as `keyferry phase` does, one write at a time, and waits until every writer has taken it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import redis
from attack_settling import client_of

from keyferry.model.phases import RULES, Phase, Side
from keyferry.model.record import (
    PhaseRecord,
    Stamp,
    Write,
    begun,
    channel,
    completing,
    decode,
    encode,
    next_of_commit,
    record_key,
    stepped,
    writers_key,
)
from keyferry.model.writers import decode_entry
from keyferry.testing.servers import Server

TAKEN_WITHIN_S = 10.0
STAMP = Stamp(1, "a test")
Wait = Callable[[float], Any]


class Steps:
    """Of one migration, which begins with this.

    Args:
        name: The migration's.
    """

    def __init__(self, name: str, source: Server, target: Server) -> None:
        self._name = name
        self._clients = {Side.SOURCE: client_of(source), Side.TARGET: client_of(target)}
        self._make(begun(STAMP))

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def read(self, side: Side) -> PhaseRecord | None:
        return decode(side, self._clients[side].hgetall(record_key(self._name)))

    @property
    def authority(self) -> tuple[Side, PhaseRecord]:
        for side in Side:
            record = self.read(side)
            if record is not None and record.rules:
                return side, record
        raise AssertionError("nobody has authority")

    def step(self, phase: Phase, wait: Wait = time.sleep) -> None:
        """Without a change of authority; returns when all writers have taken it."""
        side, record = self.authority
        self._make(stepped(side, record, phase, STAMP))
        self.taken(wait)

    def hold(self, wait: Wait = time.sleep) -> None:
        self.step(Phase.HOLD, wait)

    def commit(self, phase: Phase, wait: Wait = time.sleep) -> None:
        """Out of a hold, to the other side."""
        losing, held = self.authority
        assert RULES[phase].authority is losing.other
        while True:
            write = next_of_commit(losing, held, self.read(losing.other), phase, STAMP)
            self._make(write)
            if write.side is losing:
                break
        last = completing(losing, write.becomes, self.read(losing.other), STAMP)
        if last is not None:
            self._make(last, unless_done=True)
        self.taken(wait)

    def taken(self, wait: Wait = time.sleep) -> None:
        """Waits until every writer that is registered has acknowledged the record, and there is one if there was."""
        deadline_s = time.monotonic() + TAKEN_WITHIN_S
        while True:
            side, record = self.authority
            before = self._writers(side.other)
            entries = self._writers(side)
            if not before and all(entry.epoch == record.epoch for entry in entries.values()):
                return
            assert time.monotonic() < deadline_s, (record, before, entries)
            wait(0.002)

    def _writers(self, side: Side) -> dict[str, Any]:
        found = self._clients[side].hgetall(writers_key(self._name))
        return {name.decode(): decode_entry(name.decode(), value) for name, value in found.items()}

    def _make(self, write: Write, *, unless_done: bool = False) -> None:
        """A writer that comes first completes a commit by itself (rule 15)."""
        client: redis.Redis = self._clients[write.side]
        key = record_key(self._name)
        with client.pipeline() as pipe:
            pipe.watch(key)
            found = decode(write.side, pipe.hgetall(key))  # type: ignore[arg-type]
            if not (unless_done and write.becomes.same_as(found)):
                assert found == write.expected
                pipe.multi()
                pipe.hset(key, mapping=encode(write.becomes))  # type: ignore[arg-type]
                pipe.publish(channel(self._name), str(write.becomes.epoch))
                with contextlib.suppress(*[redis.WatchError] * unless_done):
                    pipe.execute()
        now = self.read(write.side)
        assert write.becomes.same_as(now), (write, now)
