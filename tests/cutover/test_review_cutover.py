"""Ends of a switch that nobody hopes for: a journal that cannot be written, an undoing that fails, a forgotten commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conducting import NAME, Counting, migrating
from plain_application import APP, acknowledged, all_refused, all_write, apart, writing

from copying import ask, fill_strings, wait_until
from keyferry.cutover import perform
from keyferry.cutover.books import SwitchBooks
from keyferry.cutover.plan import Gate, Step
from keyferry.cutover.record_store import RecordStore, SideLook
from keyferry.model.errors import ServerAway, ServerError, UsageError
from keyferry.model.phases import Side
from keyferry.model.record import record_key
from keyferry.testing.servers import Server


def kind_of(server: Server) -> object:
    return ask(server, "HGET", record_key(NAME), "kind")


def test_a_full_disk_in_the_gate_opens_it_again(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    begun, full = SwitchBooks.begun, []

    def fails(self: SwitchBooks, step: Step) -> None:
        if step is Step.SETTLE:
            full.append(step)
        if full:
            raise UsageError("The journal cannot be written: database or disk is full.")
        begun(self, step)

    monkeypatch.setattr(SwitchBooks, "begun", fails)
    with migrating(source, target, tmp_path) as migration, Counting(source, target, 2) as writers:
        migration.is_ready(writers=1)
        assert migration.ask("cutover", yes=True).exit_code != 0
        wait_until(lambda: migration.error, "it ends", 20.0)
        assert isinstance(migration.error, UsageError)
        assert full
        assert kind_of(source) == b"authority", "the hold was left behind"
        writers.goes_on()
        assert writers.longest_s < 2.0


def test_an_undoing_that_fails_is_said_and_left_to_the_next_start(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)

    def refuses(self: perform.Switch) -> None:
        raise ServerError("source", "The source refuses: OOM.")

    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.is_ready()
        with monkeypatch.context() as patch:
            patch.setattr(perform.Switch, "_settle", refuses)
            patch.setattr(perform.Switch, "_undo_hold", refuses)
            end = migration.ask("cutover", yes=True, gate="none")
        assert end.exit_code != 0
        assert "Everything is as it was" not in end.sentence
        assert "undo-hold failed" in end.sentence
        assert kind_of(source) == b"hold"
    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.is_ready()
        assert kind_of(source) == b"authority"
        migration.switch("cutover", gate="none")


def test_a_commit_that_its_server_has_forgotten_is_undone(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    commit = perform.Switch._commit

    def forgotten(self: perform.Switch) -> None:
        """As after a failover to a replica that had the hold, and not what came after it."""
        self._replicated = True  # nobody but a replica forgets
        before = ask(source, "DUMP", record_key(NAME))
        commit(self)
        if kind_of(source) == b"lost":
            ask(source, "RESTORE", record_key(NAME), "0", before, "REPLACE")  # type: ignore[arg-type]
            self._watch.look(self._wish.losing)

    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.is_ready()
        with monkeypatch.context() as patch:
            patch.setattr(perform.Switch, "_commit", forgotten)
            end = migration.ask("cutover", yes=True, gate="none")
        assert end.exit_code != 0
        assert "forgotten" in end.sentence, str(end.facts["steps"][-9:])
        assert kind_of(source) == b"authority"
        assert kind_of(target) == b"pending"
        migration.switch("cutover", gate="none")


def test_rights_that_could_not_be_given_back_are_at_the_next_start(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 100)

    def refuses(self: perform.Switch) -> None:
        raise ServerError("source", "The source refuses.")

    with apart(source) as (from_ours, from_app), apart(target) as (to_ours, _), writing(from_app) as writers:
        with migrating(from_ours, to_ours, tmp_path, gate=Gate.PAUSE) as migration:  # type: ignore[arg-type]
            migration.is_ready()
            with monkeypatch.context() as patch:
                patch.setattr(perform.Switch, "_check_pause", refuses)
                patch.setattr(perform.Switch, "_undo_bar", refuses)
                end = migration.try_switch("cutover")
            assert "undo-bar failed" in end.sentence, end
            all_refused(writers)
        with migrating(from_ours, to_ours, tmp_path, gate=Gate.PAUSE) as migration:  # type: ignore[arg-type]
            migration.is_ready()
            all_write(writers, acknowledged(writers))


def test_a_start_says_that_the_side_with_authority_is_away(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 100)
    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.switch("cutover")
    target.kill()
    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        wait_until(lambda: migration.error, "it ends", 20.0)
    assert isinstance(migration.error, ServerAway), migration.error


def test_a_look_that_is_refused_in_the_gate_opens_it_again(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 100)
    look = RecordStore.look
    refused: list[perform.Switch] = []

    def refuses(self: RecordStore, side: Side) -> SideLook:
        if refused and side is Side.TARGET:
            raise ServerError("target", "The target refuses.")
        return look(self, side)

    def fails(self: perform.Switch) -> None:
        refused.append(self)
        raise ServerError("target", "The target refuses.")

    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.is_ready()
        monkeypatch.setattr(RecordStore, "look", refuses)
        monkeypatch.setattr(perform.Switch, "_settle", fails)
        assert migration.ask("cutover", yes=True, gate="none").exit_code != 0
        assert kind_of(source) == b"authority"


def test_rights_that_came_back_before_the_commit_undo_it(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 100)
    give_back = perform.Switch._give_back

    def with_rules_of_its_file(self: perform.Switch) -> None:
        """As after a new start of the server between the end of the pause and the commit."""
        give_back(self)
        ask(source, "ACL", "SETUSER", APP, "+@all")
        all_write(writers, acknowledged(writers))

    with (
        apart(source) as (from_ours, from_app),
        apart(target) as (to_ours, _),
        writing(from_app) as writers,
        migrating(from_ours, to_ours, tmp_path, gate=Gate.PAUSE) as migration,  # type: ignore[arg-type]
    ):
        migration.is_ready()
        monkeypatch.setattr(perform.Switch, "_give_back", with_rules_of_its_file)
        end = migration.try_switch("cutover")
        assert end.exit_code != 0, end
        assert kind_of(source) == b"authority"
        assert "may write again" in end.sentence
        all_write(writers, acknowledged(writers))


def test_of_two_coordinators_the_older_one_ends(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 100)
    with migrating(source, target, tmp_path / "one", gate=Gate.NONE) as first:
        first.is_ready()
        with migrating(source, target, tmp_path / "two", gate=Gate.NONE, on_conflict="replace") as second:
            wait_until(lambda: first.error, "the first one ends", 30.0)
            assert "Another process leads this migration now" in str(first.error)
            second.is_ready()
            second.switch("cutover")
