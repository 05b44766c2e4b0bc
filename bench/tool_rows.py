"""Rows that run a tool as a process: the recipe, a redis-py loop, RedisShake, Keyferry."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from bench.child import run_tool
from bench.rows import REDIS_PY, Context
from bench.samples import BenchError, Work
from bench.tools import (
    HERE,
    Errand,
    keyferry_version,
    redisshake_missing,
    run_keyferry,
    run_redis_py,
    run_redisshake,
    work_of,
)

PAGE_KEYS = 1_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """The bash loop, on a sample: one key takes it some 20 ms."""

    name: str = "recipe"
    title: str = "the recipe's bash loop (sample)"
    forks_source: bool = False

    def unavailable(self) -> str:
        missing = [program for program in ("bash", "redis-cli", "head") if shutil.which(program) is None]
        return f"not available here: {', '.join(missing)}" if missing else ""

    def arriving(self, context: Context) -> int:
        return min(context.sample_keys, context.keys)

    def run(self, context: Context) -> Work:
        arena, keys = context.arena, self.arriving(context)
        argv = ["bash", str(HERE / "recipe.sh"), str(arena.source.port), str(arena.target.port), str(keys)]
        ended = run_tool(argv, context.directory, context.timeout_s)
        return work_of(ended, keys, None)


@dataclass(frozen=True, slots=True)
class RedisPy:
    """Pages of 1,000 keys, one pipeline for each server."""

    name: str = REDIS_PY
    title: str = "redis-py loop with pipelines"
    forks_source: bool = False

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        return run_redis_py(_errand(context), PAGE_KEYS)


@dataclass(frozen=True, slots=True)
class RedisShake:
    """Its scan reader with pages of 1,000 keys (as delivered it asks for one key per SCAN)."""

    name: str = "redisshake"
    title: str = "RedisShake, scan reader, count = 1000"
    forks_source: bool = False

    def unavailable(self) -> str:
        return redisshake_missing()

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        return run_redisshake(_errand(context))


@dataclass(frozen=True, slots=True)
class Keyferry:
    """``keyferry copy``; ``implementation`` is what KEYFERRY_IMPL asks for."""

    name: str
    title: str
    implementation: str
    arguments: tuple[str, ...] = ()
    forks_source: bool = False

    def unavailable(self) -> str:
        try:
            keyferry_version(self.implementation)
        except BenchError as error:
            return f"not available here: {error}"
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        return run_keyferry(_errand(context), self.implementation, self.arguments)


def _errand(context: Context) -> Errand:
    arena = context.arena
    return Errand(arena.source, arena.target, context.keys, context.directory, context.timeout_s)
