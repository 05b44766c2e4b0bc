"""A sync as a process that says all it shows: one JSON line for each snapshot, until standard input ends.

``keyferry sync`` shows the same to people; here its figures are wanted.
``python -m bench.follower SOURCE_URL TARGET_URL STATE_DIR [--max-latency MS]``, the rest as the command's defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.follow.run import run_sync
from keyferry.follow.settings import SyncSettings
from keyferry.model.address import parse_endpoint
from keyferry.model.errors import InterruptedRun, KeyferryError
from keyferry.telemetry.following import SyncProgress


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when it was ended; 3 when the sync ended by itself, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.follower")
    parser.add_argument("source", type=parse_endpoint)
    parser.add_argument("target", type=parse_endpoint)
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--max-latency", type=float)
    given = parser.parse_args(arguments)
    copy = CopySettings(given.source, given.target, state_dir=given.state_dir)
    if given.max_latency is not None:
        copy = replace(copy, max_latency_ms=given.max_latency)
    stop = StopFlag()
    threading.Thread(target=_until_the_end, args=(stop,), daemon=True).start()
    process = psutil.Process()

    def observe(progress: SyncProgress) -> None:
        line = {
            "at_s": time.monotonic(),
            "cpu_s": time.process_time(),
            "resident_bytes": process.memory_info().rss,
            "stage": progress.stage,
            "generation": progress.generation,
            "elapsed_s": progress.elapsed_s,
            "dirty_keys": progress.dirty_keys,
            "lag_s": progress.lag_s,
            "settled_keys": progress.settled_keys,
        }
        print(json.dumps(line), flush=True)

    try:
        run_sync(SyncSettings(copy), observe=observe, tell=_tell, stop=stop)
    except InterruptedRun:
        return 0
    except KeyferryError as error:
        _tell(error.message)
    return 3


def _until_the_end(stop: StopFlag) -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 16):
            pass
    stop.request()


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
