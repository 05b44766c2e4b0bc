"""The relay in pure Python: the reference that the compiled twin is held against.

A relay stands between two connections, without touching them. On the source's side it cuts SCAN replies into
DUMP (and expiry) requests; it turns their replies into RESTORE commands for the target, and counts the target's
answers. Bytes go in with ``feed_*`` and come out with ``take_*``; what it cannot decide goes aside.

Order of replies is all that a relay goes by: each side has a queue of what it still has to answer, as runs
(one SCAN, n fetched keys, n replies to somebody's own command).

Keys are grouped in pages, one per SCAN reply. A page is settled when each of its keys is resolved, and pages
settle in order, so the cursor behind the last settled page is always a safe place to go on from:
  1. page 7's RESTOREs are sent, page 8's too; 2. the connection breaks; 3. page 8 was acknowledged in part,
  page 7 not at all. Going on behind page 6 repeats some keys; going on behind page 8 would lose page 7.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby

from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.methods import Method
from keyferry.transfer.answers import Answers, Page
from keyferry.transfer.config import (
    DOUBT_MS,
    Aside,
    AsideKind,
    ExpiryMode,
    Outcome,
    RelayConfig,
    Settled,
)
from keyferry.transfer.cutting import (
    Incomplete,
    bulk,
    bulks,
    length_of,
    line_of,
    number_or_error,
    replies_end,
)
from keyferry.transfer.plain import plain_keys
from keyferry.transfer.probing import ProbeChoice, is_long, is_short
from keyferry.transfer.requests import (
    TIME,
    moved,
    request_template,
    resigned,
    restore,
    scan_tail,
    string_payload,
)
from keyferry.wire.resp import ProtocolError, encode_command

_SCAN, _FETCH, _RAW, _PROBE, _AGAIN = range(5)


class PureRelay:
    """One source, one target, one database. See the module's text; the compiled twin has the same methods."""

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self._source_in = bytearray()
        self._source_need = 0
        self._source_out: list[bytes] = []
        self._target_out: list[bytes] = []
        self._source_out_bytes = 0
        self._target_out_bytes = 0
        self._source_runs: deque[list[int]] = deque()
        self._pages: deque[Page] = deque()
        self._by_number: dict[int, Page] = {}
        self._next_page = 0
        self._to_fetch: deque[tuple[Page, int]] = deque()
        self._fetching: deque[tuple[Page, int, int]] = deque()
        self._asides: list[Aside] = []
        self._raw: list[tuple[int, bytes, int]] = []
        self._target_bytes = 0
        self._answers = Answers(self._asides, self._raw)
        self._skip_left = 0
        self._oversize = False
        self._hint = -1
        self._source_now_ms = 0
        self._time_ms = 0
        self.queued_keys = 0
        self.fetching_keys = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.fetched_keys = 0
        self.fetched_bytes = 0
        self._scan_tail = scan_tail(config)
        self._requests = request_template(config)
        self._probe_requests = request_template(config, probe=True)
        self._choice = ProbeChoice(config)
        self._again: deque[tuple[Page, int]] = deque()
        """Keys that were probed and need a DUMP; ``_again_asked`` are those asked for it."""
        self._again_asked: deque[tuple[Page, int]] = deque()
        self._plain = (
            not (config.hints or config.short_bytes)
            and config.expiry != ExpiryMode.REMAINING
            and config.absolute
        )

    # What the driver asks for

    def scan(self, cursor: bytes) -> None:
        """Asks for the page behind ``cursor``; its keys join the queue when the reply arrives."""
        self._send_source(encode_command(b"SCAN", cursor, *self._scan_tail))
        self._source_runs.append([_SCAN, 1, 0])
        self.scan_pending = True

    def add_keys(self, keys: list[bytes]) -> int:
        """Queues a page of given keys; returns its number."""
        return self._add_page(b"", keys).number

    def fetch(self, limit: int) -> int:
        """Asks for up to ``limit`` queued keys; returns how many were asked for."""
        asked = self._fetch_again(limit)
        return asked + self._fetch_new(limit - asked)

    def _fetch_again(self, limit: int) -> int:
        """Keys that turned out to be no short strings."""
        keys: list[bytes] = []
        while len(keys) < limit and self._again:
            page, index = self._again.popleft()
            self._again_asked.append((page, index))
            keys.append(page.keys[index])
        self._ask(_AGAIN, keys)
        return len(keys)

    def _fetch_new(self, limit: int) -> int:
        keys: list[bytes] = []
        while len(keys) < limit and self._to_fetch:
            page, begin = self._to_fetch.popleft()
            end = min(len(page.keys), begin + limit - len(keys))
            if end < len(page.keys):
                self._to_fetch.appendleft((page, end))
            self._fetching.append((page, begin, end))
            keys += page.keys[begin:end]
        self._ask(_PROBE if self._choice.probing else _FETCH, keys)
        return len(keys)

    def _ask(self, kind: int, keys: list[bytes]) -> None:
        if not keys:
            return
        template, slots = self._probe_requests if kind == _PROBE else self._requests
        lead = TIME if self.config.expiry == ExpiryMode.REMAINING else b""
        self._send_source(lead + b"".join([template % ((len(key), key) * slots) for key in keys]))
        self._source_runs.append([kind, len(keys), 0])
        self.queued_keys -= len(keys)
        self.fetching_keys += len(keys)

    def source_command(self, token: int, data: bytes, replies: int) -> None:
        """Sends somebody's own commands to the source; the replies' bytes come out of ``take_raw``."""
        self._send_source(data)
        self._source_runs.append([_RAW, replies, token])

    def target_command(self, token: int, data: bytes, replies: int) -> None:
        """The same for the target."""
        self._send_target(data)
        self._answers.own(token, replies)

    def store(
        self,
        page: int,
        key: bytes,
        expires_at_ms: int,
        payload: bytes,
        method: int,
        hint: int = -1,
        replace: int = -1,
    ) -> None:
        """Sends a RESTORE for a key that was aside; resolves it when the target answers.

        ``replace``: 1 or 0 overrules the configuration, -1 does not.
        """
        self._restore(
            page,
            key,
            expires_at_ms,
            payload,
            method,
            hint,
            self.config.replace if replace < 0 else bool(replace),
        )

    def resolve(self, page: int, outcome: int, payload_bytes: int = 0, method: int = 0) -> None:
        """Says what became of a key that was aside."""
        self._resolve(self._by_number[page], outcome, payload_bytes, method)

    # Bytes in and out

    @property
    def storing_keys(self) -> int:
        return self._answers.storing

    @property
    def source_out_bytes(self) -> int:
        return self._source_out_bytes

    @property
    def target_out_bytes(self) -> int:
        return self._target_out_bytes

    def take_source(self) -> bytes:
        """Everything that is to be sent to the source now."""
        data = b"".join(self._source_out)
        self._source_out.clear()
        self._source_out_bytes = 0
        return data

    def take_target(self) -> bytes:
        """Everything that is to be sent to the target now."""
        data = b"".join(self._target_out)
        self._target_out.clear()
        self._target_out_bytes = 0
        return data

    def feed_source(self, data: bytes | bytearray | memoryview, source_now_ms: int = 0) -> None:
        """Takes bytes that the source sent.

        Args:
            source_now_ms: Unix time on the source's clock; used only where the remaining time is sent.

        Raises:
            ProtocolError: The bytes are not the replies that were asked for.
        """
        self._source_now_ms = source_now_ms
        if self._skip_left:
            view = memoryview(data)
            dropped = min(self._skip_left, len(view))
            self._skip_left -= dropped
            data = view[dropped:]
        self._source_in += data
        if len(self._source_in) < self._source_need:
            return
        self._source_need = 0
        buffer = bytes(self._source_in)
        self._source_in = bytearray(buffer[self._read_source(buffer) :])

    def _read_source(self, buffer: bytes) -> int:
        position = 0
        runs = self._source_runs
        try:
            while position < len(buffer) and not self._skip_left:
                if not runs:
                    raise ProtocolError("The source sent a reply that nothing asked for.")
                kind = runs[0][0]
                if kind in (_FETCH, _PROBE, _AGAIN):
                    position = self._read_fetch(buffer, position)
                elif kind == _SCAN:
                    position = self._read_scan(buffer, position)
                else:
                    position = self._read_raw(buffer, position)
        except Incomplete as more:
            position = more.start
            self._source_need = max(0, more.need - position)
        return position

    # Replies of the source

    def _read_scan(self, buffer: bytes, start: int) -> int:
        try:
            if buffer.startswith(b"-", start):
                line, end = line_of(buffer, start)
                self._source_runs.popleft()
                self.scan_pending = False
                self._asides.append(Aside(AsideKind.SOURCE_ERROR, -1, b"", line[1:], 0, -1))
                return end
            count, position = length_of(buffer, start, b"*")
            if count != 2:
                raise ProtocolError("The source answered SCAN with something else.")
            cursor, position = bulk(buffer, position)
            count, position = length_of(buffer, position, b"*")
            if cursor is None or not cursor.isdigit() or count < 0:
                raise ProtocolError("The source answered SCAN with something else.")
            keys, position = bulks(buffer, position, count)
        except Incomplete:
            raise Incomplete(0, start) from None
        self._source_runs.popleft()
        self.scan_pending = False
        self.next_cursor = cursor
        passes = self.config.key_filter
        self._add_page(
            cursor,
            [key for key in keys if not key.startswith(RESERVED_PREFIX) and (passes is None or passes(key))],
        )
        return position

    def _add_page(self, cursor: bytes, keys: list[bytes]) -> Page:
        page = Page(self._next_page, cursor, keys)
        self._next_page += 1
        self._pages.append(page)
        self._by_number[page.number] = page
        if keys:
            self._to_fetch.append((page, 0))
            self.queued_keys += len(keys)
        return page

    def _read_fetch(self, buffer: bytes, start: int) -> int:
        """Reads keys of the run in front until it ends or the bytes do."""
        run = self._source_runs[0]
        expiry, hints = self.config.expiry, self.config.hints
        position = start
        while run[1]:
            if self._plain and not self._oversize:
                position, left = self._read_plain(buffer, position, run)
                if not left:
                    break
            start = position
            error = time_error = expiry_error = b""
            payload: bytes | None = b""
            expires = -1
            try:
                if expiry == ExpiryMode.REMAINING and not run[2]:
                    position, _ = self._read_time(buffer, position)
                    start, run[2] = position, 1
                if not self._oversize:
                    self._hint = -1
                    if hints:
                        # A key that is gone has no hint: nil or an error here is not the key's failure.
                        self._hint, position, _ = number_or_error(buffer, position)
                    read = self._read_range if run[0] == _PROBE else self._read_payload
                    payload, position, error = read(buffer, position)
                    if self._skip_left:
                        return len(buffer)
                    start = position if self._is_oversize() else start
                if expiry:
                    expires, position, expiry_error = number_or_error(buffer, position)
                before_ms = self._time_ms
                if expiry == ExpiryMode.REMAINING:
                    position, time_error = self._read_time(buffer, position)
            except Incomplete as more:
                raise Incomplete(more.need, start) from None
            run[1] -= 1
            failed = error or expiry_error or time_error
            page, index = self._next_fetched(run[0])
            key = page.keys[index]
            if run[0] == _PROBE:
                if is_long(self.config, payload, expires, failed):
                    self._choice.count(short=False)
                    self._again.append((page, index))
                    self.queued_keys += 1
                    continue
                if payload:
                    payload = string_payload(payload, self.config.target_version)
            doubt = expires >= 0 and self._time_ms - before_ms > DOUBT_MS
            self._dispatch(page, key, payload, expires, doubt, failed, made=run[0] == _PROBE)
            if run[0] != _AGAIN and payload and not failed and expires != -2:
                self._choice.count(short=run[0] == _PROBE or is_short(self.config, payload))
        self._source_runs.popleft()
        return position

    def _read_plain(self, buffer: bytes, position: int, run: list[int]) -> tuple[int, int]:
        """Reads keys for as long as nothing about them is unusual or incomplete.

        Returns where ``_read_fetch`` goes on, and how many keys of the run are left.
        """
        while run[1]:
            page, begin, end = self._fetching[0]
            last = min(end, begin + run[1])
            position, commands, sizes, actions = plain_keys(
                self.config, buffer, position, page.keys[begin:last]
            )
            at = begin + len(commands)
            for action, group in groupby(range(len(commands)), actions.__getitem__):
                places = list(group)
                stores = self._answers.stores(page, action)
                stores.keys += page.keys[begin + places[0] : begin + places[-1] + 1]
                stores.sizes += sizes[places[0] : places[-1] + 1]
            self._send_target(b"".join(commands))
            self._answers.storing += len(commands)
            self.fetched_keys += len(commands)
            self.fetched_bytes += sum(sizes)
            run[1] -= at - begin
            self._took(page, begin, at, end)
            if at < last:
                break
        return position, run[1]

    def _took(self, page: Page, begin: int, at: int, end: int) -> None:
        """Keys ``begin`` to ``at`` of the run of fetched keys in front are read."""
        self.fetching_keys -= at - begin
        if at == end:
            self._fetching.popleft()
        else:
            self._fetching[0] = (page, at, end)

    def _read_time(self, buffer: bytes, position: int) -> tuple[int, bytes]:
        """Where the answer to TIME ends, and the text of an error."""
        if buffer.startswith(b"-", position):
            line, end = line_of(buffer, position)
            return end, line[1:]
        count, position = length_of(buffer, position, b"*")
        if count != 2:
            raise ProtocolError("The source answered TIME with something else.")
        seconds, position = bulk(buffer, position)
        micros, position = bulk(buffer, position)
        if seconds is None or micros is None or not seconds.isdigit() or not micros.isdigit():
            raise ProtocolError("The source answered TIME with something else.")
        self._time_ms = int(seconds) * 1000 + int(micros) // 1000
        return position, b""

    def _read_payload(self, buffer: bytes, position: int) -> tuple[bytes | None, int, bytes]:
        """The answer to DUMP, where it ends, and the text of an error. Sets ``_oversize`` and ``_skip_left``."""
        if buffer.startswith(b"-", position):
            line, end = line_of(buffer, position)
            return None, end, line[1:]
        length, after = length_of(buffer, position, b"$")
        if length > self.config.payload_bytes_max:
            have = len(buffer) - after
            self._oversize = True
            self.fetched_keys += 1
            self.fetched_bytes += length
            if have < length + 2:
                self._skip_left = length + 2 - have
                return b"", len(buffer), b""
            return b"", after + length + 2, b""
        return (*bulk(buffer, position), b"")

    def _read_range(self, buffer: bytes, position: int) -> tuple[bytes | None, int, bytes]:
        """The answer to GETRANGE: at most ``short_bytes`` bytes, or an error's text."""
        if buffer.startswith(b"-", position):
            line, end = line_of(buffer, position)
            return None, end, line[1:]
        length, _ = length_of(buffer, position, b"$")
        if not 0 <= length <= self.config.short_bytes:
            raise ProtocolError("The source answered GETRANGE with something else.")
        return (*bulk(buffer, position), b"")

    def _is_oversize(self) -> bool:
        return self._oversize

    def _next_fetched(self, kind: int) -> tuple[Page, int]:
        if kind == _AGAIN:
            self.fetching_keys -= 1
            return self._again_asked.popleft()
        page, begin, end = self._fetching[0]
        self._took(page, begin, begin + 1, end)
        return page, begin

    def _dispatch(
        self,
        page: Page,
        key: bytes,
        payload: bytes | None,
        expires: int,
        doubt: bool,
        error: bytes,
        *,
        made: bool,
    ) -> None:
        """Sends a key on, or sets it aside. ``made``: the payload was made here, for the target's version."""
        hint = self._hint
        oversize, self._oversize = self._oversize, False
        if error:
            self._asides.append(Aside(AsideKind.SOURCE_ERROR, page.number, key, error, 0, -1))
            return
        if payload is None or expires == -2:
            self._asides.append(Aside(AsideKind.VANISHED, page.number, key, b"", 0, -1))
            return
        expires_at = self._expires_at(expires)
        if oversize:
            self._asides.append(Aside(AsideKind.OVERSIZE, page.number, key, b"", expires_at, hint))
            return
        if len(payload) < 11:
            raise ProtocolError("The source answered DUMP with something that is no payload.")
        self.fetched_keys += 1
        self.fetched_bytes += len(payload)
        kind = payload[0]
        if not self.config.wanted[kind]:
            self._resolve(page, Outcome.UNSELECTED, 0, 0)
            return
        if doubt:
            self._asides.append(Aside(AsideKind.DOUBT, page.number, key, payload, expires_at, hint))
            return
        action = self.config.actions[kind]
        if made:
            self._restore(page.number, key, expires_at, payload, action, hint, self.config.replace)
            return
        if action > Method.RESIGNED or payload[-10] | payload[-9] << 8 != self.config.source_version:
            self._asides.append(Aside(AsideKind.CONVERT, page.number, key, payload, expires_at, hint))
            return
        if action == Method.RESIGNED:
            payload = resigned(self.config, payload)
        self._restore(page.number, key, expires_at, payload, action, hint, self.config.replace)

    def _expires_at(self, expires: int) -> int:
        """Unix milliseconds on the target's clock; 0 for never. An expiry that is over stays in the past."""
        if expires < 0:
            return 0
        if self.config.expiry == ExpiryMode.REMAINING:
            expires += self._time_ms
        return moved(expires, self.config.clock_offset_ms)

    # Commands to the target, and its replies

    def _restore(
        self, page: int, key: bytes, expires_at: int, payload: bytes, method: int, hint: int, replace: bool
    ) -> None:
        stores = self._answers.stores(self._by_number[page], method)
        self._send_target(
            restore(
                self.config,
                key,
                expires_at,
                payload,
                replace=replace,
                hint=hint,
                source_now_ms=self._source_now_ms,
            )
        )
        stores.keys.append(key)
        stores.sizes.append(len(payload))
        self._answers.storing += 1

    def feed_target(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes that the target sent. Raises as ``feed_source``."""
        self._answers.feed(data)

    def _read_raw(self, buffer: bytes, start: int) -> int:
        _, replies, token = self._source_runs[0]
        end = replies_end(buffer, start, replies)
        self._source_runs.popleft()
        self._raw.append((token, buffer[start:end], self._target_bytes))
        return end

    def _resolve(self, page: Page, outcome: int, payload_bytes: int, method: int) -> None:
        page.outcomes[outcome] += 1
        if outcome == Outcome.COPIED:
            page.methods[method] += 1
            page.payload_bytes += payload_bytes
        page.unresolved -= 1

    def _send_source(self, data: bytes) -> None:
        self._source_out.append(data)
        self._source_out_bytes += len(data)

    def _send_target(self, data: bytes) -> None:
        self._target_bytes += len(data)
        self._target_out.append(data)
        self._target_out_bytes += len(data)

    # What the driver is told

    def take_asides(self) -> list[Aside]:
        asides = self._asides.copy()
        self._asides.clear()
        return asides

    def take_raw(self) -> list[tuple[int, bytes, int]]:
        """Each finished ``source_command`` and ``target_command``: token, bytes of all replies, mark.

        The mark counts the bytes for the target that earlier replies of the source have made: everything up to
        it was read before the source answered this.
        """
        raw = self._raw.copy()
        self._raw.clear()
        return raw

    def take_settled(self) -> Settled | None:
        """The pages that settled since the last call; None when there are none."""
        cursor = b""
        outcomes = [0, 0, 0, 0, 0]
        methods = [0, 0, 0, 0]
        payload_bytes = 0
        numbers: list[int] = []
        while self._pages and self._pages[0].unresolved == 0:
            page = self._pages.popleft()
            del self._by_number[page.number]
            cursor = page.cursor
            outcomes = [a + b for a, b in zip(outcomes, page.outcomes, strict=True)]
            methods = [a + b for a, b in zip(methods, page.methods, strict=True)]
            payload_bytes += page.payload_bytes
            numbers.append(page.number)
        if not numbers:
            return None
        o, m = outcomes, methods
        return Settled(
            cursor, (o[0], o[1], o[2], o[3], o[4]), payload_bytes, (m[0], m[1], m[2], m[3]), tuple(numbers)
        )

    @property
    def newest_page(self) -> int:
        """The number of the page that was added last; -1 before the first."""
        return self._next_page - 1

    @property
    def idle(self) -> bool:
        """Nothing is asked for, nothing is under way, every page is settled and taken."""
        return not (self._pages or self._source_runs or not self._answers.idle or self._asides or self._raw)
