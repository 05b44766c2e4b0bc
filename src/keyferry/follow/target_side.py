"""What changes on the target: our own work, that of clients which write to both servers, or somebody else's.

As long as no client mirrors, a difference that we did not make is somebody else's: it is told, and settled. Once clients
mirror nobody can tell whose a change is, and nobody needs to: every key that the target's feed names is looked at.
The target's feed is attached first; then everything is compared, as after every gap (PROTOCOL, rules 2 to 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.capture.feed import Feed
from keyferry.capture.heard import Heard
from keyferry.copy.connect import Sides
from keyferry.follow.engine import Engine
from keyferry.follow.foreign import ForeignWrites
from keyferry.follow.foreign_looks import ForeignLooks
from keyferry.follow.ground import Ground
from keyferry.follow.judging import Judge
from keyferry.follow.ledgers import Ledgers
from keyferry.follow.looks import Looks
from keyferry.follow.marking import Marking
from keyferry.follow.settings import SyncSettings
from keyferry.follow.source import Followed
from keyferry.follow.touched import Touched
from keyferry.model.keynames import KeyNames
from keyferry.telemetry.progress import Alert, Teller
from keyferry.verify.passes import CompareContext


@dataclass(frozen=True, slots=True)
class Asks:
    """What it asks of the follower.

    Attributes:
        hear_all: Lets everything go on until all that was changed before it has been heard; False: it could not.
        is_kept: Whether a key (source database, name) is somebody else's, as long as the source does not have it.
        compare: Has everything compared, as a new generation with this reason.
        looking: What looks at keys of the target are made with.
    """

    hear_all: Callable[[], bool]
    is_kept: Callable[[int, bytes], bool]
    compare: Callable[[str], None]
    looking: Callable[[], CompareContext]


class TargetSide:
    """Of one run; the engine gives it what the target's feeds name."""

    def __init__(
        self,
        settings: SyncSettings,
        sides: Sides,
        ground: Ground,
        engine: Engine,
        sources: dict[str, Followed],
        marking: Marking,
        judge: Judge,
        touched: Touched,
        asks: Asks,
        tell: Teller,
    ) -> None:
        self._engine, self._marking, self._asks, self._tell = engine, marking, asks, tell
        self._names = KeyNames(settings.copy.show_keys)
        selection = settings.copy.selection
        self._ledgers = Ledgers(settings, sides, ground, engine.poller, marking, asks.compare, tell)
        self._looks = Looks(selection, sources, lambda: ground.databases, marking, touched)
        self._foreign = ForeignWrites(selection, sources, lambda: ground.databases)
        self._foreign_looks = ForeignLooks(self._foreign, judge, asks.hear_all, asks.is_kept)
        engine.ledgers, engine.looks, engine.on_target = self._ledgers, self._looks, self.hear
        self._covered: dict[str, Feed] = {}
        """Feeds after whose attaching everything was compared."""
        self._told = self._flushed = False

    def attach(self) -> None:
        """Begins to read what writers report, before anything is carried. Raises as ``Ledgers.attach``."""
        self._ledgers.attach()

    @property
    def foreign_keys(self) -> int:
        """Changes that were somebody else's."""
        return self._foreign.found

    def hear(self, heard: Heard) -> None:
        """Takes what a feed of the target names."""
        if not self._ledgers.mirrored:
            self._foreign.hear(heard)
            return
        self._looks.hear(heard)
        self._flushed |= heard.everything

    @property
    def mirrored(self) -> bool:
        """Whether clients write to both servers."""
        return self._ledgers.mirrored

    def hush(self, on: bool) -> None:
        """Whether reports of writers are read only when ``request`` asks for them."""
        self._ledgers.hushed = on

    def cover(self, *, mirrored: bool) -> None:
        """Both servers are equal, and the feeds are attached: what was named until now does not count.

        Args: mirrored: Whether clients write to both servers, as who followed the other way knew.
        """
        self._ledgers.inherit(mirrored)
        self._foreign.forget()
        self._foreign.too_many = self._flushed = False
        self._covered = dict(self._engine.target_feeds)

    def chores(self, now: float, *, comparing: bool, paused: bool) -> None:
        """A few times a second.

        Args:
            comparing: What is being found stale may expire on the target before it is settled: nobody else's work.
            paused: Nothing is to be looked at now.

        Raises:
            ServerAway, ServerBusy: A server cannot answer now.
            ServerError: The ledger cannot be read, and there is no other feed.
        """
        self._ledgers.chores()
        if self._ledgers.mirrored:
            self._follow_mirror()
            self._foreign.forget()
            return
        self._covered = {}
        if comparing:
            self._foreign.forget()
        if not paused:
            self._look_at_foreign(now)

    def _follow_mirror(self) -> None:
        if not self._engine.target_feeds:
            return
        if not self._told:
            self._told = True
            self._tell("Clients write to both servers: what changes on the target is looked at, too.")
        if not self._looks.running:
            self._looks.open(self._asks.looking())
        if self._flushed:
            self._flushed = False
            self._asks.compare("The target was flushed, or much of it may have changed")
        if self._covered != self._engine.target_feeds:
            self._covered = dict(self._engine.target_feeds)
            self._asks.compare("From now on the target is followed, too")

    def _look_at_foreign(self, now: float) -> None:
        if self._foreign.too_many:
            self._foreign.too_many = False
            self._asks.compare("Somebody else has changed much on the target, or flushed it")
        for database, key in self._foreign_looks.found(now):
            if self._foreign.add((database, key)):
                self._tell(
                    Alert(
                        f"Somebody else has written to the target: {self._names.name(key)} "
                        f"(database {database}). The source's value is put back."
                    )
                )
            self._marking.mark(database, [key])

    def request(self) -> Callable[[], bool]:
        """Has all heard that writers have reported before; what it gives says whether that is done."""
        reported, named = self._ledgers.request(), self._engine.fence_target()
        return lambda: reported() and (not self._ledgers.mirrored or named())
