"""Runs scenes by seed, for as long as one likes.

    python -m tests.history --seed 7 --seconds 60
    python -m tests.history --seed 7 --stop-at commit --source redis-8.2 --target valkey-9.1

Each run draws what the command line does not say from its seed. Prints what happens, at the end a JSON object; exit
status 1 when anything was wrong, and then the directory in which everything that was recorded is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import replace

from keyferry.cutover.plan import AFTER_COMMIT, ORDER, PAUSING, Step
from keyferry.testing.binaries import find_binaries

from .faults import AT_PLACE, BY_PROXIES, FAULTS, LED_BY_PROXIES, RESTARTS
from .scenes import PHASES, Plan, run


def places(plain: bool) -> tuple[str, ...]:
    """Where a coordinator can be stopped in a switch that may be taken back, with plain clients or without."""
    left_out = {Step.BAR_AFTER} if plain else PAUSING
    steps = [step for step in (*ORDER, *AFTER_COMMIT) if step not in left_out]
    steps += [Step.UNDO_HOLD, Step.UNDO_REVERSE]
    return tuple(f"{step.value}{after}" for step in steps for after in ("", "+"))


PLACES = sorted({*places(True), *places(False)})
FORMS: tuple[tuple[str, ...], ...] = (
    ("threads",),
    ("tasks",),
    ("threads", "tasks"),
    ("threads", "threads", "tasks"),
    ("plain", "plain"),
    ("threads", "plain"),
)
CLOCK_RATES = 0.992, 1.008
"""Within what the lease allows for (capture.clients.lease.DRIFT)."""


def drawn(seed: int, given: argparse.Namespace) -> Plan:
    """A run, by its seed."""
    rng = random.Random(f"plan {seed}")
    servers = sorted(find_binaries())
    forms = rng.choice(FORMS)
    fault_at = rng.choice(("", *places("plain" in forms)))
    fault = rng.choice(("", *(AT_PLACE if fault_at else FAULTS)))
    stop_at = rng.choice(("", *places("plain" in forms)))
    plan = Plan(
        source=rng.choice(servers),
        target=rng.choice(servers),
        seed=seed,
        forms=tuple(forms),  # type: ignore[arg-type]
        phase="source" if "plain" in forms else rng.choice(PHASES),
        fault=fault,
        fault_at=fault_at if fault else "",
        stop_at=stop_at if rng.random() < 0.3 else "",
        settings={"lease_ms": rng.choice((1_500, 3_000)), "mirror": rng.choice(("inline", "background"))},
        own_user=rng.random() < 0.4,
        clock_rates=tuple(rng.choice(CLOCK_RATES) for _ in forms) if rng.random() < 0.3 else (),
    )
    names = ("source", "target", "phase", "gate", "fault", "fault_at", "stop_at", "own_user")
    said = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    for name in ("forms", "switches", "without"):
        if getattr(given, name):
            said[name] = tuple(getattr(given, name).split(","))
    plan = replace(plan, **said)
    fault = plan.fault
    return replace(
        plan, proxied=fault in BY_PROXIES, led_by_proxies=fault in LED_BY_PROXIES, durable=fault in RESTARTS
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="runs with the next seeds for so long; 0 is one"
    )
    parser.add_argument("--source", help="name of the servers, x3 for a cluster of three")
    parser.add_argument("--target")
    parser.add_argument("--phase", choices=PHASES)
    parser.add_argument("--gate", choices=("writers", "pause", "both"))
    parser.add_argument("--forms", help="application processes, such as threads,tasks,plain")
    parser.add_argument("--switches", help="what is done, such as cutover,rollback")
    parser.add_argument("--without", help="kinds of operations that are left out, such as counter,bank")
    parser.add_argument("--own-user", action="store_true", default=None, help="of the applications")
    parser.add_argument("--fault", choices=("", *{**FAULTS, **AT_PLACE}))
    parser.add_argument(
        "--fault-at", choices=("", *PLACES), help="the fault happens when the coordinator is there"
    )
    parser.add_argument("--stop-at", choices=("", *PLACES), help="where the coordinator is killed once")
    given = parser.parse_args()
    ends_s, seed, failed = time.monotonic() + given.seconds, given.seed, []
    while True:
        plan = drawn(seed, given)
        print(f"--- seed {seed}: {plan}", flush=True)
        result = run(plan, AT_PLACE if plan.fault_at else FAULTS, tell=True)
        if not result.passed:
            failed.append(seed)
            print(f"FAILED; what was recorded is in {result.directory}", flush=True)
        seed += 1
        if time.monotonic() >= ends_s:
            break
    print(json.dumps({"passed": not failed, "seeds": [given.seed, seed - 1], "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
