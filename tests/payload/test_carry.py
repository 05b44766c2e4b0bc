"""What a carry does when all goes well, and that nothing but the whole value is ever seen when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from carrying import BUILDERS, KEY, Death, Ferry, commands_of, done, ferry_between, names_of
from looking import expiry_ms

from keyferry.model.values import HashValue, ListValue, ModuleValue, StringValue
from keyferry.payload.carry import carry_in_pieces, carry_value
from keyferry.payload.exchange import TORN, Carried, Carry, Conflict, Refused, Request, Vanished
from keyferry.payload.names import temporary_name
from keyferry.payload.reader import decode
from keyferry.payload.write_commands import Abilities
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

OLD = ("SET", KEY, "what was there before")
WAYS = ["pieces", "whole"]


@pytest.fixture
def ferry(server: Server, flushed: Callable[..., Server]) -> Iterator[Ferry]:
    """Between two servers of the same program."""
    made = ferry_between(server, flushed(server.binary.name, 1))
    yield made
    made.close()


@pytest.fixture
def old_ferry(flushed: Callable[..., Server]) -> Iterator[Ferry]:
    """From a server with field expiry and stream counters to one without."""
    made = ferry_between(flushed("redis-8.2"), flushed("redis-6.2"))
    yield made
    made.close()


def carry_of(ferry: Ferry, way: str, **changes: object) -> Carry:
    destination = ferry.destination(**changes)
    if way == "pieces":
        return carry_in_pieces(destination, ferry.source_identity)
    payload = ferry.source.call("DUMP", KEY)
    assert isinstance(payload, bytes)
    return carry_value(decode(payload, ferry.source_identity.family), destination)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_readers_see_the_old_value_or_the_whole_new_one(ferry: Ferry, kind: str, way: str) -> None:
    new = ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    old = ferry.on_target()
    seen: list[object] = []
    outcome = ferry.drive(carry_of(ferry, way), before=lambda index, request: seen.append(ferry.on_target()))
    assert isinstance(outcome, Carried)
    assert len(seen) > 3
    assert all(view == old for view in seen)
    assert ferry.on_target() == new
    assert not ferry.left_over()


DEATHS: dict[str, Callable[[int, Request], bool]] = {
    "at once": lambda index, request: index == 0,
    "when it has begun": lambda index, request: index == 3,
    "in the middle": lambda index, request: index == 7,
    "when it looks at what was built": lambda index, request: b"EXISTS" in names_of(request.target)[1:],
    "before it publishes": lambda index, request: b"RENAME" in names_of(request.target),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_a_carry_that_dies_leaves_the_old_value_and_is_repeated(ferry: Ferry, kind: str, way: str) -> None:
    new = ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    old = ferry.on_target()
    for when, dies in DEATHS.items():

        def die(index: int, request: Request, dies: Callable[[int, Request], bool] = dies) -> None:
            if dies(index, request):
                raise Death

        assert ferry.drive(carry_of(ferry, way), before=die) is None or when == "in the middle"
        if when != "in the middle":
            assert ferry.on_target() == old, when
        done(ferry.target, OLD)
    assert isinstance(ferry.drive(carry_of(ferry, way)), Carried)
    assert ferry.on_target() == new
    assert not ferry.left_over()


# --- Refusals of the target


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "hash", "stream"])
def test_out_of_memory_leaves_the_old_value_and_no_temporary_key(
    flushed: Callable[..., Server], start_server: Callable[..., Server], kind: str, way: str
) -> None:
    ferry = ferry_between(flushed("redis-7.0"), start_server("redis-7.0", maxmemory_policy="noeviction"))
    done(ferry.target, OLD)
    memory = ferry.target.call("INFO", "memory")
    assert isinstance(memory, bytes)
    used = int(memory.partition(b"used_memory:")[2].split()[0])
    done(ferry.target, ("CONFIG", "SET", "maxmemory", used + 2_500_000))
    old = ferry.on_target()
    ferry.build(*BUILDERS[kind])
    done(ferry.source, *_more(kind))
    outcome = ferry.drive(carry_of(ferry, way))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == ("OOM", "target")
    assert ferry.on_target() == old
    assert not ferry.left_over()
    ferry.close()


def _more(kind: str) -> list[tuple[str | bytes | int, ...]]:
    """Makes the value larger than 3 MB."""
    big = b"x" * 20_000
    commands: dict[str, list[tuple[str | bytes | int, ...]]] = {
        "string": [("APPEND", KEY, big)],
        "list": [("RPUSH", KEY, big)] * 200,
        "set": [("SADD", KEY, big + b"%d" % n) for n in range(200)],
        "zset": [("ZADD", KEY, n, big + b"%d" % n) for n in range(200)],
        "hash": [("HSET", KEY, b"big %d" % n, big) for n in range(200)],
        "stream": [("XADD", KEY, b"%d-1" % n, "field", big) for n in range(2000, 2200)],
    }
    return commands[kind]


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("hash", "-hset"),
        ("hash", "-multi"),
        ("hash", "-exec"),
        ("hash", "-rename"),
        ("hash", "-pexpireat"),
        ("stream", "-xclaim"),
        ("stream", "-xsetid"),
        ("stream", "-xtrim"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_missing_right_leaves_the_old_value(ferry: Ferry, kind: str, right: str, way: str) -> None:
    ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    old = ferry.on_target()
    done(ferry.target, ("ACL", "SETUSER", "mover", "on", ">word", "~*", "+@all", right))
    done(ferry.target, ("AUTH", "mover", "word"))
    outcome = ferry.drive(carry_of(ferry, way, expires_at_ms=4_102_444_800_123))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == ("NOPERM", "target")
    assert ferry.on_target() == old
    assert not ferry.left_over()


def test_a_missing_right_on_the_source_names_the_source(ferry: Ferry) -> None:
    ferry.build(*BUILDERS["hash"])
    done(ferry.target, OLD)
    old = ferry.on_target()
    done(ferry.source, ("ACL", "SETUSER", "mover", "on", ">word", "~*", "+@all", "-hscan"))
    done(ferry.source, ("AUTH", "mover", "word"))
    outcome = ferry.drive(carry_of(ferry, "pieces"))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == ("NOPERM", "source")
    assert ferry.on_target() == old
    assert not ferry.left_over()


@pytest.mark.parametrize("way", WAYS)
def test_an_evicted_temporary_key_costs_nothing(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["set"])
    done(ferry.target, OLD)
    old = ferry.on_target()

    def evict(index: int, request: Request) -> None:
        if names_of(request.target)[:1] == [b"SCARD"]:
            done(ferry.onlooker, ("DEL", temporary_name(KEY)))

    outcome = ferry.drive(carry_of(ferry, way), before=evict)
    assert isinstance(outcome, Refused)
    assert outcome.code == TORN
    assert ferry.on_target() == old


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["hash", "list"])
def test_a_temporary_key_that_is_taken_away_has_not_expired(ferry: Ferry, way: str, kind: str) -> None:
    """Also where it could have: the key expires one day."""
    ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    old = ferry.on_target()

    def evict(index: int, request: Request) -> None:
        if names_of(request.target)[:1] in ([b"HLEN"], [b"LLEN"]):
            done(ferry.onlooker, ("DEL", temporary_name(KEY)))

    outcome = ferry.drive(carry_of(ferry, way, expires_at_ms=4_102_444_800_123), before=evict)
    assert isinstance(outcome, Refused)
    assert outcome.code == TORN
    assert ferry.on_target() == old


def test_a_hash_that_lost_its_first_fields_on_the_way_is_not_published(ferry: Ferry) -> None:
    """No field of it expires, so none may be missing."""
    ferry.build(*BUILDERS["hash"])
    done(ferry.target, OLD)
    old = ferry.on_target()
    taken = 0

    def take(index: int, request: Request) -> None:
        nonlocal taken
        if names_of(request.target)[:1] == [b"HSET"]:
            taken += 1
            if taken == 3:
                done(ferry.onlooker, ("DEL", temporary_name(KEY)))

    outcome = ferry.drive(carry_of(ferry, "pieces"), before=take)
    assert taken > 3
    assert isinstance(outcome, Refused)
    assert outcome.code == TORN
    assert ferry.on_target() == old


@pytest.mark.parametrize("way", WAYS)
def test_a_member_that_got_lost_on_the_way_is_noticed(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["set"])
    done(ferry.target, OLD)
    old = ferry.on_target()

    def lose(index: int, request: Request) -> None:
        if names_of(request.target)[:1] == [b"SCARD"]:
            done(ferry.onlooker, ("SPOP", temporary_name(KEY)))

    assert ferry.drive(carry_of(ferry, way), before=lose) == Refused("2999 of 3000 elements arrived", TORN)
    assert ferry.on_target() == old
    assert not ferry.left_over()


@pytest.mark.parametrize("way", WAYS)
def test_a_string_longer_than_the_target_takes_names_the_parameter(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["string"])
    outcome = ferry.drive(carry_of(ferry, way, proto_max_bulk_bytes=5_000_000))
    assert isinstance(outcome, Refused)
    assert "proto-max-bulk-len" in outcome.reason
    assert "5120000" in outcome.reason
    assert ferry.on_target() is None
    assert not ferry.left_over()


def test_a_field_longer_than_the_target_takes_is_not_sent(ferry: Ferry) -> None:
    """The server would cut the connection."""
    ferry.build(("HSET", KEY, "short", "1", "long", b"x" * 2_000_001))
    outcome = ferry.drive(carry_of(ferry, "pieces", proto_max_bulk_bytes=2_000_000))
    assert isinstance(outcome, Refused)
    assert "proto-max-bulk-len" in outcome.reason
    assert ferry.target.call("PING") == b"PONG"
    assert not ferry.left_over()


def test_values_of_modules_are_refused(ferry: Ferry) -> None:
    done(ferry.target, OLD)
    outcome = ferry.drive(carry_value(ModuleValue("ReJSON-RL"), ferry.destination()))
    assert isinstance(outcome, Refused)
    assert "ReJSON-RL" in outcome.reason
    assert ferry.on_target() is not None


# --- A source that changes


CHANGES: dict[str, list[tuple[str | bytes | int, ...]]] = {
    "string": [("SETRANGE", KEY, 100, "changed")],
    "list": [("LPUSH", KEY, "changed")],
    "set": [("SADD", KEY, "changed")],
    "zset": [("ZADD", KEY, 7, "changed")],
    "hash": [("HSET", KEY, "changed", "yes")],
    "stream": [("XADD", KEY, "5000-1", "changed", "yes")],
}
GROUP_CHANGES: dict[str, list[tuple[str | bytes | int, ...]]] = {
    "acknowledged": [("XACK", KEY, "workers", "3-1")],
    "claimed": [("XCLAIM", KEY, "workers", "carol", 0, "200-1")],
    "read": [("XREADGROUP", "GROUP", "workers", "alice", "COUNT", 1, "STREAMS", KEY, ">")],
    "group made": [("XGROUP", "CREATE", KEY, "new", "0")],
    "position set": [("XGROUP", "SETID", KEY, "workers", "10-1")],
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [*CHANGES.items(), *((f"stream {what}", change) for what, change in GROUP_CHANGES.items())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_changes_while_it_is_read_is_read_again(
    ferry: Ferry, kind: str, change: list[tuple[str | bytes | int, ...]]
) -> None:
    ferry.build(*BUILDERS[kind.split(maxsplit=1)[0]])
    with_changes = _Meddler(ferry, change, times=1)
    outcome = ferry.drive(carry_of(ferry, "pieces"), before=with_changes)
    assert isinstance(outcome, Carried)
    assert with_changes.rounds == 2
    assert ferry.on_target() == ferry.on_source()
    assert not ferry.left_over()


@pytest.mark.parametrize("kind", CHANGES)
def test_a_value_that_never_rests_is_given_up(ferry: Ferry, kind: str) -> None:
    ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    old = ferry.on_target()
    meddler = _Meddler(ferry, [("PEXPIRE", KEY, 10_000_000)], times=1000)
    outcome = ferry.drive(carry_of(ferry, "pieces"), before=meddler)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == (TORN, "source")
    assert meddler.rounds == 3
    assert ferry.on_target() == old
    assert not ferry.left_over()
    # The connection holds no WATCH: the next carry on it is as good as the first.
    assert isinstance(ferry.drive(carry_of(ferry, "pieces")), Carried)


class _Meddler:
    """Changes the source's key once in each of the first ``times`` rounds, after some of it was read."""

    def __init__(self, ferry: Ferry, commands: list[tuple[str | bytes | int, ...]], times: int) -> None:
        self.commands = commands
        self.rounds = 0
        self._times = times
        self._reads = 0
        self._endpoint = ferry.source.endpoint

    def __call__(self, index: int, request: Request) -> None:
        names = names_of(request.source)
        self._reads += bool(names)
        if b"WATCH" in names:
            self.rounds += 1
            self._reads = 0
        if self._reads == 3 and self.rounds <= self._times and names:
            with Session(self._endpoint, "source") as other:
                done(other, *self.commands)


