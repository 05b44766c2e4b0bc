"""A light application beside the copy: 1,000 requests per second, GET and SET in turn, on its own few keys.

Open loop: each request is sent at its due time whatever the replies before it do, and its latency counts from
the due time, so waiting is never hidden. A process of its own, ``python -m bench.light_client PORT``:
prints ``ready``, measures from a line on standard input until that ends, then prints one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from array import array
from collections import deque

from bench.datasets import LIGHT_KEYS, LIGHT_VALUE
from keyferry.wire.resp import encode_command

REQUESTS_PER_S = 1_000
INTERVAL_NS = 1_000_000_000 // REQUESTS_PER_S
SECONDS_MAX = 3_600
RECEIVE_BYTES = 1 << 16
DRAIN_S = 10.0
GET_REPLY = b"$%d\r\n%b\r\n" % (len(LIGHT_VALUE), LIGHT_VALUE)
SET_REPLY = b"+OK\r\n"
EXCHANGES = [
    exchange
    for key in LIGHT_KEYS
    for exchange in (
        (encode_command("GET", key), len(GET_REPLY)),
        (encode_command("SET", key, LIGHT_VALUE), len(SET_REPLY)),
    )
]


class LightClient:
    """One connection; replies come in order, so the oldest unanswered request is always the next answered."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unanswered: deque[tuple[int, int]] = deque()
        """(due time in ns, reply bytes) in the order of sending."""
        self._reply_bytes = 0
        self.latencies_us = array("L")

    def run(self, control: int) -> None:
        """Sends at the pace and measures, until the descriptor ``control`` is readable or at its end."""
        connection = self._socket.fileno()
        begun = time.monotonic_ns()
        sent = 0
        while sent < SECONDS_MAX * REQUESTS_PER_S:
            now = time.monotonic_ns()
            due = begun + sent * INTERVAL_NS
            requests = []
            while due <= now:
                request, reply_bytes = EXCHANGES[sent % len(EXCHANGES)]
                requests.append(request)
                self._unanswered.append((due, reply_bytes))
                sent += 1
                due += INTERVAL_NS
            if requests:
                self._socket.sendall(b"".join(requests))
            # select(), not poll(): that counts in whole milliseconds.
            wait_s = max(0, due - time.monotonic_ns()) / 1e9
            ready, _, _ = select.select([control, connection], (), (), wait_s)
            if connection in ready:
                self._take()
            if control in ready:
                break
        self._drain()

    def _take(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        now = time.monotonic_ns()
        if not data:
            raise SystemExit("the server closed the light client's connection")
        self._reply_bytes += len(data)
        while self._unanswered and self._reply_bytes >= self._unanswered[0][1]:
            due, reply_bytes = self._unanswered.popleft()
            self._reply_bytes -= reply_bytes
            self.latencies_us.append((now - due) // 1_000)

    def _drain(self) -> None:
        """Waits for the replies that are still out: leaving them away would hide the longest waits."""
        self._socket.settimeout(DRAIN_S)
        while self._unanswered:
            self._take()


def main(port: int) -> None:
    client = LightClient(port)
    print("ready", flush=True)
    os.read(sys.stdin.fileno(), 16)
    begun, cpu_begun = time.monotonic(), time.process_time()
    client.run(sys.stdin.fileno())
    share = (time.process_time() - cpu_begun) / (time.monotonic() - begun)
    print(json.dumps({"latencies_us": list(client.latencies_us), "cpu_share": share}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
