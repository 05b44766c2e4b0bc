"""From the options of migrate to what it is asked to do."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from keyferry.app.commands import migrate
from keyferry.app.settings import migration_settings
from keyferry.cutover.plan import Gate
from keyferry.cutover.settings import MigrationSettings
from keyferry.model.errors import UsageError


def parsed(*arguments: str) -> MigrationSettings:
    context = migrate.make_context("migrate", ["redis://s", "redis://t", *arguments])
    options = {name: value for name, value in context.params.items() if name not in ("source", "target")}
    return migration_settings("redis://s", "redis://t", options, {})


def test_the_defaults_are_those_of_the_settings() -> None:
    settings = parsed("--name", "shop")
    assert settings == MigrationSettings(sync=settings.sync, name="shop")
    assert settings.sync.name == "shop"
    assert not settings.sync.until_synced


def test_every_option_arrives() -> None:
    settings = parsed(
        *("--name", "shop", "--cutover-when-ready", "--verify-every", "60", "--lag-target", "0.5"),
        *("--gate", "both", "--cutover-timeout", "2", "--prepare-timeout", "1.5"),
        *("--on-cutover", "dns new", "--on-rollback", "dns old", "--feed", "tracking", "--state-dir", "/s"),
    )
    assert settings == MigrationSettings(
        sync=settings.sync,
        name="shop",
        gate=Gate.BOTH,
        cutover_when_ready=True,
        verify_every_s=60.0,
        on_cutover="dns new",
        on_rollback="dns old",
        timeout_s=2.0,
        prepare_timeout_s=1.5,
    )
    assert settings.sync.lag_target_s == 0.5
    assert settings.sync.feed == "tracking"
    assert settings.sync.copy.state_dir == Path("/s")
    assert not parsed("--name", "shop", "--no-rollback").rollback


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--no-rollback", "--on-rollback", "x"], "--no-rollback and --on-rollback"),
        (["--on-conflict", "skip"], "would differ for ever"),
        (["--feed", "tracking", "--enable-notifications"], "given together"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parsed("--name", "shop", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--name", "a b"],
        ["--name", "x", "--gate", "all"],
        ["--name", "x", "--cutover-timeout", "0"],
        ["--name", "x", "--cutover-timeout", "31"],
        ["--name", "x", "--verify-every", "-1"],
        ["--name", "x", "--until-synced"],
    ],
)
def test_values_that_cannot_be_understood(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parsed(*arguments)
