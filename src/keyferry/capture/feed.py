"""The port behind which every feed looks the same, and the way to open one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from keyferry.capture.heard import Heard
from keyferry.capture.kinds import FeedKind
from keyferry.capture.notifications import NotificationsFeed
from keyferry.capture.tracking import TrackingFeed
from keyferry.wire.session import Session


class Feed(Protocol):
    """One server's changes, on a connection of its own that a poll loop turns.

    Every change that the server makes after the feed was opened is named by ``receive`` or the feed ends with
    ``ConnectionLost``: then something may have been missed, and there is no going on but with another feed and a
    comparison of everything. What no feed names (SWAPDB, most stream-group commands, functions) ``Watcher`` finds.
    """

    @property
    def kind(self) -> FeedKind: ...
    @property
    def numbered(self) -> bool:
        """Names come with their database."""

    def fileno(self) -> int: ...
    @property
    def events(self) -> int:
        """What to ask of poll()."""

    @property
    def buffered(self) -> bool:
        """There is something to receive that poll() does not know of."""

    def receive(self, now_s: float) -> Heard:
        """Takes what came, at most about 1 MiB, so that the loop stays responsive.

        Raises:
            ConnectionLost: A gap.
            ProtocolError: The peer sent what no feed sends.
            ServerError: It refuses to go on.
        """

    def turn(self, now_s: float) -> None:
        """Sends what waits to be sent, and a PING every few seconds.

        Raises:
            ConnectionLost: It broke, or the server has been silent for 10 s though it was asked: a gap.
        """

    def fence(self) -> int:
        """Begins a fence; its number. Any number of them may be under way."""

    def passed(self, fence: int) -> bool:
        """Every change that was acknowledged to anybody before ``fence()`` has come out of ``receive``."""

    def close(self) -> None: ...


def open_feed(kind: FeedKind, session: Session, databases: Sequence[int] | None = None) -> Feed:
    """Attaches a feed; every change from then on is named.

    Args:
        session: Of the feed's own; its connection is the feed's afterwards, and closed if this fails.
        databases: Those whose keys are wanted, where the feed can tell; None is all.

    Raises:
        ServerError: It refuses, and why.
        ConnectionLost: The connection broke.
        ValueError: There is no connection to open for ``SWEEPS`` and ``WRITERS``.
    """
    try:
        match kind:
            case FeedKind.TRACKING:
                return TrackingFeed(session)
            case FeedKind.NOTIFICATIONS:
                return NotificationsFeed(session, databases)
            case FeedKind.SWEEPS | FeedKind.WRITERS:
                raise ValueError(f"{kind} have no connection that names keys")
    except BaseException:
        session.close()
        raise


__all__ = ["Feed", "Heard", "open_feed"]
