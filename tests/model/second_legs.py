"""The proof of the rewriting: each write is run on one real server, its second leg on another with the same data.

Every command line of command_lines runs on every state of its keys: missing, of another type, with and without what
it looks for, expiring. All of them run side by side on keys of their own, so a pair of servers takes seconds. Then
the servers must hold the same, and the mirror must have answered what ``Second.expected`` says; only what is
reported may differ.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis import connection as redis_connection
from redis.exceptions import RedisError, ResponseError

from keyferry.model.commands import all_commands, look_up
from keyferry.model.rewriting import second_leg
from keyferry.model.second import UNTOLD, Second, raw
from keyferry.testing.compare import Difference, compare_databases
from keyferry.testing.servers import HOST, Server

Line = list[str]
Connection: Any = redis_connection.Connection  # its methods are not annotated

STATES: dict[str, list[str]] = {
    "missing": [],
    "integer": ["SET K 10"],
    "fraction": ["SET K 1.5"],
    "text": ["SET K hello"],
    "expiring": ["SET K 10", "PEXPIREAT K NOWMS+2000000"],
    "log": ["PFADD K a b"],
    "list": ["RPUSH K a b c b"],
    "short list": ["RPUSH K b", "PEXPIREAT K NOWMS+2000000"],
    "set": ["SADD K a b c"],
    "set of one": ["SADD K a", "PEXPIREAT K NOWMS+2000000"],
    "numbers": ["SADD K 3 1 2"],
    "sorted": ["ZADD K 1 a 2 b 3.3 c"],
    "ties": ["ZADD K 1 a 1 b 1 c", "PEXPIREAT K NOWMS+2000000"],
    "hash": ["HSET K f 1 g 2.5 h x"],
    "hash of one": ["HSET K f 1", "PEXPIREAT K NOWMS+2000000"],
    "expiring fields": ["HSET K f 1 g 2.5 h x", "HPEXPIREAT K NOWMS+2000000 FIELDS 2 f g"],
    "stream": ["XADD K 1-1 f v", "XADD K 2-1 f v", "XADD K 3-1 g w"],
    "groups": [
        "XADD K 1-1 f v",
        "XADD K 2-1 f v",
        "XADD K 3-1 g w",
        "XGROUP CREATE K grp 0",
        "XGROUP CREATE K streams 0",
        "XCLAIM K grp con 0 1-1 TIME 1000000000000 RETRYCOUNT 1 FORCE JUSTID",
        "XGROUP SETID K grp 1-1",
    ],
}
"""What the key is before the command; commands that a server does not know are left out on both."""
OTHER_STATES: dict[tuple[str, ...], list[tuple[str, ...]]] = {
    (): [()],
    ("M",): [("missing",), ("expiring",)],
    ("L",): [("missing",), ("expiring",), ("list",), ("set",), ("sorted",)],
    ("L", "M"): [
        ("missing", "missing"),
        ("expiring", "missing"),
        ("set", "set"),
        ("set", "missing"),
        ("missing", "set"),
        ("sorted", "sorted"),
        ("sorted", "set"),
        ("list", "sorted"),
    ],
}
"""The states that the second and the third key of a command line take turns in."""
NO_TEXT = {"log"}
"""Values that a connection which decodes cannot read."""
TIME_TOLERANCE_MS = 1_500
LATE_MS = 2_500
"""How long a second leg comes after the first; longer than the tolerance."""
STREAM_COUNTERS = {"entries-added", "max-deleted-id", "entries-read"}
"""Servers before 7.0 do not have them."""
BATCH = 200


@dataclass(slots=True)
class Case:
    """One command line on one state.

    Attributes:
        keys: By placeholder the real keys.
        states: By placeholder what the key was, a name of ``STATES``.
        reply: What the source answered.
        answers: What the mirror answered to the second leg.
    """

    title: str
    setup: list[Line]
    command: tuple[Any, ...]
    keys: dict[str, str]
    states: dict[str, str]
    reply: Any = None
    second: Second | None = None
    answers: list[Any] = field(default_factory=list)


class Raw:
    """A connection of redis-py's own without its callbacks, as the clients hear replies."""

    def __init__(self, server: Server, protocol: int, decode: bool) -> None:
        self.connection = Connection(
            host=HOST, port=server.port, protocol=protocol, decode_responses=decode, socket_timeout=20
        )

    def __enter__(self) -> Raw:
        self.connection.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.disconnect()

    def run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The reply of each; errors are values."""
        replies: list[Any] = []
        for begin in range(0, len(commands), BATCH):
            part = commands[begin : begin + BATCH]
            self.connection.send_packed_command(self.connection.pack_commands(part))
            replies += [self._reply() for _ in part]
        return replies

    def _reply(self) -> Any:
        try:
            return self.connection.read_response()
        except RedisError as error:
            assert isinstance(error, ResponseError), error
            return error


Disturbance = Callable[[list[Case], Raw], None]


def other_state(case_list: list[Case], mirror: Raw) -> None:
    """The mirror's K is in the state that comes next in the list."""
    names = list(STATES)
    now_ms = server_time_ms(mirror)
    for case in case_list:
        following = STATES[names[(names.index(case.states["K"]) + 1) % len(names)]]
        steps = [[_word(word, case.keys, now_ms) for word in step.split()] for step in following]
        mirror.run([("UNLINK", case.keys["K"]), *(tuple(step) for step in steps)])


