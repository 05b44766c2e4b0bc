"""What is known before a switch: who writes, what the servers allow, what it would cost, and what is in the way."""

from __future__ import annotations

import time

from keyferry.copy.info import info_number
from keyferry.cutover.plain import plain_clients
from keyferry.cutover.plan import Gate
from keyferry.cutover.ready import Around, Facts, choose_gate, not_ready
from keyferry.cutover.tools import Tools
from keyferry.follow.follower import Follower
from keyferry.model.errors import KeyferryError
from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncProgress

SURVEY_EVERY_S, SURVEY_SOON_S = 10.0, 1.0
PLAIN_SHOWN = 3


class Sight:
    """Of one migration, on the side that has authority."""

    def __init__(self, tools: Tools) -> None:
        self._settings, self._watch = tools.settings, tools.watch
        self._reaches, self._pauses, self._bars = tools.reaches, tools.pauses, tools.bars
        self._locations = {side: endpoint.location for side, endpoint in tools.endpoints.items()}
        self._around: Around | None = None
        self._problem = ""
        self._surveyed_s = float("-inf")

    def forget(self) -> None:
        """Another side has authority."""
        self._around, self._problem, self._surveyed_s = None, "", float("-inf")

    def is_due(self, now_s: float, losing: Side) -> bool:
        """Whether it is time to ask again; soon when writers have come or gone."""
        known = self._around is not None and self._around.writers == len(self._watch.live(losing))
        return now_s - self._surveyed_s >= (SURVEY_EVERY_S if known else SURVEY_SOON_S)

    def survey(self, losing: Side) -> None:
        """Asks who else writes there, and what it allows. A few round trips; what fails is a reason of ``not_ready``."""
        self._surveyed_s = time.monotonic()
        reach = self._reaches[losing]
        reach.renew()
        try:
            survey = self._bars[losing].survey()
            plain = plain_clients(reach, self._watch.writers(losing))
            self._around = Around(
                len(self._watch.live(losing)),
                tuple(str(one) for one in plain if not one.only_read),
                tuple(str(one) for one in plain if one.only_read),
                self._pauses[losing].possible(),
                ""
                if survey.complete
                else next(iter(survey.obstacles), "Nobody's write rights can be taken away."),
            )
            self._problem = ""
        except KeyferryError as error:
            self._around, self._problem = None, error.message

    def gate(self, asked: Gate | None) -> tuple[Gate | None, str]:
        """The gate, and why it cannot be closed; empty when it can."""
        if self._around is None:
            return None, self._problem or "It is not known yet who writes."
        return choose_gate(asked, self._around)

    def not_ready(
        self,
        losing: Side,
        follower: Follower,
        progress: SyncProgress,
        verified_s: float | None,
        gate: Gate | None,
        gate_s: float,
    ) -> list[str]:
        """What is in the way; empty: nothing.

        Args:
            verified_s: Age of the last clean verification.
            gate: That was asked for.
            gate_s: Longest wait.
        """
        return not_ready(
            Facts(
                losing=losing,
                stage=progress.stage,
                copied=follower.is_copied,
                paused=follower.paused,
                verified_s=verified_s,
                verified_s_max=2 * self._settings.verify_every_s,
                touched_overflowed=follower.touched_overflowed,
                lag_s=follower.lag_s(),
                lag_max_s=self._settings.sync.lag_target_s,
                cutover_s=progress.cutover_s,
                gate_s=gate_s,
                failed=follower.accounts.failed,
                memory_share=_memory_share(follower),
                gate_problem=self.gate(gate)[1],
            )
        )

    def outlook(
        self,
        command: str,
        losing: Side,
        follower: Follower,
        progress: SyncProgress,
        gate: Gate | None,
        gate_s: float,
    ) -> list[str]:
        """What a switch is going to do, and what it will cost. Arguments as of ``not_ready``."""
        live, record = self._watch.live(losing), self._watch.records.get(losing)
        phase = f", in the phase {record.phase}" if record else ""
        chosen, _ = self.gate(gate)
        lines = [
            f"{command}: authority goes from the {losing} {self._locations[losing]} "
            f"to the {losing.other} {self._locations[losing.other]}.",
            f"live writers: {len(live)}{phase}.",
        ]
        if chosen is not None:
            lines.append(f"gate: {chosen}; after at most {gate_s:g} s everything is undone.")
        if self._around is not None:
            lines += _shown("write, and do not follow the phase", self._around.plain)
            lines += _shown("read, and do not follow the phase", self._around.readers)
        expected = "not measured yet" if progress.cutover_s is None else f"{progress.cutover_s * 1000:.0f} ms"
        lines.append(f"dirty keys: {progress.dirty_keys:,}; expected wait for them: {expected}.")
        lines.append(
            f"changed since the last verification: {follower.touched:,} keys; they are compared before."
        )
        return lines


def _shown(what: str, clients: tuple[str, ...]) -> list[str]:
    if not clients:
        return []
    more = len(clients) - PLAIN_SHOWN
    return [f"{what}: {'; '.join(clients[:PLAIN_SHOWN])}{f' and {more} more' if more > 0 else ''}."]


def _memory_share(follower: Follower) -> float | None:
    """Of the target of the run: the fullest of its primaries."""
    found = []
    for probe in follower.engine.probes:
        if probe.side == "target":
            used = info_number(probe.info, "memory", "used_memory")
            limit = info_number(probe.info, "memory", "maxmemory")
            if used is not None and limit:
                found.append(used / limit)
    return max(found, default=None)
