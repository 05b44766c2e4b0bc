"""The gate for clients that know nothing of Keyferry: the server itself lets their writes wait.

CLIENT PAUSE ms WRITE (since 6.2) stops writes, scripts, expiry and eviction; reads go on; it ends by itself
(https://redis.io/docs/latest/commands/client-pause/). While it is on, nothing of ours can write there either. That it
ends by itself is the risk:

1. we pause; 2. we settle, slower than we thought; 3. the pause ends and a waiting write runs; 4. we take the write
rights away and commit: that write is lost.

So after the rights were taken away each server is asked by its own clock whether the pause was still on. The end
of a pause is never earlier than the server's time before it was asked for plus the length, and a server that was
started anew has none. Where the server tells of its pause (INFO clients, Valkey 9), it is asked as well: then an
UNPAUSE of somebody else is noticed too.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.copy.info import Info, info_text, parse_info
from keyferry.cutover.reach import Commands, Primary, Reach
from keyferry.model.errors import ServerError
from keyferry.wire.resp import Reply, ReplyError

MARGIN_MS = 50
"""A pause that ends within this time is taken as over: servers round, and cache their clock for a loop turn."""
LENGTH_MS_MAX = 60_000
SINCE = (6, 2)
RIGHTS = "+client|pause +client|unpause +time +info +multi +discard"
HINT = f"The user needs {RIGHTS}."


@dataclass(frozen=True, slots=True)
class _Begun:
    """Attributes: run_id: Of the process. until_ms: When the pause ends at the earliest, by the server's clock."""

    run_id: str
    until_ms: float


class Pause:
    """One pause of all primaries of a side.

    Args:
        reach: Of the side that loses authority; its connections are kept meanwhile.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._begun: dict[Primary, _Begun] = {}

    def possible(self) -> str:
        """Why it cannot be done, as a sentence; empty when it can. Stops nobody.

        The commands are queued in a transaction that is thrown away: the server judges the rights then.

        Raises:
            ServerAway: A primary cannot be asked now.
            ServerError: It refuses us.
        """
        commands: Commands = [
            ("INFO", "server"),
            ("INFO", "replication"),
            ("TIME",),
            ("MULTI",),
            ("CLIENT", "PAUSE", 1, "WRITE"),
            ("CLIENT", "UNPAUSE"),
            ("DISCARD",),
        ]
        for primary, replies in self._reach.ask_all(commands).all().items():
            problem = self._problem(primary, replies)
            if problem:
                return problem
        return ""

    def begin(self, length_ms: int) -> None:
        """Pauses writes on all primaries, or on none.

        Args:
            length_ms: After which the servers let writes go on by themselves, whatever becomes of us.

        Raises:
            ValueError: The length is not between the margin and ``LENGTH_MS_MAX``.
            ServerError: One refuses, or does not answer.
        """
        if not MARGIN_MS < length_ms <= LENGTH_MS_MAX:
            raise ValueError(f"a pause of {length_ms} ms is not between {MARGIN_MS} and {LENGTH_MS_MAX} ms")
        self._begun = {}
        commands: Commands = [("INFO", "server"), ("TIME",), ("CLIENT", "PAUSE", length_ms, "WRITE")]
        self._reach.prepare()
        try:
            for primary, (info, time, paused) in self._reach.ask_all(commands).all().items():
                if isinstance(paused, ReplyError):
                    raise self._reach.refusal(primary, "to pause writes", paused, HINT)
                now_ms = _milliseconds(time)
                if now_ms is None:
                    raise ServerError(
                        self._reach.wire_side,
                        f"{self._reach.name(primary)} does not say what time it is.",
                        HINT,
                    )
                self._begun[primary] = _Begun(_run_id(info), now_ms + length_ms)
        except BaseException:
            self._begun = {}
            self._unpause()
            raise

    def still_on(self) -> bool:
        """Whether no primary can have let a write through since ``begin``. Raises as ``lapsed``."""
        return not self.lapsed()

    def lapsed(self) -> str:
        """Why the pause may be over, as a sentence; empty while it is surely on, everywhere.

        A primary that does not answer, was started anew, or is none any more, counts as one without pause.
        """
        if not self._begun:
            return f"Writes on the {self._reach.side} are not paused."
        commands: Commands = [("INFO", "server"), ("INFO", "replication"), ("INFO", "clients"), ("TIME",)]
        answers = self._reach.exchange(dict.fromkeys(self._begun, commands), again=False)
        for failure in answers.failures.values():
            return failure.message
        for primary, replies in answers.replies.items():
            name, begun = self._reach.name(primary), self._begun[primary]
            server, replication, clients, time = replies
            now_ms = _milliseconds(time)
            if _run_id(server) != begun.run_id:
                return f"{name} was started anew under the pause."
            if info_text(_sections(replication), "replication", "role") not in ("master", ""):
                return f"{name} is no primary any more."
            if now_ms is None or now_ms > begun.until_ms - MARGIN_MS:
                return f"{name} may have ended its pause: it took too long."
            if "paused_actions" in _sections(clients).get("clients", {}) and "write" not in info_text(
                _sections(clients), "clients", "paused_actions"
            ):
                return f"{name} says that its pause was ended by somebody else."
        return ""

    def end(self) -> None:
        """Lets writes go on, on all primaries. Harmless when it was done before, or nothing was paused.

        Raises:
            ServerError: One could not be told, and all others have been: its pause ends by itself.
        """
        self._begun = {}
        failure = self._unpause()
        if failure is not None:
            raise failure

    def _unpause(self) -> ServerError | None:
        answers = self._reach.ask_all([("CLIENT", "UNPAUSE")])
        for primary, (reply,) in answers.replies.items():
            if isinstance(reply, ReplyError):
                return self._reach.refusal(primary, "to end the pause", reply, HINT)
        return next(iter(answers.failures.values()), None)

    def _problem(self, primary: Primary, replies: list[Reply]) -> str:
        server, replication, time, _, pause, unpause, _ = replies
        name = self._reach.name(primary)
        version = info_text(_sections(server), "server", "redis_version")
        if version and _version(version) < SINCE:
            return f"{name} cannot pause writes alone: that came with Redis 6.2, and it is {version}."
        if info_text(_sections(replication), "replication", "role") == "slave":
            return f"{name} is a replica: a pause there stops nobody who writes to its primary."
        if not _run_id(server):
            return (
                f"{name} does not say which process it is, so a new start under a pause would not be noticed."
            )
        if _milliseconds(time) is None:
            return (
                f"{name} does not say what time it is, so it could not be known whether a pause is still on."
            )
        for reply in (pause, unpause):
            if isinstance(reply, ReplyError):
                return f"{name} does not let us pause writes: {reply.message.rstrip('.')}."
        return ""


def _sections(reply: Reply) -> Info:
    return parse_info(reply) if isinstance(reply, bytes) else {}


def _run_id(reply: Reply) -> str:
    return info_text(_sections(reply), "server", "run_id")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _milliseconds(reply: Reply) -> float | None:
    """What TIME says: seconds and microseconds."""
    match reply:
        case [bytes(seconds), bytes(micros)]:
            return int(seconds) * 1000 + int(micros) / 1000
    return None
