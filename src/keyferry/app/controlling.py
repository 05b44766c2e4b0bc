"""Asking a running migration something from another terminal: finds it, passes on what it says, ends as it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from keyferry.app.delivery import errors_delivered
from keyferry.app.display_migrate import DEFAULT_STATE_DIR, address
from keyferry.app.output import console_on, emit, emit_json
from keyferry.cutover.control_client import ask
from keyferry.cutover.control_place import control_path, live_paths, name_of
from keyferry.cutover.requests import COMMANDS, End, Request, Said
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, RefusedError, UsageError

TOO_EARLY = (
    "Interrupted. What was asked goes on where the migration has begun it; keyferry status tells. "
    "What it has not begun is withdrawn."
)
_ERRORS: Mapping[int, type[KeyferryError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.REFUSED: RefusedError,
    ExitCode.INTERRUPTED: InterruptedRun,
}
_COMMAND = re.compile(rf"\bkeyferry (?:{'|'.join(COMMANDS)})\b(?!-| [-A-Z])")


def control_command(command: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Args:
        options: By their names in ``COMMANDS``, and ``name``, ``state_dir``, ``as_json``.

    Raises:
        KeyferryError: Nobody could be asked, or the answer is no.
    """
    facts: dict[str, Any] = {}
    with errors_delivered({"as_json": options["as_json"], "report": None}, TOO_EARLY, lambda: facts):
        path = find(options["name"], options["state_dir"])
        known = COMMANDS[command]
        request = Request(command, {name: value for name, value in options.items() if name in known})
        where = address(name_of(path), path.parent)
        end = ask(path, request, _teller(where))
        facts.update(end.facts)
        if end.exit_code not in (ExitCode.DONE, ExitCode.KEYS_FAILED):
            if not options["as_json"]:
                _print_lines(end, where)
            raise _error(end, where)
    if options["as_json"]:
        said = {"done": end.sentence, "hint": end.hint, "exit_code": end.exit_code}
        emit_json({"name": name_of(path), "command": command, **said, **end.facts})
    else:
        emit(Text(addressed(end.sentence, where), style="bold green" if not end.exit_code else "bold yellow"))
        _print_lines(end, where)
        if end.hint:
            emit(Text(addressed(end.hint, where)))
    return end.exit_code


def find(name: str | None, state_dir: Path | None) -> Path:
    """The control path of the migration of this name, or of the only one that runs.

    Raises:
        UsageError: Without a name: none runs with this state directory, or several do.
    """
    directory = state_dir or DEFAULT_STATE_DIR
    if name is not None:
        return control_path(directory, name)
    paths = list(live_paths(directory))
    if not paths:
        raise UsageError(
            f"No migration runs with the state directory {directory}.",
            "Start one with keyferry migrate, or name its --state-dir.",
        )
    if len(paths) > 1:
        raise UsageError(
            f"Several migrations run with the state directory {directory}: {', '.join(map(name_of, paths))}.",
            "Say which one is meant with --name.",
        )
    return paths[0]


def addressed(text: str, where: str) -> str:
    """The text with every command in it as it has to be typed for this migration."""
    return _COMMAND.sub(lambda match: f"{match[0]} {where}", text)


def _teller(where: str) -> Callable[[Said], None]:
    console = console_on(sys.stderr)

    def tell(said: Said) -> None:
        console.print(Text(addressed(said.sentence, where)))

    return tell


def _print_lines(end: End, where: str) -> None:
    for line in end.facts.get("lines", ()):
        emit(Text(f"  {addressed(str(line), where)}"))


def _error(end: End, where: str) -> KeyferryError:
    kind = _ERRORS.get(end.exit_code, KeyferryError)
    return kind(addressed(end.sentence, where), addressed(end.hint, where))
