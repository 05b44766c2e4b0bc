"""Any value at all, built on one server from its decoded form and carried on to another in pieces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from carrying import KEY, Ferry, done, ferry_between
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyferry.model.values import (
    Consumer,
    HashValue,
    ListValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload.carry import carry_in_pieces, carry_value
from keyferry.payload.equal import same_value
from keyferry.payload.exchange import Carried
from keyferry.payload.reader import decode
from keyferry.payload.write_commands import Abilities, score_text, stream_losses
from keyferry.testing.servers import Server

PAIRS = [("redis-8.2", "valkey-9.1"), ("valkey-9.1", "redis-8.2"), ("redis-7.0", "redis-6.2")]
NOW_MS = 1_700_000_000_000
FAR_MS = 4_102_444_800_000
UINT64_MAX = 2**64 - 1

SMALL = st.binary(max_size=12)
BYTES = SMALL | st.binary(min_size=60, max_size=300) | st.integers(-(2**63), 2**63).map(lambda n: b"%d" % n)
SCORES = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63).map(float)
PAIRS_OF_BYTES = st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=40, unique_by=lambda pair: pair[0])
PARTS = st.integers(0, 20) | st.integers(UINT64_MAX - 3, UINT64_MAX) | st.integers(0, UINT64_MAX)
IDS = st.tuples(PARTS, PARTS).filter(lambda entry_id: entry_id > (0, 0))


@st.composite
def hashes(draw: st.DrawFn) -> HashValue:
    fields = draw(PAIRS_OF_BYTES)
    expiring = draw(st.sets(st.sampled_from([field for field, _ in fields])))
    times = st.sampled_from([FAR_MS, FAR_MS + 1]) | st.integers(FAR_MS, 2**45)
    return HashValue(fields, {field: draw(times) for field in expiring})


@st.composite
def groups(draw: st.DrawFn, name: bytes, entries_added: int) -> StreamGroup:
    consumers = draw(st.lists(SMALL, max_size=4, unique=True))
    pending = [
        PendingEntry(
            entry_id,
            draw(st.sampled_from(consumers)),
            draw(st.sampled_from([NOW_MS, NOW_MS + 1]) | st.integers(0, NOW_MS)),
            draw(st.integers(0, 3) | st.integers(0, 2**40)),
        )
        for entry_id in (sorted(draw(st.sets(IDS, max_size=30))) if consumers else [])
    ]
    entries_read = draw(st.integers(-1, entries_added))
    last_id = draw(IDS | st.just((0, 0)))
    return StreamGroup(name, last_id, entries_read, [Consumer(c, NOW_MS) for c in consumers], pending)


@st.composite
def streams(draw: st.DrawFn) -> StreamValue:
    fields = st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=4)
    entries = [(entry_id, draw(fields)) for entry_id in sorted(draw(st.sets(IDS, max_size=30)))]
    smallest: StreamId = entries[-1][0] if entries else (0, 0)
    last_id = max(smallest, draw(IDS | st.just((0, 0))))
    deleted = draw(st.just((0, 0)) | IDS)
    added = draw(st.integers(len(entries), len(entries) + 5) | st.integers(len(entries), 2**62))
    names = draw(st.lists(SMALL, max_size=3, unique=True))
    made = [draw(groups(name, added)) for name in names]
    return StreamValue(entries, last_id, added, min(deleted, last_id), made)


VALUES: dict[str, st.SearchStrategy[Value]] = {
    "string": st.builds(StringValue, BYTES),
    "list": st.builds(ListValue, st.lists(BYTES, min_size=1, max_size=40)),
    "set": st.builds(SetValue, st.lists(BYTES, min_size=1, max_size=40, unique=True)),
    "zset": st.builds(
        ZSetValue,
        st.lists(st.tuples(BYTES, SCORES), min_size=1, max_size=40, unique_by=lambda pair: pair[0]),
    ),
    "hash": hashes(),
    "stream": streams(),
}


@pytest.mark.parametrize("pair", PAIRS, ids="->".join)
@pytest.mark.parametrize("kind", VALUES)
def test_any_value_arrives(flushed: Callable[..., Server], kind: str, pair: tuple[str, str]) -> None:
    """Both ways of carrying, one after the other."""
    source, target = map(flushed, pair)
    with (
        closing(ferry_between(source, source)) as onto_source,
        closing(ferry_between(source, target)) as onwards,
    ):
        _check(kind, onto_source, onwards)


def _check(kind: str, onto_source: Ferry, onwards: Ferry) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(VALUES[kind])
    def arrives(value: Value) -> None:
        if isinstance(value, HashValue) and not Abilities.of(onwards.target_identity).field_expiry:
            value.expiries.clear()
        done(onwards.target, ("SET", KEY, "what was there before"))
        outcome = onto_source.drive(carry_value(value, onto_source.destination()))
        assert isinstance(outcome, Carried)
        carried_on = onwards.drive(carry_in_pieces(onwards.destination(), onwards.source_identity))
        assert isinstance(carried_on, Carried)
        assert same_value(_held(onto_source), value)
        assert same_value(_held(onwards), value)
        if isinstance(value, StreamValue):
            abilities = Abilities.of(onwards.target_identity)
            assert set(carried_on.notes) == set(stream_losses(value, len(value.entries), abilities))

    arrives()
    assert onwards.onlooker.call("DBSIZE") == 1


def _held(ferry: Ferry) -> Value:
    payload = ferry.onlooker.call("DUMP", KEY)
    assert isinstance(payload, bytes)
    return decode(payload, ferry.target_identity.family)


@given(SCORES)
def test_the_text_of_a_score_is_the_score(score: float) -> None:
    assert float(score_text(score)) == score
    assert str(float(score_text(score))) == str(score)  # -0 is not 0


def test_scores_survive_the_servers_own_text(server: Server) -> None:
    """ZSCAN's text, read as a double, is the double that was written: in a listpack and in a skip list."""
    numbers = [0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e17, 2**53 + 2.0, -1e-7]
    numbers += [n * 10.0**e for n in (1.1, 9.999999999999999) for e in range(-300, 300, 50)]
    numbers += [float("inf"), float("-inf"), 123456789012345680.0, 0.30000000000000004]
    with server.session() as session:
        for padding in (0, 200):
            members = [(b"%d" % i, number) for i, number in enumerate(numbers)]
            members += [(b"padding %d" % i, float(i)) for i in range(padding)]
            done(session, ("DEL", KEY), ("ZADD", KEY, *(p for m, s in members for p in (score_text(s), m))))
            reply = session.call("ZSCAN", KEY, 0, "COUNT", 1000)
            assert isinstance(reply, list)
            parts = reply[1]
            assert isinstance(parts, list)
            found = {m: float(s) for m, s in zip(parts[::2], parts[1::2], strict=True)}  # type: ignore[arg-type]
            assert found == dict(members)