# --- Expiry, absence, conflict


@pytest.mark.parametrize("way", WAYS)
def test_the_expiry_arrives_to_the_millisecond(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["list"])
    outcome = ferry.drive(carry_of(ferry, way, expires_at_ms=4_102_444_800_123))
    assert isinstance(outcome, Carried)
    assert expiry_ms(ferry.onlooker, KEY) == 4_102_444_800_123


def test_the_expiry_is_read_with_the_value_when_the_clocks_difference_is_known(ferry: Ferry) -> None:
    done(ferry.source, *BUILDERS["list"], ("PEXPIREAT", KEY, 4_102_444_800_123))
    carry = carry_in_pieces(ferry.destination(), ferry.source_identity, clock_offset_ms=-1000)
    assert isinstance(ferry.drive(carry), Carried)
    # A server without PEXPIRETIME says how long, not until when.
    allowed_ms = 0 if Abilities.of(ferry.source_identity).expire_time else 5
    assert abs(expiry_ms(ferry.onlooker, KEY) - 4_102_444_799_123) <= allowed_ms


def test_a_key_for_ever_stays_for_ever_when_the_expiry_is_read_with_it(ferry: Ferry) -> None:
    ferry.build(*BUILDERS["list"])
    carry = carry_in_pieces(ferry.destination(), ferry.source_identity, clock_offset_ms=5)
    assert isinstance(ferry.drive(carry), Carried)
    assert expiry_ms(ferry.onlooker, KEY) == -1


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_expiry_in_the_past_brings_nothing_back(ferry: Ferry, way: str, replace: bool) -> None:
    ferry.build(*BUILDERS["list"])
    if replace:
        done(ferry.target, OLD)
    assert ferry.drive(carry_of(ferry, way, expires_at_ms=1000, replace=replace)) == Vanished()
    assert ferry.on_target() is None
    assert not ferry.left_over()


