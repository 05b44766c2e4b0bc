"""Keyspace notifications: the server publishes every key that changes, with its database.

They must be switched on, by the parameter ``notify-keyspace-events``: ``K`` (one channel per key) and ``A``, which
stands for the classes ``g$lshzxetd``, every event that comes with a change of data. Source:
https://redis.io/docs/latest/develop/use/keyspace-notifications/ , src/notify.c. ``A`` leaves out ``m`` (reads of
keys that are not there: no changes, not counted here) and from 7.0 on ``n`` (new keys: every one has another event).
Which commands are named is tried in tests/capture/test_notifications.py. Nothing is said of FLUSHALL, FLUSHDB,
SWAPDB, XACK, of most of what stream groups do, of functions, and of PFCOUNT's cache inside a HyperLogLog.

A connection that is subscribed belongs to the class ``pubsub``, whose output buffer is limited: a reader that stalls
is cut. Messages go into that buffer as the command runs, before its own reply, so fences hold as for tracking.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyferry.capture.heard import Heard
from keyferry.capture.kinds import FeedKind
from keyferry.capture.listening import Listener
from keyferry.capture.pushes import make_event_cutter
from keyferry.model.errors import ServerError
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

PARAMETER = "notify-keyspace-events"
CLIENT_NAME = "keyferry-feed"
RIGHTS = "+psubscribe +ping allchannels"
"""The ACL rules that this feed needs."""

_ALL = frozenset("g$lshzxetd")


class NotificationsFeed(Listener):
    """A ``Feed``. The parameter must be set: ``enable_notifications``.

    Args:
        session: Its connection is the feed's afterwards.
        databases: Those to listen to; None is all.

    Raises:
        ServerError: The subscription is refused.
        ConnectionLost: The connection broke.
    """

    def __init__(self, session: Session, databases: Sequence[int] | None = None) -> None:
        self.kind = FeedKind.NOTIFICATIONS
        self.numbered = True
        session.call("CLIENT", "SETNAME", CLIENT_NAME)
        self._names = make_event_cutter()
        super().__init__(session, self._names)
        wanted = patterns(databases)
        for reply in self.confirmed("PSUBSCRIBE", *wanted, count=len(wanted)):
            if isinstance(reply, ReplyError):
                hint = f"Give the user: {RIGHTS}." if reply.code == "NOPERM" else ""
                message = (
                    f"The {session.side} {session.endpoint} refuses PSUBSCRIBE: {reply.message.rstrip('.')}."
                )
                raise ServerError(session.side, message, hint)

    def receive(self, now_s: float) -> Heard:
        self.take_in(now_s)
        return Heard(self._names.take_keys())


def patterns(databases: Sequence[int] | None) -> list[str]:
    """What to subscribe to."""
    return [f"__keyspace@{database}__:*" for database in ("*" if databases is None else databases)]


def notifications_flags(current: str) -> str:
    """The value of the parameter that names every changed key, and all that ``current`` named before.

    Returns:
        ``current`` itself where it is enough.
    """
    if "K" in current and ("A" in current or set(current) >= _ALL):
        return current
    return "KA" + "".join(flag for flag in current if flag not in _ALL | {"K", "A"})


def enable_notifications(session: Session) -> str | None:
    """Sets the parameter so that every changed key is named; what others have set stays.

    Returns:
        Its value before; None: it was enough.

    Raises:
        ServerError: CONFIG is refused.
    """
    current = current_flags(session)
    if isinstance(current, ReplyError):
        raise _refused(session, "CONFIG GET", current)
    flags = notifications_flags(current)
    if flags == current:
        return None
    reply = session.call("CONFIG", "SET", PARAMETER, flags)
    if isinstance(reply, ReplyError):
        raise _refused(session, "CONFIG SET", reply)
    return current


def restore_notifications(session: Session, previous: str | None) -> None:
    """Puts back what ``enable_notifications`` found, unless somebody else has set the parameter meanwhile.

    Args:
        previous: What it returned; None leaves the parameter alone.

    Raises:
        ServerError: CONFIG is refused.
    """
    if previous is None:
        return
    current = current_flags(session)
    if isinstance(current, ReplyError):
        raise _refused(session, "CONFIG GET", current)
    if set(current) != set(notifications_flags(previous)):
        return
    reply = session.call("CONFIG", "SET", PARAMETER, previous)
    if isinstance(reply, ReplyError):
        raise _refused(session, "CONFIG SET", reply)


def current_flags(session: Session) -> str | ReplyError:
    """The parameter's value, or what CONFIG GET answers instead."""
    match session.call("CONFIG", "GET", PARAMETER):
        case [_, bytes(value)]:
            return value.decode("ascii", "backslashreplace")
        case ReplyError() as error:
            return error
        case _:
            return ReplyError("ERR the server does not know this parameter")


def _refused(session: Session, command: str, reply: ReplyError) -> ServerError:
    return ServerError(
        session.side,
        f"The {session.side} {session.endpoint} refuses {command} {PARAMETER}: {reply.message.rstrip('.')}.",
        HOW_TO_SET,
    )


HOW_TO_SET = (
    f"Set {PARAMETER} to KA where the service keeps its parameters "
    "(a parameter group, the console or its command line)."
)
