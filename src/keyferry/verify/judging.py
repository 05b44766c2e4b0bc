"""What becomes of suspects: looked at again, settled if that is asked for, told with their reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from keyferry.copy.connect import Sides, evicted_keys
from keyferry.copy.probe import Probe
from keyferry.model.errors import Side
from keyferry.model.keynames import KeyNames
from keyferry.telemetry.comparing import Difference
from keyferry.telemetry.progress import Teller
from keyferry.verify.big import BigLooks
from keyferry.verify.books import FIRST_MAX, VerifyBooks
from keyferry.verify.look import Looker, LookSettings
from keyferry.verify.repair import delete_extra, settle_keys
from keyferry.verify.rounds import Calm, Rounds, WriteMarks, look_again, write_marks
from keyferry.verify.routes import Place, Routes
from keyferry.verify.settings import VerifySettings
from keyferry.verify.suspects import Evidence
from keyferry.verify.watch import VerifyWatch

ROUNDS_AFTER_REPAIR = 3
THROTTLE_S_MAX = 1.0

WrittenByOthers = Callable[[int, bytes], bool]


@dataclass(frozen=True, slots=True)
class JudgeParts:
    """What a judge works with.

    Attributes:
        owner: Of temporary names, where values are settled.
        probes: Opens those that the guard listens to while values are settled.
        pause: Waits so many seconds, keeping the display alive; ends the run by raising.
        written_by_others: Whether somebody else than a sync has written the key on the target; None: nobody knows.
    """

    settings: VerifySettings
    sides: Sides
    books: VerifyBooks
    watch: VerifyWatch
    tell: Teller
    owner: bytes
    probes: Callable[[], list[Probe]]
    pause: Callable[[float], None]
    written_by_others: WrittenByOthers | None = None


class Judge:
    """Of one run. Every method raises as ``look_again`` does; what was not recorded by then is judged anew."""

    def __init__(self, parts: JudgeParts) -> None:
        self._parts = parts
        self._settings, self._sides = parts.settings, parts.sides
        self._target_database = parts.settings.copy.selection.target_database
        self._calm = Calm(self._write_marks)
        self._routes: Routes | None = None
        """While suspects are looked at."""
        self._under_repair: dict[Place, Difference] = {}
        """Of a repair that broke off: some of them may be settled already, and are to be told all the same."""

    def begin(self) -> None:
        """From here on it is known whether anything is written."""
        self._calm.look()

    def judge_pending(self) -> None:
        """Looks at all pending suspects until each is cleared or told."""
        books, watch = self._parts.books, self._parts.watch
        places = list(books.pending)
        if not places:
            return
        stage, watch.stage = watch.stage, "looking again"
        with self._open_routes() as routes:
            looker = self._looker(routes)
            found = self._look(routes, looker, places, self._settings.rounds)
            settled: set[Place] = set()
            if found and (self._settings.repair or self._settings.delete_extra):
                found, settled = self._repair(routes, looker, found)
            found, settled = self._with_earlier(found, settled)
            told = self._described(looker, found, settled)
        books.judged(len(places), told)
        self._under_repair.clear()
        watch.stage, watch.round = stage, 0

    @contextlib.contextmanager
    def _open_routes(self) -> Iterator[Routes]:
        with Routes(self._sides) as routes:
            self._routes = routes
            try:
                yield routes
            finally:
                self._routes = None

    def _looker(self, routes: Routes) -> Looker:
        return Looker(self._sides, routes, self._look_settings, self._target_database)

    @property
    def _look_settings(self) -> LookSettings:
        copy = self._settings.copy
        return LookSettings(self._settings.expiry_tolerance_ms, copy.big_key_bytes, copy.drop_field_expiry)

    def _look(self, routes: Routes, looker: Looker, places: Sequence[Place], rounds: int) -> list[Difference]:
        watch = self._parts.watch

        def on_round(number: int, left: int) -> None:
            watch.round = number

        throttle = self._throttle()
        big = BigLooks(self._sides, routes, self._look_settings, self._target_database, throttle)
        judgements = look_again(
            looker,
            places,
            self._settings.expiry_tolerance_ms,
            Rounds(
                rounds=rounds,
                evidence=Evidence(self._evicts(routes), self._parts.written_by_others),
                pause=self._parts.pause,
                on_round=on_round,
                throttle=throttle,
                big=big.look,
                calm=self._calm,
            ),
        )
        return [judgement.difference for judgement in judgements if judgement.difference is not None]

    def _throttle(self) -> Callable[[int, int], None]:
        """Holds the looks to the user's limits, on the average."""
        copy = self._settings.copy
        spent_s = 0.0
        began_s = time.monotonic()

        def wait(keys: int, size: int) -> None:
            nonlocal spent_s
            self._parts.pause(0.0)
            if copy.max_rate is not None:
                spent_s += keys / copy.max_rate
            if copy.max_bandwidth is not None:
                spent_s += size / copy.max_bandwidth
            while (ahead_s := began_s + spent_s - time.monotonic()) > 0:
                self._parts.pause(min(THROTTLE_S_MAX, ahead_s))

        return wait

    def _write_marks(self) -> WriteMarks | None:
        servers: list[tuple[Side, str]] = [("source", shard.id) for shard in self._sides.source.shards]
        servers += [("target", shard.id) for shard in self._sides.target.shards]
        if self._routes is not None:
            return write_marks(self._routes, servers)
        with Routes(self._sides) as routes:
            return write_marks(routes, servers)

    def _evicts(self, routes: Routes) -> Callable[[int, bytes], bool]:
        """Whether the target's server that has the key has evicted keys since it started."""
        known: dict[str, bool] = {}

        def evicts(database: int, key: bytes) -> bool:
            shard = routes.shard_of("target", key)
            if shard not in known:
                known[shard] = bool(evicted_keys(routes.session("target", 0, shard)))
            return known[shard]

        return evicts

    # Settling

    def _repair(
        self, routes: Routes, looker: Looker, found: list[Difference]
    ) -> tuple[list[Difference], set[Place]]:
        """Settles what is to be settled and looks again. Gives all differences, and which are none any more."""
        parts, settings = self._parts, self._settings
        extra = [one for one in found if settings.delete_extra and one.reason == "only on the target"]
        other = [one for one in found if settings.repair and one.reason != "only on the target"]
        parts.watch.stage = "repairing"
        self._under_repair |= {place_of(one): one for one in extra + other}
        touched: list[Place] = []
        if extra:
            touched += delete_extra(routes, list(map(place_of, extra)), self._target_database)
        if other:
            failures = settle_keys(
                settings.copy,
                self._sides,
                routes,
                list(map(place_of, other)),
                owner=parts.owner,
                probes=parts.probes,
                on_turn=lambda: parts.pause(0.0),
            )
            touched += map(place_of, other)
            if failures:
                first, names = failures[0], KeyNames(settings.copy.show_keys)
                parts.tell(
                    f"{len(failures):,} could not be repaired; {names.name(first.key)}: {first.reason}"
                )
        parts.watch.stage = "looking again"
        still = {place_of(one): one for one in self._look(routes, looker, touched, ROUNDS_AFTER_REPAIR)}
        settled = {place for place in touched if place not in still}
        return [still.get(place_of(one), one) for one in found], settled

    def _with_earlier(
        self, found: list[Difference], settled: set[Place]
    ) -> tuple[list[Difference], set[Place]]:
        """Adds what a repair that broke off had settled by then."""
        known = set(map(place_of, found))
        earlier = {place: one for place, one in self._under_repair.items() if place not in known}
        return [*found, *earlier.values()], settled | earlier.keys()

    # Telling

    def _described(
        self, looker: Looker, found: list[Difference], settled: set[Place]
    ) -> list[tuple[Difference, bool]]:
        """With what differs in each, where somebody reads it; what is the same by now is none any more."""
        books = self._parts.books
        room = len(found) if books.log.wanted else max(0, FIRST_MAX - len(books.report.first))
        asked = [
            place_of(one)
            for one in [one for one in found if place_of(one) not in settled][:room]
            if not one.differs and one.reason not in _WITHOUT_DETAILS
        ]
        details = dict(looker.describe(asked))
        told = []
        for one in found:
            place = place_of(one)
            differs = details.get(place)
            if differs == ():
                continue
            told.append((replace(one, differs=differs) if differs else one, place in settled))
        return told


_WITHOUT_DETAILS = frozenset(("unreadable", "never copied", "evicted on the target", "only on the target"))


def place_of(difference: Difference) -> Place:
    return difference.database, difference.key
