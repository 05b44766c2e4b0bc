"""What the plan claims is true: on every ordered pair of servers, with every encoding of every type.

Values are compared as plain commands show them (``looking``), and, as a second opinion, as the decoder reads
them on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from looking import looked, without_counters

from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.methods import Method
from keyferry.model.values import HashValue, StreamValue
from keyferry.payload import encode as primitives
from keyferry.payload import footer
from keyferry.payload.equal import payloads_equal, same_value
from keyferry.payload.errors import PayloadError, PayloadRefused
from keyferry.payload.plan import PayloadPlan
from keyferry.payload.reader import decode, decode_body
from keyferry.payload.writer import encode
from keyferry.testing.cases import FAR_MS, Case, build, cases_for
from keyferry.testing.servers import Server
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

VERSION_REFUSED = "DUMP payload version or checksum are wrong"


def dump(session: Session, key: bytes) -> bytes:
    payload = session.call("DUMP", key)
    assert isinstance(payload, bytes)
    return payload


def identity(server: Server) -> ServerIdentity:
    """As a probe finds it: the RDB version is that of a payload."""
    with server.session() as session:
        assert session.call("SET", "probe", "x") == b"OK"
        rdb_version = footer.rdb_version(dump(session, b"probe"))
        session.call("DEL", "probe")
    return ServerIdentity(server.binary.family, server.binary.version, rdb_version)


def dumped(server: Server) -> list[tuple[Case, bytes]]:
    cases = cases_for(server.binary.version, server.binary.family)
    with server.session() as session:
        build(session, cases)
        return [(case, dump(session, case.key)) for case in cases]


def sent(plan: PayloadPlan, payload: bytes) -> tuple[bytes, tuple[str, ...]] | None:
    """What the plan makes of a payload for RESTORE; None where another way is needed."""
    match Method(plan.actions[payload[0]]):
        case Method.RESTORE:
            return payload, ()
        case Method.RESIGNED:
            return footer.resign(payload, plan.target_version), ()
        case Method.TRANSCODED:
            try:
                converted = plan.convert(payload)
            except PayloadRefused as refused:
                assert refused.reason == plan.reason(payload[0])
                return None
            return converted.payload, converted.notes
    return None


def test_every_value_arrives_by_the_plans_way(server_pair: tuple[Server, Server]) -> None:
    source_server, target_server = server_pair
    source_identity, target_identity = identity(source_server), identity(target_server)
    plan = PayloadPlan(source_identity, target_identity)
    cases = dumped(source_server)
    carried = 0
    with source_server.session() as source, target_server.session(side="target") as target:
        for case, payload in cases:
            prepared = sent(plan, payload)
            if prepared is None:
                assert case.field_expiry or plan.actions[payload[0]] == Method.LOGICAL, case.name
                continue
            carried += 1
            assert target.call("RESTORE", case.key, 0, prepared[0]) == b"OK", case.name
            expected = looked(source, source_identity, case.key)
            found = looked(target, target_identity, case.key)
            if min(source_identity.rdb_version, target_identity.rdb_version) < 10:
                expected, found = without_counters(expected), without_counters(found)
            assert found == expected, case.name
            back = dump(target, case.key)
            assert payloads_equal(payload, source_identity.family, back, target_identity.family), case.name
            values = decode(payload, source_identity.family), decode(back, target_identity.family)
            assert same_value(*values, consumer_times=True), case.name
            assert prepared[1] == plan.notes_for(values[0]), case.name
    assert carried > 250


def test_no_better_way_was_left_out(server_pair: tuple[Server, Server]) -> None:
    """What the plan does not send as it is, or not re-signed, the target refuses, and keeps what it had."""
    source_server, target_server = server_pair
    plan = PayloadPlan(identity(source_server), identity(target_server))
    seen: dict[int, bytes] = {}
    for _, payload in dumped(source_server):
        seen.setdefault(payload[0], payload)
    with target_server.session(side="target") as target:
        for type_byte, payload in seen.items():
            action = Method(plan.actions[type_byte])
            target.call("SET", "k", "old")
            if action != Method.RESTORE:
                reply = target.call("RESTORE", "k", 0, payload, "REPLACE")
                assert isinstance(reply, ReplyError), (type_byte, action)
            if action not in (Method.RESTORE, Method.RESIGNED):
                reply = target.call("RESTORE", "k", 0, footer.resign(payload, plan.target_version), "REPLACE")
                assert isinstance(reply, ReplyError), (type_byte, action)
                assert VERSION_REFUSED not in reply.message, (type_byte, action)
                assert target.call("GET", "k") == b"old"


def test_impossible_types_have_a_reason_and_only_they(server_pair: tuple[Server, Server]) -> None:
    plan = PayloadPlan(identity(server_pair[0]), identity(server_pair[1]))
    for type_byte in range(256):
        match Method(plan.actions[type_byte]):
            case Method.IMPOSSIBLE:
                assert "Use a" in plan.reason(type_byte)
            case Method.RESTORE | Method.RESIGNED | Method.LOGICAL:
                assert plan.reason(type_byte) == ""


def test_field_expiries_are_dropped_when_the_user_says_so(server_pair: tuple[Server, Server]) -> None:
    source_server, target_server = server_pair
    source_identity, target_identity = identity(source_server), identity(target_server)
    plan = PayloadPlan(source_identity, target_identity, drop_field_expiry=True)
    gone_ms = FAR_MS + 1
    later = PayloadPlan(source_identity, target_identity, drop_field_expiry=True, clock_ms=lambda: gone_ms)
    for case, payload in dumped(source_server):
        if not case.field_expiry:
            continue
        whole = decode(payload, source_identity.family)
        assert isinstance(whole, HashValue)
        assert whole.expiries
        if plan.actions[payload[0]] != Method.TRANSCODED:
            assert target_identity.version >= (7, 4, 0)
            continue
        assert plan.reason(payload[0]) == ""
        with target_server.session(side="target") as target:
            converted = plan.convert(payload)
            assert converted.notes == ("field_expiry",)
            assert target.call("RESTORE", "k", 0, converted.payload, "REPLACE") == b"OK"
            kept = decode(dump(target, b"k"), target_identity.family)
            assert same_value(kept, HashValue(whole.fields)), case.name
        left = [pair for pair in whole.fields if whole.expiries.get(pair[0], gone_ms + 1) > gone_ms]
        if left:
            kept = decode(later.convert(payload).payload, target_identity.family)
            assert same_value(kept, HashValue(left)), case.name
        else:
            with pytest.raises(PayloadRefused, match="Every field of the hash has expired"):
                later.convert(payload)


def test_a_hash_whose_expiries_were_taken_away_goes_anywhere(server_pair: tuple[Server, Server]) -> None:
    source_server, target_server = server_pair
    source_identity, target_identity = identity(source_server), identity(target_server)
    plan = PayloadPlan(source_identity, target_identity)
    for case, payload in dumped(source_server):
        if case.name == "hash:field expiry taken away" and plan.actions[payload[0]] != Method.LOGICAL:
            assert sent(plan, payload) is not None


# --- Encodings that no server at hand writes: built here, loaded there


def _ziplist_of(session: Session) -> bytes:
    """A ziplist from a server before 7.0: the only node of a list."""
    session.call("RPUSH", "list", "a", "1", "-5000", "some text", "70000")
    body = footer.check(dump(session, b"list"))
    assert body[:2] == b"\x0e\x01"
    return body[2:]


def _loaded(session: Session, body: bytes) -> None:
    assert session.call("RESTORE", "old", 0, footer.sign(body, 6), "REPLACE") == b"OK"
    key = dump(session, b"old")
    assert payloads_equal(footer.sign(body, 6), Family.REDIS, key, Family.REDIS)


def test_the_encodings_of_old_servers_mean_what_we_read(server: Server) -> None:
    zipmap = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world\x00\x00\xff"
    with server.session() as session:
        _loaded(session, b"\x09" + primitives.string(zipmap))
        assert session.call("HGET", "old", "hello") == b"world"
        assert session.call("HGET", "old", "foo") == b"bar"
        _loaded(session, b"\x03\x04\x01a\xfe\x01b\xff\x01c\x030.5\x01d\x17-1.0000000000000000e-30")
        assert session.call("ZRANGE", "old", 0, -1) == [b"b", b"d", b"c", b"a"]
        _loaded(session, b"\x01\x02\x01a\xc0\xf6")
        assert session.call("LRANGE", "old", 0, -1) == [b"a", b"-10"]


def test_a_list_of_one_ziplist(flushed: Callable[..., Server]) -> None:
    writer, reader = flushed("redis-6.2"), flushed("redis-7.0")
    with writer.session() as old, reader.session() as new:
        body = b"\x0a" + _ziplist_of(old)
        for session in (old, new):
            _loaded(session, body)
            assert session.call("LRANGE", "old", 0, -1) == [b"a", b"1", b"-5000", b"some text", b"70000"]


def test_the_field_expiries_of_release_candidates(flushed: Callable[..., Server]) -> None:
    """Redis 7.4 RC: as 24 and 25 without the first expiry in front, and so with plain expiries."""
    name, number = primitives.listpack_string, primitives.listpack_int
    items = [name(b"a"), number(1), number(FAR_MS), name(b"b"), number(2), number(0)]
    listpack = primitives.listpack_of(items)
    table = b"\x02" + primitives.length(FAR_MS) + b"\x01a\x011" + b"\x00\x01b\x012"
    with flushed("redis-8.2").session() as session:
        for body in (b"\x16" + table, b"\x17" + primitives.string(listpack)):
            assert session.call("RESTORE", "old", 0, footer.sign(body, 12), "REPLACE") == b"OK"
            assert session.call("HPEXPIRETIME", "old", "FIELDS", 2, "a", "b") == [FAR_MS, -1]
            value = decode_body(body, Family.REDIS)
            assert value == HashValue([(b"a", b"1"), (b"b", b"2")], {b"a": FAR_MS})


@pytest.mark.parametrize("rdb_version", [6, 7, 8])
def test_what_is_transcoded_for_servers_before_5_loads(
    flushed: Callable[..., Server], rdb_version: int
) -> None:
    """No such server is at hand; Redis 6.2 still loads all that they do."""
    source, target = flushed("redis-8.2"), flushed("redis-6.2")
    old = ServerIdentity(Family.REDIS, (2 + rdb_version // 8 * 2, 8, 0), rdb_version)
    plan = PayloadPlan(identity(source), old)
    with target.session() as session:
        for case, payload in dumped(source):
            if case.type == "stream":
                assert plan.actions[payload[0]] == Method.IMPOSSIBLE
                assert "has no streams" in plan.reason(payload[0])
                continue
            prepared = sent(plan, payload)
            if prepared is None:
                assert case.field_expiry
                continue
            assert footer.rdb_version(prepared[0]) == rdb_version
            assert prepared[0][0] in ({0, 1, 2, 3, 4, 11} if rdb_version < 8 else {0, 1, 2, 4, 5, 11})
            assert session.call("RESTORE", "k", 0, prepared[0], "REPLACE") == b"OK", case.name
            assert payloads_equal(payload, Family.REDIS, dump(session, b"k"), Family.REDIS), case.name


@pytest.mark.parametrize("target_name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"])
def test_what_is_sent_passes_a_target_that_sanitizes(
    flushed: Callable[..., Server], start_server: Callable[..., Server], target_name: str
) -> None:
    source = flushed("redis-8.2")
    target = start_server(target_name, sanitize_dump_payload="yes")
    plan = PayloadPlan(identity(source), identity(target))
    with target.session(side="target") as session:
        for case, payload in dumped(source):
            prepared = sent(plan, payload)
            if prepared is not None:
                assert session.call("RESTORE", case.key, 0, prepared[0]) == b"OK", case.name


# --- Modules


def test_a_module_value_goes_where_its_module_is(flushed: Callable[..., Server]) -> None:
    source = flushed("redis-8.2")
    here = identity(source)
    with source.session() as session:
        assert session.call("VADD", "v", "VALUES", 2, "0.1", "0.2", "a") == 1
        payload = dump(session, b"v")
        with_module = PayloadPlan(here, here, target_modules=frozenset({"vectorset"}))
        assert with_module.type_name(payload[0]) == "module"
        assert with_module.module_name(payload) == "vectorset"
        converted = with_module.convert(payload)
        assert converted.method == Method.RESTORE
        assert session.call("RESTORE", "copy", 0, converted.payload) == b"OK"
        assert session.call("VCARD", "copy") == 1
    without = PayloadPlan(
        here, ServerIdentity(Family.VALKEY, (9, 1, 2), 80), target_modules=frozenset({"lua"})
    )
    assert "module" in without.reason(payload[0])
    with pytest.raises(
        PayloadRefused, match=r"module type vectorset, which the target \(Valkey 9\.1\.2\) does not"
    ):
        without.convert(payload)
    elsewhere = PayloadPlan(
        here, ServerIdentity(Family.REDIS, (7, 2, 0), 11), target_modules=frozenset({"vectorset"})
    )
    resigned = elsewhere.convert(payload)
    assert resigned.method == Method.RESIGNED
    assert resigned.payload == footer.resign(payload, 11)


# --- Written anew, and damaged


def test_what_the_writer_writes_every_server_loads(server: Server) -> None:
    here = identity(server)
    types = {"string": [0], "list": [1], "set": [2], "zset": [3, 5], "hash": [4], "stream": [15]}
    types["stream"] += [19] * (here.rdb_version >= 10) + [21] * (here.rdb_version >= 11)
    with server.session() as session:
        for case, payload in dumped(server):
            if case.field_expiry:
                continue
            value = decode(payload, here.family)
            for type_byte in types[case.type]:
                version = min(here.rdb_version, 11)
                written = footer.sign(encode(value, type_byte), version)
                assert session.call("RESTORE", "k", 0, written, "REPLACE") == b"OK", (case.name, type_byte)
                back = decode(dump(session, b"k"), here.family)
                if type_byte == 15 and isinstance(back, StreamValue):
                    back.entries_added = back.max_deleted_id = None
                assert same_value(value, back), (case.name, type_byte)
                found = looked(session, here, b"k")
                expected = looked(session, here, case.key)
                if type_byte == 15:
                    found, expected = without_counters(found), without_counters(expected)
                assert found == expected, (case.name, type_byte)


def test_damaged_payloads_are_a_value_or_a_payload_error(server: Server) -> None:
    """Every truncation and random flips, with the checksum made right again, so that the reader meets them."""
    family = server.binary.family
    rng = random.Random(7)
    longest: dict[tuple[int, str], bytes] = {}
    for case, payload in dumped(server):
        name = (payload[0], case.name.partition(" ")[0])
        if len(payload) < 2_000 and len(payload) > len(longest.get(name, b"")):
            longest[name] = payload
    assert len(longest) > 15
    for payload in longest.values():
        body = payload[:-10]
        for end in rng.sample(range(len(body)), min(len(body), 150)):
            with pytest.raises(PayloadError):
                decode(footer.sign(body[:end], 9), family)
        for _ in range(150):
            damaged = bytearray(body)
            for _ in range(rng.choice((1, 1, 2, 5))):
                damaged[rng.randrange(1, len(body))] = rng.randrange(256)
            try:
                decode(footer.sign(bytes(damaged), 9), family)
            except PayloadError as error:
                assert str(error)
