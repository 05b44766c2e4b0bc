"""``python -m dev.redis_py_suite``: redis-py's suite with redis-py itself, then with our class in each phase.

    --phase source,dual,target    which phases; --phase "" runs redis-py itself alone, twice
    --protocol 2,3,default        the suite's own choice of protocol; without it 2 for every phase, 3 for dual
    --jobs 2                      runs at once, each with servers of its own
    --reuse                       do not run redis-py itself again: take what its last such run came to
    --json FILE                   the results for programs
    everything else               goes to pytest (-k pipeline)

Exit code 0: every test ended as with redis-py itself. 1: some did not. 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dev.redis_py_suite.compare import Outcome, Sorted, differences, sort_out
from dev.redis_py_suite.launch import PREFERRED, Plan, Ran, run_redis_py, run_suite, stop_all
from dev.redis_py_suite.place import VERSION, SuiteError, suite_directory, suite_python
from dev.redis_py_suite.report import Result, as_json, as_text, complaint
from keyferry.testing.servers import ServerBinary, find_binaries

PHASES = ("source", "dual", "target")
TRIED_AGAIN_MAX = 200
"""More differences than that are no matter of chance."""
DEFAULT_RUNS = (("source", "2"), ("dual", "2"), ("target", "2"), ("dual", "3"))


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    options, pytest_arguments = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        binary = _choose_server(options.server)
        suite_directory()
        suite_python()
        results = _run_all(_wanted(options), tuple(pytest_arguments), binary, options)
    except SuiteError as error:
        print(f"Cannot run the suite: {error}", file=sys.stderr)
        return 2
    print(as_text(results, str(binary), VERSION))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(results, str(binary), VERSION), indent=1) + "\n")
    return 0 if all(result.good for result in results) else 1


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m dev.redis_py_suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--phase", help="comma-separated: " + ", ".join(PHASES))
    parser.add_argument("--protocol", help="comma-separated: 2, 3, default")
    parser.add_argument("--server", help="redis-8.2, valkey-9.1, ...: as found by keyferry.testing.binaries")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--reuse", action="store_true", help="redis-py itself as it was the last time")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_known_args(arguments)


def _wanted(options: argparse.Namespace) -> list[tuple[str | None, str]]:
    """Phase and protocol of each run of ours; no phase is redis-py against itself."""
    if options.phase is None and options.protocol is None:
        return list(DEFAULT_RUNS)
    phases = list(PHASES) if options.phase is None else [name or None for name in options.phase.split(",")]
    protocols = (options.protocol or "2").split(",")
    return [(phase, "" if protocol == "default" else protocol) for protocol in protocols for phase in phases]


def _choose_server(name: str | None) -> ServerBinary:
    binaries = find_binaries()
    for candidate in (name,) if name else PREFERRED:
        if candidate in binaries:
            return binaries[candidate]
    raise SuiteError(f"no {name or 'Redis'} server is at hand; there are: {', '.join(binaries) or 'none'}")


def _run_all(
    wanted: Sequence[tuple[str | None, str]],
    pytest_arguments: tuple[str, ...],
    binary: ServerBinary,
    options: argparse.Namespace,
) -> list[Result]:
    def run(plan: Plan) -> Ran:
        begun = time.monotonic()
        if plan.phase is None:
            ran = run_redis_py(plan, binary, reuse=options.reuse)
        else:
            ran = run_suite(plan, binary)
        print(
            f"{plan.name}: {len(ran.outcomes)} tests in {time.monotonic() - begun:.0f} s; {ran.log}",
            file=sys.stderr,
        )
        return ran

    with ThreadPoolExecutor(options.jobs) as pool:
        protocols = dict.fromkeys(protocol for _, protocol in wanted)
        itself = {
            protocol: pool.submit(run, Plan(None, protocol, pytest_arguments=pytest_arguments))
            for protocol in protocols
        }
        plans = [Plan(phase, protocol, pytest_arguments=pytest_arguments) for phase, protocol in wanted]
        ours = [pool.submit(run, plan) for plan in plans]
        try:
            pairs = [
                (plan, itself[plan.protocol].result(), run.result())
                for plan, run in zip(plans, ours, strict=True)
            ]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    # One after the other, so that nothing else is to blame.
    return [_judge(plan, redis_py, run, binary) for plan, redis_py, run in pairs]


def _judge(plan: Plan, redis_py: Ran, ours: Ran, binary: ServerBinary) -> Result:
    """Tries once more what differed, without the other tests."""
    first = differences(redis_py.outcomes, ours.outcomes)
    again = sort_out((), {}, {})
    if len(first) > TRIED_AGAIN_MAX:
        again = Sorted(tuple(first), ())
    elif first:
        only = tuple(difference.test for difference in first)
        tries = [_again(Plan(phase, plan.protocol, only), binary) for phase in (None, plan.phase)]
        again = sort_out(first, tries[0], tries[1])
    return Result(plan, redis_py, ours, again, complaint(plan, ours))


def _again(plan: Plan, binary: ServerBinary) -> dict[str, Outcome]:
    """How the tests end without the others; none of them when not even that can be said."""
    try:
        return run_suite(plan, binary).outcomes
    except SuiteError as error:
        print(error, file=sys.stderr)
        return {}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
