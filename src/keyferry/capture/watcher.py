"""Watches one server for what no feed names, on a connection of its own.

    INFO -> which counters moved -> a sweep of the streams if theirs did -> INFO -> ...

Every so often the counters are read. When commands of stream groups were called, all registered streams are looked at
in steps of bounded size (``stream_groups``), and those that changed are told. Looking takes at most a fifth of the
time, however many streams there are.
"""

from __future__ import annotations

import re
import select
from collections.abc import Iterable
from dataclasses import dataclass, field

from keyferry.capture.counters import Counters, movement
from keyferry.capture.notifications import PARAMETER, notifications_flags
from keyferry.capture.silence import SILENT, Silence
from keyferry.capture.stream_groups import STREAMS_MAX, Command, Stream, StreamBook, Sweep
from keyferry.model.errors import Side
from keyferry.wire.channel import Channel
from keyferry.wire.resp import ProtocolError, Reply, ReplyParser, encode_commands
from keyferry.wire.session import ConnectionLost, Session

RIGHTS = "+info +xinfo +select +time"
"""The ACL rules that a watcher needs."""
SHAPES_EVERY_S = 2.0
"""Between two sweeps that count every stream as changed."""
UNKNOWN_EVERY_S = 5.0
"""Between two sweeps where the server shows no counters."""
IDLE_SHARE = 4
"""A sweep is followed by a pause of so many times its length."""

_VIEW_BYTES = 256 * 1024
_SECTIONS = ("server", "keyspace", "stats", "memory", "commandstats")
_KEYSPACE = re.compile(rb"^db([0-9]+):keys=([0-9]+)", re.MULTILINE)


@dataclass(slots=True)
class Seen:
    """What was seen since the last take.

    Attributes:
        swapped: SWAPDB was called: any key of any database may have changed.
        flushed: FLUSHALL or FLUSHDB was called.
        functions: A function library may have changed.
        streams: Streams whose groups or pending entries may have changed.
        silent: Notifications no longer name every change: somebody has set the parameter.
        keys: Database -> number of keys, of the last INFO; those without keys are left out.
        run_id: Of the server's process.
        used_memory, evicted_keys, expired_keys: Of the last INFO; 0 where it does not tell.
        blind: Sentences on what cannot be seen here, each told once.
    """

    swapped: bool = False
    flushed: bool = False
    functions: bool = False
    streams: list[Stream] = field(default_factory=list)
    silent: bool = False
    keys: dict[int, int] = field(default_factory=dict)
    run_id: str = ""
    used_memory: int = 0
    evicted_keys: int = 0
    expired_keys: int = 0
    blind: list[str] = field(default_factory=list)


