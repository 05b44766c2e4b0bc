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

from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.methods import Method
from keyferry.transfer.config import (
    Aside,
    AsideKind,
    ExpiryMode,
    HintMode,
    Outcome,
    RelayConfig,
    Settled,
)
from keyferry.wire.resp import BULK_BYTES_MAX, LINE_BYTES_MAX, ProtocolError, encode_command

_SCAN, _FETCH, _RAW, _STORE = 0, 1, 2, 3
_DEPTH_MAX = 64


class _Page:
    __slots__ = ("cursor", "keys", "methods", "number", "outcomes", "payload_bytes", "unresolved")

    def __init__(self, number: int, cursor: bytes, keys: list[bytes]) -> None:
        self.number = number
        self.cursor = cursor
        self.keys = keys
        self.unresolved = len(keys)
        self.outcomes = [0, 0, 0, 0, 0]
        self.methods = [0, 0, 0, 0]
        self.payload_bytes = 0


class _Incomplete(Exception):
    """The reply that begins at ``start`` is not whole yet; ``need`` is where it ends, 0 when unknown."""

    def __init__(self, need: int = 0, start: int = 0) -> None:
        self.need = need
        self.start = start


class PureRelay:
    """One source, one target, one database. See the module's text; the compiled twin has the same methods."""

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self._source_in = bytearray()
        self._target_in = bytearray()
        self._source_need = 0
        self._target_need = 0
        self._source_out: list[bytes] = []
        self._target_out: list[bytes] = []
        self._source_out_bytes = 0
        self._target_out_bytes = 0
        self._source_runs: deque[list[int]] = deque()
        self._target_runs: deque[tuple[int, int, bytes, int, int]] = deque()
        self._pages: deque[_Page] = deque()
        self._by_number: dict[int, _Page] = {}
        self._next_page = 0
        self._to_fetch: deque[tuple[_Page, int]] = deque()
        self._fetching: deque[tuple[_Page, int, int]] = deque()
        self._asides: list[Aside] = []
        self._raw: list[tuple[int, bytes]] = []
        self._skip_left = 0
        self._oversize = False
        self._hint = -1
        self._source_now_ms = 0
        self._time_ms = 0
        self.queued_keys = 0
        self.fetching_keys = 0
        self.storing_keys = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.fetched_keys = 0
        self.fetched_bytes = 0
        self._scan_tail = self._make_scan_tail()

    def _make_scan_tail(self) -> tuple[bytes, ...]:
        tail: tuple[bytes, ...] = ()
        if self.config.scan_match:
            tail += (b"MATCH", self.config.scan_match)
        tail += (b"COUNT", b"%d" % self.config.scan_count)
        if self.config.scan_type:
            tail += (b"TYPE", self.config.scan_type)
        return tail

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
        asked = 0
        out: list[bytes] = []
        while asked < limit and self._to_fetch:
            page, begin = self._to_fetch.popleft()
            end = min(len(page.keys), begin + limit - asked)
            if end < len(page.keys):
                self._to_fetch.appendleft((page, end))
            self._fetching.append((page, begin, end))
            for i in range(begin, end):
                self._request(out, page.keys[i])
                asked += 1
        if asked:
            self._send_source(b"".join(out))
            self._source_runs.append([_FETCH, asked, 0])
            self.queued_keys -= asked
            self.fetching_keys += asked
        return asked

    def _request(self, out: list[bytes], key: bytes) -> None:
        argument = b"$%d\r\n%b\r\n" % (len(key), key)
        hints = self.config.hints
        if hints == HintMode.IDLETIME:
            out.append(b"*3\r\n$6\r\nOBJECT\r\n$8\r\nIDLETIME\r\n" + argument)
        elif hints == HintMode.FREQ:
            out.append(b"*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n" + argument)
        out.append(b"*2\r\n$4\r\nDUMP\r\n" + argument)
        if self.config.expiry == ExpiryMode.ABSOLUTE:
            out.append(b"*2\r\n$11\r\nPEXPIRETIME\r\n" + argument)
        elif self.config.expiry == ExpiryMode.REMAINING:
            out.append(b"*1\r\n$4\r\nTIME\r\n*2\r\n$4\r\nPTTL\r\n" + argument)

    def source_command(self, token: int, data: bytes, replies: int) -> None:
        """Sends somebody's own commands to the source; the replies' bytes come out of ``take_raw``."""
        self._send_source(data)
        self._source_runs.append([_RAW, replies, token])

    def target_command(self, token: int, data: bytes, replies: int) -> None:
        """The same for the target."""
        self._send_target(data)
        self._target_runs.append((_RAW, token, b"", replies, 0))

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

    def hold(self, page: int) -> None:
        """Keeps a page from settling until ``release``."""
        self._by_number[page].unresolved += 1

    def release(self, page: int) -> None:
        self._by_number[page].unresolved -= 1

    # Bytes in and out

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
                if kind == _FETCH:
                    position = self._read_fetch(buffer, position)
                elif kind == _SCAN:
                    position = self._read_scan(buffer, position)
                else:
                    position = self._read_raw(buffer, position)
        except _Incomplete as more:
            position = more.start
            self._source_need = max(0, more.need - position)
        return position

    # Replies of the source

    def _read_scan(self, buffer: bytes, start: int) -> int:
        try:
            if buffer.startswith(b"-", start):
                line, end = _line(buffer, start)
                self._source_runs.popleft()
                self.scan_pending = False
                self._asides.append(Aside(AsideKind.SOURCE_ERROR, -1, b"", line[1:], 0, -1))
                return end
            count, position = _length(buffer, start, b"*")
            if count != 2:
                raise ProtocolError("The source answered SCAN with something else.")
            cursor, position = _bulk(buffer, position)
            count, position = _length(buffer, position, b"*")
            if cursor is None or not cursor.isdigit() or count < 0:
                raise ProtocolError("The source answered SCAN with something else.")
            keys: list[bytes] = []
            passes = self.config.key_filter
            for _ in range(count):
                key, position = _bulk(buffer, position)
                if key is None:
                    raise ProtocolError("The source answered SCAN with something else.")
                if not key.startswith(RESERVED_PREFIX) and (passes is None or passes(key)):
                    keys.append(key)
        except _Incomplete:
            raise _Incomplete(0, start) from None
        self._source_runs.popleft()
        self.scan_pending = False
        self.next_cursor = cursor
        self._add_page(cursor, keys)
        return position

    def _add_page(self, cursor: bytes, keys: list[bytes]) -> _Page:
        page = _Page(self._next_page, cursor, keys)
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
            start = position
            error = expiry_error = b""
            payload: bytes | None = b""
            expires = -1
            try:
                if not self._oversize:
                    self._hint = -1
                    if hints:
                        # A key that is gone has no hint: nil or an error here is not the key's failure.
                        self._hint, position, _ = _number_or_error(buffer, position)
                    payload, position, error = self._read_payload(buffer, position)
                    if self._skip_left:
                        return len(buffer)
                if expiry == ExpiryMode.REMAINING:
                    position = self._read_time(buffer, position)
                if expiry:
                    expires, position, expiry_error = _number_or_error(buffer, position)
            except _Incomplete as more:
                raise _Incomplete(more.need, start) from None
            run[1] -= 1
            page, key = self._next_fetched()
            self._dispatch(page, key, payload, expires, error or expiry_error)
        self._source_runs.popleft()
        return position

    def _read_time(self, buffer: bytes, position: int) -> int:
        count, position = _length(buffer, position, b"*")
        if count != 2:
            raise ProtocolError("The source answered TIME with something else.")
        seconds, position = _bulk(buffer, position)
        micros, position = _bulk(buffer, position)
        if seconds is None or micros is None or not seconds.isdigit() or not micros.isdigit():
            raise ProtocolError("The source answered TIME with something else.")
        self._time_ms = int(seconds) * 1000 + int(micros) // 1000
        return position

    def _read_payload(self, buffer: bytes, position: int) -> tuple[bytes | None, int, bytes]:
        """The answer to DUMP, where it ends, and the text of an error. Sets ``_oversize`` and ``_skip_left``."""
        if buffer.startswith(b"-", position):
            line, end = _line(buffer, position)
            return None, end, line[1:]
        length, after = _length(buffer, position, b"$")
        if length > self.config.payload_bytes_max:
            have = len(buffer) - after
            self._oversize = True
            if have < length + 2:
                self._skip_left = length + 2 - have
                return b"", len(buffer), b""
            return b"", after + length + 2, b""
        return (*_bulk(buffer, position), b"")

    def _next_fetched(self) -> tuple[_Page, bytes]:
        page, begin, end = self._fetching[0]
        if begin + 1 == end:
            self._fetching.popleft()
        else:
            self._fetching[0] = (page, begin + 1, end)
        self.fetching_keys -= 1
        return page, page.keys[begin]

    def _dispatch(self, page: _Page, key: bytes, payload: bytes | None, expires: int, error: bytes) -> None:
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
        action = self.config.actions[kind]
        if action > Method.RESIGNED or payload[-10] | payload[-9] << 8 != self.config.source_version:
            self._asides.append(Aside(AsideKind.CONVERT, page.number, key, payload, expires_at, hint))
            return
        if action == Method.RESIGNED:
            footer = bytes(a ^ b for a, b in zip(payload[-10:], self.config.resign_mask, strict=True))
            payload = payload[:-10] + footer
        self._restore(page.number, key, expires_at, payload, action, hint, self.config.replace)

    def _expires_at(self, expires: int) -> int:
        """Unix milliseconds on the target's clock; 0 for never. An expiry that is over stays in the past."""
        if expires < 0:
            return 0
        if self.config.expiry == ExpiryMode.REMAINING:
            expires += self._time_ms
        return max(1, expires + self.config.clock_offset_ms)

    # Commands to the target, and its replies

    def _restore(
        self, page: int, key: bytes, expires_at: int, payload: bytes, method: int, hint: int, replace: bool
    ) -> None:
        options = b"$7\r\nREPLACE\r\n" if replace else b""
        count = 4 + replace
        ttl = expires_at
        if expires_at:
            if self.config.absolute:
                options += b"$6\r\nABSTTL\r\n"
                count += 1
            else:
                ttl = max(1, expires_at - self.config.clock_offset_ms - self._source_now_ms)
        if hint >= 0:
            name = b"$8\r\nIDLETIME\r\n" if self.config.hints == HintMode.IDLETIME else b"$4\r\nFREQ\r\n"
            number = b"%d" % hint
            options += b"%b$%d\r\n%b\r\n" % (name, len(number), number)
            count += 2
        time = b"%d" % ttl
        self._send_target(
            b"*%d\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b"
            % (count, len(key), key, len(time), time, len(payload), payload, options)
        )
        self._target_runs.append((_STORE, page, key, method, len(payload)))
        self.storing_keys += 1

    def feed_target(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes that the target sent. Raises as ``feed_source``."""
        self._target_in += data
        if len(self._target_in) < self._target_need:
            return
        self._target_need = 0
        buffer = bytes(self._target_in)
        position = 0
        runs = self._target_runs
        try:
            while position < len(buffer):
                if not runs:
                    raise ProtocolError("The target sent a reply that nothing asked for.")
                if runs[0][0] == _RAW:
                    position = self._read_target_raw(buffer, position)
                    continue
                if buffer.startswith(b"+OK\r\n", position):
                    position += 5
                    _, number, _, method, size = runs.popleft()
                    self.storing_keys -= 1
                    page = self._by_number[number]
                    page.outcomes[0] += 1
                    page.methods[method] += 1
                    page.payload_bytes += size
                    page.unresolved -= 1
                else:
                    line, position = _reply_line(buffer, position)
                    _, number, key, _, _ = runs.popleft()
                    self.storing_keys -= 1
                    self._asides.append(Aside(AsideKind.TARGET_ERROR, number, key, line, 0, -1))
        except _Incomplete as more:
            self._target_need = max(0, more.need - position)
        self._target_in = bytearray(buffer[position:])

    def _read_target_raw(self, buffer: bytes, start: int) -> int:
        _, token, _, replies, _ = self._target_runs[0]
        end = _replies_end(buffer, start, replies)
        self._target_runs.popleft()
        self._raw.append((token, buffer[start:end]))
        return end

    def _read_raw(self, buffer: bytes, start: int) -> int:
        _, replies, token = self._source_runs[0]
        end = _replies_end(buffer, start, replies)
        self._source_runs.popleft()
        self._raw.append((token, buffer[start:end]))
        return end

    def _resolve(self, page: _Page, outcome: int, payload_bytes: int, method: int) -> None:
        page.outcomes[outcome] += 1
        if outcome == Outcome.COPIED:
            page.methods[method] += 1
            page.payload_bytes += payload_bytes
        page.unresolved -= 1

    def _send_source(self, data: bytes) -> None:
        self._source_out.append(data)
        self._source_out_bytes += len(data)

    def _send_target(self, data: bytes) -> None:
        self._target_out.append(data)
        self._target_out_bytes += len(data)

    # What the driver is told

    def take_asides(self) -> list[Aside]:
        asides, self._asides = self._asides, []
        return asides

    def take_raw(self) -> list[tuple[int, bytes]]:
        """(token, bytes of all replies) of each finished ``source_command`` and ``target_command``."""
        raw, self._raw = self._raw, []
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
        return not (self._pages or self._source_runs or self._target_runs or self._asides or self._raw)


def _line(buffer: bytes, position: int) -> tuple[bytes, int]:
    end = buffer.find(b"\r\n", position)
    if end < 0:
        if len(buffer) - position > LINE_BYTES_MAX:
            raise ProtocolError("The server sent a line without an end.")
        raise _Incomplete
    return buffer[position:end], end + 2


def _reply_line(buffer: bytes, position: int) -> tuple[bytes, int]:
    """The text of an answer to RESTORE that is not +OK."""
    if buffer[position] not in b"-+":
        raise ProtocolError("The target answered RESTORE with something else.")
    line, end = _line(buffer, position)
    return line[1:], end


def _integer(text: bytes) -> int:
    digits = text[1:] if text.startswith(b"-") else text
    if not digits.isdigit() or len(digits) > 19:
        raise ProtocolError(f"The server sent {text[:32]!r} where a number belongs.")
    return int(text)


def _length(buffer: bytes, position: int, kind: bytes) -> tuple[int, int]:
    if position < len(buffer) and buffer[position : position + 1] != kind:
        raise ProtocolError(f"The server sent {buffer[position : position + 1]!r} where {kind!r} belongs.")
    line, after = _line(buffer, position)
    length = _integer(line[1:])
    if not -1 <= length <= BULK_BYTES_MAX:
        raise ProtocolError(f"The server announced a length of {length}.")
    return length, after


def _bulk(buffer: bytes, position: int) -> tuple[bytes | None, int]:
    length, after = _length(buffer, position, b"$")
    if length < 0:
        return None, after
    end = after + length
    if len(buffer) < end + 2:
        raise _Incomplete(end + 2)
    if buffer[end : end + 2] != b"\r\n":
        raise ProtocolError("The server sent a string without its end.")
    return buffer[after:end], end + 2


def _number_or_error(buffer: bytes, position: int) -> tuple[int, int, bytes]:
    """An integer reply, or -1 and an error's text; a nil counts as -1."""
    line, after = _line(buffer, position)
    kind = line[:1]
    if kind == b":":
        return _integer(line[1:]), after, b""
    if kind == b"-":
        return -1, after, line[1:]
    if line in (b"$-1", b"*-1", b"_"):
        return -1, after, b""
    raise ProtocolError(f"The server sent {line[:32]!r} where a number belongs.")


def _replies_end(buffer: bytes, start: int, replies: int) -> int:
    """Where ``replies`` complete replies that begin at ``start`` end."""
    position = start
    left = [replies]
    try:
        while left:
            if left[-1] == 0:
                left.pop()
                continue
            left[-1] -= 1
            line, after = _line(buffer, position)
            kind = line[:1]
            if kind in (b"$", b"=", b"!"):
                length = _integer(line[1:])
                if length > BULK_BYTES_MAX:
                    raise ProtocolError(f"The server announced a length of {length}.")
                after += length + 2 if length >= 0 else 0
                if after > len(buffer):
                    raise _Incomplete(after)
            elif kind in (b"*", b"~", b">", b"%"):
                count = _integer(line[1:])
                if len(left) >= _DEPTH_MAX:
                    raise ProtocolError("The server sent a reply that is nested too deeply.")
                left.append(max(0, count) * (2 if kind == b"%" else 1))
            elif kind not in (b"+", b"-", b":", b"_", b"#", b",", b"("):
                raise ProtocolError(f"The server sent {kind!r} where a reply begins.")
            position = after
    except _Incomplete as more:
        raise _Incomplete(more.need, start) from None
    return position
