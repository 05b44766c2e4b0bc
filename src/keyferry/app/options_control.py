"""The options of the commands that speak to a running migration."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from keyferry.app.options import F, amount
from keyferry.app.options_migrate import migration_name
from keyferry.cutover.plan import Gate
from keyferry.model.phases import Phase


def addressed(command: F) -> F:
    """Which migration, and how it answers."""
    for option in reversed(
        (
            click.option(
                "--name",
                type=migration_name,
                metavar="NAME",
                help="Of the migration. May be left out when exactly one runs with this state directory.",
            ),
            click.option(
                "--state-dir",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIRECTORY",
                help="The state directory of keyferry migrate. Default: .keyferry",
            ),
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                help="Print the answer as one JSON object on standard output; everything else goes to standard error.",
            ),
        )
    ):
        command = option(command)
    return command


def endpoints_or_name(command: F) -> F:
    """SOURCE and TARGET, or the name of a running migration."""
    command = click.option(
        "--name",
        type=migration_name,
        metavar="NAME",
        help="Instead of SOURCE and TARGET: ask the running migration of this name. Of the other options only "
        "--state-dir and --json go with it.",
    )(command)
    target = click.argument("target", required=False)
    return click.argument("source", required=False)(target(command))


def asks_migration(ctx: click.Context) -> bool:
    """Whether a command with ``endpoints_or_name`` is about a running migration.

    Raises:
        click.UsageError: Something is missing, or given that does not go with a name.
    """
    given = {
        parameter.name: parameter
        for parameter in ctx.command.params
        if parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    if "name" not in given:
        for name in ("source", "target"):
            if ctx.params[name] is None:
                raise click.UsageError(f"Missing argument '{name.upper()}' (or --name NAME).", ctx)
        return False
    for name, parameter in given.items():
        if name not in ("name", "state_dir", "as_json"):
            said = parameter.opts[0] if isinstance(parameter, click.Option) else name.upper()
            raise click.UsageError(f"{said} does not go with --name.", ctx)
    return True


def acting(command: F) -> F:
    """Look first, act when told."""
    return click.option(
        "--yes", is_flag=True, help="Do it. Without this nothing happens but to say what would be done."
    )(command)


def gated(command: F) -> F:
    """How writes are made to wait, this time."""
    return click.option(
        "--gate",
        type=click.Choice([gate.value for gate in Gate]),
        metavar="|".join(Gate),
        help="What makes writes wait. Default: what keyferry migrate was told, else what the situation allows, no weaker.",
    )(
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0, min_open=True, max=30),
            metavar="SECONDS",
            help="The longest that writes may wait; then everything is put back as it was. Default: what keyferry "
            "migrate was told.",
        )(command)
    )


def onward(command: F) -> F:
    """What only a cutover has."""
    for option in reversed(
        (
            click.option(
                "--no-rollback",
                is_flag=True,
                help="Do not follow the target back to the source: this cutover cannot be taken back then.",
            ),
            click.option(
                "--phase",
                type=click.Choice([Phase.TARGET.value, Phase.TARGET_DUAL.value]),
                metavar="target|target-dual",
                help="The phase that begins. Default: target-dual where Keyferry's clients write to both servers, "
                "else target.",
            ),
            click.option(
                "--on-cutover",
                metavar="COMMAND",
                help="Run this afterwards, instead of what keyferry migrate was told.",
            ),
        )
    ):
        command = option(command)
    return command


def throttling(command: F) -> F:
    """How fast, at most."""
    return click.option(
        "--max-rate",
        type=limit,
        metavar="KEYS",
        help="Keys per second at most, such as 50K; 0: no limit. Default: as it is.",
    )(
        click.option(
            "--max-latency",
            "max_latency_ms",
            type=click.FloatRange(min=0),
            metavar="MS",
            help="Slow down when either server answers this many milliseconds later than at rest; 0 is off. "
            "Default: as it is.",
        )(command)
    )


def limit(text: str) -> float:
    """As ``amount``; 0 is allowed."""
    return 0.0 if text.strip() == "0" else amount(text)
