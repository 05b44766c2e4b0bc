"""What can be asked of a running migration, and what it answers: values, checked where they come in, and their lines.

A request and each answer is one JSON object on one line:

    {"command": "cutover", "options": {"yes": true}}
    {"said": "Writers hold.", "facts": {}}        any number of them, as things happen
    {}                                            a sign of life while nothing happens
    {"end": "...", "hint": "", "exit_code": 0, "facts": {}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyferry.cutover.plan import Gate
from keyferry.model.errors import UsageError
from keyferry.model.phases import Phase

REQUEST_BYTES_MAX = 64 * 1024
"""Of one line, its end included."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""The same: a status names every writer."""
TEXT_CHARS_MAX = 4096

Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Option:
    """What an option may be.

    Attributes:
        default: Where it is not given. None stands for what ``keyferry migrate`` was told, or for "as it is".
        kind: What it has to be, for people.
    """

    default: object
    kind: str
    fits: Check


def _is_number(value: object, least: float) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and value >= least
    except OverflowError:  # JSON has integers that no float is as large as.
        return False


def _word(*words: str) -> Option:
    kind = f"one of {', '.join(words)}"
    return Option(None, kind, lambda value: value is None or value in words)


_YES = Option(False, "true or false", lambda value: isinstance(value, bool))
_LIMIT = Option(None, "a number, 0 for none", lambda value: value is None or _is_number(value, 0.0))
_SECONDS = Option(
    None, "seconds, above 0", lambda value: value is None or (_is_number(value, 0.0) and value != 0)
)
_SHELL = Option(
    None,
    f"a command of up to {TEXT_CHARS_MAX} characters",
    lambda value: value is None or (isinstance(value, str) and len(value) <= TEXT_CHARS_MAX),
)
_SWITCH: Mapping[str, Option] = {"yes": _YES, "gate": _word(*Gate), "timeout_s": _SECONDS}

COMMANDS: Mapping[str, Mapping[str, Option]] = {
    "status": {},
    "history": {"after_ms": Option(0, "milliseconds since 1970", lambda value: _is_number(value, 0.0))},
    "report": {},
    "pause": {},
    "unpause": {},
    "throttle": {"max_rate": _LIMIT, "max_latency_ms": _LIMIT},
    "verify": {},
    "cutover": {
        **_SWITCH,
        "rollback": Option(True, "true or false", lambda value: isinstance(value, bool)),
        "on_cutover": _SHELL,
        "phase": _word(Phase.TARGET, Phase.TARGET_DUAL),
    },
    "rollback": {**_SWITCH, "on_rollback": _SHELL},
    "finish": {"yes": _YES},
    "abort": {"yes": _YES},
}
"""Commands and their options. The first three only look (LOOKS): the desk answers them at once. ``yes``: act; without it the answer is what would happen. ``rollback``: False leaves
the way back out of this cutover; True leaves it to what ``keyferry migrate`` was told."""
LOOKS = frozenset({"status", "history", "report"})


@dataclass(frozen=True, slots=True)
class Request:
    """One of ``COMMANDS``, always whole: options that are not given have their defaults.

    Raises:
        UsageError: There is no such command or option, or a value does not fit.
    """

    command: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = COMMANDS.get(self.command)
        if known is None:
            raise UsageError(
                f"A migration knows no command {self.command[:40]!r}.", "Is its Keyferry an older one?"
            )
        for name, value in self.options.items():
            if name not in known:
                raise UsageError(
                    f"The command {self.command} has no option {name[:40]!r}.",
                    "Is its Keyferry an older one?",
                )
            if not known[name].fits(value):
                raise UsageError(f"The option {name} of {self.command} has to be {known[name].kind}.")
        defaults = {name: option.default for name, option in known.items()}
        object.__setattr__(self, "options", {**defaults, **self.options})

    def line(self) -> bytes:
        return _line({"command": self.command, "options": dict(self.options)})


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence on the way."""

    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        return _line({"said": self.sentence, "facts": dict(self.facts)})


@dataclass(frozen=True, slots=True)
class End:
    """The last answer to a request.

    Attributes:
        exit_code: As of a command; 0 where it was done.
        hint: What to do; may be empty.
    """

    exit_code: int
    sentence: str
    hint: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        return _line(
            {
                "end": self.sentence,
                "hint": self.hint,
                "exit_code": int(self.exit_code),
                "facts": dict(self.facts),
            }
        )


Event = Said | End
ALIVE = b"{}\n"


def check_request(data: object) -> Request:
    """The request that a line's JSON holds.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(data, dict):
        raise UsageError("A request has to be a JSON object.")
    command, options = data.get("command"), data.get("options", {})
    if not isinstance(command, str) or not isinstance(options, dict):
        raise UsageError("A request has to have a command, and options by their names.")
    return Request(command, options)


def request_of(line: bytes) -> Request:
    """The request of a line. Raises as ``check_request``."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("A request has to be one line of JSON.") from None
    return check_request(data)


def event_of(line: bytes) -> Event | None:
    """The answer of a line; None for a sign of life.

    Raises:
        ValueError: It is no answer.
    """
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("an answer has to be an object")
    facts = data.get("facts", {})
    if not isinstance(facts, dict):
        raise ValueError("facts have to be an object")
    if "end" in data:
        return End(int(data["exit_code"]), str(data["end"]), str(data.get("hint", "")), facts)
    return Said(str(data["said"]), facts) if "said" in data else None


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, default=str).encode("ascii") + b"\n"
