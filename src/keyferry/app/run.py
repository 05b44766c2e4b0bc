"""Every way in which a command can end: what is said on standard error, and the exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from keyferry.app.commands import cli
from keyferry.app.hide import redact
from keyferry.app.output import console_on
from keyferry.model.errors import ExitCode, KeyferryError

DEBUG_VARIABLE = "KEYFERRY_DEBUG"
OWN_FAULT = 70
"""Exit status for a mistake of Keyferry's own (EX_SOFTWARE of sysexits.h)."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    try:
        status = cli.main(args=list(arguments), prog_name="keyferry", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "keyferry"
        return _said(redact(error.format_message()), f"See: {command} --help", ExitCode.USAGE)
    except click.ClickException as error:
        return _said(redact(error.format_message()), "", ExitCode.USAGE)
    except KeyferryError as error:
        return _said(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _said("Interrupted.", "", ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 (the outermost rim: a traceback helps nobody on call)
        return _own_fault(error)
    return int(status or 0)


def _said(message: str, hint: str, status: int) -> int:
    console = console_on(sys.stderr)
    style = "yellow" if status == ExitCode.INTERRUPTED else "bold red"
    label = "" if status == ExitCode.INTERRUPTED else "error: "
    console.print(Text.assemble((label, style), message))
    if hint:
        console.print(Text(hint))
    return status


def _own_fault(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    # Not the error's own text: it may hold what a key or an address holds.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return _said(
        f"This is a mistake in Keyferry itself ({type(error).__name__}{place}).",
        f"Please report it, with what {DEBUG_VARIABLE}=1 prints.",
        OWN_FAULT,
    )
