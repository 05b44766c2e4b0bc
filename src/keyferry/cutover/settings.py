"""What a migration is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.cutover.plan import Gate
from keyferry.follow.settings import SyncSettings


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """Everything that ``keyferry migrate`` takes.

    Attributes:
        sync: Of the way from the source to the target. ``sync.name`` is the migration's name, and
            ``sync.lag_target_s`` the lag above which it is not ready for a cutover.
        name: Of the migration, as the clients and the phase record say it.
        gate: What makes writes wait in a switch; None: what the situation allows, and no weaker.
        cutover_when_ready: Cut over once, without being told.
        verify_every_s: All keys are compared again so often.
        on_cutover: A shell command that is run after a cutover, ``on_rollback`` after a rollback.
        rollback: After a cutover the target is followed back to the source, so that it can be taken back.
        timeout_s: The longest that writes may wait in a switch; then it is undone.
        prepare_timeout_s: How long every writer may take to say that it is ready; nobody waits meanwhile.
    """

    sync: SyncSettings
    name: str
    gate: Gate | None = None
    cutover_when_ready: bool = False
    verify_every_s: float = 1800.0
    on_cutover: str | None = None
    on_rollback: str | None = None
    rollback: bool = True
    timeout_s: float = 5.0
    prepare_timeout_s: float = 2.0
