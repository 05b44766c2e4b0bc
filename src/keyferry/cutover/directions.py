"""The two directions of a migration: each is a run that makes one side follow the other.

Between them everything is swapped: addresses, maps of clusters, databases. The run itself always follows a "source"
and writes to a "target"; what it says is put into the migration's words here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keyferry.copy.stop import StopFlag
from keyferry.cutover.settings import MigrationSettings
from keyferry.cutover.words import swap_sides
from keyferry.follow.run import FollowRun, Lead, sync_name
from keyferry.follow.settings import SyncSettings
from keyferry.journal.state import State
from keyferry.model.errors import KeyferryError, ServerError
from keyferry.model.phases import Side
from keyferry.model.selection import Selection
from keyferry.telemetry.following import SyncObserver


def settings_of(settings: MigrationSettings, authority: Side) -> SyncSettings:
    """What the run does that follows the side with authority."""
    sync = settings.sync
    if authority is Side.SOURCE:
        return sync
    copy = sync.copy
    back = replace(
        copy,
        source=copy.target,
        target=copy.source,
        source_map=copy.target_map,
        target_map=copy.source_map,
        selection=_inverse(copy.selection),
        on_conflict="replace",
        failures_file=None,
        restart=False,
    )
    return replace(sync, copy=back, accept_shrunk_source=False)


def _inverse(selection: Selection) -> Selection:
    databases = selection.databases
    return replace(
        selection,
        databases=None
        if databases is None
        else tuple(selection.target_database(database) for database in databases),
        database_map={target: source for source, target in selection.database_map.items()},
    )


def told_by(authority: Side, tell: Callable[[str], None]) -> Callable[[str], None]:
    """Takes what the run of a direction says."""
    if authority is Side.SOURCE:
        return tell
    # An alert stays one.
    return lambda sentence: tell(type(sentence)(swap_sides(sentence)))


def said_by(authority: Side, error: KeyferryError) -> KeyferryError:
    """An error of the run of a direction, in the migration's words."""
    if authority is Side.TARGET:
        error.message, error.hint = swap_sides(error.message), swap_sides(error.hint)
        if isinstance(error, ServerError):
            error.side = "target" if error.side == "source" else "source"
    return error


class Direction:
    """One run and its checkpoint. Closed as a whole.

    Args:
        equal: Both sides were equal once: nothing on the other side is a stranger's.
        fresh: What an earlier run of this direction has left does not count: a switch makes both sides equal now.
    """

    def __init__(
        self,
        settings: MigrationSettings,
        authority: Side,
        lead: Lead,
        observe: SyncObserver,
        tell: Callable[[str], None],
        stop: StopFlag,
        *,
        equal: bool = False,
        fresh: bool = False,
    ) -> None:
        self.authority = authority
        its = settings_of(settings, authority)
        name = sync_name(its)
        self.settings = its
        self._state = State(its.copy.state_dir, name, restart=its.copy.restart or fresh, kind="sync")
        try:
            self.run = FollowRun(
                its,
                self._state,
                name,
                observe,
                told_by(authority, tell),
                stop,
                lead=lead,
                equal=equal,
            )
        except BaseException:
            self._state.close()
            raise

    def close(self, *, finished: bool = False) -> None:
        """Ends the run's connections; ``finished`` forgets the checkpoint, too."""
        try:
            self.run.close()
        finally:
            self._state.close(finished)
