"""The application's processes of one run: started together, stopped or stopped still one by one, their histories read."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from keyferry.model.errors import KeyferryError

from .application import Plan
from .events import History

ROOT = Path(__file__).parents[2]
READY_S = 30.0
STOP_S = 30.0


class Applications:
    """Processes of ``application``; they end with the block, wherever it ends.

    Args:
        plans: One for each; their ``path`` is in a directory that is there.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = list(plans)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Applications:
        try:
            for plan in self._plans:
                self._start(plan)
            for plan, process in zip(self._plans, self._processes, strict=True):
                _wait_ready(plan, process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __len__(self) -> int:
        return len(self._processes)

    def stand_still(self, index: int) -> None:
        """SIGSTOP."""
        self._processes[index].send_signal(signal.SIGSTOP)

    def go_on(self, index: int) -> None:
        self._processes[index].send_signal(signal.SIGCONT)

    def kill(self, index: int) -> None:
        """SIGKILL: what it had begun stays unknown."""
        self._processes[index].kill()
        self._processes[index].wait()

    def history(self) -> History:
        """What is written down so far."""
        return History.read([Path(plan.path) for plan in self._plans if Path(plan.path).exists()])

    def check_alive(self) -> None:
        """Raises KeyferryError when one has ended by itself."""
        for plan, process in zip(self._plans, self._processes, strict=True):
            if process.poll() not in (None, -signal.SIGKILL):
                raise KeyferryError(f"Application {plan.worker} has ended: {said(plan)}")

    def stop(self) -> History:
        """Ends them after the operations that are under way.

        Raises:
            KeyferryError: One of them failed.
        """
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        for plan, process in zip(self._plans, self._processes, strict=True):
            try:
                status = process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                raise KeyferryError(f"Application {plan.worker} does not end: {said(plan)}") from None
            if status not in (0, -signal.SIGKILL):
                raise KeyferryError(f"Application {plan.worker} ended with status {status}: {said(plan)}")
        return self.history()

    def _start(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "tests.history.application", plan.as_json()]
        with _log(plan).open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append(process)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def said(plan: Plan) -> str:
    return _log(plan).read_text("utf-8", "replace")[-2_000:]


def _log(plan: Plan) -> Path:
    return Path(plan.path).with_suffix(".log")


def _wait_ready(plan: Plan, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_S
    while not Path(plan.path).exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise KeyferryError(f"Application {plan.worker} does not begin: {said(plan)}")
        time.sleep(0.01)
