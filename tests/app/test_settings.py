"""From options to what a copy is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from keyferry.app.commands import copy as copy_command
from keyferry.app.commands import sync as sync_command
from keyferry.app.commands import verify as verify_command
from keyferry.app.settings import copy_settings, sync_settings, verify_settings
from keyferry.capture.kinds import FeedKind
from keyferry.copy.settings import CopySettings
from keyferry.follow.settings import SyncSettings
from keyferry.model.announced import AddressMap
from keyferry.model.errors import UsageError
from keyferry.verify.settings import VerifySettings


def parsed(
    *arguments: str, source: str = "redis://s", target: str = "redis://t", **environment: str
) -> CopySettings:
    return copy_settings(source, target, options_of(copy_command, source, target, *arguments), environment)


def options_of(command: click.Command, source: str, target: str, *arguments: str) -> dict[str, Any]:
    context = command.make_context("command", [source, target, *arguments])
    return {name: value for name, value in context.params.items() if name not in ("source", "target")}


def parsed_sync(*arguments: str) -> SyncSettings:
    options = options_of(sync_command, "redis://s", "redis://t", *arguments)
    return sync_settings("redis://s", "redis://t", options, {})


def parsed_verify(*arguments: str) -> VerifySettings:
    options = options_of(verify_command, "redis://s", "redis://t", *arguments)
    return verify_settings("redis://s", "redis://t", options, {})


def test_defaults_are_those_of_the_settings() -> None:
    settings = parsed()
    assert settings == CopySettings(source=settings.source, target=settings.target)


def test_globs_are_the_bytes_of_the_argument() -> None:
    settings = parsed("--match", "\udcff*", "--exclude", "ä")
    assert (settings.selection.match, settings.selection.exclude) == ((b"\xff*",), ("ä".encode(),))


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("1.5K", 1500), ("10M", 10_000_000), ("2g", 2_000_000_000), ("500KB", 500_000)],
)
def test_amounts_are_in_thousands(text: str, amount: float) -> None:
    settings = parsed("--max-bandwidth", text, "--max-rate", text)
    assert settings.max_bandwidth == settings.max_rate == amount


def test_every_option_arrives() -> None:
    settings = parsed(
        *(
            "--type",
            "hash",
            "--type",
            "ReJSON-RL",
            "--on-conflict",
            "skip",
            "--batch",
            "7",
            "--max-latency",
            "0",
        ),
        *("--keep-eviction-hints", "--functions", "--drop-field-expiry", "--state-dir", "d", "--restart"),
        *("--failures", "f", "--big-key-bytes", "2M", "--big-key-members", "9"),
        *("--source-map", "a=b", "--source-map", "c:1=d:2", "--target-map", "e:3=f"),
    )
    assert settings == CopySettings(
        source=settings.source,
        target=settings.target,
        selection=settings.selection,
        on_conflict="skip",
        batch=7,
        max_latency_ms=0,
        keep_eviction_hints=True,
        functions=True,
        drop_field_expiry=True,
        state_dir=Path("d"),
        restart=True,
        failures_file=Path("f"),
        source_map=AddressMap(((("a", None), ("b", None)), (("c", 1), ("d", 2)))),
        target_map=AddressMap(((("e", 3), ("f", None)),)),
        big_key_bytes=2_000_000,
        big_key_members=9,
    )
    assert settings.selection.types == ("hash", "ReJSON-RL")


@pytest.mark.parametrize(
    ("source", "target", "arguments", "databases", "mapped"),
    [
        ("redis://s", "redis://t", [], (0,), {}),
        ("redis://s/3", "redis://t", [], (3,), {}),
        ("redis://s/3", "redis://t/0", [], (3,), {3: 0}),
        ("redis://s", "redis://t/5", [], (0,), {0: 5}),
        ("redis://s/3", "redis://t/3", [], (3,), {}),
        ("redis://s/3", "redis://t/4", ["--db-map", "3:1"], (3,), {3: 1}),
        ("redis://s/3", "redis://t", ["--db", "0", "--db", "1", "--db", "0"], (0, 1), {}),
        (
            "redis://s",
            "redis://t",
            ["--db", "0", "--db", "1", "--db-map", "0:1", "--db-map", "1:0"],
            (0, 1),
            {0: 1, 1: 0},
        ),
        ("redis://s", "redis://t", ["--all-dbs", "--db-map", "3:9"], None, {3: 9}),
        ("unix:///s?db=2", "unix:///t?db=1", [], (2,), {2: 1}),
        ("unix:///s?db=2", "unix:///t", [], (2,), {}),
        ("redis://s/3", "redis+cluster://t,u", [], (3,), {}),
        ("redis://s/3", "redis+cluster://t,u/0", [], (3,), {3: 0}),
    ],
)
def test_databases(
    source: str, target: str, arguments: list[str], databases: tuple[int, ...] | None, mapped: dict[int, int]
) -> None:
    selection = parsed(*arguments, source=source, target=target).selection
    assert (selection.databases, selection.database_map) == (databases, mapped)


@pytest.mark.parametrize(
    ("target", "arguments", "sentence"),
    [
        ("redis://t/2", ["--all-dbs"], "names database 2"),
        ("redis://t/2", ["--db", "1", "--db", "2"], "names database 2"),
        ("redis://t", ["--db-map", "0:1", "--db-map", "0:2"], "two places"),
        ("redis://t", ["--db", "1", "--db", "2", "--db-map", "1:2"], "1 and 2"),
        ("redis://t", ["--target-map", "a=b", "--target-map", "a=c"], "--target-map: Two places"),
        ("redis://t", ["--target-key", __file__], "--target-key is given without --target-cert"),
    ],
)
def test_contradictions_are_refused(target: str, arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parsed(*arguments, target=target)


def test_the_password_of_the_address_counts_before_the_environment() -> None:
    settings = parsed(
        source="redis://:here@s", KEYFERRY_SOURCE_PASSWORD="there", KEYFERRY_TARGET_PASSWORD="t"
    )
    assert (settings.source.password, settings.target.password) == ("here", "t")


@pytest.mark.parametrize(
    ("content", "password"), [(b"pw", "pw"), (b"pw\n", "pw"), (b" p\xc3\xa4 \r\n", " pä ")]
)
def test_password_files(tmp_path: Path, content: bytes, password: str) -> None:
    (tmp_path / "f").write_bytes(content)
    settings = parsed("--source-password-file", str(tmp_path / "f"), KEYFERRY_SOURCE_PASSWORD="x")
    assert settings.source.password == password


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_password_files_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UsageError, match="--source-password-file"):
        parsed("--source-password-file", str(tmp_path / "f"))


def test_two_passwords_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"pw")
    with pytest.raises(UsageError, match="Leave one of them out"):
        parsed("--source-password-file", str(tmp_path / "f"), source="redis://:x@s")


def test_the_guard_of_big_keys_can_be_turned_off() -> None:
    assert parsed("--big-key-bytes", "0").big_key_bytes == 0


@pytest.mark.parametrize(
    "arguments", [["--source-map", "a"], ["--big-key-bytes", "-1"], ["--big-key-bytes", "x"]]
)
def test_values_that_cannot_be_understood(arguments: list[str]) -> None:
    with pytest.raises(click.BadParameter):
        parsed(*arguments)


def test_the_defaults_of_sync_and_verify_are_those_of_the_settings() -> None:
    assert parsed_sync() == SyncSettings(copy=parsed())
    assert parsed_verify() == VerifySettings(copy=parsed())


def test_every_option_of_sync_arrives() -> None:
    assert parsed_sync(
        *("--name", "n", "--feed", "notifications", "--enable-notifications", "--until-synced"),
        *("--lag-target", "0.25", "--keep-extra", "--accept-shrunk-source", "--dirty-max", "2M"),
        *("--on-conflict", "replace", "--functions", "--restart"),
    ) == SyncSettings(
        copy=parsed("--on-conflict", "replace", "--functions", "--restart"),
        name="n",
        feed=FeedKind.NOTIFICATIONS,
        enable_notifications=True,
        until_synced=True,
        lag_target_s=0.25,
        keep_extra=True,
        accept_shrunk_source=True,
        dirty_max=2_000_000,
    )


def test_every_option_of_verify_arrives() -> None:
    assert parsed_verify(
        *("--sample", "10K", "--expiry-tolerance-ms", "0", "--rounds", "0", "--repair", "--delete-extra"),
        *("--differences", "d", "--max-rate", "5K", "--big-key-members", "9", "--match", "a*", "--restart"),
    ) == VerifySettings(
        copy=parsed("--max-rate", "5K", "--big-key-members", "9", "--match", "a*", "--restart"),
        sample=10_000,
        expiry_tolerance_ms=0,
        rounds=0,
        repair=True,
        delete_extra=True,
        differences_file=Path("d"),
    )


@pytest.mark.parametrize("kind", FeedKind)
def test_each_feed_may_be_named(kind: FeedKind) -> None:
    assert parsed_sync("--feed", kind.value).feed is kind


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--on-conflict", "skip"], "would differ for ever"),
        (["--on-conflict", "fail"], "would differ for ever"),
        (["--enable-notifications", "--feed", "tracking"], "given together"),
    ],
)
def test_what_a_sync_cannot_keep_is_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parsed_sync(*arguments)
