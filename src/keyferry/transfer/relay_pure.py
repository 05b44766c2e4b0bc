"""The relay in pure Python: the reference that the compiled twin is held against.

A relay stands between two connections, without touching them. On the source's side it cuts SCAN replies into
DUMP (and expiry) requests; it turns their replies into RESTORE commands for the target, and counts the target's
answers. Bytes go in with ``feed_*`` and come out with ``take_*``; what it cannot decide goes aside.

A target that is a cluster has several connections, one lane for each; the key's slot says which. Where the guard
against big keys is on, a key's size is asked for before its DUMP, unless it is a short string.

Order of replies is all that a relay goes by: the source and each lane have a queue of what they still have to
answer, as runs (one SCAN, n fetched keys, n replies to somebody's own command).

Keys are grouped in pages, one per SCAN reply. A page is settled when each of its keys is resolved, and pages
settle in order, so the cursor behind the last settled page is always a safe place to go on from:
  1. page 7's RESTOREs are sent, page 8's too; 2. the connection breaks; 3. page 8 was acknowledged in part,
  page 7 not at all. Going on behind page 6 repeats some keys; going on behind page 8 would lose page 7.
Lanes do not change that, for a page's keys are spread over them:
  1. page 7's keys are sent into lanes A and B; 2. A acknowledges its part, and all of page 8 that it got; 3. B breaks.
  Page 7 is not settled, and nothing behind it.
"""

from __future__ import annotations

from collections import deque

from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.methods import Method
from keyferry.payload.names import slot
from keyferry.transfer.config import (
    DOUBT_MS,
    SIZE_BYTES_MAX,
    Aside,
    AsideKind,
    ExpiryMode,
    Outcome,
    RelayConfig,
    Settled,
)
from keyferry.transfer.cutting import Incomplete, bulk, length_of, number_or_error, replies_end, sizes_of
from keyferry.transfer.lane import Out, RawReplies
from keyferry.transfer.lanes import Lanes
from keyferry.transfer.pages import Page, Span, settled
from keyferry.transfer.plain import is_plain, plain_keys
from keyferry.transfer.probing import ProbeChoice, is_long, is_short
from keyferry.transfer.replies import error_text, range_reply, scan_reply, size_reply, time_reply
from keyferry.transfer.requests import (
    TIME,
    expiry_on_target,
    measure_pieces,
    named_restore,
    request_pieces,
    requests,
    resigned,
    scan_tail,
    string_payload,
)
from keyferry.transfer.waiting import Waiting
from keyferry.wire.resp import ProtocolError, encode_command

_SCAN, _FETCH, _RAW, _PROBE, _MEASURE = range(5)