class Watcher:
    """One server's watcher, turned in a poll loop.

    It is to be opened before the first stream is read: a stream in which nothing was called since then needs no look.

    Args:
        session: Of its own; its connection is the watcher's afterwards.
        every_s: Between two looks at the counters.
        notifications: See to it that the server goes on to notify of every change.

    Raises:
        ConnectionLost: The connection broke.
    """

    def __init__(self, session: Session, every_s: float = 0.5, *, notifications: bool = False) -> None:
        self.side: Side = session.side
        self._where = str(session.endpoint)
        self._every_s = every_s
        self._infos: list[Command] = [("INFO", section) for section in _SECTIONS]
        if notifications:
            self._infos.append(("CONFIG", "GET", PARAMETER))
        self._book = StreamBook()
        self._seen = Seen()
        self._told: set[str] = set()
        self._counters = Counters()
        self._claims = self._shapes = self._ever = False
        """Stream groups were used: since the last sweep, since the last sweep that takes all, since the beginning."""
        self._since_ms = 0
        self._changed: dict[Stream, None] = {}
        self._begun = self._done = self._wanted = 0
        self._asked_s = self._sweep_s = self._sweep_end_s = self._shapes_s = -1e9
        self._sweep: Sweep | None = None
        self._blind = False
        self._read_counters(session.pipeline(self._infos))
        self._channel = Channel(session)
        self._parser = ReplyParser()
        self._view = memoryview(bytearray(_VIEW_BYTES))
        self._silence = Silence()
        self._expected = 0
        self._replies: list[Reply] = []

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def events(self) -> int:
        return select.POLLIN | self._channel.wants

    @property
    def buffered(self) -> bool:
        return self._channel.buffered

    def close(self) -> None:
        self._channel.close()

    def add_streams(self, database: int, keys: Iterable[bytes]) -> None:
        """Registers streams, again without effect.

        Each takes about 150 bytes and its name, until it is gone. There is room for ``STREAMS_MAX``.
        """
        if not self._book.add(database, keys):
            self._tell(
                f"The {self.side} {self._where} holds more than {STREAMS_MAX:,} streams: what groups do in the others "
                "is found by a comparison only."
            )

    @property
    def streams(self) -> int:
        """How many are registered."""
        return len(self._book)

    def request(self) -> int:
        """Asks for a whole look that begins after now, at once and without the usual pauses; its number."""
        self._asked_s = -1e9
        self._wanted = self._begun + 1
        return self._wanted

    def answered(self, request: int) -> bool:
        """All that was called before the ``request`` has come out of ``take``, or comes with the next."""
        return self._done >= request

    def turn(self, now_s: float) -> None:
        """Sends what is due.

        Raises:
            ConnectionLost: It broke, or the server has been silent for too long.
        """
        if self._silence.too_long(now_s, self._expected > 0):
            raise self._lost(SILENT)
        if not self._expected:
            self._next(now_s)
        self._channel.flush()

    def read(self, now_s: float) -> None:
        """Takes replies.

        Raises:
            ConnectionLost: The connection broke.
            ProtocolError: The peer sent what nothing asked for.
        """
        count = self._channel.receive(self._view)
        if not count:
            return
        self._silence.end()
        self._parser.feed(self._view[:count])
        self._replies += self._parser.replies()
        if len(self._replies) > self._expected:
            raise ProtocolError(f"The {self.side} {self._where} sent a reply that nothing asked for.")
        if self._expected and len(self._replies) == self._expected:
            replies, self._replies, self._expected = self._replies, [], 0
            if self._sweep is not None:
                self._sweep.take(replies)
            elif self._read_counters(replies):
                self._decide(now_s)
            self._next(now_s)
            self._channel.flush()

    def take(self) -> Seen:
        """What was seen since the last take, and the figures of the last INFO."""
        seen = self._seen
        seen.streams, self._changed = list(self._changed), {}
        self._seen = Seen(
            keys=seen.keys,
            run_id=seen.run_id,
            used_memory=seen.used_memory,
            evicted_keys=seen.evicted_keys,
            expired_keys=seen.expired_keys,
        )
        return seen

    def _next(self, now_s: float) -> None:
        """Sends the sweep's next step, or INFO when it is due."""
        if self._sweep is not None:
            commands = self._sweep.step()
            if commands is not None:
                self._send(commands)
                return
            self._end_sweep(self._sweep, now_s)
        if now_s >= self._asked_s + self._every_s:
            self._asked_s = now_s
            self._begun += 1
            self._send(self._infos)

    def _send(self, commands: list[Command]) -> None:
        self._channel.queue(encode_commands(commands))
        self._expected = len(commands)

    def _decide(self, now_s: float) -> None:
        """After a look at the counters: whether to sweep."""
        urgent = self._wanted > self._done
        if not self._counters.known and (urgent or now_s >= self._sweep_s + UNKNOWN_EVERY_S):
            self._claims = self._ever = True
        pause_s = SHAPES_EVERY_S if self._blind else (self._sweep_end_s - self._sweep_s) * (IDLE_SHARE + 1)
        rested = urgent or now_s >= self._sweep_s + pause_s
        shapes = self._shapes and (urgent or now_s >= self._shapes_s + SHAPES_EVERY_S)
        if rested and (self._claims or shapes):
            self._begin_sweep(Sweep(self._book, self._since_ms, all_changed=shapes), now_s)
        elif rested and self._ever and self._book.unknown:
            self._begin_sweep(Sweep(self._book, self._since_ms, unknown_only=True), now_s)
        else:
            self._conclude()

    def _begin_sweep(self, sweep: Sweep, now_s: float) -> None:
        self._sweep, self._sweep_s = sweep, now_s
        if sweep.all_changed:
            self._shapes, self._shapes_s = False, now_s
        if not sweep.unknown_only:
            self._claims = False

    def _end_sweep(self, sweep: Sweep, now_s: float) -> None:
        self._sweep, self._sweep_end_s = None, now_s
        self._changed.update(dict.fromkeys(sweep.changed))
        if sweep.refusal:
            self._blind = True
            self._tell(
                f"The {self.side} {self._where} does not allow XINFO ({sweep.refusal.rstrip('.')}): "
                "every stream is read again when groups were used."
            )
        if sweep.failed:
            self._claims = True
            self._shapes |= sweep.all_changed
        elif not sweep.unknown_only and sweep.began_ms is not None:
            self._since_ms = sweep.began_ms
        self._conclude()

    def _conclude(self) -> None:
        """A look is over; it was a whole one unless something is left for the next."""
        if not (self._claims or self._shapes or (self._ever and self._book.unknown)):
            self._done = self._begun

    def _read_counters(self, replies: list[Reply]) -> bool:
        """Whether the server has answered: while a script runs for too long it does not, and the next look sees it all."""
        texts = [reply if isinstance(reply, bytes) else b"" for reply in replies[: len(_SECTIONS)]]
        counters = Counters.of(texts[-1])
        if counters.known:
            self._take_counters(counters)
        elif self._counters.known:
            return False
        else:
            self._tell(
                f"The {self.side} {self._where} does not show INFO commandstats: SWAPDB, flushes and changes of "
                f"functions go unnoticed there, and streams are looked at every {UNKNOWN_EVERY_S:.0f} s."
            )
        info = b"\n".join(texts)
        seen = self._seen
        seen.keys = {int(database): int(keys) for database, keys in _KEYSPACE.findall(info)}
        seen.run_id = _field(info, b"run_id").decode("ascii", "backslashreplace")
        seen.used_memory = _number(info, b"used_memory")
        seen.evicted_keys = _number(info, b"evicted_keys")
        seen.expired_keys = _number(info, b"expired_keys")
        match replies[len(_SECTIONS) :]:
            case [[_, bytes(flags)]]:
                text = flags.decode("ascii", "backslashreplace")
                seen.silent |= notifications_flags(text) != text
        return True

    def _take_counters(self, counters: Counters) -> None:
        moved = movement(self._counters, counters)
        self._counters = counters
        self._seen.swapped |= moved.swapped
        self._seen.flushed |= moved.flushed
        self._seen.functions |= moved.functions
        self._claims |= moved.claims
        self._shapes |= moved.shapes
        self._ever |= moved.claims or moved.shapes

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._seen.blind.append(sentence)

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            self.side, f"The connection to the {self.side} {self._where} is lost: {reason}."
        )


def _field(info: bytes, name: bytes) -> bytes:
    match = re.search(rb"^%b:([^\r\n]*)" % name, info, re.MULTILINE)
    return match[1] if match else b""


def _number(info: bytes, name: bytes) -> int:
    text = _field(info, name)
    return int(text) if text.isdigit() else 0
