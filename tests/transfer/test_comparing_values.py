"""Equal values in different payloads: the compiled twin, the pure one and real servers agree."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.build import wanted
from keyferry.payload.footer import sign
from keyferry.testing.cases import build, cases_for
from keyferry.testing.dataset import fill_mix
from keyferry.testing.servers import Server
from keyferry.transfer.comparing_values import TYPES, same_elements_pure

Same = Callable[[bytes, bytes], "bool | None"]

try:
    from keyferry.transfer._comparing_values import same_elements as compiled
except ImportError:
    if wanted() == "compiled":
        raise
    TWINS: list[Same] = [same_elements_pure]
else:
    TWINS = [same_elements_pure, compiled]

needs_both = pytest.mark.skipif(len(TWINS) < 2, reason="the compiled data path was not built")


@pytest.fixture(params=TWINS, ids=lambda twin: twin.__module__.rpartition(".")[2], scope="module")
def same(request: pytest.FixtureRequest) -> Same:
    found: Same = request.param
    return found


def dumps(server: Server) -> dict[bytes, bytes]:
    with server.session() as session:
        keys = session.call("KEYS", "*")
        assert isinstance(keys, list)
        keys.sort()
        payloads = session.pipeline([("DUMP", key) for key in keys if isinstance(key, bytes)])
    return {
        key: payload
        for key, payload in zip(keys, payloads, strict=True)
        if isinstance(key, bytes) and isinstance(payload, bytes)
    }


def test_every_encoding_of_two_servers(server_pair: tuple[Server, Server]) -> None:
    """The same commands built them: equal, where it can be told; and different from their neighbours."""
    source, target = server_pair
    for server in (source, target):
        with server.session() as session:
            build(session, cases_for(server.binary.version, server.binary.family))
    here, there = dumps(source), dumps(target)
    keys = [key for key in here if key in there]
    assert len(keys) > 200
    plain = 0
    for key, following in zip(keys, keys[1:] + keys[:1], strict=True):
        one, other, neighbour = here[key], there[key], there[following]
        found = [twin(one, other) for twin in TWINS]
        decided = {one[0], other[0]} <= TYPES
        plain += decided
        assert found == [True if decided else None] * len(TWINS), key
        assert len({twin(one, neighbour) for twin in TWINS}) == 1, (key, following)
        assert len({twin(neighbour, one) for twin in TWINS}) == 1, (key, following)
    assert plain > 100


def test_many_values_of_a_service(flushed: Callable[..., Server]) -> None:
    servers = [flushed("redis-6.2"), flushed("redis-8.2"), flushed("redis-8.2", 1)]
    for server in servers:
        with server.session() as session:
            fill_mix(session, 1200)
    old, new, other_order = map(dumps, servers)
    for key in old:
        for payload in (new[key], other_order[key]):
            found = {twin(old[key], payload) for twin in TWINS}
            assert found == {True} if old[key][0] in TYPES else {None}


# Payloads by hand


def length(number: int) -> bytes:
    if number < 64:
        return bytes([number])
    if number < 16384:
        return bytes([0x40 | number >> 8, number & 0xFF])
    return b"\x80" + struct.pack(">I", number)


def string(data: bytes) -> bytes:
    return length(len(data)) + data


def body(kind: int, *parts: bytes) -> bytes:
    return sign(bytes([kind]) + b"".join(parts), 10)


def listpack(items: list[bytes]) -> bytes:
    out = bytearray()
    for item in items:
        number = int(item) if item.isdigit() and item == b"%d" % int(item) and len(item) < 3 else None
        entry = (
            bytes([number])
            if number is not None and number < 128
            else (
                bytes([0x80 | len(item)]) + item
                if len(item) < 64
                else b"\xf0" + struct.pack("<I", len(item)) + item
            )
        )
        size = len(entry)
        back = bytes([size]) if size < 128 else bytes([size >> 7, size & 127 | 128])
        out += entry + back
    return struct.pack("<IH", len(out) + 7, len(items)) + bytes(out) + b"\xff"


MEMBERS = st.lists(
    st.binary(max_size=90) | st.integers(0, 99).map(lambda number: b"%d" % number), unique=True, max_size=12
)


@given(members=MEMBERS, seed=st.integers(0, 9))
def test_sets_in_any_order_and_encoding(same: Same, members: list[bytes], seed: int) -> None:
    shuffled = random.Random(seed).sample(members, len(members))
    table = body(2, length(len(members)), *map(string, members))
    packed = body(20, string(listpack(shuffled)))
    assert same(table, packed) is True
    assert same(packed, table) is True
    another = body(2, length(len(members) + 1), *map(string, [*members, b"another" * 20]))
    assert same(packed, another) is False
    if members:
        swapped = body(2, length(len(members)), *map(string, [*members[1:], b"another" * 20]))
        assert same(packed, swapped) is False
        twice = body(2, length(len(members) + 1), *map(string, [*members, members[0]]))
        assert same(twice, another) is False
        assert same(another, twice) is False


@given(members=MEMBERS, seed=st.integers(0, 9))
def test_hashes_in_any_order_and_encoding(same: Same, members: list[bytes], seed: int) -> None:
    fields = [(member, bytes(reversed(member))) for member in members]
    shuffled = random.Random(seed).sample(fields, len(fields))
    table = body(4, length(len(fields)), *(string(part) for pair in fields for part in pair))
    packed = body(16, string(listpack([part for pair in shuffled for part in pair])))
    assert same(table, packed) is True
    if fields:
        name, value = fields[0]
        changed = [(name, value + b"x"), *fields[1:]]
        other = body(4, length(len(fields)), *(string(part) for pair in changed for part in pair))
        assert same(other, packed) is False


@given(items=st.lists(st.binary(max_size=90) | st.just(b"7"), max_size=10))
def test_lists_in_nodes_of_any_size(same: Same, items: list[bytes]) -> None:
    plain = body(1, length(len(items)), *map(string, items))
    half = len(items) // 2
    nodes = [b"\x02" + string(listpack(part)) for part in (items[:half], items[half:])]
    assert same(plain, body(18, b"\x02", *nodes)) is True
    single = [b"\x01" + string(item) for item in items]
    assert same(plain, body(18, length(len(items)), *single)) is True
    if items and items[::-1] != items:
        assert same(plain, body(1, length(len(items)), *map(string, reversed(items)))) is False


SCORES = st.floats(allow_nan=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 0.1, float("inf"), float("-inf"), 1e300]
)


@given(scores=st.lists(SCORES, max_size=8))
def test_scores_as_text_and_as_doubles(same: Same, scores: list[float]) -> None:
    members = [b"m%d" % i for i in range(len(scores))]
    pairs = list(zip(members, scores, strict=True))
    binary = body(5, length(len(pairs)), *(string(m) + struct.pack("<d", score) for m, score in pairs))
    text = body(17, string(listpack([part for m, score in pairs for part in (m, repr(score).encode())])))
    old = body(3, length(len(pairs)), *(string(m) + _old_score(score) for m, score in pairs))
    assert same(binary, text) is True
    assert same(old, binary) is True
    for i, score in enumerate(scores):
        if abs(score) < 1e100:
            changed = [*pairs[:i], (members[i], score + 1 + abs(score)), *pairs[i + 1 :]]
            other = body(5, length(len(pairs)), *(string(m) + struct.pack("<d", s) for m, s in changed))
            assert same(other, text) is False


def _old_score(score: float) -> bytes:
    if score in (float("inf"), float("-inf")):
        return b"\xfe" if score > 0 else b"\xff"
    text = repr(score).encode()
    return bytes([len(text)]) + text


@given(number=st.integers(-(2**31), 2**31 - 1))
def test_integers_as_numbers_and_as_text(same: Same, number: int) -> None:
    text = body(0, string(b"%d" % number))
    assert same(text, body(0, b"\xc2" + struct.pack("<i", number))) is True
    assert same(text, body(0, b"\xc2" + struct.pack("<i", number ^ 1))) is False


@pytest.mark.parametrize("width", [2, 4, 8])
def test_integer_sets(same: Same, width: int) -> None:
    edge = 1 << (8 * width - 1)
    numbers = [-edge, -1, 0, 1, edge - 1]
    code = {2: "h", 4: "i", 8: "q"}[width]
    packed = body(11, string(struct.pack(f"<II5{code}", width, 5, *numbers)))
    assert same(packed, body(2, b"\x05", *(string(b"%d" % number) for number in numbers))) is True
    assert same(packed, body(2, b"\x05", *(string(b"%d" % (number ^ 2)) for number in numbers))) is False


def test_other_types_are_for_others(same: Same) -> None:
    plain = body(0, string(b"x"))
    for kind in set(range(28)) - TYPES:
        assert same(body(kind, string(b"x")), plain) is None
        assert same(plain, body(kind, string(b"x"))) is None
    assert same(b"", plain) is None
    assert same(plain, body(2, b"\x01", string(b"x"))) is False


@needs_both
@given(
    kind=st.sampled_from(sorted(TYPES)),
    content=st.binary(max_size=60)
    | MEMBERS.map(lambda members: string(listpack(members)))
    | MEMBERS.map(lambda members: length(len(members)) + b"".join(map(string, members))),
    at=st.integers(0, 200),
    value=st.integers(0, 255),
)
def test_what_is_broken_is_never_called_equal(kind: int, content: bytes, at: int, value: int) -> None:
    """One byte is changed, or nothing but bytes is there: the twins agree, or one leaves it to others."""
    changed = bytearray(content)
    if changed:
        changed[at % len(changed)] = value
    one, other = body(kind, content), body(kind, bytes(changed))
    for source, target in ((one, other), (other, one), (other, other)):
        pure, found = same_elements_pure(source, target), compiled(source, target)
        assert found == pure or pure is None or found is None
        if found:
            assert pure


@needs_both
def test_compressed_strings(flushed: Callable[..., Server]) -> None:
    """Cut at every byte, and with every byte changed: nothing is read that is not there."""
    server = flushed("redis-7.0")
    with server.session() as session:
        session.call("SET", "k", b"abcabcabcabc" * 12 + b"tail")
        payload = session.call("DUMP", "k")
    assert isinstance(payload, bytes)
    assert payload[1] == 0xC3
    plain = body(0, string(b"abcabcabcabc" * 12 + b"tail"))
    assert compiled(payload, plain) is True
    content = payload[1:-10]
    for at in range(len(content)):
        assert compiled(body(0, content[:at]), plain) is None
        broken = bytearray(content)
        broken[at] ^= 0x11
        other = body(0, bytes(broken))
        assert compiled(other, plain) == same_elements_pure(other, plain)
