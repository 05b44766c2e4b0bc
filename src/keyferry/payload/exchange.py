"""What passes between a carry and whoever drives it: requests out, replies in, an outcome at the end.

A carry is a generator without I/O. It yields a ``Request``, is sent the ``Replies`` to it, and returns its
``Outcome``. A request may have commands for both servers: the next page is read while the last one is
written, and never more than that. The driver writes the commands of one request for one side back to back on
one connection, with nothing of its own in between (the last ones are a MULTI), and other requests before and
after as it likes. A lost connection is the driver's affair: it closes the generator and may begin again; the
temporary name is the same, and is emptied first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

from keyferry.model.errors import Side
from keyferry.model.identity import ServerIdentity
from keyferry.payload.names import temporary_name
from keyferry.payload.write_commands import Abilities, Command
from keyferry.wire.resp import Argument, Reply, ReplyError, encode_command, encode_commands, error_words

REQUEST_BYTES_MAX = 256 << 10
"""What is sent to the target at once; a single larger command makes a request alone."""
REQUEST_ARGUMENTS_MAX = 2048
XCLAIM_WEIGHT = 16
LONG_BYTES = 4 << 20
"""What is longer is gone before the next page is read; a command goes in parts of this size where it may."""
PROTO_MAX_BULK_BYTES = 512 << 20
"""The servers' own default of proto-max-bulk-len."""

NO_SUCH_KEY = "ERR no such key"
"""What RENAME, RENAMENX and XINFO say of a name that is not there, on every server."""

TORN = "torn"
"""``Refused.code`` when what was read or built is not one whole value."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send to one server, or to both at once.

    Attributes:
        source: Encoded commands for the source, b"" for none.
        source_replies: How many replies they have.
        target: Encoded commands for the target, b"" for none.
        target_replies: How many replies they have.
        raw: The source's replies are wanted as the bytes that came.
        target_open: The target's bytes end in the middle of a command: nothing else may go out on that
            connection before the next request's bytes (``carry_in_pieces(may_hold_target=True)`` only).
    """

    source: bytes = b""
    source_replies: int = 0
    target: bytes = b""
    target_replies: int = 0
    raw: bool = False
    target_open: bool = False


@dataclass(frozen=True, slots=True)
class Replies:
    """In order, errors as values.

    Attributes:
        source: The bytes that came where the request was raw; [] where nothing was asked.
        target: [] where nothing was asked.
    """

    source: list[Reply] | bytes
    target: list[Reply]


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
        owner: Of the temporary name (``names.temporary_name``).
    """

    key: bytes
    expires_at_ms: int | None
    replace: bool
    target: ServerIdentity
    drop_field_expiry: bool = False
    proto_max_bulk_bytes: int = PROTO_MAX_BULK_BYTES
    owner: bytes = b""


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
Carry: TypeAlias = Generator[Request, Replies, Outcome]

Result = TypeVar("Result")
Steps: TypeAlias = Generator[Request, Replies, Result]
"""A part of a carry."""


class Stop(Exception):
    """Ends a carry from within; ``carry`` cleans up and returns the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Changed(Exception):
    """The source's value changed while it was read."""


