"""Runs one program and writes what it used: ``python -I -S launch.py REPORT PROGRAM ARGUMENT...``

A process of its own, and a small one: Linux counts the memory of the process that starts another into the
peak of the started one (``exec`` keeps the old peak), so whoever starts a tool to see its peak must be small.
"""

import json
import os
import sys
import time


def main() -> None:
    report, argv = sys.argv[1], sys.argv[2:]
    begun = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    _, status, usage = os.wait4(pid, 0)
    used = {
        "seconds": time.monotonic() - begun,
        "exit_code": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        # getrusage(2): kilobytes on Linux, bytes on macOS.
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    with open(report, "w") as file:  # noqa: PTH123 (pathlib would make this process larger)
        json.dump(used, file)


if __name__ == "__main__":
    main()
