"""Does the attack notice when a part of the protocol is taken out?

    python -m tests.follow.mutations [NAME ...]

Each mutation is applied to a copy of the sources, the attack runs against it until it fails, at most with every
seed of ``SEEDS``; a mutation that no seed notices has survived, and makes the exit status 1. The copy without
any mutation must pass, first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does it, for the module's one name

from torture import Outcome, Plan, run

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3, 4)
BASE = Plan(seconds=20.0, quiet_s=6.0, fill_keys=3_000, keys=300, rate=2_500.0)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is taken out.

    Attributes:
        patches: File below src/keyferry, text that is there exactly once, text that takes its place.
        plan: What the attack does differently from ``BASE``, so that it comes by.
        pure: The pure data path runs, because the patched module has a compiled twin.
        tests: Run in the attack's place, where only the end of a run, or one server's threads, would show it.
    """

    name: str
    patches: Sequence[tuple[str, str, str]]
    plan: dict[str, Any] = field(default_factory=dict)
    pure: bool = False
    tests: tuple[str, ...] = ()


def only(*faults: str, **more: Any) -> dict[str, Any]:
    return {"faults": faults, **more}


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "mark off at the reply",
        [
            (
                "capture/dirty.py",
                "            if key in flying or key in resting:\n",
                "            if key in flying:\n                continue\n            if key in resting:\n",
            )
        ],
        only("delay", "pause-target"),
    ),
    Mutation(
        "a cut feed is carried on",
        [
            (
                "follow/follower.py",
                'self._on_gap(shard, "The feed was interrupted")',
                "pass",
            )
        ],
        only("cut-feed", "kill-tracking", "tiny-buffer", "cut-source", flush_every_s=0.0),
    ),
    Mutation(
        "no comparison after a restart",
        [
            (
                "follow/follower.py",
                "                self.ground.end_scans(shard.id)\n        self._compare_all_once_open = True\n",
                "                self.ground.end_scans(shard.id)\n",
            ),
            ("follow/attaching.py", "if not self._ground.is_new(source.shard):", "if source.changes:"),
        ],
        only("kill-tool", "end-tool", flush_every_s=0.0),
    ),
    Mutation(
        "a flush is not heard",
        [
            (
                "follow/engine.py",
                'self._on_gap(source.shard, "Everything on the source was flushed, or may have been")',
                "pass",
            )
        ],
        only(),
    ),
    Mutation(
        "hold unlearns who mirrors",
        [
            (
                "follow/ledgers.py",
                "        elif not any(RULES[phase].waits for phase in known) and (known or now_s - self._met_s > NOBODY_S_MAX):",
                "        else:",
            )
        ],
        tests=("tests/follow/test_gate.py::test_a_second_leg_that_arrives_in_hold_is_settled",),
    ),
    Mutation(
        "the gate asks no watcher",
        [("follow/gate.py", "engine.fence(), self._asks.ask()", "engine.fence(), lambda: True")],
        tests=("tests/follow/test_gate.py::test_under_load_then_stop_settles_exactly",),
    ),
    Mutation(
        "what differs counts as changing",
        [
            (
                "follow/touched_check.py",
                "changing = {place for place in doubted if self._is_dirty(place)}",
                "changing = set(doubted)",
            )
        ],
        tests=("tests/follow/test_gate.py::test_touched_keys_under_writers",),
    ),
    Mutation(
        "streams are not handed over",
        [("follow/equal.py", "self._parts.marking.add_streams(database, keys)", "pass")],
        tests=("tests/follow/test_equal_begin.py::test_the_other_way_round_without_copying",),
    ),
    Mutation(
        "a gap that was only heard",
        [("follow/equal.py", "self._parts.attaching.gaps.add(shard)", "pass")],
        tests=("tests/follow/test_equal_begin.py::test_a_flush_before_it_runs",),
    ),
    Mutation(
        "SWAPDB is not seen",
        [
            (
                "follow/seeing.py",
                'self._asks.gap(shard, "Databases were swapped on the source (SWAPDB)")',
                "pass",
            )
        ],
        only(swap_every_s=3.0),
    ),
    Mutation(
        "counters are not read",
        [("capture/counters.py", "    return Movement(*moved)\n", "    return NOTHING\n")],
        only(),
    ),
    Mutation(
        "what a broken pipeline carried is forgotten",
        [
            (
                "capture/dirty.py",
                "            self._rested.put(list(self._flying), oldest_s)\n",
                "",
            )
        ],
        only("cut-target", flush_every_s=0.0, keys=20_000, rate=3_500.0),
    ),
    Mutation(
        "a fence of one PING",
        [("capture/fences.py", "fence = self._sent + 2", "fence = self._sent + 1")],
        tests=("tests/capture/test_fences.py",),
    ),
    Mutation(
        "only the source is followed",
        [("follow/looks.py", "looks.mark(its, now_s)", "pass")],
        tests=("tests/protocol/test_two_writers.py", "-k", "after_the_key_was_settled"),
    ),
    Mutation(
        "our writes are subtracted",
        [
            (
                "follow/looks.py",
                "looks.mark(its, now_s)",
                "looks.mark(self._sources[shard].supplies[database].dirty.strangers(its), now_s)",
            )
        ],
        tests=("tests/protocol/test_two_writers.py", "-k", "one_loop_turn"),
    ),
    Mutation(
        "the target's feed is carried on",
        [
            (
                "follow/target_side.py",
                "if self._covered != self._engine.target_feeds:",
                "if not self._covered:",
            )
        ],
        tests=("tests/follow/test_writers_feed.py", "-k", "gap_of_the_targets_feed"),
    ),
    Mutation(
        "open entries are taken at once",
        [("capture/ledger_feed.py", "if not self._leases.over(writer):", "if False:")],
        tests=("tests/follow/test_writers_feed.py", "-k", "living_writers_entry"),
    ),
    Mutation(
        "a dead writer's connections are left",
        [("follow/ledgers.py", 'self._kill("source" if side == "source" else "target", names)', "pass")],
        tests=("tests/follow/test_writers_feed.py", "-k", "dead_writers_second_leg"),
    ),
    Mutation(
        "names that were on their way are forgotten",
        [("follow/ledgers.py", "self._gap = CUT", "pass")],
        tests=("tests/follow/test_writers_feed.py", "-k", "on_their_way"),
    ),
    Mutation(
        "an entry goes before its keys are named",
        [
            (
                "capture/clients/ledger.py",
                '        if everything:\n            yield [("SET", keys.full, 1)]\n',
                "        if reports.entries:\n"
                '            yield [("HDEL", keys.open, *(entry[2] for entry in reports.entries))]\n'
                '        if everything:\n            yield [("SET", keys.full, 1)]\n',
            )
        ],
        tests=("tests/capture/test_ledger.py", "-k", "only_after_its_keys"),
    ),
)


