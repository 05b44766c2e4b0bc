"""The options of the commands and the values they take; tables in docs/ are generated from here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keyferry.capture.kinds import FeedKind
from keyferry.model.announced import Place, parse_pair
from keyferry.model.errors import Side, UsageError
from keyferry.model.selection import TYPES

F = TypeVar("F", bound=Callable[..., Any])

_OUTPUT_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)
_MULTIPLIERS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)B?", re.IGNORECASE)
_MODULE_TYPE = re.compile(r"[A-Za-z0-9_-]{9}")
"""What RedisModule_CreateDataType takes: exactly nine characters."""


def amount(text: str) -> float:
    """A positive number with an optional K, M or G (thousands, as in redis.conf's 10m)."""
    match = _AMOUNT.fullmatch(text.strip())
    value = float(match[1]) * _MULTIPLIERS[match[2].upper()] if match else 0.0
    if value <= 0:
        raise click.BadParameter(f"{text!r} is not a positive number such as 500K, 10M or 1G.")
    return value


def byte_count(text: str) -> int:
    """As ``amount``, in whole bytes; 0 is allowed."""
    return 0 if text.strip() == "0" else int(amount(text))


def key_count(text: str) -> int:
    """As ``amount``, in whole keys, at least 1."""
    keys = int(amount(text))
    if keys < 1:
        raise click.BadParameter(f"{text!r} is less than one key.")
    return keys


def sync_name(text: str) -> str:
    """Any name that is not blank."""
    if not text.strip():
        raise click.BadParameter("A name must not be empty.")
    return text


def address_pair(text: str) -> tuple[Place, Place]:
    """``A=B``: a node that announces A is reached at B."""
    try:
        return parse_pair(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def key_type(text: str) -> str:
    """A type's name as the TYPE command says it."""
    if text not in TYPES and not _MODULE_TYPE.fullmatch(text):
        raise click.BadParameter(
            f"{text!r} is none of {', '.join(TYPES)} nor a module's type (nine characters)."
        )
    return text


def database_pair(text: str) -> tuple[int, int]:
    """``3:0``: what database 3 of the source holds goes into database 0 of the target."""
    source, _, target = text.partition(":")
    if not all(part.isascii() and part.isdigit() for part in (source, target)):
        raise click.BadParameter(f"{text!r} is not of the form FROM:TO, such as 3:0.")
    return int(source), int(target)


def endpoints(command: F) -> F:
    """SOURCE and TARGET."""
    return click.argument("source")(click.argument("target")(command))


def access(command: F) -> F:
    """How to be let in by the two servers."""
    return _side_options("source")(_side_options("target")(command))


def _side_options(side: Side) -> Callable[[F], F]:
    file = click.Path(exists=True, dir_okay=False, path_type=Path)

    def decorate(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    f"--{side}-password-file",
                    type=file,
                    metavar="FILE",
                    help=f"File with the password of the {side}; a line end after it does not count.",
                ),
                click.option(
                    f"--{side}-ca",
                    type=file,
                    metavar="FILE",
                    help=f"Certificates (PEM) that may have signed the {side}'s, instead of the system's.",
                ),
                click.option(
                    f"--{side}-cert",
                    type=file,
                    metavar="FILE",
                    help=f"Our certificate (PEM) for a {side} that asks for one.",
                ),
                click.option(
                    f"--{side}-key",
                    type=file,
                    metavar="FILE",
                    help=f"Private key of --{side}-cert, when it is not in the same file.",
                ),
                click.option(
                    f"--{side}-insecure",
                    is_flag=True,
                    help=f"Do not verify the {side}'s certificate: whoever sits in between can read along.",
                ),
                click.option(
                    f"--{side}-map",
                    type=address_pair,
                    multiple=True,
                    metavar="A=B",
                    help=f"Reach nodes of the {side}'s cluster that announce A (host[:port]) at B (host[:port]). "
                    "Repeatable.",
                ),
            )
        ):
            command = option(command)
        return command

    return decorate


