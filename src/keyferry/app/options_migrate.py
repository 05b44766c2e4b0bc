"""The options that only ``keyferry migrate`` has."""

from __future__ import annotations

import click

from keyferry.app.options import F
from keyferry.cutover.plan import Gate
from keyferry.model.errors import UsageError
from keyferry.model.record import check_name


def migration_name(text: str) -> str:
    """A name that a phase record may have."""
    try:
        return check_name(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def migrating(command: F) -> F:
    """Which migration, when it is ready, and how it is switched."""
    command = switching(command)
    for option in reversed(
        (
            click.option(
                "--name",
                type=migration_name,
                required=True,
                metavar="NAME",
                help="Of the migration: the same as in your application's clients, and for keyferry status, cutover "
                "and the other commands that speak to it.",
            ),
            click.option(
                "--cutover-when-ready",
                is_flag=True,
                help="Cut over once, as soon as nothing speaks against it. Default: wait to be told.",
            ),
            click.option(
                "--verify-every",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="Compare all keys again so often while it waits. Default: 1800.",
            ),
            click.option(
                "--lag-target",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="Not ready while the oldest change that is not on the other side yet is older. Default: 1.",
            ),
        )
    ):
        command = option(command)
    return command


def switching(command: F) -> F:
    """How writes are made to wait, for how long, and what else is done."""
    for option in reversed(
        (
            click.option(
                "--gate",
                type=click.Choice([gate.value for gate in Gate]),
                metavar="|".join(Gate),
                help="What makes writes wait in a switch: Keyferry's clients by themselves, CLIENT PAUSE on the server, "
                "both, or nothing because you have stopped the writers. Default: what the situation allows, no weaker.",
            ),
            click.option(
                "--cutover-timeout",
                type=click.FloatRange(min=0, min_open=True, max=30),
                metavar="SECONDS",
                help="The longest that writes may wait in a switch; then everything is put back as it was. Default: 5.",
            ),
            click.option(
                "--prepare-timeout",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="How long each writer may take to say that it is ready, before anybody waits. Default: 2.",
            ),
            click.option(
                "--no-rollback",
                is_flag=True,
                help="Do not follow the target back to the source after a cutover: it cannot be taken back then.",
            ),
            click.option(
                "--on-cutover",
                metavar="COMMAND",
                help="Run this after a cutover, such as a change of DNS. It runs in /bin/sh, with the facts in KEYFERRY_... variables.",
            ),
            click.option("--on-rollback", metavar="COMMAND", help="The same after a rollback."),
        )
    ):
        command = option(command)
    return command
