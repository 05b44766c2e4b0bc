"""What operators ask of a running migration, for its log: a change of a service needs to be known by whom and when."""

from __future__ import annotations

from keyferry.app.log import Level, RunLog
from keyferry.app.log_lines import Value
from keyferry.cutover.requests import COMMANDS, End, Request
from keyferry.model.errors import ExitCode

_COMMANDS_OF_SHELLS = ("on_cutover", "on_rollback")


class RequestLog:
    """The clerk of a desk (cutover/desk.py). What it notes waits for nobody."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def asked(self, request: Request, process: int | None) -> None:
        who = "" if process is None else f" by process {process}"
        self._log.say("requested", f"Asked{who}: {request.command}.", **_fields(request, process))

    def answered(self, request: Request, process: int | None, end: End) -> None:
        level = Level.INFO if end.exit_code == ExitCode.DONE else Level.WARNING
        fields = {**_fields(request, process), "exit_code": int(end.exit_code), "hint": end.hint or None}
        self._log.say("answered", end.sentence, level, **fields)


def _fields(request: Request, process: int | None) -> dict[str, Value]:
    """``yes``, and what is not as usual. A shell's command may hold what is nobody's business."""
    fields: dict[str, Value] = {"command": request.command, "by_process": process}
    for name, value in request.options.items():
        if name == "yes" or value != COMMANDS[request.command][name].default:
            fields[name] = True if name in _COMMANDS_OF_SHELLS else value
    return fields