def selection(command: F) -> F:
    """Which keys."""
    for option in reversed(
        (
            click.option(
                "--match",
                type=os.fsencode,
                multiple=True,
                metavar="GLOB",
                help="Only keys that match, byte for byte, as KEYS and SCAN do. Repeatable: one must match.",
            ),
            click.option(
                "--exclude",
                type=os.fsencode,
                multiple=True,
                metavar="GLOB",
                help="No keys that match. Repeatable.",
            ),
            click.option(
                "--type",
                "types",
                type=key_type,
                multiple=True,
                metavar="TYPE",
                help="Only keys of this type: string, list, set, zset, hash, stream, a module's. Repeatable.",
            ),
            click.option(
                "--db",
                "databases",
                type=click.IntRange(min=0),
                multiple=True,
                metavar="N",
                help="A database of the source. Repeatable. Default: the one in SOURCE's address, else 0.",
            ),
            click.option("--all-dbs", is_flag=True, help="Every database of the source that holds keys."),
            click.option(
                "--db-map",
                type=database_pair,
                multiple=True,
                metavar="FROM:TO",
                help="Put database FROM of the source into database TO of the target. Repeatable. "
                "Default: the one in TARGET's address, else the same number.",
            ),
        )
    ):
        command = option(command)
    return command


def pace(command: F) -> F:
    """How fast, at most."""
    for option in reversed(
        (
            click.option(
                "--batch",
                type=click.IntRange(1, 100_000),
                metavar="N",
                help="Keys asked of one SCAN. Lower it when single keys are very large. Default: 1000.",
            ),
            click.option(
                "--max-rate",
                type=amount,
                metavar="KEYS",
                help="Keys per second at most, such as 50K. Default: no limit.",
            ),
            click.option(
                "--max-bandwidth",
                type=amount,
                metavar="BYTES",
                help="Payload bytes per second at most, such as 500K or 10M. Default: no limit.",
            ),
            click.option(
                "--max-latency",
                type=click.FloatRange(min=0),
                metavar="MS",
                help="Slow down when either server answers this many milliseconds later than at rest; "
                "0 is off. Default: 5.",
            ),
            click.option(
                "--big-key-bytes",
                type=byte_count,
                metavar="BYTES",
                help="Carry keys above this size in pieces, so that no client waits for one. "
                "0 turns the guard off: any key is then dumped in one go. Default: 1048576 (1 MiB).",
            ),
            click.option(
                "--big-key-members",
                type=click.IntRange(min=1),
                metavar="N",
                help="Carry keys of more members, fields or entries than this in pieces. Default: 20000.",
            ),
        )
    ):
        command = option(command)
    return command


def treatment(command: F) -> F:
    """What is done with the keys."""
    for option in reversed(
        (
            click.option(
                "--on-conflict",
                type=click.Choice(["replace", "skip", "fail"]),
                metavar="replace|skip|fail",
                help="What to do with a key that the target holds already: replace it, leave it, or count "
                "it as failed. Without this option a target that holds keys is refused.",
            ),
            click.option(
                "--keep-eviction-hints",
                is_flag=True,
                help="Carry each key's idle time or access frequency, for a target that evicts by them.",
            ),
            click.option(
                "--functions",
                is_flag=True,
                help="Carry the function libraries too (both servers 7.0 or later).",
            ),
            click.option(
                "--drop-field-expiry",
                is_flag=True,
                help="Carry hashes without their fields' expiry where the target has none; else they fail.",
            ),
        )
    ):
        command = option(command)
    return command


def following(command: F) -> F:
    """Which sync it is, how changes of the source are followed, and until when."""
    command = feeding(command)
    for option in reversed(
        (
            click.option(
                "--name",
                type=sync_name,
                metavar="NAME",
                help="Tells this sync from another one between the same servers; with Keyferry's clients, their "
                "migration's name. Default: made of both addresses and the choice of keys.",
            ),
            click.option(
                "--until-synced",
                is_flag=True,
                help="End once the copy is done, the lag is below --lag-target, and a verification leaves no suspect.",
            ),
            click.option(
                "--lag-target",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="For --until-synced: age of the oldest change that is not on the target yet. Default: 1.",
            ),
        )
    ):
        command = option(command)
    return command


def feeding(command: F) -> F:
    """How changes of the source are followed, until whenever."""
    for option in reversed(
        (
            click.option(
                "--feed",
                type=click.Choice([kind.value for kind in FeedKind]),
                metavar="|".join(FeedKind),
                help="Learn of changes this way, or stop. Default: the best one that the source allows. What "
                "Keyferry's clients report is read beside any of them; with writers it is all there is.",
            ),
            click.option(
                "--enable-notifications",
                is_flag=True,
                help="Set the source's notify-keyspace-events when that feed is used, and put it back at the end.",
            ),
            click.option(
                "--keep-extra",
                is_flag=True,
                help="Keep keys that only the target has; else --on-conflict replace deletes them.",
            ),
            click.option(
                "--accept-shrunk-source",
                is_flag=True,
                help="Go on with a source that came back empty or much smaller; else sync stops and asks.",
            ),
            click.option(
                "--dirty-max",
                type=key_count,
                metavar="N",
                help="With more changed keys than this waiting (of one source server), forget them and compare all "
                "keys instead. Bounds the memory. Default: 5000000.",
            ),
        )
    ):
        command = option(command)
    return command


