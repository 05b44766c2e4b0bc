"""Any value against any other of its type: settled to the last byte, or left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from carrying import KEY, Ferry, done, ferry_between
from differing import settled, views
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyferry.payload.differ import Applied, Different, Same, TooDifferent
from keyferry.payload.write_commands import Command, score_text
from keyferry.testing.servers import Server

TEXT = st.one_of(st.binary(max_size=8), st.sampled_from([b"", b"a", b"b", b"1", b"-1", b"x" * 100]))
SCORE = st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, 1.0, 1.5, float("inf"), -0.0]))
FEW = 60


def _list(items: list[bytes]) -> Command:
    return ("RPUSH", KEY, *items)


def _zset(members: dict[bytes, float]) -> Command:
    return ("ZADD", KEY, *(part for member, score in members.items() for part in (score_text(score), member)))


def _hash(fields: dict[bytes, bytes]) -> Command:
    return ("HSET", KEY, *(part for pair in fields.items() for part in pair))


VALUES: dict[str, st.SearchStrategy[Command]] = {
    "string": st.binary(min_size=1, max_size=20_000).map(lambda data: ("SET", KEY, data)),
    "list": st.lists(TEXT, min_size=1, max_size=FEW).map(_list),
    "short list": st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=6).map(_list),
    "set": st.sets(TEXT, min_size=1, max_size=FEW).map(lambda members: ("SADD", KEY, *members)),
    "zset": st.dictionaries(TEXT, SCORE, min_size=1, max_size=FEW).map(_zset),
    "hash": st.dictionaries(TEXT, TEXT, min_size=1, max_size=FEW).map(_hash),
}


@pytest.fixture(
    scope="module", params=["redis-6.2->valkey-9.1", "valkey-9.1->redis-8.2", "redis-8.2->redis-7.0"]
)
def ferry(request: pytest.FixtureRequest, binaries: dict[str, object]) -> Iterator[Ferry]:
    source, target = request.param.split("->")
    for name in (source, target):
        if name not in binaries:
            pytest.skip(f"{name} is not at hand")
    with Server(binaries[source]) as one, Server(binaries[target]) as other:  # type: ignore[arg-type]
        made = ferry_between(one, other)
        yield made
        made.close()


@pytest.mark.parametrize("kind", VALUES)
def test_any_two_values(ferry: Ferry, kind: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VALUES[kind], VALUES[kind], st.sampled_from([None, 4_102_444_800_000, 4_102_444_801_000]))
    def check(source: Command, target: Command, expires_at_ms: int | None) -> None:
        done(ferry.source, ("DEL", KEY), source)
        done(ferry.onlooker, ("DEL", KEY), target)
        if expires_at_ms:
            done(ferry.source, ("PEXPIREAT", KEY, expires_at_ms))
            done(ferry.onlooker, ("PEXPIREAT", KEY, 4_102_444_800_000))
        here, there = views(ferry)
        is_same = here == there and expires_at_ms != 4_102_444_801_000
        told = settled(ferry, apply=False)
        assert told == Same() if is_same else isinstance(told, Different)
        outcome = settled(ferry)
        if outcome == TooDifferent():
            assert kind == "string"
            assert views(ferry) == (here, there)
            return
        assert outcome == Same() if is_same else isinstance(outcome, Applied)
        assert views(ferry) == (here, here)
        assert settled(ferry, apply=False) == Same()

    check()


@pytest.mark.parametrize("kind", ["list", "short list"])
def test_a_list_and_what_became_of_it(ferry: Ferry, kind: str) -> None:
    """Pushed, popped and set at random: settled with no more writes than it took to get there."""
    push = st.tuples(st.sampled_from(["LPUSH", "RPUSH"]), st.sampled_from([b"a", b"b", b"c"]))
    step = st.one_of(
        push, st.sampled_from([("LPOP",), ("RPOP",)]), st.tuples(st.just("LSET"), st.integers(0, 9))
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VALUES[kind], st.lists(step, max_size=12))
    def check(value: Command, steps: list[tuple[str | bytes | int, ...]]) -> None:
        done(ferry.source, ("DEL", KEY), value)
        done(ferry.onlooker, ("DEL", KEY), value)
        ferry.source.pipeline(
            [(name, KEY, *rest, *(("new",) if name == "LSET" else ())) for name, *rest in steps]
        )
        if ferry.on_source() is None:
            return
        settled(ferry)
        here, there = views(ferry)
        assert here == there

    check()
