"""A fault proxy in a process of its own, for tests that keep their own interpreter busy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any

from keyferry.model.errors import KeyferryError
from keyferry.testing.proxy import HOST, Direction, FaultProxy


class ProxyProcess:
    """As ``FaultProxy``, without TLS. It ends with this process, however that ends."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._command = [sys.executable, "-m", __name__, upstream_host, str(upstream_port)]
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self.port = 0

    def __enter__(self) -> ProxyProcess:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.port = int(self._ask("port"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        return int(self._ask("connections"))

    @property
    def open_connections(self) -> int:
        return int(self._ask("open_connections"))

    def cut(self) -> None:
        self._ask("cut")

    def cut_after(self, count: int, direction: Direction, *, times: int = 1) -> None:
        self._ask("cut_after", count, direction, times)

    def refuse(self, on: bool) -> None:
        self._ask("refuse", on)

    def stall(self, on: bool) -> None:
        self._ask("stall", on)

    def delay(self, seconds: float) -> None:
        self._ask("delay", seconds)

    def _ask(self, *words: Any) -> Any:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise KeyferryError("The fault proxy does not run.")
        with self._turn:
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise KeyferryError("The fault proxy has ended.")
        return json.loads(answer)


def _carry_out(proxy: FaultProxy, words: list[Any]) -> Any:
    name, *given = words
    if name == "cut_after":
        proxy.cut_after(given[0], given[1], times=given[2])
        return True
    what = getattr(proxy, name)
    if not callable(what):
        return what
    what(*given)
    return True


def main() -> None:
    with FaultProxy(sys.argv[1], int(sys.argv[2])) as proxy:
        for line in sys.stdin:
            print(json.dumps(_carry_out(proxy, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