def cases(chosen_lines: list[Line], now_ms: int, payload: bytes, decode: bool) -> Iterator[Case]:
    numbers = itertools.count()
    for line in chosen_lines:
        others = tuple(name for name in ("L", "M") if name in line)
        for state in STATES:
            if decode and state in NO_TEXT:
                continue
            for other_states in OTHER_STATES[others]:
                number = next(numbers)
                keys = {name: f"{{{number}}}{name}" for name in ("K", *others)}
                states = dict(zip(("K", *others), (state, *other_states), strict=True))
                setup = [
                    [keys[name] if word == "K" else word for word in step.split()]
                    for name, chosen in states.items()
                    for step in STATES[chosen]
                ]
                title = f"{' '.join(line)} on {states}"
                command = tuple(payload if word == "PAYLOAD" else _word(word, keys, now_ms) for word in line)
                yield Case(
                    title, [[_time(word, now_ms) for word in step] for step in setup], command, keys, states
                )


def _word(word: str, keys: dict[str, str], now_ms: int) -> str:
    return keys.get(word) or _time(word, now_ms)


def _time(word: str, now_ms: int) -> str:
    if word.startswith("NOWMS"):
        return str(now_ms + int(word[5:]))
    return str(now_ms // 1_000 + int(word[3:])) if word.startswith("NOW") else word


def server_time_ms(connection: Raw) -> int:
    seconds, micros = connection.run([("TIME",)])[0]
    return int(seconds) * 1_000 + int(micros) // 1_000


def known(connection: Raw) -> set[str]:
    """The commands that the server knows, subcommands with a blank before them."""
    names = [info.name for info in all_commands() if " " not in info.name]
    replies = connection.run([("COMMAND", "INFO", name) for name in names])
    return {
        name
        for name, reply in zip(names, replies, strict=True)
        if reply and (reply[0] if isinstance(reply, list) else reply)
    }


def prepare(case_list: list[Case], sides: list[Raw]) -> list[Case]:
    """The same data on both sides; cases whose state one of them cannot hold are left out."""
    commands = [tuple(step) for case in case_list for step in case.setup]
    replies = [side.run(commands) for side in sides]
    failed = [
        any(isinstance(reply, ResponseError) for reply in answers) for answers in zip(*replies, strict=True)
    ]
    position = 0
    able: list[Case] = []
    unable: list[Case] = []
    for case in case_list:
        length = len(case.setup)
        (unable if any(failed[position : position + length]) else able).append(case)
        position += length
    for side in sides:
        side.run([("UNLINK", *case.keys.values()) for case in unable])
    return able


def play(case_list: list[Case], source: Raw, target: Raw, absolute_expiry: bool) -> None:
    """Runs every command, and later its second leg; fills in the cases."""
    for part in batches(case_list):
        now_ms = server_time_ms(source)
        for case, reply in zip(part, source.run([case.command for case in part]), strict=True):
            case.reply = reply
            if not isinstance(reply, ResponseError):
                info = look_up(case.command)
                assert info is not None
                case.second = second_leg(
                    info, case.command, reply, now_ms=now_ms, absolute_expiry=absolute_expiry
                )
    if absolute_expiry:
        # A second leg is late. What was relative and was not made absolute is then wrong by more than the tolerance.
        time.sleep(LATE_MS / 1_000)
    followed = [(case, command) for case in case_list if case.second for command in case.second.commands]
    assert not [command for _, command in followed if may_wait(command)]
    answers = target.run([command for _, command in followed])
    for (case, _), answer in zip(followed, answers, strict=True):
        case.answers.append(answer)


def may_wait(command: tuple[Any, ...]) -> bool:
    info = look_up(command)
    return info is None or info.blocking


def batches(case_list: list[Case]) -> Iterator[list[Case]]:
    for begin in range(0, len(case_list), BATCH):
        yield case_list[begin : begin + BATCH]


def excused(case: Case, same_version: bool) -> bool:
    """Whether the case's keys may differ: they are reported, or a mirror of another version refuses the command."""
    second = case.second
    if second is None:
        return False
    assert not second.everything_unknown, case.title
    assert {raw(key) for key in second.reported} <= {raw(key) for key in case.keys.values()}, case.title
    refused = [answer for answer in case.answers if isinstance(answer, ResponseError)]
    assert not (refused and same_version), (case.title, second, refused)
    return bool(refused or second.reported)


def assert_expected(case: Case) -> None:
    """The mirror answered what the second leg expects: as it must, with equal data."""
    assert case.second is not None
    assert len(case.second.expected) == len(case.second.commands), case.title
    for answer, expected in zip(case.answers, case.second.expected, strict=True):
        assert expected is UNTOLD or answer == expected, f"{case.title}: {case.second} got {answer!r}"


def found_differences(source: Server, target: Server, ignored: set[str]) -> list[Difference]:
    found: list[Difference] = []
    for db in (0, 1):
        with source.session(db) as one, target.session(db, side="target") as other:
            found += compare_databases(
                one,
                other,
                source_db=db,
                target_db=db,
                expiry_tolerance_ms=TIME_TOLERANCE_MS,
                ignore=ignored,
                differences_max=100_000,
            ).differences
    return found


def prove(
    source: Server,
    target: Server,
    chosen_lines: list[Line],
    protocol: int = 2,
    decode: bool = False,
    absolute_expiry: bool = True,
    disturb: Disturbance | None = None,
) -> list[Case]:
    """Everything above for one pair; returns the cases that ran.

    Args:
        disturb: What is done to the mirror's data before the commands run. The mirror must come out equal where it
            was sent something, whatever it answered.
    """
    with Raw(source, protocol, decode) as one, Raw(target, protocol, decode) as other:
        # A server looks at its clock so often only to see that a blocked client has waited long enough.
        one.run([("CONFIG", "SET", "hz", 500), ("SET", "p", "payload")])
        with source.session() as session:
            payload = session.call("DUMP", "p")
        assert isinstance(payload, bytes)
        one.run([("DEL", "p")])
        able = prepare(list(cases(chosen_lines, server_time_ms(one), payload, decode)), [one, other])
        assert not found_differences(source, target, STREAM_COUNTERS)
        if disturb:
            disturb(able, other)
        play(able, one, other, absolute_expiry)
        one.run([("CONFIG", "SET", "hz", 10)])
    same_version = source.binary.name == target.binary.name
    free: set[bytes] = set()
    for case in able:
        if excused(case, same_version) or (disturb and not (case.second and case.second.commands)):
            free |= {key.encode() for key in case.keys.values()}
        elif case.second is not None and not disturb:
            assert_expected(case)
    by_number = {raw(case.keys["K"])[:-1]: case for case in able}
    old = any(server.binary.version < (7, 0, 0) for server in (source, target))
    differing = [
        f"{by_number[found.key[:-1]].title}: {by_number[found.key[:-1]].reply!r} -> "
        f"{by_number[found.key[:-1]].second}: {found}"
        for found in found_differences(source, target, STREAM_COUNTERS if old else set())
        if found.key not in free
    ]
    assert not differing, "\n".join([f"{len(differing)} differ:", *differing[:20]])
    return able
