"""What writers report of themselves, on both sides: a further feed beside those of the servers, or the only one.

The ledger lies on the side with authority; the other side's has what was reported before a switch. Both are read, and
whatever they name is dirty. Reading takes it off the server: from then on only this run knows of it. That is no loss when
the run ends, because the next one compares everything whatever it finds; and when the connection breaks while names are
on their way, everything is compared here.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable

from keyferry.capture.kinds import FeedKind
from keyferry.capture.ledger_feed import RIGHTS, LedgerFeed, OpenEntry
from keyferry.capture.ledger_format import DEFAULT_NAME, Mode, ledger_keys
from keyferry.copy.connect import Sides
from keyferry.copy.poller import Poller
from keyferry.follow.ground import Ground
from keyferry.follow.marking import Marking
from keyferry.follow.settings import SyncSettings
from keyferry.model.errors import ServerAway, ServerError, Side
from keyferry.model.keys import escape, is_reserved
from keyferry.model.phases import RULES
from keyferry.payload.names import slot
from keyferry.telemetry.progress import Alert, Teller
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

BOTH: tuple[Side, Side] = ("source", "target")
FULL = "Writers have more to report than the ledger holds by name"
CUT = "The connection on which the ledger is read was cut"
ENDED_TOLD_MAX = 5
NOBODY_S_MAX = 10.0
"""Writers that go over to the other side are registered on neither for a moment."""


class Ledgers:
    """Of one run.

    Args:
        on_everything: Called with the reason when any key may differ.
    """

    def __init__(
        self,
        settings: SyncSettings,
        sides: Sides,
        ground: Ground,
        poller: Poller,
        marking: Marking,
        on_everything: Callable[[str], None],
        tell: Teller,
    ) -> None:
        self._settings, self._sides, self._ground, self._poller = settings, sides, ground, poller
        self._marking, self._on_everything, self._tell = marking, on_everything, tell
        self._name = settings.name or DEFAULT_NAME
        self._passes = settings.copy.selection.key_filter()
        self._feeds: dict[Side, LedgerFeed] = {}
        self._told: set[str] = set()
        self._gap = ""
        self._ended: set[str] = set()
        self.mirrored = False
        """Whether clients write to both servers: what changes on the target is not somebody else's work."""
        self._met_s = -1e9
        """When there was a writer last."""
        self.hushed = False
        """Nothing is read but what ``request`` asks for: what is reported later is for who follows the other way."""
        self._requested: dict[Side, int] = {}

    def _judge_mirrored(self) -> None:
        """Second legs that were sent before a hold arrive in it: in hold everything is as it was.

        1. A writer sends its second leg; 2. hold: its entry says so; 3. the target's feed names the key. Nobody would
        look at it who took the writers at their word.
        """
        phases = {entry.phase for feed in self._feeds.values() for entry in feed.writers.values()}
        known = [phase for phase in phases if phase is not None]
        now_s = time.monotonic()
        if known:
            self._met_s = now_s
        if any(feed.modes for feed in self._feeds.values()) or any(RULES[phase].mirrors for phase in known):
            self.mirrored = True
        elif not any(RULES[phase].waits for phase in known) and (known or now_s - self._met_s > NOBODY_S_MAX):
            self.mirrored = False

    def inherit(self, mirrored: bool) -> None:
        """What who followed the other way knew of the writers."""
        self.mirrored, self._met_s = mirrored, time.monotonic()

    # Connections

    def attach(self) -> None:
        """Begins to read where nobody reads, and in databases that have come to it.

        Raises:
            ServerAway: A server cannot be reached now.
        """
        for side in BOTH:
            databases = self._databases(side)
            if side not in self._feeds:
                feed = self._feeds[side] = LedgerFeed(self._session(side), self._name, databases)
                self._poller.watch(feed.fileno(), feed.events)
            self._feeds[side].databases = databases
        self._judge_mirrored()
        if self._gap:
            reason, self._gap = self._gap, ""
            self._on_everything(reason)

    def _databases(self, side: Side) -> tuple[int, ...]:
        found = self._ground.databases
        if side == "target":
            found = [self._settings.copy.selection.target_database(database) for database in found]
        return tuple(sorted(set(found)))

    def _session(self, side: Side) -> Session:
        deployment = self._sides.source if side == "source" else self._sides.target
        if not deployment.cluster:
            return self._sides.session(side, 0)
        owner = deployment.topology.owner(slot(ledger_keys(self._name).dirty))
        return self._sides.session(side, 0, None if owner is None else owner.id)

    def _close(self, side: Side) -> None:
        feed = self._feeds.pop(side)
        if feed.popping:
            self._gap = CUT
        self._take(feed, ends=False)
        self._poller.forget(feed.fileno())
        feed.close()

    def close(self) -> None:
        for side in list(self._feeds):
            self._close(side)

    def hear(self, ready: dict[int, int], now: float, *, house: bool) -> None:
        """Takes what came. Raises ServerAway when a connection is lost; it is gone then."""
        for side, feed in list(self._feeds.items()):
            try:
                if feed.buffered or ready.get(feed.fileno(), 0) & ~select.POLLOUT:
                    feed.read(now)
                if house and not (self.hushed and feed.answered(self._requested.get(side, 0))):
                    feed.turn(now)
                    self._poller.watch(feed.fileno(), feed.events)
            except ServerAway:
                self._close(side)
                raise

    # What they say

    def chores(self) -> None:
        """Marks what was named, a few times a second.

        Raises:
            ServerAway: A server cannot be reached now.
            ServerError: The ledger cannot be read, and there is no other feed.
        """
        self._judge_mirrored()
        has_room = self._marking.has_room()
        for side, feed in list(self._feeds.items()):
            feed.has_room = has_room
            self._take(feed)
            if feed.refusal:
                self._refused(feed)
            if feed.moved:
                self._close(side)
                self._sides.discover(side)
                self.attach()
        if self._settings.feed is FeedKind.WRITERS:
            self._judge_modes()

    def _take(self, feed: LedgerFeed, *, ends: bool = True) -> None:
        told = feed.take()
        for database, keys in told.keys.items():
            self._dirty(database, keys)
        if told.everything:
            self._on_everything(FULL)
        if told.over and ends:  # else they are met again: they are on the server still
            self._end(feed, told.over)

    def _dirty(self, database: int, keys: list[bytes]) -> None:
        passes = self._passes
        names = [key for key in keys if (not is_reserved(key) if passes is None else passes(key))]
        if names and database in self._ground.databases:  # all others are not moved, or not looked at yet
            self._marking.report(database, names)

    def _end(self, feed: LedgerFeed, entries: list[OpenEntry]) -> None:
        """Operations of writers that are gone: what they have sent must not arrive after their keys were settled.

        1. A writer sends its second leg and dies; 2. the target stands still; 3. the key is settled; 4. the target
        reads what the dead writer had sent. So its connections are ended first (PROTOCOL, rule 11).
        """
        for writer in sorted({entry.writer for entry in entries} & feed.writers.keys() - self._ended):
            for side, names in feed.writers[writer].connections.items():
                self._kill("source" if side == "source" else "target", names)
            self._ended.add(writer)
            if len(self._ended) <= ENDED_TOLD_MAX:
                self._tell(f"{feed.writers[writer].facts} is gone: what it had begun is settled.")
        for entry in entries:
            if entry.members is None:
                self._on_everything(
                    f"A writer that is gone had begun {escape(entry.field)}, which names no keys"
                )
            for database, key in entry.members or ():
                self._dirty(database, [key])
        feed.remove(entries)

    def _kill(self, side: Side, names: tuple[str, ...]) -> None:
        deployment = self._sides.source if side == "source" else self._sides.target
        by_node: dict[str, list[str]] = {}
        for name in names:
            number, _, node = name.partition("@")
            by_node.setdefault(node, []).append(number)
        for node, numbers in by_node.items():
            host, _, port = node.rpartition(":")
            if deployment.cluster and not port.isdigit():
                continue
            endpoint = deployment.reach(host, int(port)) if deployment.cluster else deployment.start
            # One that is away reads nothing; what was in its buffers went with its process.
            with contextlib.suppress(ServerAway), self._sides.session_at(endpoint, side) as session:
                replies = session.pipeline([("CLIENT", "KILL", "ID", number) for number in numbers])
                refused = [one for one in replies if isinstance(one, ReplyError) and one.code == "NOPERM"]
                if refused:
                    self._tell_once(
                        f"The {side} does not let us end the connections of writers that are gone ("
                        f"{refused[0].message.rstrip('.')}): a write of theirs that is still on its way may come late."
                    )

    def _refused(self, feed: LedgerFeed) -> None:
        if self._settings.feed is FeedKind.WRITERS and feed.side == "source":
            raise ServerError(feed.side, feed.refusal, f"Give the user: {RIGHTS}.")
        if self._settings.name is not None or feed.found or feed.modes:
            self._tell_once(f"{feed.refusal} Give the user: {RIGHTS}.")

    def _judge_modes(self) -> None:
        """What the only feed is worth depends on how its writers report."""
        if any(feed.refusal for feed in self._feeds.values()):
            return
        modes: set[bytes] = set().union(*(feed.modes for feed in self._feeds.values()))
        if not modes:
            self._tell_once(
                f"No writer has announced itself in the ledger {self._name!r} yet: nothing that changes is noticed."
            )
        elif Mode.AHEAD not in modes or len(modes) > 1:
            self._tell_once(
                'There are writers that do not report ahead (ledger="ahead"): only what failed is noticed of theirs, '
                "and two of them that reach the servers in opposite order leave a difference."
            )

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(Alert(sentence))

    def request(self) -> Callable[[], bool]:
        """Has both ledgers read now; what it gives says whether all is marked that was in them."""
        asked = [(side, feed, feed.request()) for side, feed in self._feeds.items()]
        self._requested = {side: number for side, _, number in asked}
        marked = [False]

        def answered() -> bool:
            if not marked[0] and all(
                self._feeds.get(side) is feed and feed.answered(number) for side, feed, number in asked
            ):
                for _, feed, _ in asked:
                    self._take(feed)
                marked[0] = True
            return marked[0]

        return answered


__all__ = ["Ledgers"]
