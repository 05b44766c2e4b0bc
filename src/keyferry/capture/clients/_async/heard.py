"""One operation of an application on its way: how often it was sent, and the first leg's reply before redis-py shapes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from keyferry.capture.clients.errors import LookAgain
from keyferry.capture.clients.shaped import Shaped

if TYPE_CHECKING:
    from keyferry.capture.clients._async.crossing import Crossing, State

KEY = "keyferry"  # under which an operation travels in redis-py's options


class Operation:
    """What the attempts of one first leg share.

    Attributes:
        attempts: how often redis-py has sent it; more than once after a lost connection.
        reply: the reply as it was read, before response callbacks.
        hears: the reply is wanted.
        ahead: a command to send in the same packet before it, its reply is dropped.
        blocks: it may block; then `client_id` is the connection's, so that it can be taken back.
        taken_back: the server was told to let it go.
        sliced: it was sent with a part of its time only.
    """

    __slots__ = (
        "ahead",
        "attempts",
        "blocks",
        "client_id",
        "crossing",
        "hears",
        "reply",
        "sliced",
        "state",
        "taken_back",
    )

    def __init__(
        self,
        crossing: Crossing,
        state: State,
        *,
        hears: bool = False,
        blocks: bool = False,
        ahead: tuple[Any, ...] | None = None,
    ) -> None:
        self.crossing = crossing
        self.state = state
        self.hears = hears
        self.blocks = blocks
        self.ahead = ahead
        self.attempts = 0
        self.reply: Any = None
        self.client_id: int | None = None
        self.taken_back = self.sliced = False

    def attempt(self) -> None:
        """Looks at the phase before each sending: nothing is sent again, on a new connection, without a new look.

        Raises:
            LookAgain: the phase is another one, or the lease is over.
        """
        if self.state.dynamic and not self.crossing.holds(self.state):
            raise LookAgain
        self.attempts += 1

    async def send(self, connection: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Sends the command, with what goes ahead of it in the same packet."""
        if self.ahead is None and not self.blocks:
            await connection.send_command(*args, **options)
            return
        before: list[tuple[Any, ...]] = []
        if self.ahead is not None:
            before.append(self.ahead)
        if self.blocks:
            before.append(("CLIENT", "ID"))
        await connection.send_packed_command(connection.pack_commands([*before, args]))
        for command in before:
            try:
                reply = await connection.read_response()
            except ResponseError:
                if command is self.ahead:
                    self.crossing.ahead_refused()
                continue
            if command is not self.ahead:
                self.client_id = reply
        if self.client_id is not None:
            self.crossing.blocked[id(self)] = self

    async def let_go(self) -> None:
        """Its reply was read: nobody may unblock its connection any more, which serves another one next."""
        if self.client_id is not None:
            async with self.crossing.unblocking:
                self.crossing.blocked.pop(id(self), None)

    def goes_on(self, reply: Any) -> bool:
        """Whether a blocking command came back empty before its time, because we wanted that.

        Args:
            reply: as redis-py shapes it.
        """
        if not (self.taken_back or self.sliced):
            return False
        return not reply if isinstance(self.reply, Shaped) else self.reply is None


class Heard:
    """A connection whose replies are remembered as they are read."""

    __slots__ = ("_connection", "_operation")

    def __init__(self, connection: Any, operation: Operation) -> None:
        self._connection = connection
        self._operation = operation

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As the connection's own."""
        reply = await self._connection.read_response(*args, **options)
        self._operation.reply = reply
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class HeardMany:
    """The same for a pipeline: every reply and every error reply, in order."""

    __slots__ = ("_connection", "_replies")

    def __init__(self, connection: Any, replies: list[Any]) -> None:
        self._connection = connection
        self._replies = replies

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """As the connection's own."""
        try:
            reply = await self._connection.read_response(*args, **options)
        except ResponseError as error:
            self._replies.append(error)
            raise
        self._replies.append(reply)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