@pytest.mark.parametrize("replace", [True, False])
def test_a_key_that_is_gone_from_the_source_goes_from_the_target_when_it_may(
    ferry: Ferry, replace: bool
) -> None:
    if replace:
        done(ferry.target, OLD)
    assert ferry.drive(carry_of(ferry, "pieces", replace=replace)) == Vanished()
    assert ferry.on_target() is None


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_key_that_goes_while_it_is_read_is_gone(ferry: Ferry, kind: str) -> None:
    ferry.build(*BUILDERS[kind])
    done(ferry.target, OLD)
    meddler = _Meddler(ferry, [("DEL", KEY)], times=1)
    assert ferry.drive(carry_of(ferry, "pieces"), before=meddler) == Vanished()
    assert ferry.on_target() is None
    assert not ferry.left_over()


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_key_that_becomes_another_is_read_as_what_it_became(ferry: Ferry, kind: str) -> None:
    ferry.build(*BUILDERS[kind])
    other = BUILDERS["set" if kind == "list" else "list"]
    meddler = _Meddler(ferry, [("DEL", KEY), *other], times=1)
    assert isinstance(ferry.drive(carry_of(ferry, "pieces"), before=meddler), Carried)
    assert ferry.on_target() == ferry.on_source()
    assert not ferry.left_over()


