"""Which feeds one server allows, best first.

Versions say little: managed services switch commands off. So each feed is tried, on connections of its own whose end
leaves nothing behind. The probe changes no parameter and, unless CONFIG GET is refused, writes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from keyferry.capture.choice import BEST_FIRST, Availability, Choice, choose
from keyferry.capture.kinds import FeedKind
from keyferry.capture.notifications import (
    HOW_TO_SET,
    PARAMETER,
    NotificationsFeed,
    current_flags,
    notifications_flags,
)
from keyferry.capture.tracking import TrackingFeed
from keyferry.model.errors import ServerError
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import ConnectionLost, Session

SLOT_TRIES = 2048
"""Names that are tried until one belongs to this node of a cluster."""
TRIAL_MS = 5_000

_SWEEPS = Availability(
    FeedKind.SWEEPS,
    True,
    "Sweeps compare everything again and again: a change is found when the next sweep comes by, changes between two "
    "sweeps are seen as one, and there is no moment at which nothing can be missing but while nobody writes.",
)
_WRITERS = Availability(
    FeedKind.WRITERS,
    True,
    "Only what the writers' own clients report is followed: it misses nothing as long as every write goes through such "
    'a client with ledger="ahead"; writes of anybody else are noticed by a comparison only (keyferry verify).',
)


def probe(
    session: Session, may_enable: bool = False, kinds: Collection[FeedKind] = BEST_FIRST
) -> list[Availability]:
    """Asks one server for every feed.

    Args:
        session: Is asked for a parameter only; feeds are tried on connections of their own.
        may_enable: Notifications count as available where they are off but CONFIG SET would switch them on.
        kinds: Those that are asked for; a probe of notifications may write a short-lived key.

    Raises:
        ServerError: The server cannot be reached, or does not let us have one more connection.
    """
    found = []
    if FeedKind.TRACKING in kinds:
        found.append(_tracking(session))
    if FeedKind.NOTIFICATIONS in kinds:
        found.append(_notifications(session, may_enable))
    if FeedKind.WRITERS in kinds:
        found.append(_WRITERS)
    if FeedKind.SWEEPS in kinds:
        found.append(_SWEEPS)
    return found


def _tracking(session: Session) -> Availability:
    own = _another(session)
    try:
        TrackingFeed(own).close()
    except ConnectionLost as error:  # some proxies answer what they do not know by hanging up
        return Availability(FeedKind.TRACKING, False, _hangs_up(session, "client tracking", error))
    except ServerError as error:
        return Availability(FeedKind.TRACKING, False, error.message, error.hint)
    finally:
        own.close()
    return Availability(FeedKind.TRACKING, True)


def _notifications(session: Session, may_enable: bool) -> Availability:
    refused = _subscription(session)
    if refused is not None:
        return refused
    place = f"The {session.side} {session.endpoint}"
    flags = current_flags(session)
    if isinstance(flags, ReplyError):
        return _trial(session, flags)
    if notifications_flags(flags) == flags:
        return Availability(FeedKind.NOTIFICATIONS, True)
    silent = f"{place} does not notify of every change: {PARAMETER} is {flags!r}."
    error = _set_refusal(session)
    if error is not None:
        return Availability(
            FeedKind.NOTIFICATIONS, False, f"{silent} CONFIG SET is refused: {error}.", HOW_TO_SET
        )
    if may_enable:
        return Availability(FeedKind.NOTIFICATIONS, True)
    hint = f"Let --enable-notifications set it (and put it back), or: CONFIG SET {PARAMETER} {notifications_flags(flags)}."
    return Availability(FeedKind.NOTIFICATIONS, False, silent, hint)


def _subscription(session: Session) -> Availability | None:
    """Why we may not listen; None: we may."""
    own = _another(session)
    try:
        NotificationsFeed(own).close()
    except ConnectionLost as error:
        return Availability(FeedKind.NOTIFICATIONS, False, _hangs_up(session, "PSUBSCRIBE", error))
    except ServerError as error:
        return Availability(FeedKind.NOTIFICATIONS, False, error.message, error.hint)
    finally:
        own.close()
    return None


def _set_refusal(session: Session) -> str | None:
    """What the server says when the parameter is set; None: it may be set. A flag that does not exist sets nothing."""
    reply = session.call("CONFIG", "SET", PARAMETER, "!")
    if not isinstance(reply, ReplyError):
        return "it takes what is no value"
    allowed = reply.code == "ERR" and PARAMETER in reply.message and "unknown" not in reply.message.lower()
    return None if allowed else reply.message.rstrip(".")


def _trial(session: Session, refusal: ReplyError) -> Availability:
    """Where nobody may look at the parameter: a key of each type is written and deleted, and must be heard of."""
    blind = f"The {session.side} {session.endpoint} does not show {PARAMETER} ({refusal.message.rstrip('.')})"
    prefix = _prefix_here(session)
    names = [prefix + kind.encode() for kind in _WRITES]
    with _another(session) as ear:
        ear.call("PSUBSCRIBE", b"__keyspace@*__:" + prefix + b"*")
        commands: list[tuple[Argument, ...]] = []
        for name, command in zip(names, _WRITES.values(), strict=True):
            commands += [(command[0], name, *command[1:]), ("PEXPIRE", name, TRIAL_MS)]
        replies = session.pipeline([*commands, ("DEL", *names)])
        events = _events(ear) | _events(ear)  # two PINGs: a fence
    error = next((reply.message for reply in replies if isinstance(reply, ReplyError)), None)
    if error is not None:
        sentence = f"{blind}, and a trial is refused: {error.rstrip('.')}."
        return Availability(FeedKind.NOTIFICATIONS, False, sentence, HOW_TO_SET)
    if not events >= {*(kind.encode() for kind in _WRITES), b"del"}:
        return Availability(FeedKind.NOTIFICATIONS, False, f"{blind} and is silent on changes.", HOW_TO_SET)
    return Availability(FeedKind.NOTIFICATIONS, True)


_WRITES: dict[str, tuple[Argument, ...]] = {
    "set": ("SET", "1"),
    "lpush": ("LPUSH", "1"),
    "sadd": ("SADD", "1"),
    "hset": ("HSET", "1", "1"),
    "zadd": ("ZADD", "1", "1"),
    "xadd": ("XADD", "*", "1", "1"),
}
"""Event -> the command that makes it, without its key; one for each class of types."""


def _events(ear: Session) -> set[bytes]:
    """Events up to the PONG of a PING that is sent now."""
    found: set[bytes] = set()
    reply = ear.call("PING")
    while True:
        match reply:
            case [b"pmessage", _, _, bytes(event)]:
                found.add(event)
            case _:
                return found
        reply = ear.exchange(b"", 1)[0]


def _prefix_here(session: Session) -> bytes:
    """The beginning of names that belong to this server: their hash tag's slot is its own."""
    begin = RESERVED_PREFIX + b"probe:" + secrets.token_hex(8).encode()
    prefixes = [b"%b:{%d}:" % (begin, number) for number in range(SLOT_TRIES)]
    for at in range(0, SLOT_TRIES, 256):
        some = prefixes[at : at + 256]
        for prefix, reply in zip(some, session.pipeline([("EXISTS", name) for name in some]), strict=True):
            if not isinstance(reply, ReplyError):
                return prefix
    return begin


def _hangs_up(session: Session, what: str, error: ConnectionLost) -> str:
    return f"The {session.side} {session.endpoint} hangs up on {what}: {error.message}"


def _another(session: Session) -> Session:
    return Session(session.endpoint, session.side)


__all__ = ["Availability", "Choice", "choose", "probe"]
