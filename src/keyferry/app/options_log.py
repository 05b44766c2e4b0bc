"""The options of the log, for the commands that run for long; and the log itself, opened around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from keyferry.app.log import Level, LogWishes, RunLog
from keyferry.app.options import F

LEVELS = tuple(level.name.lower() for level in Level)


def logged(command: Callable[..., Any]) -> Callable[..., int]:
    """Opens the log that the options wish, gives it to the command as ``log``, and notes how that ends.

    ``--show-keys`` stays among what the command is given.
    """

    @wraps(command)
    def run(*args: Any, **given: Any) -> int:
        level = given.pop("log_level")
        wishes = LogWishes(
            given.pop("log_file"), given.pop("log_json"), None if level is None else Level[level.upper()]
        )
        name = given.get("name")
        with RunLog(wishes, {"name": name} if name else None) as log:
            return log.watch(lambda: command(*args, **given, log=log))

    return _options(run)


def _options(command: F) -> F:
    for option in reversed(
        (
            click.option(
                "--log-file",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Append a log to FILE, one line per event, beside what is shown. It may be rotated meanwhile.",
            ),
            click.option(
                "--log-json",
                is_flag=True,
                help="Write the log's lines as JSON objects instead of key=value. Without --log-file they go to "
                "standard error, in place of what is shown there.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(LEVELS),
                metavar="|".join(LEVELS),
                help="Log what is at least so important. Without --log-file to standard error, as --log-json. "
                "Default: info.",
            ),
            click.option(
                "--show-keys",
                is_flag=True,
                help="Say names of keys in messages, in the status and in the log; else a short hash stands for each. "
                "Values are never said.",
            ),
        )
    ):
        command = option(command)
    return command
