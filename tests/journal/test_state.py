"""The checkpoint: whole or absent, held by one run, gone when finished."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.journal.state import Checkpoint, Position, State, state_name
from keyferry.model.errors import RefusedError, UsageError


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(
        source_run_ids={"0": "s" * 40},
        target_run_ids={"0": "t" * 40},
        on_conflict="skip",
        evicted_keys=3,
        positions={"0/3": Position("123", False)},
        counts={"scanned": 5},
        methods=[1, 2, 3, 4],
        notes={"entries_read": 2},
        comparing=True,
        seconds=1.5,
    )
    with State(tmp_path, "x") as state:
        assert state.load() is None
        state.save(Checkpoint())
        state.save(checkpoint)
    with State(tmp_path, "x") as state:
        assert state.load() == checkpoint
        state.discard()
        assert state.load() is None


def test_only_one_run_at_a_time_and_the_lock_goes_with_it(tmp_path: Path) -> None:
    with State(tmp_path, "x"), pytest.raises(RefusedError, match="alive"):
        State(tmp_path, "x")
    State(tmp_path, "x").close()


def test_different_copies_do_not_meet(tmp_path: Path) -> None:
    with State(tmp_path, state_name("a", "b")) as one, State(tmp_path, state_name("a", "c")) as other:
        one.save(Checkpoint())
        assert other.load() is None


def test_a_finished_copy_leaves_nothing(tmp_path: Path) -> None:
    state = State(tmp_path, "x")
    state.save(Checkpoint())
    state.close(finished=True)
    assert list(tmp_path.iterdir()) == []


def test_foreign_keys_are_known_by_database(tmp_path: Path) -> None:
    with State(tmp_path, "x") as state:
        state.save(Checkpoint())
        state.add_foreign(1, [b"a", b"\x00"])
        assert state.is_foreign(1, b"a")
        assert not state.is_foreign(0, b"a")
    with State(tmp_path, "x") as state:
        assert state.is_foreign(1, b"\x00")


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
def test_a_damaged_file_is_told_and_restart_heals_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "copy-x.sqlite"
    path.write_bytes(content)
    if content:
        with pytest.raises(UsageError, match="--restart"):
            State(tmp_path, "x")
    with State(tmp_path, "x", restart=True) as state:
        assert state.load() is None


def test_a_checkpoint_of_another_format_is_not_guessed_at(tmp_path: Path) -> None:
    with State(tmp_path, "x") as state:
        state.save(Checkpoint())
        path = state.path
    with sqlite3.connect(path) as database:
        database.execute("UPDATE checkpoint SET format = 99")
    database.close()
    with State(tmp_path, "x") as state, pytest.raises(UsageError, match="another version"):
        state.load()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--state-dir"):
        State(tmp_path / "file" / "deeper", "x")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with State(tmp_path, "x") as state:
        state.save(Checkpoint())
        with no_room(4096), pytest.raises(UsageError, match="cannot be used") as named:
            state.add_foreign(0, (b"%d" % i for i in range(100_000)))
    assert str(state.path) in named.value.message


def test_a_full_disk_at_the_beginning_is_not_taken_for_a_damaged_checkpoint(tmp_path: Path) -> None:
    """Or --restart would be advised, which throws away what there is to go on from."""
    with no_room(4096), pytest.raises(UsageError) as told:
        State(tmp_path, "x")
    assert told.value.message.startswith(f"The state directory {tmp_path} cannot be used: ")
    assert "--restart" not in told.value.hint
    with State(tmp_path, "x") as state:
        state.save(Checkpoint())
    state.path.write_bytes(b"this is no database")
    with pytest.raises(UsageError, match="cannot be read") as told:
        State(tmp_path, "x")
    assert "--restart" in told.value.hint


@contextlib.contextmanager
def no_room(size: int) -> Iterator[None]:
    """No file can be written beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_keys_that_are_noted_are_forgotten_together_with_what_came_of_them(tmp_path: Path) -> None:
    with State(tmp_path, "c", kind="verify") as state:
        state.note_keys([(0, b"a"), (3, b"\xff"), (0, b"a")])
        state.save(Checkpoint(seconds=1.0))
    with State(tmp_path, "c", kind="verify") as state:
        assert sorted(state.noted_keys()) == [(0, b"a"), (3, b"\xff")]
        state.save(Checkpoint(seconds=2.0, more={"told": 1}), forget_noted=True, foreign=[(3, b"\xff")])
    with State(tmp_path, "c", kind="verify") as state:
        assert state.noted_keys() == []
        assert state.is_foreign(3, b"\xff")
        assert not state.is_foreign(0, b"a")
        loaded = state.load()
        assert loaded is not None
        assert (loaded.seconds, loaded.more) == (2.0, {"told": 1})
        state.discard()
        assert not state.is_foreign(3, b"\xff")


def test_kinds_of_runs_do_not_meet(tmp_path: Path) -> None:
    with State(tmp_path, "c") as copy, State(tmp_path, "c", kind="verify") as verify:
        copy.save(Checkpoint(seconds=1.0))
        assert verify.load() is None
        with pytest.raises(RefusedError, match="this comparison is alive"):
            State(tmp_path, "c", kind="verify")
