"""What passes between a carry and whoever drives it: requests out, replies in, an outcome at the end.

A carry is a generator without I/O. It yields a ``Request``, is sent the replies to it, and returns its
``Outcome``. The driver writes the commands of one request back to back on one connection, with nothing of
its own in between (the last one is a MULTI), and other requests before and after as it likes. A lost
connection is the driver's
affair: it closes the generator and may begin again; the temporary name is the same, and is emptied first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from keyferry.model.errors import Side
from keyferry.model.identity import ServerIdentity
from keyferry.payload.names import temporary_name
from keyferry.payload.write_commands import Abilities, Command
from keyferry.wire.resp import Reply, ReplyError

REQUEST_BYTES_MAX = 1 << 20
"""A request is closed at this size; a single larger command makes one alone."""
REQUEST_ARGUMENTS_MAX = 4096
PROTO_MAX_BULK_BYTES = 512 << 20
"""The servers' own default of proto-max-bulk-len."""

NO_SUCH_KEY = "ERR no such key"
"""What RENAME, RENAMENX and XINFO say of a name that is not there, on every server."""

TORN = "torn"
"""``Refused.code`` when what was read or built is not one whole value."""


@dataclass(slots=True)
class Request:
    """One pipeline for one server; its replies are sent into the generator, in order, errors as values."""

    side: Side
    commands: list[Command]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a value goes.

    Attributes:
        key: The key on the target.
        expires_at_ms: Unix milliseconds on the target's clock; None is for ever.
        replace: False leaves a key that is there alone (``Conflict``).
        target: The server that is written to.
        drop_field_expiry: Field expiries that the target cannot hold are left out, instead of the key
            failing.
        proto_max_bulk_bytes: The target's proto-max-bulk-len: the longest string, and the longest argument.
    """

    key: bytes
    expires_at_ms: int | None
    replace: bool
    target: ServerIdentity
    drop_field_expiry: bool = False
    proto_max_bulk_bytes: int = PROTO_MAX_BULK_BYTES


@dataclass(frozen=True, slots=True)
class Carried:
    """The key holds the value.

    Attributes:
        bytes: What was sent to build it.
        notes: Names of what the target cannot hold, or no command can set (``write_commands.stream_losses``).
    """

    bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has changed on the target.

    Attributes:
        reason: One sentence, or the server's own words.
        code: The first word of the server's error (OOM, NOPERM, READONLY, ...), ``TORN``, or "".
        side: Whose refusal it is.
    """

    reason: str
    code: str = ""
    side: Side = "target"


@dataclass(frozen=True, slots=True)
class Vanished:
    """The key is not there any more: gone from the source, or expired on the way.

    With ``replace`` the target's key is gone too.
    """


@dataclass(frozen=True, slots=True)
class Conflict:
    """The target has the key, and may keep it."""


Outcome: TypeAlias = Carried | Refused | Vanished | Conflict
Carry: TypeAlias = Generator[Request, list[Reply], Outcome]

Result = TypeVar("Result")
Steps: TypeAlias = Generator[Request, list[Reply], Result]
"""A part of a carry."""


class Stop(Exception):
    """Ends a carry from within; ``carry`` cleans up and returns the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Changed(Exception):
    """The source's value changed while it was read."""


