"""Settles keys that differ: as ``copy --on-conflict replace`` carries them, the source wins; and deletes extra ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from keyferry.copy.connect import Sides
from keyferry.copy.crew import Crew
from keyferry.copy.passes import PassContext, Task
from keyferry.copy.probe import Probe
from keyferry.copy.replies import Verdict, stopping_error, verdict
from keyferry.copy.settings import CopySettings
from keyferry.copy.settled import Failure, SettledPages
from keyferry.copy.watch import Watch
from keyferry.verify.routes import Place, Routes, TargetDatabase
from keyferry.wire.resp import ReplyError

KEYS_AT_ONCE = 500


def settle_keys(
    settings: CopySettings,
    sides: Sides,
    routes: Routes,
    places: Sequence[Place],
    *,
    owner: bytes,
    probes: Callable[[], list[Probe]],
    on_turn: Callable[[], None],
) -> list[Failure]:
    """Makes the target's keys the source's; what the source does not have (any more) is deleted on the target.

    Args:
        owner: Of temporary names.
        probes: Opens those that the guard listens to.
        on_turn: Called every few milliseconds; ends the work by raising.

    Returns:
        What could not be carried, and why.

    Raises:
        ServerAway, ServerBusy: A server cannot answer now; settled keys may be settled again.
        ServerError: One refuses for good.
    """
    failures: list[Failure] = []
    wins = replace(settings, on_conflict="replace", keep_eviction_hints=False)
    watch = Watch(wins, lambda progress: None)

    def on_settled(task: Task, pages: SettledPages) -> None:
        failures.extend(pages.failures)

    context = PassContext(
        settings=wins,
        sides=sides,
        pace=watch.pace,
        ask_expiry=True,
        is_foreign=lambda database, key: True,
        on_source_moved=lambda slot: None,
        on_target_met=lambda shard, run_id: None,
        owner=owner,
    )
    crew = Crew(context, watch, probes(), on_settled=on_settled, on_done=lambda task: None, on_turn=on_turn)
    with crew:
        crew.run(_tasks(routes, places))
    return failures


def _tasks(routes: Routes, places: Sequence[Place]) -> list[Task]:
    keys: dict[tuple[str, int], list[bytes]] = {}
    for database, key in places:
        keys.setdefault((routes.shard_of("source", key), database), []).append(key)
    return [Task(shard, database, keys=tuple(own)) for (shard, database), own in keys.items()]


def delete_extra(routes: Routes, places: Sequence[Place], target_database: TargetDatabase) -> list[Place]:
    """Deletes on the target what the source, asked once more, still does not have. Gives what was deleted.

    Raises:
        ServerAway, ServerBusy: A server cannot answer now.
        ServerError: The target does not let us delete.
    """
    deleted: list[Place] = []
    for begin in range(0, len(places), KEYS_AT_ONCE):
        portion = places[begin : begin + KEYS_AT_ONCE]
        lacking = [
            place
            for place, (found,) in routes.ask("source", portion, lambda key: [("EXISTS", key)])
            if found == 0
        ]
        for place, (reply,) in routes.ask(
            "target", lacking, lambda key: [("UNLINK", key)], database_of=target_database
        ):
            if reply == 1:
                deleted.append(place)
            elif isinstance(reply, ReplyError) and verdict(reply.message) is Verdict.STOP:
                raise stopping_error("target", reply.message)
    return deleted
