"""Second legs as values: scripts and locks, old mirrors, modules, and whatever shape a reply has."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from command_lines import WRITES, lines
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.lock import Lock
from second_legs import prove

from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import all_commands, look_up, other_database
from keyferry.model.lock_scripts import SCRIPTS, LockScript, lock_script
from keyferry.model.rewriting import RULES, second_leg
from keyferry.model.second import NOTHING, UNTOLD, Second
from keyferry.testing.servers import HOST, Server

NOW_MS = 1_000_000


def second(*args: Any, reply: Any, **options: Any) -> Second:
    info = look_up(args)
    assert info is not None
    return second_leg(info, args, reply, now_ms=NOW_MS, **options)


def commands(*args: Any, reply: Any, **options: Any) -> list[tuple[Any, ...]]:
    made = second(*args, reply=reply, **options)
    assert not made.reported and not made.everything_unknown
    return list(made.commands)


def test_every_rewritten_command_has_a_rule() -> None:
    assert RULES.keys() == {info.name for info in all_commands() if info.treatment is Treatment.REWRITE}


def test_what_repeats_is_not_copied() -> None:
    args = ("INCR", "k")
    made = second(*args, reply=7)
    assert made == Second((args,), expected=(7,))


@pytest.mark.parametrize(
    ("args", "reply"),
    [
        (("GET", "k"), b"v"),
        (("EVAL_RO", "code", 1, "k"), 1),
        (("CLIENT", "INFO"), b""),
        (("PUBLISH", "c", "m"), 1),
        (("WATCH", "k"), b"OK"),
        (("SORT", "k"), []),
        (("XADD", "k", "NOMKSTREAM", "*", "f", "v"), None),
    ],
)
def test_nothing_follows(args: tuple[Any, ...], reply: Any) -> None:
    assert second(*args, reply=reply) == NOTHING


@pytest.mark.parametrize(
    "args", [("FLUSHALL",), ("SCRIPT LOAD", "x"), ("FUNCTION", "DELETE", "l"), ("SWAPDB", 0, 1)]
)
def test_both_sides_get_what_has_no_keys(args: tuple[Any, ...]) -> None:
    assert commands(*args, reply=b"OK") == [args]


def test_scripts() -> None:
    assert second("EVAL", "code", 2, "a", "b", 1, reply=1) == Second(reported=("a", "b"))
    assert second("FCALL", "f", 1, "a", reply=None) == Second(reported=("a",))
    assert second("EVALSHA", "0" * 40, 0, reply=1) == Second(everything_unknown=True)
    again = ("EVALSHA", "0" * 40, 1, "a")
    assert second(*again, reply=1, mirror_scripts=True) == Second((again,), expected=(UNTOLD,))
    assert second("MIGRATE", "h", 1, "a", 0, 1, reply=b"OK", mirror_scripts=True) == Second(reported=("a",))


def test_the_scripts_of_the_installed_redis_py_are_known() -> None:
    texts = {
        LockScript.RELEASE: Lock.LUA_RELEASE_SCRIPT,
        LockScript.EXTEND: Lock.LUA_EXTEND_SCRIPT,
        LockScript.REACQUIRE: Lock.LUA_REACQUIRE_SCRIPT,
    }
    for script, text in texts.items():
        sha = hashlib.sha1(text.encode()).hexdigest()
        assert SCRIPTS[sha.encode()] is script
        assert lock_script(text) is lock_script(sha) is lock_script(sha.upper().encode()) is script
    assert lock_script("return KEYS[1]") is None
    assert lock_script("") is None


def test_locks(server: Server, flushed: Any) -> None:
    """What becomes of a lock on one server becomes of it on the other."""
    mirror_server = flushed(server.binary.name, 1)
    with Redis(host=HOST, port=server.port) as source, Redis(host=HOST, port=mirror_server.port) as mirror:

        def follow(*args: Any, reply: Any) -> Second:
            info = look_up(args)
            assert info is not None
            made = second_leg(info, args, reply, now_ms=int(time.time() * 1_000))
            for command in made.commands:
                mirror.execute_command(*command)
            return made

        lock = source.lock("lock", timeout=1_000)
        lock.acquire(token="mine")
        follow("SET", "lock", "mine", "NX", "PX", 1_000_000, reply=b"OK")
        for script, rest, pttl in (
            (lock.lua_reacquire, (b"mine", 500_000), 500_000),
            (lock.lua_extend, (b"mine", 2_000_000, "1"), 2_000_000),
        ):
            script(keys=["lock"], args=rest, client=source)
            follow("EVALSHA", script.sha, 1, "lock", *rest, reply=1)
            assert abs(mirror.pttl("lock") - pttl) < 5_000
            assert abs(source.pttl("lock") - pttl) < 5_000
        added = follow("EVALSHA", lock.lua_extend.sha, 1, "lock", b"mine", 1_000, "0", reply=1)
        assert added == Second(reported=("lock",))
        assert follow("EVALSHA", lock.lua_release.sha, 1, "lock", b"other", reply=0) == NOTHING
        assert mirror.get("lock") == b"mine"
        follow("EVAL", Lock.LUA_RELEASE_SCRIPT, 1, "lock", b"mine", reply=1)
        assert mirror.get("lock") is None


def test_relative_becomes_absolute() -> None:
    assert commands("SETEX", "k", 10, "v", reply=b"OK") == [("SET", "k", "v", "PXAT", NOW_MS + 10_000)]
    assert commands("SET", "k", "v", b"px", b"10", reply="OK") == [("SET", "k", "v", "PXAT", NOW_MS + 10)]
    assert commands("EXPIRE", "k", 10, "NX", reply=1) == [("PEXPIREAT", "k", NOW_MS + 10_000)]
    assert commands("GETEX", "k", "PX", 10, reply="v") == [("PEXPIREAT", "k", NOW_MS + 10)]
    assert commands("EXPIREAT", "k", 999, reply=1) == [("DEL", "k")]


def test_a_mirror_before_6_2_gets_relative_expiry(server: Server, flushed: Any) -> None:
    """It knows neither PXAT nor, with our RESTORE, ABSTTL; the newer servers understand what it is sent as well."""
    chosen = [line for line in lines(WRITES) if line[0] in {"SET", "SETEX", "PSETEX", "RESTORE", "MSETEX"}]
    able = prove(server, flushed(server.binary.name, 1), chosen, absolute_expiry=False)
    sent = [command for case in able if case.second for command in case.second.commands]
    assert any("PX" in command for command in sent)
    assert not [command for command in sent if {"PXAT", "ABSTTL"} & set(command)]


def test_other_databases() -> None:
    def other(*args: Any) -> int | None:
        info = look_up(args)
        assert info is not None
        return other_database(info, args)

    assert other("MOVE", "k", "3") == 3
    assert other("COPY", "a", "b", "REPLACE", "db", 2) == 2
    assert other("COPY", "DB", "b") is None
    assert other("SET", "a", "DB", "2") is None


AT_MS = NOW_MS + 10_000
EXACTLY: list[tuple[str, Any, list[str]]] = [
    ("SET k v NX", b"OK", ["SET k v"]),
    ("SET k v NX", None, []),
    ("SET k v NX GET", None, ["SET k v"]),
    ("SET k v XX GET KEEPTTL", b"", ["SET k v KEEPTTL"]),
    ("SET k v IFEQ 7 GET", b"8", []),
    ("PSETEX k 10000 v", b"OK", [f"SET k v PXAT {AT_MS}"]),
    ("SETNX k v", 1, ["SET k v"]),
    ("SETNX k v", 0, []),
    ("MSETNX a 1 b 2", 1, ["MSET a 1 b 2"]),
    ("MSETEX 2 a 1 b 2 NX", 1, ["MSET a 1 b 2"]),
    ("MSETEX 2 a 1 b 2 XX EX 10", 1, [f"SET a 1 PXAT {AT_MS}", f"SET b 2 PXAT {AT_MS}"]),
    ("GETSET k v", None, ["SET k v"]),
    ("GETDEL k", "", ["DEL k"]),
    ("DELIFEQ k v", 1, ["DEL k"]),
    ("GETEX k EX 10", "v", [f"PEXPIREAT k {AT_MS}"]),
    ("GETEX k", "v", []),
    ("INCRBYFLOAT k 0.1", "1.1", ["SET k 1.1 KEEPTTL"]),
    ("PEXPIRE k 10000 GT", 1, [f"PEXPIREAT k {AT_MS}"]),
    ("PEXPIREAT k 5 LT", 1, ["DEL k"]),
    ("COPY a b", 1, ["COPY a b REPLACE"]),
    ("COPY a b", 0, []),
    ("RENAMENX a b", 1, ["RENAME a b"]),
    ("RESTORE k 10000 payload", "OK", [f"RESTORE k {AT_MS} payload REPLACE ABSTTL"]),
    ("RESTORE k 0 payload FREQ 3", "OK", ["RESTORE k 0 payload REPLACE FREQ 3"]),
    ("RPUSHX k v", 2, ["RPUSH k v"]),
    ("RPUSHX k v", 0, []),
    ("LPOP k 5", ["a", "b"], ["LPOP k 2"]),
    ("BRPOP a b 0", ["b", "x"], ["RPOP b"]),
    ("BRPOP a b 1", None, []),
    ("BLMPOP 0 2 a b RIGHT COUNT 9", ["b", ["x", "y"]], ["RPOP b 2"]),
    ("LMPOP 2 a b LEFT", ["b", ["x"]], ["LPOP b"]),
    ("BLMOVE a b LEFT RIGHT 0", "x", ["LMOVE a b LEFT RIGHT"]),
    ("BRPOPLPUSH a b 0", "x", ["RPOPLPUSH a b"]),
    ("SPOP k", "x", ["SREM k x"]),
    ("SPOP k 9", ["x", "y"], ["SREM k x y"]),
    ("ZPOPMIN k 2", ["x", "1", "y", "2"], ["ZREM k x y"]),
    ("ZPOPMAX k 2", [["x", 1.0], ["y", 2.0]], ["ZREM k x y"]),
    ("BZPOPMAX a b 0", ["b", "x", "1"], ["ZREM b x"]),
    ("BZMPOP 0 2 a b MIN", ["b", [["x", "1"]]], ["ZREM b x"]),
    ("ZMPOP 1 a MAX", None, []),
    ("ZADD k NX 1 a 2 b", 2, ["ZADD k 1 a 2 b"]),
    ("ZADD k NX 1 a 2 b", 1, ["ZADD k NX 1 a 2 b"]),
    ("ZADD k XX 1 a", 0, ["ZADD k XX 1 a"]),
    ("ZADD k GT CH 1 a", 1, ["ZADD k CH 1 a"]),
    ("ZADD k XX INCR 1 a", "3.5", ["ZADD k 3.5 a"]),
    ("GEOADD k NX 1 2 a", 1, ["GEOADD k 1 2 a"]),
    ("HSETNX k f v", 1, ["HSET k f v"]),
    ("HEXPIRE k 10 FIELDS 3 a b c", [1, 0, 2], [f"HPEXPIREAT k {AT_MS} FIELDS 1 a", "HDEL k c"]),
    ("HGETEX k EX 10 FIELDS 2 a b", [None, "v"], [f"HPEXPIREAT k {AT_MS} FIELDS 1 b"]),
    ("HGETEX k PERSIST FIELDS 2 a b", [None, "v"], ["HPERSIST k FIELDS 1 b"]),
    ("HGETDEL k FIELDS 2 a b", [None, "v"], ["HDEL k b"]),
    ("HSETEX k FNX EX 10 FIELDS 1 a v", 1, [f"HSETEX k PXAT {AT_MS} FIELDS 1 a v"]),
    ("HSETEX k FXX FIELDS 1 a v", 0, []),
    ("XADD k NOMKSTREAM MAXLEN = 5 * f v", "7-1", ["XADD k MAXLEN = 5 7-1 f v"]),
    ("XADD k 7-* f v", "7-1", ["XADD k 7-1 f v"]),
]


@pytest.mark.parametrize(
    ("line", "reply", "expected"), EXACTLY, ids=[f"{row[0]}: {row[1]}" for row in EXACTLY]
)
def test_what_follows_exactly(line: str, reply: Any, expected: list[str]) -> None:
    made = commands(*line.split(), reply=reply)
    assert [" ".join(map(str, command)) for command in made] == expected


def test_modules() -> None:
    assert commands("TS.ADD", "k", "*", 1, "LABELS", "a", "b", reply=5) == [
        ("TS.ADD", "k", 5, 1, "LABELS", "a", "b")
    ]
    errors = [5, ValueError("refused"), 6]
    assert commands("TS.MADD", "a", "*", 1, "b", "*", 2, "c", 6, 3, reply=errors) == [
        ("TS.MADD", "a", 5, 1, "c", 6, 3)
    ]
    assert commands("TS.INCRBY", "k", 2, reply=5) == [("TS.INCRBY", "k", 2, "TIMESTAMP", 5)]
    assert commands("TS.DECRBY", "k", 2, "timestamp", "*", "UNCOMPRESSED", reply=5) == [
        ("TS.DECRBY", "k", 2, "timestamp", 5, "UNCOMPRESSED")
    ]
    assert commands("JSON.SET", "k", "$", "{}", "NX", reply=b"OK") == [("JSON.SET", "k", "$", "{}")]
    assert commands("JSON.SET", "k", "$", '"NX"', "XX", reply=None) == []


def test_newer_options() -> None:
    assert commands("SET", "k", "v", "IFNE", 7, "GET", reply=b"7") == []
    assert commands("SET", "k", "v", "IFNE", 7, "GET", reply=b"8") == [("SET", "k", "v")]
    assert commands("SET", "k", "v", "IFDEQ", "abc", reply=None) == []
    assert second("SET", "k", "v", "IFDEQ", "abc", "GET", reply=b"8") == Second(reported=("k",))
    assert second("XADD", "k", "IDMP", "p", "i", "*", "f", "v", reply=b"1-1") == Second(reported=("k",))
    assert commands("DELEX", "k", "IFEQ", "v", reply=1) == [("DEL", "k")]


REPLIES = st.recursive(
    st.one_of(
        st.none(), st.integers(-2, 3), st.floats(), st.binary(max_size=3), st.text(max_size=3), st.booleans()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.binary(max_size=2), inner, max_size=3),
        st.frozensets(st.text()),
    ),
    max_leaves=8,
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "NX",
            "XX",
            "GET",
            "EX",
            "PX",
            "FIELDS",
            "STORE",
            "KEEPTTL",
            "~",
            "*",
            "=",
            "MAXLEN",
            "COUNT",
            "LEFT",
            "STREAMS",
            ">",
            "1",
            "2",
            "INCR",
            "IFEQ",
        ]
    ),
    st.integers(-3, 2**70),
    st.binary(max_size=4),
    st.floats(),
    st.none(),
)


@given(st.sampled_from([info.name for info in all_commands()]), st.lists(WORDS, max_size=8), REPLIES)
def test_no_shape_of_arguments_or_reply_breaks_the_application(
    name: str, rest: list[Any], reply: Any
) -> None:
    args = (*name.split(), *rest)
    info = look_up(args)
    assert info is not None
    made = second_leg(info, args, reply, now_ms=NOW_MS)
    assert isinstance(made, Second)
    assert len(made.commands) == len(made.expected)
