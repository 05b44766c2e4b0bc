"""Writes options, exit codes, metrics and what becomes of the servers' commands into the pages of docs/, between two
markers.

``python -m keyferry.app.helpdoc`` from the project's root brings the pages up to date; a test compares them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from keyferry.app import commands_control
from keyferry.app.commanddoc import commands_section
from keyferry.app.commands import EXIT_CODES, cli
from keyferry.app.dashboard.metricdoc import metrics_section

_SECTION = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def sections() -> dict[str, str]:
    """The generated text by the name in its marker: one per command, ``phases`` for the group, ``operating`` for
    the commands that speak to a migration, ``exit-codes``, ``metrics``, and ``commands``, which is about the servers'
    own."""
    found = {"exit-codes": exit_code_section(), "commands": commands_section(), "metrics": metrics_section()}
    speaking = [str(command.name) for command in commands_control.COMMANDS]
    found["operating"] = "\n".join(command_section(name, cli.commands[name]) for name in speaking)
    for name, command in cli.commands.items():
        if name in speaking:
            continue
        if isinstance(command, click.Group):
            # A group has one page about what its commands are for.
            parts = (command_section(f"{name} {part}", one) for part, one in command.commands.items())
            found[f"{name}s"] = "\n".join(parts)
        else:
            found[name] = command_section(name, command)
    return found


def command_section(name: str, command: click.Command) -> str:
    """Usage line and a table of the options that are not hidden."""
    arguments = [
        parameter.human_readable_name.upper() for parameter in command.params if is_argument(parameter)
    ]
    lines = [
        f"    keyferry {' '.join([name, *arguments])} [OPTIONS]",
        "",
        "| option | meaning |",
        "|---|---|",
    ]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            value = f" {parameter.metavar}" if parameter.metavar else ""
            written = f"`{', '.join(parameter.opts)}{value}`".replace("|", "\\|")
            lines.append(f"| {written} | {parameter.help} |")
    return "\n".join(lines) + "\n"


def is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def exit_code_section() -> str:
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES]
    return "\n".join(["| status | meaning |", "|---|---|", *rows]) + "\n"


def renewed(page: str) -> str:
    """The page with every generated section as it has to be.

    Raises:
        KeyError: A marker names a section that does not exist.
    """
    known = sections()
    return _SECTION.sub(lambda match: match[1] + known[match["name"]] + match[3], page)


def section_names(page: str) -> list[str]:
    return [match["name"] for match in _SECTION.finditer(page)]


def main(directory: Path) -> None:
    for file in sorted(directory.glob("*.md")):
        page = file.read_text(encoding="utf-8")
        text = renewed(page)
        if text != page:
            file.write_text(text, encoding="utf-8")
            print(f"{file} renewed")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
