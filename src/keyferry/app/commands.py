"""The command tree: what there is to type. What it does stands in copying.py, syncing.py,
verifying.py, checking.py, auditing.py and demo.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keyferry import __version__
from keyferry.app import (
    commands_control,
    commands_report,
    options,
    options_control,
    options_http,
    options_log,
    options_migrate,
)
from keyferry.model.phases import Phase

EXIT_CODES = (
    (0, "all done; check, audit: nothing is in the way; verify: equal"),
    (
        1,
        "done, but some keys failed; verify, demo: the servers differ; phase: a writer has not taken the step; "
        "migrate: aborted; migrate, cutover, rollback: the hook failed",
    ),
    (2, "bad usage or input"),
    (3, "a server cannot be reached, refuses us, or is lost for good"),
    (
        4,
        "refused by a safety check; audit: something to change first; cutover, rollback: not ready, put off or undone",
    ),
    (70, "a mistake in Keyferry itself"),
    (130, "interrupted by Ctrl-C or SIGTERM; the same command goes on"),
)

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in EXIT_CODES)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from keyferry.transfer.relay import IMPLEMENTATION

    click.echo(f"keyferry {__version__} (data path: {IMPLEMENTATION})")
    ctx.exit()


@click.group(
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, and whether the data path is compiled or pure Python.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Move the data of a live Redis or Valkey server to another one."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command(epilog=_EPILOG, short_help="Copy every key of one server to another.")
@options.endpoints
@options.selection
@options.treatment
@options.results
@options_log.logged
@options.pace
@options.access
def copy(source: str, target: str, **given: Any) -> int:
    """Copy every key of SOURCE to TARGET, with its exact value and expiry.

    SOURCE and TARGET are redis://[user[:password]@]host[:port][/db], rediss:// (TLS), valkey://, valkeys://
    or unix:///path[?db=N]. Of a cluster any node will do; redis+cluster://host:port,host:port names several.
    Passwords are better given in KEYFERRY_SOURCE_PASSWORD and KEYFERRY_TARGET_PASSWORD or in a file. Nothing is
    ever written to SOURCE.

    An interrupted copy goes on when the same command is run again.
    """
    from keyferry.app.copying import copy_command

    return copy_command(source, target, given)


@cli.command(epilog=_EPILOG, short_help="Copy, and keep the target equal while the source changes.")
@options.endpoints
@options.following
@options.selection
@options.treatment
@options.results
@options_http.watching
@options_log.logged
@options.pace
@options.access
def sync(source: str, target: str, **given: Any) -> int:
    """Copy every key of SOURCE to TARGET, then carry what changes there, until stopped.

    The addresses are as for "keyferry copy". Nothing is ever written to SOURCE; --enable-notifications changes one
    parameter of it.

    Ctrl-C ends it within 3 seconds. The same command goes on: it compares both servers, and carries what changed
    meanwhile.
    """
    from keyferry.app.syncing import sync_command

    return sync_command(source, target, given)


@cli.command(epilog=_EPILOG, short_help="Lead a migration from the first look to the last.")
@options.endpoints
@options_migrate.migrating
@options.feeding
@options.selection
@options.treatment
@options.results_and_page
@options_http.watching
@options_log.logged
@options.pace
@options.access
def migrate(source: str, target: str, **given: Any) -> int:
    """Copy every key of SOURCE to TARGET, carry what changes, verify, and wait to be told to cut over.

    The addresses are as for "keyferry copy". It runs until it is finished or aborted; other commands speak to it:
    keyferry status, cutover, rollback, finish, ... --name NAME. After a cutover what changes on TARGET is carried back
    to SOURCE, so that a rollback loses nothing.

    Ctrl-C ends it within 3 seconds. The same command goes on.
    """
    from keyferry.app.migrating import migrate_command

    return migrate_command(source, target, given)


@cli.command(epilog=_EPILOG, short_help="Compare two servers, live traffic or not.")
@options_control.endpoints_or_name
@options.comparing
@options.selection
@options.outcome
@options.state
@options_log.logged
@options.pace
@options.access
@click.pass_context
def verify(ctx: click.Context, /, source: str | None, target: str | None, **given: Any) -> int:
    """Compare the keys of SOURCE and TARGET in both directions: names, types, values, expiries.

    The addresses are as for "keyferry copy". Give the same choice of keys and databases as to the copy or sync.
    Without --repair and --delete-extra nothing is written to either server.

    With --name NAME instead of addresses, the running migration of that name compares all keys now, and settles what
    differs.
    """
    if options_control.asks_migration(ctx):
        return commands_control.ask("verify", given)
    from keyferry.app.verifying import verify_command

    return verify_command(str(source), str(target), given)


@cli.command(epilog=_EPILOG, short_help="Look whether a copy would work; write nothing.")
@options.endpoints
@options.selection
@options.treatment
@options.json_option
@options.access
def check(source: str, target: str, **given: Any) -> int:
    """Look at SOURCE and TARGET before anything moves: ok, warning or stop, and what to do about it.

    Writes nothing but one probe key of its own on TARGET, which it deletes at once. The addresses are as for
    "keyferry copy"; give the same options, so that it judges the copy that you mean.
    """
    from keyferry.app.checking import check_command

    return check_command(source, target, given)


@cli.command(epilog=_EPILOG, short_help="Look which commands an application uses, before it writes to both.")
@click.argument("source")
@options.auditing
@options.outcome
@options.access
def audit(source: str, **given: Any) -> int:
    """Look which commands are called on SOURCE, and what each would meet in the phase dual.

    Reads the counters of the server (or of every primary of the cluster) twice, and says of each command whether it is
    repeated on the target as it is, rewritten, or its keys reported; and at the end what to change in the application
    first. Writes nothing. The addresses are as for "keyferry copy".
    """
    from keyferry.app.auditing import audit_command

    return audit_command(source, given)


@cli.group(
    epilog=_EPILOG,
    short_help="Show or set the phase of a migration that clients follow.",
    invoke_without_command=True,
)
@click.pass_context
def phase(ctx: click.Context) -> None:
    """The phase of a migration: which server the applications read and write now.

    It is one record per side, on the servers themselves. Applications that use Keyferry's clients with
    migration=NAME follow it.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@phase.command("show", epilog=_EPILOG, short_help="Show both records and the live writers.")