class Exchange:
    """One value on its way: what it is built under, what has been sent, what cannot be kept."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.key = destination.key
        self.name = temporary_name(destination.key)
        self.abilities = Abilities.of(destination.target)
        self.unlink = "UNLINK" if self.abilities.unlink else "DEL"
        self.fields_expire = False
        """True when fields, and with the last one the value, may rightly be gone before it is whole."""
        self.notes: set[str] = set()
        self.sent_bytes = 0

    def begin(self) -> None:
        """What an earlier attempt found out does not count."""
        self.fields_expire = False
        self.notes.clear()
        self.sent_bytes = 0

    def ask(self, *commands: Command) -> Steps[list[Reply]]:
        """Replies of the source, none of them an error.

        Raises:
            Changed: The key, its type or a group is not there any more.
            Stop: The source refuses.
        """
        replies = yield Request("source", list(commands))
        error = first_error(replies)
        if error is not None:
            if error.code in ("WRONGTYPE", "NOGROUP") or error.message == NO_SUCH_KEY:
                raise Changed
            raise Stop(refused(error, "source"))
        return replies

    def store(self, commands: Iterable[Command]) -> Steps[None]:
        """Sends the commands to the target, in bounded requests, and checks every reply."""
        for batch in self._batches(commands):
            replies = yield Request("target", batch)
            self.raise_error(replies)
            for command, reply in zip(batch, replies, strict=True):
                if not _as_expected(command, reply):
                    raise Stop(
                        Refused(f"{command[0]!s} had an unexpected reply while the value was built", TORN)
                    )

    def raise_error(self, replies: list[Reply], gone: Outcome | None = None) -> None:
        """Stops at the first error of the target; with ``gone`` where the temporary key is missing."""
        error = first_error(replies)
        if error is not None:
            if gone is not None and error.message == NO_SUCH_KEY:
                raise Stop(gone)
            raise Stop(refused(error, "target"))

    def note(self, losses: Iterable[str]) -> None:
        """Remembers what is lost.

        Raises:
            Stop: Field expiry is, and that was not allowed.
        """
        for loss in losses:
            if loss == "field_expiry" and not self.destination.drop_field_expiry:
                raise Stop(Refused(f"{self.destination.target} has no field expiry", "field_expiry"))
            self.notes.add(loss)

    def check_length(self, size_bytes: int) -> None:
        """Looks before a longer argument costs the connection.

        Raises:
            Stop: A string or element is longer than the target takes.
        """
        limit = self.destination.proto_max_bulk_bytes
        if size_bytes > limit:
            reason = f"{size_bytes} bytes are more than the target's proto-max-bulk-len allows ({limit})"
            raise Stop(Refused(reason, "proto-max-bulk-len"))

    def _batches(self, commands: Iterable[Command]) -> Iterator[list[Command]]:
        batch: list[Command] = []
        size_bytes = arguments = 0
        for command in commands:
            lengths = [len(argument) for argument in command if isinstance(argument, bytes)]
            self.check_length(max(lengths))
            command_bytes = sum(lengths)
            if batch and (
                size_bytes + command_bytes > REQUEST_BYTES_MAX
                or arguments + len(command) > REQUEST_ARGUMENTS_MAX
            ):
                self.sent_bytes += size_bytes
                yield batch
                batch, size_bytes, arguments = [], 0, 0
            batch.append(command)
            size_bytes += command_bytes
            arguments += len(command)
        if batch:
            self.sent_bytes += size_bytes
            yield batch


def first_error(replies: list[Reply]) -> ReplyError | None:
    return next((reply for reply in replies if isinstance(reply, ReplyError)), None)


def refused(error: ReplyError, side: Side) -> Refused:
    """A refusal in the server's words. A refused EXEC has its own in front, and has ended the transaction."""
    words = error.message.removeprefix("EXECABORT Transaction discarded because of: ")
    return Refused(words, words.partition(" ")[0], side)


def time_ms(reply: Reply) -> int:
    """TIME's reply as Unix milliseconds."""
    match reply:
        case [bytes() as seconds, bytes() as microseconds]:
            return int(seconds) * 1000 + int(microseconds) // 1000
    raise Stop(Refused("TIME had an unexpected reply", TORN, "source"))


def _as_expected(command: Command, reply: Reply) -> bool:
    """Whether a reply that is no error is a success too; what it leaves open, the length at the end shows."""
    match command[0]:
        case "HPEXPIREAT":  # 1: set, 2: its time is over and the field is deleted, -2: no such field
            return isinstance(reply, list) and all(code in (1, 2) for code in reply)
        case "XCLAIM":
            ids = command[5 : command.index("TIME")]
            return isinstance(reply, list) and reply == list(ids)
        case "XADD":
            return reply == command[2]
    return True