def mutated(mutation: Mutation, directory: Path) -> Path:
    """The sources with the mutation, as a path for PYTHONPATH.

    Raises:
        ValueError: A text is not there exactly once: the table is out of date.
    """
    sources = directory / mutation.name.replace(" ", "-") / "src"
    shutil.copytree(ROOT / "src", sources, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.egg-info"))
    for name, old, new in mutation.patches:
        path = sources / "keyferry" / name
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{mutation.name}: {name} holds {old!r} {text.count(old)} times.")
        path.write_text(text.replace(old, new))
    return sources


def attacked(mutation: Mutation, sources: Path, seed: int) -> Outcome:
    environment = [f"PYTHONPATH={sources}", *(["KEYFERRY_IMPL=pure"] if mutation.pure else [])]
    tool = ("env", *environment, sys.executable, "-m", "keyferry", "sync")
    return run(replace(BASE, seed=seed, tool=tool, **mutation.plan))


def tested(mutation: Mutation, sources: Path) -> str:
    """The last line of the tests when they fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutation.tests]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return ended.stdout.strip().splitlines()[-1] if ended.returncode == 1 else ""


def noticed(mutation: Mutation, directory: Path) -> str:
    """What was noticed, by which seed; empty when nothing was."""
    sources = mutated(mutation, directory)
    if mutation.tests:
        return tested(mutation, sources)
    for seed in SEEDS:
        outcome = attacked(mutation, sources, seed)
        if not outcome.passed:
            shutil.rmtree(outcome.directory)
            return f"seed {seed}: {outcome.problems[0][:160]}"
    return ""


def main() -> int:
    wanted = sys.argv[1:]
    chosen = [mutation for mutation in MUTATIONS if not wanted or mutation.name in wanted]
    survived = []
    with tempfile.TemporaryDirectory(prefix="keyferry-mutations-") as directory:
        baseline = noticed(Mutation("none", ()), Path(directory))
        print(f"{'none':<28} {baseline or 'passes'}", flush=True)
        if baseline:
            return 1
        for mutation in chosen:
            begun = time.monotonic()
            found = noticed(mutation, Path(directory))
            survived += [mutation.name] if not found else []
            print(f"{mutation.name:<28} {found or 'SURVIVED'} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
