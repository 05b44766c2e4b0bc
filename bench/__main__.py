"""``python -m bench``: measure, write each section of the page as soon as it is there, print the goals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.arena import choose_binary
from bench.machine import look_at_machine, look_at_versions
from bench.options import SECTIONS, Options, parse_options
from bench.page import Conditions, Section, keep, parse, render
from bench.report import HOW_TO_READ
from bench.samples import BenchError
from bench.sections import Measured, measure_section
from bench.tools import keyferry_version
from keyferry.model.errors import KeyferryError
from keyferry.testing.servers import ServerBinary


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1 when a row failed; 2 on bad usage, or when a section cannot be measured at all."""
    options = parse_options(arguments)
    try:
        binary, remark = choose_binary()
    except BenchError as error:
        print(f"Cannot measure: {error}.", file=sys.stderr)
        return 2
    exit_code = 0
    for name in options.sections:
        try:
            measured = measure_section(name, binary, options)
        except (BenchError, KeyferryError) as error:
            print(f"Cannot measure {name}: {error}.", file=sys.stderr)
            exit_code = 2
            continue
        _write(options.output, measured.section, _conditions(measured, binary, options, remark))
        _print_goals(measured.section)
        if measured.failed:
            exit_code = max(exit_code, 1)
    print(f"written: {options.output}", file=sys.stderr)
    return exit_code


def _write(path: Path, section: Section, conditions: Conditions) -> None:
    """Puts the section on the page; the other sections stay. A cut leaves the old page or the new one."""
    sections = parse(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[section.name] = keep(section, conditions)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(render(sections, SECTIONS, HOW_TO_READ), encoding="utf-8")
    unfinished.replace(path)


def _conditions(measured: Measured, binary: ServerBinary, options: Options, remark: str) -> Conditions:
    versions = look_at_versions(str(binary), _keyferry_says())
    remarks = " ".join(filter(None, (remark, _smallness(options))))
    return Conditions(look_at_machine(), versions, options.command_line, measured.rounds, remarks)


def _print_goals(section: Section) -> None:
    for goal in section.goals:
        verdict = {True: "reached", False: "NOT REACHED", None: "-"}[goal.reached]
        print(f"{verdict:>11}  {section.name}: {goal.text}: {goal.measured}", file=sys.stderr)


def _keyferry_says() -> str:
    try:
        return keyferry_version("auto")
    except BenchError:
        return ""


def _smallness(options: Options) -> str:
    if options.small:
        return "A run with few keys: it shows that the benchmark works, not how fast anything is."
    return ""


def _end(number: int, _frame: object) -> None:
    """As an exception, so that servers, tools and directories are cleared away."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end)
    sys.exit(main(sys.argv[1:]))
