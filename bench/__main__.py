"""``python -m bench``: measure, write the page, print the goals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from bench.arena import choose_binary
from bench.figures import goals
from bench.machine import look_at_machine, look_at_versions
from bench.options import Options, parse_options
from bench.report import Page, render
from bench.samples import BenchError
from bench.schedule import measure
from bench.tool_rows import keyferry_version
from keyferry.model.errors import KeyferryError


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1 when a row failed; 2 on bad usage, or when nothing can be measured."""
    options = parse_options(arguments)
    try:
        binary, remark = choose_binary()
        results = [
            # A quick run looks at latency once: it shall end within a minute.
            measure(name, binary, options, latency=number == 0 or not options.quick)
            for number, name in enumerate(options.data)
        ]
    except (BenchError, KeyferryError) as error:
        print(f"Cannot measure: {error}.", file=sys.stderr)
        return 2
    page = Page(
        look_at_machine(),
        look_at_versions(str(binary), _keyferry_says()),
        options.command_line,
        options.rounds,
        options.latency_rounds,
        results,
        " ".join(filter(None, (remark, _smallness(options)))),
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(render(page), encoding="utf-8")
    for goal in goals(results):
        verdict = {True: "reached", False: "NOT REACHED", None: "-"}[goal.reached]
        print(f"{verdict:>11}  {goal.text}: {goal.measured}", file=sys.stderr)
    print(f"written: {options.output}", file=sys.stderr)
    return 1 if any(row.failed for data in results for row in data.rows) else 0


def _keyferry_says() -> str:
    try:
        return keyferry_version("auto")
    except BenchError:
        return ""


def _smallness(options: Options) -> str:
    if options.quick or options.keys is not None:
        return "A run with few keys: it shows that the benchmark works, not how fast anything is."
    return ""


def _end(number: int, _frame: object) -> None:
    """As an exception, so that servers, tools and directories are cleared away."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end)
    sys.exit(main(sys.argv[1:]))