class PureRelay:
    """One source, one target, one database. See the module's text; the compiled twin has the same methods."""

    def __init__(self, config: RelayConfig) -> None:
        self.config = config
        self._source_in = bytearray()
        self._source_need = 0
        self._source_out = Out()
        self._source_runs: deque[list[int]] = deque()
        self._pages: deque[Page] = deque()
        self._by_number: dict[int, Page] = {}
        self._next_page = 0
        self._waiting = Waiting()
        self._asides: list[Aside] = []
        self._raw: list[RawReplies] = []
        self._lanes = Lanes(config, self._asides, self._raw)
        self._skip_left = 0
        self._oversize = False
        self._hint = -1
        self._source_now_ms = 0
        self._time_ms = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.fetched_keys = 0
        self.fetched_bytes = 0
        self._scan_tail = scan_tail(config)
        self._pieces = {
            _FETCH: request_pieces(config),
            _PROBE: request_pieces(config, probe=True),
            _MEASURE: measure_pieces(),
        }
        self._choice = ProbeChoice(config)
        self._look_digits = len(b"%d" % config.look_bytes)
        self._plain = is_plain(config)

    # What the driver asks for

    def scan(self, cursor: bytes) -> None:
        """Asks for the page behind ``cursor``; its keys join the queue when the reply arrives."""
        self._source_out.put(encode_command(b"SCAN", cursor, *self._scan_tail))
        self._source_runs.append([_SCAN, 1, 0])
        self.scan_pending = True

    def add_keys(self, keys: list[bytes]) -> int:
        """Queues a page of given keys; returns its number."""
        return self._add_page(b"", keys).number

    def fetch(self, limit: int, dump_bytes: int = 1 << 62) -> int:
        """Asks for up to ``limit`` queued keys, or for their size or their first bytes.

        DUMPs of keys that wait for it come first, then sizes of those that were probed, then new keys.

        Args:
            dump_bytes: Bound of the sum of the measured sizes whose DUMP is asked for here; what does not fit waits.
                A single larger one goes when ``dumping_bytes`` is 0, unless this is 0 too.

        Returns:
            How many keys were asked for something.
        """
        waiting = self._waiting
        asked = self._ask(_FETCH, waiting.ask_dumps(limit, dump_bytes))
        asked += self._ask(_MEASURE, waiting.ask_probed(limit - asked))
        kind = _PROBE if self._choice.probing else _MEASURE if self.config.look_bytes else _FETCH
        return asked + self._ask(kind, waiting.ask_new(limit - asked))

    def again(self, page: int, index: int, size_bytes: int = 0) -> None:
        """Queues a key that was aside for its DUMP, as one of this size; it is not measured any more.

        Raises:
            KeyError, IndexError: There is no such page, or no such key in it.
            ValueError: The size is below 0 or above ``SIZE_BYTES_MAX``.
        """
        if not 0 <= size_bytes <= SIZE_BYTES_MAX:
            raise ValueError(f"size_bytes is 0 to {SIZE_BYTES_MAX}")
        self._waiting.add_dump(self._page_with(page, index), index, size_bytes)

    def _ask(self, kind: int, spans: list[Span]) -> int:
        names: list[bytes] = []
        for span in spans:
            names += span.page.names[span.begin : span.end]
        if names:
            if kind != _MEASURE and self.config.expiry == ExpiryMode.REMAINING:
                self._source_out.put(TIME)
            self._source_out.put(requests(self._pieces[kind], names))
            self._source_runs.append([kind, len(names), 0])
        return len(names)

    def source_command(self, token: int, data: bytes, replies: int) -> None:
        """Sends somebody's own commands to the source; the replies' bytes come out of ``take_raw``."""
        self._source_out.put(data)
        self._source_runs.append([_RAW, replies, token])

    def target_command(self, token: int, data: bytes, replies: int, lane: int = 0) -> None:
        """The same for a lane of the target."""
        self._lanes[lane].own(token, data, replies)

    def store(
        self,
        page: int,
        index: int,
        expires_at_ms: int,
        payload: bytes,
        method: int,
        hint: int = -1,
        replace: int = -1,
    ) -> None:
        """Sends a RESTORE for a key that was aside; resolves it when the target answers.

        ``replace``: 1 or 0 overrules the configuration, -1 does not. Raises KeyError or IndexError for a key that is
        not there.
        """
        replaces = self.config.replace if replace < 0 else bool(replace)
        self._restore(self._page_with(page, index), index, expires_at_ms, payload, method, hint, replaces)

    def resolve(self, page: int, outcome: int, payload_bytes: int = 0, method: int = 0) -> None:
        """Says what became of a key that was aside."""
        self._by_number[page].resolve(outcome, payload_bytes, method)

    def _page_with(self, number: int, index: int) -> Page:
        page = self._by_number[number]
        if not 0 <= index < len(page.keys):
            raise IndexError(f"page {number} has no key {index}")
        return page

    # Lanes

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self._lanes)

    def add_lane(self) -> int:
        """One more connection to the target; returns its number. Raises ValueError beyond ``LANES_MAX``."""
        return self._lanes.add()

    def assign(self, slot: int, lane: int) -> None:
        """From now on keys of this slot go to this lane; raises IndexError for one that is not there.

        What is queued stays where it is.
        """
        self._lanes.assign(slot, lane)

    def lane_of(self, key: bytes) -> int:
        """Where this key would go now."""
        return self._lanes.of(key)

    def lane_out_bytes(self, lane: int) -> int:
        """Bytes that wait for ``take_target(lane)``."""
        return self._lanes[lane].out.waiting_bytes

    def lane_storing(self, lane: int) -> int:
        """RESTOREs of this lane that are not answered."""
        return self._lanes[lane].storing_keys

    # Bytes in and out

    @property
    def queued_keys(self) -> int:
        """Keys that wait to be asked for: new ones, and those that were probed or measured and need more."""
        return self._waiting.queued_keys

    @property
    def fetching_keys(self) -> int:
        """Keys that are asked for something and not answered."""
        return self._waiting.fetching_keys

    @property
    def dumping_bytes(self) -> int:
        """Measured sizes of the keys whose DUMP is asked for and not answered."""
        return self._waiting.dumping_bytes

    @property
    def storing_keys(self) -> int:
        """RESTOREs that are not answered, of all lanes."""
        return sum(lane.storing_keys for lane in self._lanes)

    @property
    def source_out_bytes(self) -> int:
        return self._source_out.waiting_bytes

    @property
    def target_out_bytes(self) -> int:
        """Bytes that wait for ``take_target``, of all lanes."""
        return sum(lane.out.waiting_bytes for lane in self._lanes)

    def take_source(self) -> bytes:
        """Everything that is to be sent to the source now."""
        return self._source_out.take()

    def take_target(self, lane: int = 0) -> bytes:
        """Everything that is to be sent into this lane now."""
        return self._lanes[lane].out.take()

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
                if kind in (_FETCH, _PROBE):
                    position = self._read_fetch(buffer, position)
                elif kind == _MEASURE:
                    position = self._read_measured(buffer, position)
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
        if refused := error_text(buffer, start):
            self._asides.append(Aside(AsideKind.SOURCE_ERROR, -1, -1, b"", refused[0], 0, -1))
            position = refused[1]
        else:
            cursor, keys, position = scan_reply(buffer, start)
            self.next_cursor = cursor
            self._add_page(cursor, self._passing(keys))
        self._source_runs.popleft()
        self.scan_pending = False
        return position

    def _passing(self, keys: list[bytes]) -> list[bytes]:
        """Those of a scan's keys that are to be copied."""
        keys = [key for key in keys if not key.startswith(RESERVED_PREFIX)]
        if wanted := self.config.wanted_slots:
            keys = [key for key in keys if wanted[slot(key)]]
        if passes := self.config.key_filter:
            keys = [key for key in keys if passes(key)]
        return keys

    def _add_page(self, cursor: bytes, keys: list[bytes]) -> Page:
        page = Page(self._next_page, cursor, keys)
        self._next_page += 1
        self._pages.append(page)
        self._by_number[page.number] = page
        self._waiting.add_new(page)
        return page

    def _read_measured(self, buffer: bytes, position: int) -> int:
        """Reads sizes of the run in front until it ends or the bytes do."""
        run = self._source_runs[0]
        while run[1]:
            if position == len(buffer):
                return position
            count = min(run[1], len(self._waiting.asked))
            sizes, after = sizes_of(buffer, position, count, self._look_digits)
            if sizes:
                run[1] -= len(sizes)
                self._measured(self._waiting.answered(len(sizes)), sizes)
            else:
                size, after, error = size_reply(buffer, position)
                run[1] -= 1
                span = self._waiting.answered(1)
                if error is not None:
                    self._put_aside(AsideKind.SOURCE_ERROR, span.page, span.begin, error)
                elif size < 0:
                    self._put_aside(AsideKind.VANISHED, span.page, span.begin)
                else:
                    self._measured(span, [size])
            position = after
        self._source_runs.popleft()
        return position

    def _measured(self, span: Span, sizes: list[int]) -> None:
        """Queues the small keys of a span as they lie, and sets the big ones aside."""
        look_bytes = self.config.look_bytes
        span.sizes = sizes
        if max(sizes) > look_bytes:
            begin = span.begin
            for place in [place for place, size in enumerate(sizes, begin) if size > look_bytes]:
                if place > span.begin:
                    self._waiting.add_measured(span.cut(place - span.begin))
                self._put_aside(AsideKind.BIG, span.page, place, b"%d" % sizes[place - begin])
                span.cut(1)
        if len(span):
            self._waiting.add_measured(span)

    def _put_aside(
        self,
        kind: AsideKind,
        page: Page,
        index: int,
        payload: bytes = b"",
        expires_at: int = 0,
        hint: int = -1,
    ) -> None:
        self._asides.append(Aside(kind, page.number, index, page.keys[index], payload, expires_at, hint))

    def _read_fetch(self, buffer: bytes, start: int) -> int:
        """Reads keys of the run in front until it ends or the bytes do."""
        run = self._source_runs[0]
        probed = run[0] == _PROBE
        expiry, hints = self.config.expiry, self.config.hints
        position = start
        while run[1]:
            if self._plain and not self._oversize:
                position, left = self._read_plain(buffer, position, run)
                if not left:
                    break
            start = position
            error: bytes | None = None
            time_error: bytes | None = None
            expiry_error: bytes | None = None
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
                    if probed:
                        payload, position, error = range_reply(buffer, position, self.config.short_bytes)
                    else:
                        payload, position, error = self._read_payload(buffer, position)
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
            page, index, counts = self._waiting.answered_one()
            if error is None:
                error = expiry_error if expiry_error is not None else time_error
            if probed:
                if is_long(self.config, payload, expires, error):
                    self._is_long(page, index)
                    continue
                if payload:
                    payload = string_payload(payload, self.config.target_version)
            doubt = expires >= 0 and self._time_ms - before_ms > DOUBT_MS
            self._dispatch(page, index, payload, expires, doubt, error, made=probed)
            if counts and payload and error is None and expires != -2:
                self._choice.count(short=probed or is_short(self.config, payload))
        self._source_runs.popleft()
        return position

    def _read_plain(self, buffer: bytes, position: int, run: list[int]) -> tuple[int, int]:
        """Reads keys for as long as nothing about them is unusual or incomplete.

        Returns where ``_read_fetch`` goes on, and how many keys of the run are left.
        """
        while run[1]:
            asked = self._waiting.asked
            wanted = min(len(asked), run[1])
            names = asked.page.names[asked.begin : asked.begin + wanted]
            position, commands, sizes, methods = plain_keys(self.config, buffer, position, names)
            if not commands:
                break
            span = self._waiting.answered(len(commands))
            self._lanes.store_plain(span, commands, sizes, methods)
            self.fetched_keys += len(commands)
            self.fetched_bytes += sum(sizes)
            run[1] -= len(commands)
            if len(commands) < wanted:
                break
        return position, run[1]

    def _is_long(self, page: Page, index: int) -> None:
        """A probed key is no short string: it is measured first, where big keys are looked for."""
        self._choice.count(short=False)
        if self.config.look_bytes:
            self._waiting.add_probed(page, index)
        else:
            self._waiting.add_dump(page, index, 0)

    def _read_time(self, buffer: bytes, position: int) -> tuple[int, bytes | None]:
        """Where the answer to TIME ends, and the text of an error."""
        now_ms, position, error = time_reply(buffer, position)
        if error is None:
            self._time_ms = now_ms
        return position, error

    def _read_payload(self, buffer: bytes, position: int) -> tuple[bytes | None, int, bytes | None]:
        """The answer to DUMP, where it ends, and the text of an error. Sets ``_oversize`` and ``_skip_left``."""
        if refused := error_text(buffer, position):
            return None, refused[1], refused[0]
        length, after = length_of(buffer, position, b"$")
        if length > self.config.payload_bytes_max:
            have = len(buffer) - after
            self._oversize = True
            self.fetched_keys += 1
            self.fetched_bytes += length
            if have < length + 2:
                self._skip_left = length + 2 - have
                return b"", len(buffer), None
            return b"", after + length + 2, None
        return (*bulk(buffer, position), None)

    def _is_oversize(self) -> bool:
        return self._oversize

    def _dispatch(
        self,
        page: Page,
        index: int,
        payload: bytes | None,
        expires: int,
        doubt: bool,
        error: bytes | None,
        *,
        made: bool,
    ) -> None:
        """Sends a key on, or sets it aside. ``made``: the payload was made here, for the target's version."""
        hint = self._hint
        oversize, self._oversize = self._oversize, False
        if error is not None:
            self._put_aside(AsideKind.SOURCE_ERROR, page, index, error)
            return
        if payload is None or expires == -2:
            self._put_aside(AsideKind.VANISHED, page, index)
            return
        expires_at = expiry_on_target(self.config, expires, self._time_ms)
        if oversize:
            self._put_aside(AsideKind.OVERSIZE, page, index, b"", expires_at, hint)
            return
        if len(payload) < 11:
            raise ProtocolError("The source answered DUMP with something that is no payload.")
        self.fetched_keys += 1
        self.fetched_bytes += len(payload)
        kind = payload[0]
        action = self.config.actions[kind]
        foreign = not made and (
            action > Method.RESIGNED or payload[-10] | payload[-9] << 8 != self.config.source_version
        )
        if not self.config.wanted[kind]:
            page.resolve(Outcome.UNSELECTED)
        elif doubt:
            self._put_aside(AsideKind.DOUBT, page, index, payload, expires_at, hint)
        elif foreign:
            self._put_aside(AsideKind.CONVERT, page, index, payload, expires_at, hint)
        else:
            if action == Method.RESIGNED and not made:
                payload = resigned(self.config, payload)
            self._restore(page, index, expires_at, payload, action, hint, self.config.replace)

    # Commands to the target, and its replies

    def _restore(
        self, page: Page, index: int, expires_at: int, payload: bytes, method: int, hint: int, replace: bool
    ) -> None:
        name, now_ms = page.names[index], self._source_now_ms
        command = named_restore(
            self.config, name, expires_at, payload, replace=replace, hint=hint, source_now_ms=now_ms
        )
        lane = self._lanes[self._lanes.of(page.keys[index])]
        lane.store(page, [index], method, [command], [len(payload)])

    def feed_target(self, data: bytes | bytearray | memoryview, lane: int = 0) -> None:
        """Takes bytes that the target sent in this lane. Raises as ``feed_source``."""
        self._lanes[lane].feed(data)

    def _read_raw(self, buffer: bytes, start: int) -> int:
        _, replies, token = self._source_runs[0]
        end = replies_end(buffer, start, replies)
        self._source_runs.popleft()
        self._raw.append((token, buffer[start:end], self._lanes.marks))
        return end

    # What the driver is told

    def take_asides(self) -> list[Aside]:
        asides = self._asides.copy()
        self._asides.clear()
        return asides

    def take_raw(self) -> list[RawReplies]:
        """Each finished ``source_command`` and ``target_command``: token, bytes of all replies, marks.

        The marks of a source's command count, for each lane, the bytes that earlier replies of the source have made:
        everything up to them was read before the source answered this. A target's command has none.
        """
        raw = self._raw.copy()
        self._raw.clear()
        return raw

    def take_settled(self) -> Settled | None:
        """The pages that settled since the last call; None when there are none."""
        pages: list[Page] = []
        while self._pages and self._pages[0].unresolved == 0:
            pages.append(self._pages.popleft())
            del self._by_number[pages[-1].number]
        return settled(pages) if pages else None

    @property
    def newest_page(self) -> int:
        """The number of the page that was added last; -1 before the first."""
        return self._next_page - 1

    @property
    def idle(self) -> bool:
        """Nothing is asked for, nothing is under way, every page is settled and taken."""
        return not (
            self._pages
            or self._source_runs
            or self._asides
            or self._raw
            or not all(lane.idle for lane in self._lanes)
        )
