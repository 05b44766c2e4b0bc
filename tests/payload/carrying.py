"""Carries over real servers, watched between their requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

from looking import identity, looked

from keyferry.model.identity import ServerIdentity
from keyferry.payload.exchange import Carry, Destination, Outcome, Request
from keyferry.payload.names import temporary_name
from keyferry.payload.write_commands import Command
from keyferry.testing.servers import Server
from keyferry.transfer.drive import answer
from keyferry.wire.resp import ReplyError, ReplyParser
from keyferry.wire.session import Session

KEY = b"key"

BUILDERS: dict[str, list[Command]] = {
    "string": [("SET", KEY, bytes(range(256)) * 20_000)],
    "list": [("RPUSH", KEY, *range(start, start + 500)) for start in range(0, 3000, 500)],
    "set": [("SADD", KEY, *range(start, start + 500)) for start in range(0, 3000, 500)],
    "zset": [("ZADD", KEY, *(part for n in range(2000) for part in (n, n)))],
    "hash": [("HSET", KEY, *(part for n in range(2000) for part in (n, b"value %d" % n)))],
    "stream": [
        *(("XADD", KEY, b"%d-1" % n, "field", n) for n in range(1, 1500)),
        ("XGROUP", "CREATE", KEY, "workers", "0"),
        ("XREADGROUP", "GROUP", "workers", "alice", "COUNT", 700, "STREAMS", KEY, ">"),
        ("XREADGROUP", "GROUP", "workers", "bob", "COUNT", 20, "STREAMS", KEY, ">"),
        ("XDEL", KEY, "5-1", "6-1", "699-1"),
        ("XTRIM", KEY, "MAXLEN", 1400),
    ],
}
"""A value of each type that takes several pages."""


class Death(Exception):
    """The process dies here."""


@dataclass
class Ferry:
    """Source and target, and a third connection that looks at the target."""

    source: Session
    target: Session
    onlooker: Session
    source_identity: ServerIdentity
    target_identity: ServerIdentity

    def destination(self, **changes: object) -> Destination:
        return replace(Destination(KEY, None, True, self.target_identity), **changes)  # type: ignore[arg-type]

    def build(self, *commands: Command) -> object:
        """Runs the commands on the source and says what the key is then."""
        done(self.source, *commands)
        return self.on_source()

    def on_source(self) -> object:
        return looked(self.source, self.source_identity, KEY)

    def on_target(self) -> object:
        return looked(self.onlooker, self.target_identity, KEY)

    def close(self) -> None:
        for session in (self.source, self.target, self.onlooker):
            session.close()

    def left_over(self) -> bool:
        return self.onlooker.call("EXISTS", temporary_name(KEY)) != 0

    def drive(
        self,
        carry: Carry,
        *,
        before: Callable[[int, Request], None] = lambda index, request: None,
    ) -> Outcome | None:
        """Runs the carry to its end, or until ``before`` lets it die (then None)."""
        try:
            request = next(carry)
            for index in count():
                before(index, request)
                request = carry.send(answer(request, self.source, self.target))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except Death:
            carry.close()
        return None


def ferry_between(source: Server, target: Server) -> Ferry:
    return Ferry(
        source.session(),
        target.session(side="target"),
        target.session(side="target"),
        identity(source),
        identity(target),
    )


def commands_of(encoded: bytes) -> list[list[bytes]]:
    """The commands of one side of a request. One that is cut in the middle is left out."""
    parser = ReplyParser()
    parser.feed(encoded)
    return cast("list[list[bytes]]", parser.replies())


def names_of(encoded: bytes) -> list[bytes]:
    """The commands' names alone."""
    return [command[0] for command in commands_of(encoded)]


def done(session: Session, *commands: Command) -> None:
    for command, reply in zip(commands, session.pipeline(list(commands)), strict=True):
        assert not isinstance(reply, ReplyError), (command[:3], reply)
