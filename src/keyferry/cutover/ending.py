"""The end of a migration: our keys leave both servers, and the operator hears what may be switched off.

The record goes last, and only when no writer follows it any more: one that lives would be left without a phase.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from keyferry.capture.ledger_format import ledger_keys
from keyferry.cutover.barring import typed
from keyferry.cutover.phase_steps import Performer, Plan
from keyferry.cutover.reach import Commands, Reach
from keyferry.cutover.tools import Tools
from keyferry.cutover.writers_watch import names_of
from keyferry.model.errors import RefusedError, ServerError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import leader_key, record_key, writers_key
from keyferry.telemetry.migrating import FactKey
from keyferry.telemetry.progress import Alert
from keyferry.wire.resp import Argument, ReplyError

STEP_S_MAX = 30.0
"""Longest wait for the writers, for each step of the phase."""
WAY_OUT: Mapping[Side, tuple[Phase, ...]] = {
    Side.SOURCE: (Phase.SHADOW, Phase.DUAL, Phase.SOURCE),
    Side.TARGET: (Phase.TARGET_DUAL, Phase.TARGET),
}
"""The phases on the way to the one in which a side is alone."""


def keys_of(name: str) -> list[bytes]:
    """All keys of a migration on one side, the record and its writers last."""
    ledger = ledger_keys(name)
    return [
        ledger.dirty,
        ledger.open,
        ledger.full,
        ledger.modes,
        leader_key(name),
        writers_key(name),
        record_key(name),
    ]


def remove_keys(reach: Reach, name: str, databases: Iterable[int], *, keeps_record: bool) -> int:
    """Takes a migration's keys off one side; gives how many there were.

    Args:
        databases: In which there may be some; of a cluster all are in one slot.
        keeps_record: Writers still follow it.

    Raises:
        ServerError: The side cannot be asked, or refuses.
    """
    names = keys_of(name)[:-2] if keeps_record else keys_of(name)
    unlink: tuple[Argument, ...] = ("UNLINK", *names)
    commands: Commands = [unlink]
    if not reach.cluster:
        commands = [command for database in databases for command in (("SELECT", database), unlink)]
        commands.append(("SELECT", 0))
    removed = 0
    for primary, replies in reach.ask_all(commands).all().items():
        for reply in replies:
            if isinstance(reply, int):
                removed += reply
            elif isinstance(reply, ReplyError) and reply.code != "MOVED":  # another node has them
                raise reach.refusal(primary, "to delete Keyferry's keys", reply)
    return removed


class Ending:
    """``finish`` after a cutover, ``abort`` before one."""

    def __init__(self, tools: Tools, tell: Callable[[str], None]) -> None:
        self._settings, self._store, self._watch = tools.settings, tools.store, tools.watch
        self._reaches, self._journal, self._stamp = tools.reaches, tools.journal, tools.stamp()
        self._tools, self._tell = tools, tell
        self._locations = {side: endpoint.location for side, endpoint in tools.endpoints.items()}

    def outlook(self, command: str, authority: Side) -> list[str]:
        """What would happen.

        Raises:
            RefusedError: It makes no sense now.
        """
        if command == "finish" and authority is Side.SOURCE:
            raise RefusedError(
                "The source has authority: there is nothing to finish.",
                "Cut over first, or end it all with: keyferry abort.",
            )
        if command == "abort" and authority is Side.TARGET:
            raise RefusedError(
                "The target has authority already, so the migration cannot be aborted.",
                "Take it back first (keyferry rollback), or go through with it: keyferry finish.",
            )
        live = self._watch.live(authority)
        lines = [
            f"The {authority.other} {self._locations[authority.other]} is not followed to any more: "
            + ("no way back is left." if command == "finish" else "it keeps what was carried."),
            "Keyferry's own keys are deleted on both sides.",
        ]
        if live:
            lines.append(
                f"The phase record on the {authority} stays, because {names_of(live)} "
                f"{'follows' if len(live) == 1 else 'follow'} it."
            )
        return lines

    def end(self, command: str, authority: Side) -> list[str]:
        """Does it; gives what the operator may do now.

        Raises:
            RefusedError: It makes no sense, or writers do not take the last phase.
            ServerError: The side with authority cannot be asked, or refuses.
        """
        self.outlook(command, authority)
        self._lead_out(authority)
        self._watch.look(authority)  # a writer may have come a moment ago
        live = self._watch.live(authority)
        for side in (authority.other, authority):
            keeps = side is authority and bool(live)
            try:
                removed = remove_keys(
                    self._reaches[side], self._settings.name, self._databases(side), keeps_record=keeps
                )
                self._tell(f"Deleted {removed} of Keyferry's keys on the {side}.")
            except ServerError as error:  # away, or read-only (--no-rollback)
                if side is authority:
                    raise
                self._tell(
                    Alert(
                        f"{error.message} Keyferry's keys on the {side} are left: "
                        f"keyferry:{{{self._settings.name}}}:*."
                    )
                )
        if command == "abort":
            self._give_back()
        barred = self._journal.get(FactKey.BARRED) or ""
        said = self._advice(command, authority, barred, len(live))
        how = "finished" if command == "finish" else "aborted"
        self._journal.set(
            FactKey.ENDED, {"how": how, "at_ms": round(time.time() * 1000), "advice": said}, durable=True
        )
        return said

    def _give_back(self) -> None:
        """Rights that a cutover, taken back since, has left taken away: all is to be as it was."""
        for side in Side:
            taken = self._tools.books.taken(side)
            if taken is None:
                continue
            try:
                for sentence in self._tools.bars[side].give_back(taken):
                    self._tell(sentence)
                self._tools.books.took(side, None)
            except ServerError as error:
                how = "; ".join(typed(taken))
                self._tell(Alert(f"{error.message} To give write rights back there: {how}."))

    def _lead_out(self, authority: Side) -> None:
        """Writers that repeat their writes on the other side stop to do so."""
        way = WAY_OUT[authority]
        record = self._watch.look(authority).record
        if record is None or record.phase not in way:
            return
        for phase in way[way.index(record.phase) + 1 :]:
            outcome = Performer(self._store, Plan(phase, False, self._stamp), tell=self._tell).run(STEP_S_MAX)
            if outcome.waiting:
                raise RefusedError(
                    f"{names_of(outcome.waiting)} did not take the phase {phase}.",
                    "Look at that process, then give the command again.",
                )

    def _databases(self, side: Side) -> list[int]:
        copy = self._settings.sync.copy
        own = copy.source.db if side is Side.SOURCE else copy.target.db
        chosen = copy.selection.databases or (0,)
        if side is Side.TARGET:
            chosen = tuple(map(copy.selection.target_database, chosen))
        return sorted({own, *chosen})

    def _advice(self, command: str, authority: Side, barred: str, writers: int) -> list[str]:
        old = authority.other
        if command == "finish":
            said = [f"The {old} {self._locations[old]} is not needed any more: it may be switched off."]
        else:
            said = [f"The {old} {self._locations[old]} holds what was carried until now; nothing follows it."]
        if barred and command == "finish":
            unbarred = (
                "It is not barred: until then a process that still has its address writes there unnoticed."
            )
            said.append(unbarred if "not barred" in barred else barred)
        taken = self._tools.books.taken(old)
        if command == "finish" and taken is not None:
            said.append(f"To let them write there again: {'; '.join(typed(taken))}.")
        if writers:
            said.append(
                f"{writers} {'writer follows' if writers == 1 else 'writers follow'} the phase record on the "
                f"{authority} still. Give them the {authority}'s address alone; the keys keyferry:{{{self._settings.name}}}:* "
                "may be deleted then."
            )
        return said
