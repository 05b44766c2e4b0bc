"""Elements that look like the protocol itself, elements of every size, values that their server keeps as one block."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from carrying import KEY, Ferry, commands_of, done, ferry_between
from looking import looked, without_counters, without_negative_zero

from keyferry.payload.carry import carry_in_pieces
from keyferry.payload.exchange import Carried, Refused, Request, Vanished
from keyferry.payload.read_pieces import STRING_PIECE_BYTES as PIECE
from keyferry.payload.read_pieces import STRING_WHOLE_BYTES_MAX as WHOLE
from keyferry.payload.write_commands import COMMAND_BYTES_MAX, Command
from keyferry.testing.servers import Server

ODD = [
    b"",
    b"\r\n",
    b"\n",
    b"$5\r\nhello\r\n",
    b"*2\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"_\r\n",
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 3,
    *(bytes((byte,)) for byte in range(256)),
    b"-9223372036854775808",
    b"18446744073709551615",
    b"007",
]
LONG = [bytes((first,)) + b"\r\n$1\r\n" * length for first in range(3) for length in (9, 3_000, 40_000)]
ELEMENTS = [*ODD, *LONG, *(b"%d" % number for number in range(900)), b"\x00" * (COMMAND_BYTES_MAX + 1)]
"""All different; some thousand bytes and many of them, and one that is larger than a command should be."""


def builders(elements: list[bytes]) -> dict[str, list[Command]]:
    mirrored = list(reversed(elements))
    return {
        "list": [("RPUSH", KEY, *elements)],
        "set": [("SADD", KEY, *elements)],
        "zset": [("ZADD", KEY, *(p for n, e in enumerate(elements) for p in (b"%d.25" % (n % 7 - 3), e)))],
        "hash": [("HSET", KEY, *(p for pair in zip(elements, mirrored, strict=True) for p in pair))],
        "stream": [
            ("XADD", KEY, b"%d-%d" % (n // 3, n % 3 + 1), *(element, mirrored[n]) * (n % 4 + 1))
            for n, element in enumerate(elements)
        ],
    }


BUILDERS = builders(ELEMENTS)


@pytest.mark.parametrize("kind", BUILDERS)
def test_any_bytes_arrive(server_pair: tuple[Server, Server], kind: str) -> None:
    with closing(ferry_between(*server_pair)) as ferry:
        ferry.build(*BUILDERS[kind])
        assert _carry(ferry) > 5
        expected, found = ferry.on_source(), ferry.on_target()
        for view in (without_negative_zero, without_counters):
            expected, found = view(expected), view(found)
        assert found == expected


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, WHOLE, WHOLE + 1, WHOLE + PIECE + 7])
@pytest.mark.parametrize("hold", [False, True], ids=["shared", "held"])
def test_strings_of_any_size_arrive(
    server: Server, flushed: Callable[..., Server], size: int, hold: bool
) -> None:
    with closing(ferry_between(server, flushed(server.binary.name, 1))) as ferry:
        data = (b"\r\n$1\r\na\r\n" + bytes(range(256)) * (size // 200 + 1))[:size]
        done(ferry.source, ("SET", KEY, data))
        _carry(ferry, hold=hold)
        assert ferry.onlooker.call("GET", KEY) == data


COMPACT = {
    "hash": ("hash-max-ziplist-entries", "hash-max-ziplist-value"),
    "zset": ("zset-max-ziplist-entries", "zset-max-ziplist-value"),
    "set": ("set-max-intset-entries",),
}


@pytest.mark.parametrize("kind", COMPACT)
def test_a_target_that_keeps_it_as_one_block_gets_little_at_a_time(
    server: Server, start_server: Callable[..., Server], flushed: Callable[..., Server], kind: str
) -> None:
    """There each command costs as much as it adds times what is there already."""
    target = start_server(server.binary.name)
    with closing(ferry_between(flushed(server.binary.name), target)) as ferry:
        done(ferry.target, *(("CONFIG", "SET", name, 100_000) for name in COMPACT[kind]))
        ferry.build(*builders([b"%d" % number for number in range(5_000)])[kind])
        sizes: list[int] = []

        def look(index: int, request: Request) -> None:
            if index > 60:
                sizes.extend(len(command) for command in commands_of(request.target))

        carry = carry_in_pieces(ferry.destination(), ferry.source_identity)
        assert isinstance(ferry.drive(carry, before=look), Carried)
        assert ferry.onlooker.call("OBJECT", "ENCODING", KEY) in (b"listpack", b"ziplist", b"intset")
        assert ferry.on_target() == ferry.on_source()
        assert len(sizes) > 20
        assert max(sizes) < 150


@pytest.mark.parametrize("kind", COMPACT)
def test_a_value_that_is_answered_whole_is_written_in_pieces(
    server: Server, start_server: Callable[..., Server], flushed: Callable[..., Server], kind: str
) -> None:
    """Kept as one listpack or intset it is answered whole, whatever COUNT says."""
    source = start_server(server.binary.name)
    with closing(ferry_between(source, flushed(server.binary.name, 1))) as ferry:
        done(ferry.source, *(("CONFIG", "SET", name, 100_000) for name in COMPACT[kind]))
        numbers = [b"%d" % number for number in range(5_000)]
        ferry.build(*builders(numbers)[kind])
        assert ferry.source.call("OBJECT", "ENCODING", KEY) in (b"listpack", b"ziplist", b"intset")
        _carry(ferry)
        assert ferry.on_target() == ferry.on_source()


@pytest.mark.parametrize(
    ("change", "ends_as"),
    [
        (("DEL", KEY), Vanished()),
        (("SET", KEY, "short"), Carried),
        (("PEXPIRE", KEY, 10_000_000), Carried),
        (("ACL", "SETUSER", "mover", "-getrange"), Refused),
    ],
    ids=["gone", "shorter", "touched", "refused"],
)
def test_a_long_command_that_has_begun_is_ended_whatever_happens(
    server: Server, flushed: Callable[..., Server], change: Command, ends_as: object
) -> None:
    with closing(ferry_between(server, flushed(server.binary.name, 1))) as ferry, server.session() as other:
        done(
            other,
            ("SET", KEY, b"x" * (WHOLE + 10 * PIECE)),
            ("ACL", "SETUSER", "mover", "on", ">word", "~*", "+@all"),
        )
        done(ferry.source, ("AUTH", "mover", "word"))
        done(ferry.target, ("SET", KEY, "what was there before"))

        def meddle(index: int, request: Request) -> None:
            if index == 10:
                assert request.target_open
                done(other, change)

        carry = carry_in_pieces(ferry.destination(), ferry.source_identity, may_hold_target=True)
        outcome = ferry.drive(carry, before=meddle)
        assert outcome == ends_as or (isinstance(ends_as, type) and isinstance(outcome, ends_as))
        assert ferry.target.call("PING") == b"PONG"
        if isinstance(outcome, Refused):
            assert (outcome.code, outcome.side) == ("NOPERM", "source")
            assert ferry.onlooker.call("GET", KEY) == b"what was there before"
        else:
            assert ferry.on_target() == looked(other, ferry.source_identity, KEY)
        assert not ferry.left_over()
        done(other, ("ACL", "DELUSER", "mover"))


def _carry(ferry: Ferry, *, hold: bool = False) -> int:
    """In pieces, looking at each request: bounded. Returns how many were for both sides."""
    both, held = 0, False

    def look(index: int, request: Request) -> None:
        nonlocal both, held
        both += bool(request.source and request.target)
        for command in commands_of(request.target) if not (held or request.target_open) else []:
            elements = command[2:]
            assert command[0] in (b"XADD", b"SET") or (
                len(elements) <= 1000 and (sum(map(len, elements)) <= COMMAND_BYTES_MAX or len(elements) <= 2)
            )
        held = request.target_open

    carry = carry_in_pieces(ferry.destination(), ferry.source_identity, may_hold_target=hold)
    assert isinstance(ferry.drive(carry, before=look), Carried)
    assert not ferry.left_over()
    return both
