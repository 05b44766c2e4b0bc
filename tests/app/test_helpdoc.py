"""Every command and every option is documented, and the pages say what the help says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from keyferry.app.commands import cli
from keyferry.app.helpdoc import renewed, section_names, sections

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_sections_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert renewed(text) == text, "run: python -m keyferry.app.helpdoc"


def test_every_section_stands_on_the_page_of_its_name() -> None:
    for name in sections():
        assert section_names((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")) == [name]


def test_every_option_has_a_help_text() -> None:
    for command in cli.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
                assert parameter.is_flag or parameter.metavar, parameter.name


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *PAGES]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"