@click.argument("name")
@options.endpoints
@options.json_option
@options.access
def phase_show(name: str, source: str, target: str, **given: Any) -> int:
    """Show what both sides say of the migration NAME, and which writers are registered.

    The addresses are as for "keyferry copy"; the database in an address is where the record is. Writes nothing.
    """
    from keyferry.app.phase import show_command

    return show_command(name, source, target, given)


@phase.command("set", epilog=_EPILOG, short_help="Take one step, and wait for the writers.")
@click.argument("name")
@options.endpoints
@click.argument("phase", type=click.Choice([str(phase) for phase in Phase]), metavar="PHASE")
@options.stepping
@options.json_option
@options.access
def phase_set(name: str, source: str, target: str, phase: str, **given: Any) -> int:
    """Bring the migration NAME one step on, or back, and wait until every live writer has taken it.

    Creates the record if there is none: it begins in the phase source. PHASE is source, dual, shadow, hold,
    target-dual or target, and only a neighbour of the present one is taken. Giving the same command again goes on
    waiting.

    From hold to target-dual the target gets authority, and from hold to dual of a rollback the source: only when
    that side has been settled and verified since the hold; say so with --yes.
    """
    from keyferry.app.phase import set_command

    return set_command(name, source, target, phase, given)


@cli.command(
    epilog=_EPILOG, short_help="Move one server to another, both started for it, under writers, and prove it."
)
@click.option(
    "--keys",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    metavar="N",
    help="Keys that are there when it begins. Default: 100000.",
)
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="BINARY",
    help="Server program to use as source instead of the embedded Redis.",
)
@click.option(
    "--target",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="BINARY",
    help="Server program to use as target instead of the embedded Valkey.",
)
@options_http.watched_anyway
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    hidden=True,
    help="Draw the run as a picture (SVG).",
)
def demo(**given: Any) -> int:
    """Move one server to another while it is written to, both started for it, and prove that nothing is lost.

    The source is filled with keys of every type, name and expiry; a service writes to it and reads all the time while a
    migration copies, follows, cuts over, goes back and cuts over again. Then it stops, and its acknowledged writes are
    counted on the target. The dashboard shows it all; the report of the migration, keyferry-demo-report.html in the
    working directory, is all that is left.
    """
    from keyferry.app.demo import demo_command

    return demo_command(**given)


commands_control.add_to(cli, _EPILOG)
commands_report.report.epilog = _EPILOG
cli.add_command(commands_report.report)