def comparing(command: F) -> F:
    """How two servers are compared, and what is done about differences."""
    for option in reversed(
        (
            click.option(
                "--sample",
                type=key_count,
                metavar="N",
                help="Compare about N keys, chosen by their names. Default: all.",
            ),
            click.option(
                "--expiry-tolerance-ms",
                type=click.IntRange(min=0),
                metavar="MS",
                help="Expiries that are no further apart count as equal. Default: 1000.",
            ),
            click.option(
                "--rounds",
                type=click.IntRange(min=0),
                metavar="N",
                help="How often a key that differs is looked at again before it counts; 0 believes the first look. "
                "Default: 6.",
            ),
            click.option(
                "--repair",
                is_flag=True,
                help="Make keys that differ equal on TARGET; the source wins.",
            ),
            click.option(
                "--delete-extra",
                is_flag=True,
                help="Delete keys that only TARGET has, with or without --repair.",
            ),
            click.option(
                "--drop-field-expiry",
                is_flag=True,
                help="Do not compare the expiry of hash fields where TARGET has none, as a copy with this option.",
            ),
            click.option(
                "--differences",
                type=_OUTPUT_FILE,
                metavar="FILE",
                help="Write one JSON line per key that differs to FILE, with what differs in it.",
            ),
        )
    ):
        command = option(command)
    return command


def auditing(command: F) -> F:
    """How long the application is looked at, and how closely."""
    for option in reversed(
        (
            click.option(
                "--seconds",
                type=click.FloatRange(min=0, min_open=True),
                default=30.0,
                metavar="SECONDS",
                help="Between the two looks at the counters. Default: 30.",
            ),
            click.option(
                "--monitor",
                is_flag=True,
                help="Also listen to MONITOR, for a few seconds and within bounds: it slows a busy server.",
            ),
            click.option(
                "--show-keys",
                is_flag=True,
                help="With --monitor: print some key names of each command. Values are never printed.",
            ),
            click.option(
                "--max-latency",
                type=click.FloatRange(min=0),
                default=5.0,
                metavar="MS",
                help="With --monitor: stop listening to a server that answers this many milliseconds later than at "
                "rest; 0 is off. Default: 5.",
            ),
            click.option(
                "--target",
                metavar="TARGET",
                help="The server to move to. When it is a cluster, calls that it would refuse are looked for.",
            ),
        )
    ):
        command = option(command)
    return command


def results(command: F) -> F:
    """What is written about the run, and what is kept of an unfinished one."""
    return _dry_run(outcome(_failures(state(command))))


def results_and_page(command: F) -> F:
    """The same, where there is a page for people, too."""
    return _dry_run(
        outcome(_failures(state(command)), "Write the same JSON to FILE; a page, when it ends in .html.")
    )


def outcome(command: F, report: str = "Write the same JSON to FILE.") -> F:
    """The end, for machines. ``report``: the help of --report."""
    return json_option(
        click.option(
            "--report",
            type=_OUTPUT_FILE,
            metavar="FILE",
            help=report,
        )(command)
    )


def state(command: F) -> F:
    """What is kept of an unfinished run."""
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIRECTORY",
        help="Where the checkpoint of an unfinished run is kept. Default: .keyferry",
    )(
        click.option(
            "--restart",
            is_flag=True,
            help="Forget an earlier, unfinished run of this command and begin anew.",
        )(command)
    )


def _dry_run(command: F) -> F:
    return click.option(
        "--dry-run",
        is_flag=True,
        help="Say what would be copied, how, and how long it would take; write nothing.",
    )(command)


def _failures(command: F) -> F:
    return click.option(
        "--failures",
        type=_OUTPUT_FILE,
        metavar="FILE",
        help="Write one JSON line per failed key to FILE, with the reason.",
    )(command)


def stepping(command: F) -> F:
    """How a step of the phase is taken."""
    return click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=30.0,
        metavar="SECONDS",
        help="Wait so long for writers that have not taken the step; then name them. Default: 30.",
    )(
        click.option(
            "--yes",
            is_flag=True,
            help="The side that gets authority has been settled and verified since the hold.",
        )(command)
    )


def json_option(command: F) -> F:
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON object on standard output at the end; everything else goes to standard error.",
    )(command)
