"""The drop-in client and redis-py's own, sync and asyncio, asked in the same words and answering in the same form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from attack_commands import Command

import keyferry
import keyferry.asyncio
from keyferry.capture.clients.compare import plain
from keyferry.model.commands import Replies, look_up


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an application sees of one call.

    Attributes:
        value: The reply.
        error: The exception's class and text in place of a reply.
    """

    value: Any = None
    error: tuple[str, str] | None = None


def _seen(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(_listed(call()))
    except (redis.RedisError, UnicodeError, ValueError, TypeError, KeyError, IndexError) as error:
        return Outcome(error=(type(error).__name__, str(error)))


def _listed(value: Any) -> Any:
    """Errors within a pipeline's replies in a form that can be compared."""
    if isinstance(value, Exception):
        return ("error", type(value).__name__, str(value))
    return [_listed(one) for one in value] if isinstance(value, list) else value


class Driver:
    """redis-py's threads' form, or ours.

    Args:
        client: One of either.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def do(self, call: Callable[[], Any]) -> Any:
        """What the call gives; a coroutine is run to its end."""
        return call()

    def command(self, command: Command) -> Outcome:
        return _seen(lambda: self.do(lambda: self.client.execute_command(*command)))

    def pipeline(self, stack: Sequence[Command], *, transaction: bool, raises: bool) -> Outcome:
        def run() -> Any:
            pipe = self.client.pipeline(transaction=transaction)
            for command in stack:
                pipe.execute_command(*command)
            return self.do(lambda: pipe.execute(raise_on_error=raises))

        return _seen(run)

    def transaction(self, watched: str, meanwhile: Callable[[], Any], stack: Sequence[Command]) -> Outcome:
        def run() -> Any:
            pipe = self.client.pipeline()
            try:
                self.do(lambda: pipe.watch(watched))
                kind = self.do(lambda: pipe.type(watched))
                meanwhile()
                pipe.multi()
                for command in stack:
                    pipe.execute_command(*command)
                return [kind, self.do(pipe.execute)]
            finally:
                self.do(pipe.reset)

        return _seen(run)

    def flush(self) -> None:
        """Second legs in the background are done, and what is to be reported is in the ledger."""
        assert self.do(lambda: self.client._crossing.flush(20.0))

    def wait(self, seconds: float) -> None:
        """What runs in the background may go on."""
        import time

        time.sleep(seconds)

    def close(self) -> None:
        self.do(self.client.close)


class AsyncDriver(Driver):
    """The same for asyncio; background tasks run only while something is asked."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._runner = asyncio.Runner()

        async def made() -> Any:
            return make()

        super().__init__(self._runner.run(made()))

    def do(self, call: Callable[[], Any]) -> Any:
        async def run() -> Any:
            result = call()
            return await result if isinstance(result, Coroutine) or hasattr(result, "__await__") else result

        return self._runner.run(run())

    def wait(self, seconds: float) -> None:
        self.do(lambda: asyncio.sleep(seconds))

    def close(self) -> None:
        self.do(self.client.aclose)
        self._runner.close()


def ours(flavour: str, source: str, target: str, **settings: Any) -> Driver:
    """The drop-in; flavour is "threads" or "tasks"."""
    if flavour == "tasks":
        return AsyncDriver(lambda: keyferry.asyncio.Redis.from_urls(source, target, **settings))
    return Driver(keyferry.Redis.from_urls(source, target, **settings))


def lone(flavour: str, url: str, **settings: Any) -> Driver:
    """redis-py's own."""
    if flavour == "tasks":
        return AsyncDriver(lambda: redis.asyncio.Redis.from_url(url, **settings))
    return Driver(redis.Redis.from_url(url, **settings))


def repeated(command: Command, reply: Any) -> Command:
    """The command that does on another server what this one did here: what chance or a clock decided is said."""
    words = [word.upper() if isinstance(word, str) else word for word in command]
    if not reply or _is_error(reply):
        return command
    if words[0] == "SPOP":
        members = sorted(reply) if isinstance(reply, (list, set)) else [reply]
        return ("SREM", command[1], *members)
    if words[0] == "XADD":
        at = words.index("F") - 1
        return (*command[:at], reply, *command[at + 1 :])
    return command


def _is_error(reply: Any) -> bool:
    return isinstance(reply, tuple) and reply[:1] == ("error",)


def alike(command: Command, mine: Any, theirs: Any) -> bool:
    """Whether two replies to a command say the same to an application, as far as they have to."""
    if _is_error(mine) or _is_error(theirs):
        return bool(mine == theirs)
    info = look_up(command)
    if info is None:
        return bool(mine == theirs)
    if info.name == "SPOP":
        if not mine or isinstance(theirs, int):
            count = len(mine) if isinstance(mine, (list, set)) else 1
            return (not mine and not theirs) or theirs == count
        return False
    if info.name == "PTTL" or info.name.endswith("EXPIRETIME"):
        return near(mine, theirs)
    if info.replies is Replies.VARIES and info.name not in ("XADD", "XTRIM"):
        return type(mine) is type(theirs)
    if info.name == "XPENDING":
        return True  # who has what is the same, the order need not be
    if mine == theirs:
        return True
    return info.replies is Replies.UNORDERED and _unordered(mine) == _unordered(theirs)


def near(mine: Any, theirs: Any) -> bool:
    """Times that were counted from two moments."""
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(map(near, mine, theirs))
    if isinstance(mine, int) and isinstance(theirs, int):
        return abs(mine - theirs) < 2_000 and (mine < 0) == (theirs < 0)
    return bool(mine == theirs)


def _unordered(reply: Any) -> Any:
    reply = plain(reply)
    return sorted(map(repr, reply)) if isinstance(reply, list) else reply
