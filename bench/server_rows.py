"""Rows without a tool: what each server can do at most, and what the servers do between themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.arena import info, key_count
from bench.replay import replay
from bench.rows import SOURCE_LIMIT, TARGET_LIMIT, Context
from bench.samples import BenchError, Work
from keyferry.wire.session import Session

POLL_S = 0.01
DELAY_PARAMETER = "repl-diskless-sync-delay"


@dataclass(frozen=True, slots=True)
class SourceLimit:
    """SCAN, DUMP and expiry of every key, replies thrown away."""

    name: str = SOURCE_LIMIT
    title: str = "source's own limit (SCAN + DUMP + expiry)"
    forks_source: bool = False

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return 0

    def run(self, context: Context) -> Work:
        return read_source(context)


@dataclass(frozen=True, slots=True)
class TargetLimit:
    """RESTORE of every key, made in advance."""

    name: str = TARGET_LIMIT
    title: str = "target's own limit (RESTORE)"
    forks_source: bool = False

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        with context.arena.session(context.arena.target) as session:
            done = replay(session, context.streams.target)
        return Work(context.keys, done.seconds, tool_cpu_s=done.cpu_s)


@dataclass(frozen=True, slots=True)
class Replication:
    """REPLICAOF until the target is in sync. ``delay_s`` None leaves the source's own delay."""

    name: str
    title: str
    delay_s: int | None
    forks_source: bool = True

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        arena = context.arena
        with arena.session(arena.source) as source, arena.session(arena.target) as target:
            delay = _parameter(source, DELAY_PARAMETER)
            if self.delay_s is not None:
                _expect_ok(source.call("CONFIG", "SET", DELAY_PARAMETER, self.delay_s))
            try:
                begun = time.perf_counter()
                _expect_ok(target.call("REPLICAOF", "127.0.0.1", arena.source.port))
                self._await_sync(context, source, target)
                seconds = time.perf_counter() - begun
                _expect_ok(target.call("REPLICAOF", "NO", "ONE"))
            finally:
                _expect_ok(source.call("CONFIG", "SET", DELAY_PARAMETER, delay))
            _await_child(source)
        return Work(context.keys, seconds)

    def _await_sync(self, context: Context, source: Session, target: Session) -> None:
        deadline = time.monotonic() + context.timeout_s
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            mine = info(target, "replication")
            if mine.get("master_link_status") != "up":
                continue
            if _caught_up(source, target):
                if key_count(context.arena.target) != context.keys:
                    raise BenchError("the replica says that it is in sync, and holds another number of keys")
                return
        raise BenchError(f"not in sync after {context.timeout_s:.0f} s")


def read_source(context: Context) -> Work:
    """One full read of the source at its own speed."""
    with context.arena.session(context.arena.source) as session:
        done = replay(session, context.streams.source)
    return Work(context.keys, done.seconds, tool_cpu_s=done.cpu_s)


def _caught_up(source: Session, target: Session) -> bool:
    """True when the target reached, by now, what the source had written a moment ago."""
    written = int(info(source, "replication")["master_repl_offset"])
    return int(info(target, "replication")["slave_repl_offset"]) >= written


def _await_child(source: Session) -> None:
    """Waits until the source has collected the child that sent the data, so that its CPU is counted."""
    deadline = time.monotonic() + 10.0
    while info(source, "persistence").get("rdb_bgsave_in_progress") != "0":
        if time.monotonic() > deadline:
            raise BenchError("the source still has its child")
        time.sleep(POLL_S)


def _parameter(session: Session, name: str) -> bytes:
    match session.call("CONFIG", "GET", name):
        case [_, bytes(value)]:
            return value
        case reply:
            raise BenchError(f"CONFIG GET {name} says {reply!r}")


def _expect_ok(reply: object) -> None:
    if reply != b"OK":
        raise BenchError(f"the server says {reply!r}")