def test_a_key_that_expires_while_it_is_read_is_gone(ferry: Ferry) -> None:
    done(ferry.source, *BUILDERS["list"], ("PEXPIRE", KEY, 100))
    done(ferry.target, OLD)
    carry = carry_in_pieces(ferry.destination(), ferry.source_identity, clock_offset_ms=0)
    assert ferry.drive(carry, before=lambda index, request: time.sleep(0.02)) == Vanished()
    assert ferry.on_target() is None
    assert not ferry.left_over()


def test_a_source_that_hides_its_counters_still_tells_field_expiries(ferry: Ferry) -> None:
    _fields(ferry)
    new = ferry.build(*BUILDERS["hash"], ("HPEXPIREAT", KEY, 4_102_444_800_123, "FIELDS", 2, 7, 8))
    done(ferry.source, ("ACL", "SETUSER", "mover", "on", ">word", "~*", "+@all", "-info"))
    done(ferry.source, ("AUTH", "mover", "word"))
    assert isinstance(ferry.drive(carry_of(ferry, "pieces")), Carried)
    assert ferry.on_target() == new


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_is_there_is_left_alone(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["hash"])
    done(ferry.target, OLD)
    old = ferry.on_target()
    assert ferry.drive(carry_of(ferry, way, replace=False)) == Conflict()
    assert ferry.on_target() == old
    assert not ferry.left_over()


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_comes_up_meanwhile_is_left_alone(ferry: Ferry, way: str) -> None:
    ferry.build(*BUILDERS["hash"])

    def come_up(index: int, request: Request) -> None:
        if names_of(request.target) == [b"RENAMENX"]:
            done(ferry.onlooker, OLD)

    assert ferry.drive(carry_of(ferry, way, replace=False), before=come_up) == Conflict()
    assert ferry.onlooker.call("GET", KEY) == OLD[2].encode()
    assert not ferry.left_over()


