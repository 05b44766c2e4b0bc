"""The commands that speak to a running migration, in another terminal; what they do stands in controlling.py."""

from __future__ import annotations

from typing import Any

import click

from keyferry.app import options_control


@click.command(short_help="Show where a running migration is.")
@options_control.addressed
@click.option(
    "--watch",
    is_flag=True,
    help="Show it again and again, until q or Ctrl-C; on a log or a pipe, a line whenever something changed.",
)
def status(**given: Any) -> int:
    """Show where a running migration is: what it does, what is missing for a cutover, who writes."""
    from keyferry.app.status import status_command

    return status_command(given)


@click.command(short_help="Stop every write of a running migration.")
@options_control.addressed
def pause(**given: Any) -> int:
    """Stop everything that the migration writes or reads of the keys; what changes meanwhile is remembered."""
    return ask("pause", given)


@click.command(short_help="Go on after a pause.")
@options_control.addressed
def unpause(**given: Any) -> int:
    """Go on after "keyferry pause"."""
    return ask("unpause", given)


@click.command(short_help="Change how fast a running migration works.")
@options_control.throttling
@options_control.addressed
def throttle(**given: Any) -> int:
    """Change how fast the running migration works, at once. It is forgotten when the migration is started again."""
    if given["max_rate"] is None and given["max_latency_ms"] is None:
        raise click.UsageError("Give --max-rate, --max-latency or both.")
    return ask("throttle", given)


@click.command(short_help="Switch the service to the target; look first.")
@options_control.acting
@options_control.gated
@options_control.onward
@options_control.addressed
def cutover(**given: Any) -> int:
    """Give authority to the target: writes wait for some milliseconds, and go there from then on.

    Without --yes: what would be done, what it would cost, and what is not ready. What is late or wrong before the
    switch is made is undone, and the application has only waited.
    """
    return ask("cutover", {**given, "rollback": not given["no_rollback"]})


@click.command(short_help="Take a cutover back; look first.")
@options_control.acting
@options_control.gated
@click.option(
    "--on-rollback",
    metavar="COMMAND",
    help="Run this afterwards, instead of what keyferry migrate was told.",
)
@options_control.addressed
def rollback(**given: Any) -> int:
    """Give authority back to the source, with everything that was written to the target since.

    Without --yes: what would be done, what it would cost, and what is not ready.
    """
    return ask("rollback", given)


@click.command(short_help="End a migration after its cutover.")
@options_control.acting
@options_control.addressed
def finish(**given: Any) -> int:
    """End the migration: nothing is carried back any more, Keyferry's keys are deleted on both servers.

    Without --yes: what would be done. Afterwards there is no rollback.
    """
    return ask("finish", given)


@click.command(short_help="Give a migration up before its cutover.")
@options_control.acting
@options_control.addressed
def abort(**given: Any) -> int:
    """Give the migration up: the source stays what it is, the target keeps what was carried.

    Without --yes: what would be done.
    """
    return ask("abort", given)


def ask(command: str, given: dict[str, Any]) -> int:
    """Asks the running migration that ``given`` names."""
    from keyferry.app.controlling import control_command

    return control_command(command, given)


COMMANDS = (status, pause, unpause, throttle, cutover, rollback, finish, abort)


def add_to(group: click.Group, epilog: str) -> None:
    """Makes them commands of ``group``."""
    for command in COMMANDS:
        command.epilog = epilog
        group.add_command(command)
