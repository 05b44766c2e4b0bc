"""The options of whatever can be watched in a browser while it runs."""

from __future__ import annotations

import click

from keyferry.app.http_place import HttpPlace, check_host_name, parse_place
from keyferry.app.options import F
from keyferry.model.errors import UsageError


def http_place(text: str) -> HttpPlace:
    """``[HOST:]PORT``."""
    try:
        return parse_place(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def host_name(text: str) -> str:
    """A name that browsers may ask for."""
    try:
        return check_host_name(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def watching(command: F) -> F:
    """Whether there is a dashboard, and where."""
    return _http(
        "Serve a dashboard, its API and metrics while it runs, on this machine alone unless HOST says otherwise. What "
        "acts needs the token that is printed. Port 0 takes any that is free. Default: none.",
        command,
    )


def watched_anyway(command: F) -> F:
    """Where the dashboard is."""
    return _http("Where its dashboard is. Default: any free port of 127.0.0.1.", command)


def _http(meaning: str, command: F) -> F:
    return click.option("--http", type=http_place, metavar="[HOST:]PORT", help=meaning)(
        click.option(
            "--http-host",
            type=host_name,
            multiple=True,
            metavar="NAME",
            help="A further name that browsers may reach the dashboard by, as behind a reverse proxy. Repeatable.",
        )(command)
    )
