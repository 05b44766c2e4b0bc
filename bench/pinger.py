"""Another client of a server: 1,000 PINGs per second, never more than one in flight.

A wait counts from the sending of a PING to its reply. PINGs that were due during a long wait are not made up for:
the longest wait is exact, the share of long ones among all is the least that it can be. A process of its own,
``python -m bench.pinger PORT``, as what it shares a process with would be part of its waits: prints ``ready``,
measures from a line on standard input until that ends, then prints one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from array import array

INTERVAL_NS = 1_000_000
PINGS_MAX = 3_600_000
REPLY_TIMEOUT_S = 60.0
REQUEST, REPLY = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


def measure(connection: socket.socket, control: int) -> array[int]:
    """Waits in microseconds, until the descriptor ``control`` is readable or at its end."""
    waits_us = array("L")
    due = time.monotonic_ns()
    while len(waits_us) < PINGS_MAX:
        early_s = max(0, due - time.monotonic_ns()) / 1e9
        if select.select([control], (), (), early_s)[0]:
            break
        sent = time.monotonic_ns()
        connection.sendall(REQUEST)
        missing = len(REPLY)
        while missing:
            data = connection.recv(missing)
            if not data:
                raise SystemExit("the server closed the pinger's connection")
            missing -= len(data)
        received = time.monotonic_ns()
        waits_us.append((received - sent) // 1_000)
        due = max(due + INTERVAL_NS, received)
    return waits_us


def main(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(REPLY_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        os.read(sys.stdin.fileno(), 16)
        begun, cpu_begun = time.monotonic(), time.process_time()
        waits_us = measure(connection, sys.stdin.fileno())
        share = (time.process_time() - cpu_begun) / (time.monotonic() - begun)
    print(json.dumps({"latencies_us": list(waits_us), "cpu_share": share}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