# --- Field expiry


def _fields(ferry: Ferry) -> None:
    if not Abilities.of(ferry.source_identity).field_expiry:
        pytest.skip("this server has no field expiry")


def test_fields_that_expired_already_stay_away(ferry: Ferry) -> None:
    _fields(ferry)
    value = HashValue([(b"a", b"1"), (b"b", b"2")], {b"a": 1000})
    assert isinstance(ferry.drive(carry_value(value, ferry.destination())), Carried)
    assert ferry.on_target() == (b"hash", ({b"b": b"2"}, {}))


def test_a_hash_whose_fields_all_expired_has_vanished(ferry: Ferry) -> None:
    _fields(ferry)
    done(ferry.target, OLD)
    value = HashValue([(b"a", b"1"), (b"b", b"2")], {b"a": 1000, b"b": 2000})
    assert ferry.drive(carry_value(value, ferry.destination())) == Vanished()
    assert ferry.on_target() is None


def test_fields_that_expire_while_they_are_read_do_no_harm(ferry: Ferry) -> None:
    """The server deletes them sooner or later; then WATCH tells, and the value is read again."""
    _fields(ferry)
    done(ferry.source, *BUILDERS["hash"], ("HPEXPIRE", KEY, 30, "FIELDS", 3, 1, 2, 3))
    outcome = ferry.drive(carry_of(ferry, "pieces"), before=lambda index, request: time.sleep(0.02))
    assert isinstance(outcome, Carried)
    time.sleep(0.05)
    assert ferry.onlooker.call("HMGET", KEY, 0, 1, 2, 3) == [b"value 0", None, None, None]
    assert ferry.onlooker.call("HSTRLEN", KEY, 1999) == len(b"value 1999")


@pytest.mark.parametrize("way", WAYS)
def test_field_expiry_fails_the_key_unless_it_may_be_dropped(old_ferry: Ferry, way: str) -> None:
    done(old_ferry.source, *BUILDERS["hash"], ("HPEXPIREAT", KEY, 4_102_444_800_123, "FIELDS", 1, 7))
    done(old_ferry.target, OLD)
    outcome = old_ferry.drive(carry_of(old_ferry, way))
    assert isinstance(outcome, Refused)
    assert outcome.code == "field_expiry"
    assert old_ferry.onlooker.call("GET", KEY) == OLD[2].encode()
    assert not old_ferry.left_over()

    outcome = old_ferry.drive(carry_of(old_ferry, way, drop_field_expiry=True))
    assert isinstance(outcome, Carried)
    assert outcome.notes == ("field_expiry",)
    assert old_ferry.onlooker.call("HLEN", KEY) == 2000


def test_fields_that_expired_do_not_live_on_without_their_expiry(old_ferry: Ferry) -> None:
    value = HashValue([(b"a", b"1"), (b"b", b"2")], {b"a": 1000, b"b": 4_102_444_800_123})
    carry = carry_value(value, old_ferry.destination(drop_field_expiry=True))
    assert isinstance(old_ferry.drive(carry), Carried)
    assert old_ferry.on_target() == (b"hash", ({b"b": b"2"}, {}))


# --- Bounds and accounts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_requests_are_bounded(ferry: Ferry, kind: str, way: str) -> None:
    ferry.build(*BUILDERS[kind])
    sizes: list[int] = []

    def measure(index: int, request: Request) -> None:
        assert sum(map(len, commands_of(request.target))) <= 2048 + 500 * 2 + 2
        sizes.append(len(request.target))

    outcome = ferry.drive(carry_of(ferry, way), before=measure)
    assert isinstance(outcome, Carried)
    assert max(sizes) <= (8 << 20) if kind == "string" else (256 << 10) + 200
    assert outcome.bytes > 2000


@pytest.mark.parametrize("value", [StringValue(b""), ListValue([b""])], ids=["string", "list"])
def test_empty_strings_are_values(ferry: Ferry, value: StringValue | ListValue) -> None:
    assert isinstance(ferry.drive(carry_value(value, ferry.destination())), Carried)
    assert ferry.on_target() in ((b"string", b""), (b"list", [b""]))
