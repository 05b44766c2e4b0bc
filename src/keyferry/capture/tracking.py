"""Client tracking in broadcast mode: the server names every key that changes, whoever changes it.

No configuration is needed (Redis >= 6.0, RESP3). Facts, from src/tracking.c and tests/capture/test_tracking.py:

- Names come without their database, those of all databases.
- Without NOLOOP: the server keeps only the last writer of a key per turn of its event loop, so our own write would
  hide an application's.
- FLUSHALL and FLUSHDB come as one null: any key may have changed.
- Nothing is said of SWAPDB, of what stream groups do, and of functions.

A connection with tracking belongs to the class of normal clients, whose output buffer has no limit: a reader that
stalls would grow the server's memory. A subscription to a channel on which nobody speaks moves it to the class
``pubsub`` (32 MB, or 8 MB for 60 s by default), so that the server cuts us instead
(https://redis.io/docs/latest/develop/reference/clients/#output-buffer-limits).
"""

from __future__ import annotations

from keyferry.capture.heard import Heard
from keyferry.capture.kinds import FeedKind
from keyferry.capture.listening import Listener
from keyferry.capture.pushes import make_cutter
from keyferry.model.errors import ServerError
from keyferry.wire.resp import Argument, Push, Reply, ReplyError
from keyferry.wire.session import Session

CHANNEL = "keyferry:feed"
"""Nobody publishes there."""
CLIENT_NAME = "keyferry-feed"
RIGHTS = "+subscribe +client|tracking +ping &keyferry:feed"
"""The ACL rules that this feed needs; HELLO needs none."""


class TrackingFeed(Listener):
    """A ``Feed``. Nothing is read or written by it but what the server pushes, and PINGs.

    Args:
        session: With RESP2, as it was opened; the connection is the feed's afterwards.

    Raises:
        ServerError: A step is refused.
        ConnectionLost: The connection broke.
    """

    def __init__(self, session: Session) -> None:
        self.kind = FeedKind.TRACKING
        self.numbered = False
        for command in prepare():
            check(session, command, session.call(*command))
        session.call("CLIENT", "SETNAME", CLIENT_NAME)
        self._names = make_cutter()
        super().__init__(session, self._names)
        command = ("CLIENT", "TRACKING", "ON", "BCAST")
        [reply] = self.confirmed(*command)
        check(session, command, reply)

    def receive(self, now_s: float) -> Heard:
        self.take_in(now_s)
        keys = self._names.take_keys()
        return Heard([(None, keys)] if keys else [], self._names.take_everything())


def prepare() -> list[tuple[Argument, ...]]:
    """What is sent before tracking is switched on, one by one."""
    return [("HELLO", 3), ("SUBSCRIBE", CHANNEL)]


def check(session: Session, command: tuple[Argument, ...], reply: Reply) -> None:
    """Raises:
    ServerError: ``reply`` says that ``command`` was refused.
    """
    why = refusal(session, command, reply)
    if why is not None:
        raise ServerError(session.side, *why)


def refusal(session: Session, command: tuple[Argument, ...], reply: Reply) -> tuple[str, str] | None:
    """Why the server does not track for us, and what to do about it; None when ``reply`` is no error."""
    name = "CLIENT TRACKING" if command[0] == "CLIENT" else str(command[0])
    place = f"The {session.side} {session.endpoint}"
    if not isinstance(reply, ReplyError):
        expected = isinstance(reply, (list, Push)) or reply == b"OK"
        return None if expected else (f"{place} gives an answer to {name} that no server gives.", "")
    said = f"{reply.message.rstrip('.')}."
    if reply.code == "NOPERM":
        return f"{place} does not allow our user client tracking: {said}", f"Give the user: {RIGHTS}."
    if reply.code == "NOPROTO":
        return f"{place} does not speak RESP3, which client tracking needs: {said}", _ELSE
    lowered = said.lower()
    if name == "HELLO" and "unknown command" in lowered:
        return f"{place} has no client tracking: it is older than Redis 6.0 or hides HELLO.", _ELSE
    if "unknown" in lowered:
        return f"{place} has {name} switched off, as some managed services do: {said}", _ELSE
    return f"{place} refuses {name}: {said}", _ELSE


_ELSE = "Keyspace notifications do as well: set notify-keyspace-events to KA, or let --enable-notifications do it."