Check: TypeAlias = Callable[[Reply], bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded commands for the target, on their way.

    Attributes:
        data: The commands.
        replies: How many replies they have.
        checks: Where a reply that is no error may still be no success: its index, the command's name, what
            a success is. What this leaves open, the length at the end shows.
        leaves_open: As ``Request.target_open``.
    """

    data: bytes = b""
    replies: int = 0
    checks: tuple[tuple[int, str, Check], ...] = ()
    leaves_open: bool = False


class Exchange:
    """One value on its way: what it is built under, what has been sent, what cannot be kept.

    At most one batch for the target waits here, for the next question to the source.
    """

    def __init__(self, destination: Destination, *, may_hold_target: bool = False) -> None:
        self.may_hold_target = may_hold_target
        self.destination = destination
        self.key = destination.key
        self.name = temporary_name(destination.key, destination.owner)
        self.abilities = Abilities.of(destination.target)
        self.unlink = "UNLINK" if self.abilities.unlink else "DEL"
        self.fields_expire = False
        """True when fields, and with the last one the value, may rightly be gone before it is whole."""
        self.notes: set[str] = set()
        self.sent_bytes = 0
        self.added_elements = 0
        self.is_spread = False
        """True when the target is known to keep the new value as a table, or does not say."""
        self._waiting: Batch | None = None

    def begin(self) -> None:
        """What an earlier attempt found out, or has not sent yet, does not count."""
        self.fields_expire = False
        self.notes.clear()
        self.sent_bytes = self.added_elements = 0
        self.is_spread = False
        self._waiting = None

    def ask(self, *commands: Command) -> Steps[list[Reply]]:
        """Replies of the source, none of them an error; what waits for the target goes along.

        Raises:
            Changed: The key, its type or a group is not there any more.
            Stop: A server refuses.
        """
        if not commands:
            return []
        replies = yield from self._exchange(encode_commands(list(commands)), len(commands), raw=False)
        return raise_source_error(cast("list[Reply]", replies))

    def ask_raw(self, *command: Argument) -> Steps[bytes]:
        """The reply to one command of the source, as it came. Raises as ``ask``."""
        reply = cast("bytes", (yield from self._exchange(encode_command(*command), 1, raw=True)))
        if reply.startswith(b"-"):
            raise_source_error([ReplyError(error_words(reply[1:].rstrip(b"\r\n")))])
        return reply

    def store(self, commands: Iterable[Command]) -> Steps[None]:
        """Sends the commands to the target in bounded requests; the last one waits for what comes next."""
        for batch in self._batches(commands):
            yield from self.put(batch)

    def put(self, batch: Batch) -> Steps[None]:
        """Lets a batch wait; the one that waited before goes out, if no question has taken it along.

        Only a batch that is large goes out itself, before there is another page beside it.
        """
        yield from self.drain()
        self.sent_bytes += len(batch.data)
        self._waiting = batch
        if len(batch.data) > LONG_BYTES:
            yield from self.drain()

    def put_long(self, head: bytes, rest: memoryview) -> Steps[None]:
        """``put`` for one command that may be hundreds of MB, with no second copy of it if that can be."""
        start = 0
        while self.may_hold_target and len(rest) - start > LONG_BYTES:
            part = rest[start : start + LONG_BYTES]
            yield from self.put(Batch(b"".join((head, part)), leaves_open=True))
            head, start = b"", start + len(part)
        yield from self.put(Batch(b"".join((head, rest[start:])), 1))

    def drain(self) -> Steps[None]:
        """Sends what waits."""
        if self._waiting is not None:
            yield from self._exchange(b"", 0, raw=False)

    def tell(self, *commands: Command) -> Steps[list[Reply]]:
        """Replies of the target, errors among them, after everything that waits has been stored."""
        yield from self.drain()
        replies = yield Request(target=encode_commands(list(commands)), target_replies=len(commands))
        return replies.target

    def _exchange(self, source: bytes, source_replies: int, *, raw: bool) -> Steps[list[Reply] | bytes]:
        batch, self._waiting = self._waiting or Batch(), None
        replies = yield Request(
            source, source_replies, batch.data, batch.replies, raw, target_open=batch.leaves_open
        )
        self.raise_error(replies.target)
        for index, name, is_success in batch.checks:
            if not is_success(replies.target[index]):
                reason = f"{name} had an unexpected reply while the value was built"
                raise Stop(Refused(reason, TORN))
        return replies.source

    def raise_error(self, replies: list[Reply]) -> None:
        """Stops at the first error of the target."""
        error = first_error(replies)
        if error is not None:
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

    def _batches(self, commands: Iterable[Command]) -> Iterator[Batch]:
        batch: list[Command] = []
        size_bytes = weight = 0
        for command in commands:
            lengths = [len(argument) for argument in command if isinstance(argument, bytes)]
            self.check_length(max(lengths))
            command_bytes = sum(lengths)
            if batch and (
                size_bytes + command_bytes > REQUEST_BYTES_MAX
                or weight + _weight(command) > REQUEST_ARGUMENTS_MAX
            ):
                yield batch_of(batch)
                batch, size_bytes, weight = [], 0, 0
            batch.append(command)
            size_bytes += command_bytes
            weight += _weight(command)
        if batch:
            yield batch_of(batch)


def batch_of(commands: list[Command]) -> Batch:
    checks = ((index, str(command[0]), _check_of(command)) for index, command in enumerate(commands))
    return Batch(
        encode_commands(commands),
        len(commands),
        tuple((index, name, check) for index, name, check in checks if check is not None),
    )


def first_error(replies: list[Reply]) -> ReplyError | None:
    return next((reply for reply in replies if isinstance(reply, ReplyError)), None)


def raise_source_error(replies: list[Reply]) -> list[Reply]:
    """The replies themselves, when none is an error. Raises as ``Exchange.ask``."""
    error = first_error(replies)
    if error is None:
        return replies
    if error.code in ("WRONGTYPE", "NOGROUP") or error.message == NO_SUCH_KEY:
        raise Changed
    raise Stop(refused(error, "source"))


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


def _weight(command: Command) -> int:
    """What a server does for it, in arguments of other commands (about 0.5 us)."""
    return len(command) * (XCLAIM_WEIGHT if command[0] == "XCLAIM" else 1)


def _check_of(command: Command) -> Check | None:
    match command[0]:
        case "HPEXPIREAT":  # 1: set, 2: its time is over and the field is deleted, -2: no such field
            return lambda reply: isinstance(reply, list) and all(code in (1, 2) for code in reply)
        case "XCLAIM":
            ids = list(command[5 : command.index("TIME")])
            return lambda reply: reply == ids
    return None
