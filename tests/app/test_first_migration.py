"""docs/first-migration.md can be followed as it stands: its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from keyferry.app.commands import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "first-migration.md").read_text(encoding="utf-8")
_TYPED = re.compile(
    r"^ +(?:\$ |ExecStart=/srv/keyferry/bin/)?(keyferry [a-z].*?[^\\])$", re.MULTILINE | re.DOTALL
)
_NAMED = re.compile(r"`(keyferry [^`]+)`")


def commands() -> list[str]:
    """Those of the examples and those in the text."""
    typed = [found.replace("\\\n", " ") for found in _TYPED.findall(PAGE)]
    return sorted({*typed, *_NAMED.findall(PAGE)})


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_whole_way_is_there() -> None:
    used = {command.split()[1] for command in commands()}
    assert used >= {"check", "migrate", "status", "cutover", "rollback", "finish", "abort", "verify", "pause"}


@pytest.mark.parametrize("line", commands())
def test_every_command_has_its_options(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    command = cli.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    assert given <= known | {"--help"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_every_link_leads_somewhere(link: str) -> None:
    file, _, anchor = link.partition("#")
    page = (DOCS / file).read_text(encoding="utf-8") if file else PAGE
    assert not anchor or anchor in anchors(page)


def test_options_in_the_text_are_those_of_migrate() -> None:
    migrate = cli.commands["migrate"]
    assert isinstance(migrate, click.Command)
    known = {option for command in cli.commands.values() for one in command.params for option in one.opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known
