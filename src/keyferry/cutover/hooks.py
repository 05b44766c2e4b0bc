"""Runs an operator's own command at a switch: for those whose switch is a DNS record or a configuration.

The switch is made when it runs, so its failure is told and changes nothing. It gets the facts in its environment,
a bounded time, and an end together with all that it has started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

OUTPUT_BYTES_MAX = 4096
READ_BYTES, READS_MAX = 65_536, 64
POLL_S = 0.05
KILL_WAIT_S = 5.0
PREFIX = "KEYFERRY_"
_SECRETS = ("PASSWORD",)
"""Our own variables with these words are not handed on."""


@dataclass(frozen=True, slots=True)
class HookResult:
    """How it went.

    Attributes:
        exit_code: Of the command; minus the signal that ended it; None when it could not be started.
        output: The last ``OUTPUT_BYTES_MAX`` bytes of what it wrote to its two outputs, as text.
        seconds: How long it ran.
        timed_out: It was ended by us.
    """

    command: str
    exit_code: int | None
    output: str = ""
    seconds: float = 0.0
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and not self.timed_out

    def __str__(self) -> str:
        """One sentence."""
        if self.succeeded:
            return f"The hook ended well after {self.seconds:.1f} s."
        if self.timed_out:
            return f"The hook did not end within {self.seconds:.1f} s and was stopped."
        if self.exit_code is None:
            return f"The hook could not be started: {self.output.rstrip('.')}."
        return f"The hook failed after {self.seconds:.1f} s: its exit status is {self.exit_code}."


def run_hook(command: str, facts: Mapping[str, str], timeout_s: float) -> HookResult:
    """Runs ``/bin/sh -c command`` and waits for it. Never raises for what the command does.

    Args:
        facts: By the names of the variables without ``KEYFERRY_``, such as NAME, EVENT (cutover or rollback),
            AUTHORITY, SOURCE, TARGET (without credentials), EPOCH and PHASE.
        timeout_s: After which it is killed, with its process group.
    """
    begun_s = time.monotonic()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(facts),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return HookResult(command, None, str(error), time.monotonic() - begun_s)
    with process:
        assert process.stdout is not None  # PIPE
        reader = _Tail(process.stdout.fileno())
        try:
            timed_out = not _ended(process, reader, begun_s + timeout_s)
        finally:
            if process.poll() is None:
                _end(process)
        reader.drain()
        process.stdout.close()
    return HookResult(command, process.returncode, reader.text, time.monotonic() - begun_s, timed_out)


class _Tail:
    """The end of what comes out of a pipe. It is read as long as the command runs, and never waited for after
    it: what a hook leaves running in the background may keep the pipe open for ever."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self._number = number
        self._data = b""
        self._open = True

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "backslashreplace")

    def wait(self, longest_s: float) -> None:
        """Until something has come and was read, or the time is over."""
        if not self._open:
            time.sleep(longest_s)
        elif select.select([self._number], [], [], longest_s)[0]:
            self._read()

    def drain(self) -> None:
        """What is there already, within a bound."""
        for _ in range(READS_MAX):
            if not self._read():
                break

    def _read(self) -> bool:
        try:
            data = os.read(self._number, READ_BYTES)
        except BlockingIOError:
            return False
        self._open = bool(data)
        self._data = (self._data + data)[-OUTPUT_BYTES_MAX:]
        return self._open


def _ended(process: subprocess.Popen[bytes], reader: _Tail, until_s: float) -> bool:
    """Waits for the end; False when the time is over first."""
    while process.poll() is None:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return False
        reader.wait(min(left_s, POLL_S))
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_WAIT_S)


def _environment(facts: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith(PREFIX) and any(secret in name for secret in _SECRETS))
    }
    return inherited | {f"{PREFIX}{name}": value for name, value in facts.items()}
