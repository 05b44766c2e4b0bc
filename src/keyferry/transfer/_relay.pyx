# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``relay_pure``: no Python object per key on the fast path.

Same methods, same order of events; read the theory of operation there.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from keyferry.transfer._asking cimport (
    RUN_AGAIN, RUN_FETCH, RUN_LOOK, RUN_MEASURE, RUN_NONE, RUN_PROBE, RUN_RAW, RUN_SCAN,
    Asking, is_short,
)
from keyferry.transfer._buffer cimport Buffer, drop_front, put, reserve, take
from keyferry.transfer._cutting cimport (
    INCOMPLETE, bulk_bytes_max, is_wrong_type, line_end, parse_head, read_bulk, read_number, read_time,
    replies_end,
)
from keyferry.transfer._lanes cimport Lane, Lanes, slot_of
from keyferry.transfer._pages cimport OUT_UNSELECTED, Page, Pages
from keyferry.transfer._requests cimport (
    EXPIRY_NONE, EXPIRY_REMAINING, HINT_NONE, Requests, string_payload_size,
)

from keyferry.transfer.config import DOUBT_MS as _DOUBT_MS
from keyferry.transfer.config import SIZE_BYTES_MAX as _SIZE_MAX
from keyferry.transfer.config import Aside, AsideKind
from keyferry.wire.resp import BULK_BYTES_MAX, ProtocolError

if BULK_BYTES_MAX != bulk_bytes_max():
    raise ImportError("_relay is built for another BULK_BYTES_MAX")

cdef enum:
    ACT_RESIGNED = 1
    TYPE_STRING = 0

cdef object KIND_CONVERT = AsideKind.CONVERT
cdef object KIND_OVERSIZE = AsideKind.OVERSIZE
cdef object KIND_VANISHED = AsideKind.VANISHED
cdef object KIND_SOURCE_ERROR = AsideKind.SOURCE_ERROR
cdef object KIND_DOUBT = AsideKind.DOUBT
cdef object KIND_BIG = AsideKind.BIG
cdef int64_t SIZE_MAX = _SIZE_MAX
cdef int64_t DOUBT_MS = _DOUBT_MS

cdef bytes RESERVED = b"keyferry:"


cdef struct Fetched:
    # What the source answered for one key.
    Py_ssize_t start       # where to go on when the rest is not there yet
    Py_ssize_t payload_at
    int64_t length         # of the payload, -1 for no key
    Py_ssize_t error_at    # 0 for no error
    Py_ssize_t error_end
    int64_t expires
    bint doubt


@cython.final
cdef class CompiledRelay:
    """See ``relay_pure.PureRelay``."""

    cdef readonly object config
    cdef readonly int64_t fetched_keys, fetched_bytes
    cdef readonly bint scan_pending
    cdef readonly bytes next_cursor
    cdef Requests requests
    cdef Pages pages
    cdef Lanes target
    cdef Asking source
    cdef Buffer source_in
    cdef Py_ssize_t source_need
    cdef object key_filter
    cdef int run_kind
    cdef int64_t run_left, run_token
    cdef bint run_timed
    cdef int64_t short_bytes, look_bytes
    cdef list asides, raw
    cdef int64_t skip_left, hint, source_now_ms, time_ms
    cdef bint oversize
    cdef int source_version, expiry, hints
    cdef int64_t payload_bytes_max
    cdef bint replace
    cdef const uint8_t* actions
    cdef const uint8_t* wanted
    cdef const uint8_t* wanted_slots

    def __cinit__(self):
        memset(&self.source_in, 0, sizeof(Buffer))

    def __dealloc__(self):
        free(self.source_in.data)

    def __init__(self, config):
        self.config = config
        self.pages = Pages()
        self.source = Asking(config, self.pages)
        self.requests = self.source.requests
        self.target = Lanes(config)
        # They live as long as the configuration, which is never exchanged.
        self.actions = <const uint8_t*>PyBytes_AS_STRING(<bytes?>config.actions)
        self.wanted = <const uint8_t*>PyBytes_AS_STRING(<bytes?>config.wanted)
        self.wanted_slots = NULL
        if config.wanted_slots:
            self.wanted_slots = <const uint8_t*>PyBytes_AS_STRING(<bytes?>config.wanted_slots)
        self.source_version = config.source_version
        self.short_bytes = config.short_bytes
        self.look_bytes = config.look_bytes
        self.expiry = int(config.expiry)
        self.hints = int(config.hints)
        self.payload_bytes_max = config.payload_bytes_max
        self.replace = config.replace
        self.key_filter = config.key_filter
        self.run_kind = RUN_NONE
        self.run_left = self.run_token = 0
        self.asides = []
        self.raw = []
        self.skip_left = 0
        self.hint = -1
        self.source_now_ms = self.time_ms = 0
        self.oversize = self.run_timed = False
        self.fetched_keys = self.fetched_bytes = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.source_need = 0

    # What the driver asks for

    def scan(self, bytes cursor not None):
        self.source.own(RUN_SCAN, 0, self.requests.scan(cursor), 1)
        self.scan_pending = True

    def add_keys(self, list keys not None):
        cdef Page page = Page()
        cdef Py_ssize_t size = 0
        cdef bytes key
        for key in keys:
            size += PyBytes_GET_SIZE(key)
        page.room(len(keys), size)
        for key in keys:
            page.add(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return self.add_page(page, b"")

    def fetch(self, int64_t limit, int64_t dump_bytes=<int64_t>1 << 62):
        cdef int64_t asked = self.source.dump(limit, dump_bytes)
        asked += self.source.measure(limit - asked)
        return asked + self.source.ask_new(limit - asked)

    def again(self, int64_t page, int64_t index, object size_bytes=0):
        if not 0 <= size_bytes <= SIZE_MAX:
            raise ValueError(f"size_bytes is 0 to {SIZE_MAX}")
        self.pages.with_key(page, index)
        self.source.again(&self.source.dumps, page, index, size_bytes, False)

    def source_command(self, int64_t token, bytes data not None, int64_t replies):
        self.source.own(RUN_RAW, token, data, replies)

    def target_command(self, int64_t token, bytes data not None, int64_t replies, Py_ssize_t lane=0):
        self.target.own(self.target.at(lane), token, data, replies)

    def store(
        self, int64_t page, int64_t index, int64_t expires_at_ms, bytes payload not None, int method,
        int64_t hint=-1, int replace=-1,
    ):
        cdef bint replaces = self.replace if replace < 0 else replace != 0
        self.restore(
            self.pages.with_key(page, index), index, expires_at_ms, PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload), method, hint, replaces, False,
        )

    def resolve(self, int64_t page, int outcome, int64_t payload_bytes=0, int method=0):
        self.pages.of(page).resolve(outcome, payload_bytes, method)

    # Lanes

    @property
    def lanes(self):
        return self.target.count

    @property
    def storing_keys(self):
        return self.target.storing

    def add_lane(self):
        self.target.add()
        return self.target.count - 1

    def assign(self, Py_ssize_t slot, Py_ssize_t lane):
        self.target.assign(slot, lane)

    def lane_of(self, bytes key not None):
        return self.target.number_of(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def lane_out_bytes(self, Py_ssize_t lane):
        return self.target.at(lane).out.size

    def lane_storing(self, Py_ssize_t lane):
        return self.target.at(lane).storing

    # Bytes in and out

    @property
    def queued_keys(self):
        return self.source.queued_keys

    @property
    def fetching_keys(self):
        return self.source.fetching_keys

    @property
    def dumping_bytes(self):
        return self.source.dumping_bytes

    @property
    def source_out_bytes(self):
        return self.source.out.size

    @property
    def target_out_bytes(self):
        return self.target.out_bytes()

    def take_source(self):
        return take(&self.source.out)

    def take_target(self, Py_ssize_t lane=0):
        cdef Lane* here = self.target.at(lane)
        here.taken += here.out.size
        return take(&here.out)

    def feed_source(self, const uint8_t[::1] data not None, int64_t source_now_ms=0):
        cdef Py_ssize_t size = data.shape[0], offset = 0
        self.source_now_ms = source_now_ms
        if self.skip_left:
            offset = size if self.skip_left > size else self.skip_left
            self.skip_left -= offset
        if size > offset:
            reserve(&self.source_in, size - offset)
            put(&self.source_in, <const char*>&data[offset], size - offset)
        if self.source_in.size < self.source_need:
            return
        self.source_need = 0
        drop_front(&self.source_in, self.read_source())

    def feed_target(self, const uint8_t[::1] data not None, Py_ssize_t lane=0):
        cdef Lane* here = self.target.at(lane)
        if data.shape[0]:
            self.target.feed(here, <const char*>&data[0], data.shape[0], self.pages, self.asides, self.raw)

    # Replies of the source

    cdef Py_ssize_t read_source(self) except -2:
        cdef Py_ssize_t position = 0, after
        while position < self.source_in.size and not self.skip_left:
            if self.run_kind == RUN_NONE:
                if not self.source.runs:
                    raise ProtocolError("The source sent a reply that nothing asked for.")
                self.run_kind, self.run_left, self.run_token = self.source.runs.popleft()
                self.run_timed = False
            if self.run_kind == RUN_FETCH or self.run_kind == RUN_PROBE or self.run_kind == RUN_AGAIN:
                after = self.read_fetch(position)
                if self.run_left:
                    return after
                position = after
            elif self.run_kind == RUN_MEASURE or self.run_kind == RUN_LOOK:
                position = self.read_measured(position)
                if self.run_left:
                    return position
            elif self.run_kind == RUN_SCAN:
                after = self.read_scan(position)
                if after == INCOMPLETE:
                    return position
                position = after
            else:
                after = replies_end(&self.source_in, position, self.run_left, &self.source_need)
                if after == INCOMPLETE:
                    return position
                self.raw.append((
                    self.run_token,
                    PyBytes_FromStringAndSize(self.source_in.data + position, after - position),
                    self.target.marks(),
                ))
                position = after
            self.run_kind = RUN_NONE
        return position

    cdef Py_ssize_t read_scan(self, Py_ssize_t start) except -2:
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, position, keys_at, end
        cdef int64_t count = 0, length = 0, i
        cdef bytes cursor
        cdef Page page
        if data[start] == 45:
            end = line_end(data, size, start)
            if end == INCOMPLETE:
                return INCOMPLETE
            self.scan_pending = False
            self.asides.append(Aside(KIND_SOURCE_ERROR, -1, -1, b"", data[start + 1:end], 0, -1))
            return end + 2
        position = parse_head(data, size, start, 42, &count)
        if position == INCOMPLETE:
            return INCOMPLETE
        if count != 2:
            raise ProtocolError("The source answered SCAN with something else.")
        position = read_bulk(data, size, position, &length)
        if position == INCOMPLETE:
            return INCOMPLETE
        cursor = data[position:position + length] if length > 0 else b""
        if not cursor.isdigit():
            raise ProtocolError("The source answered SCAN with something else.")
        position = parse_head(data, size, position + length + 2, 42, &count)
        if position == INCOMPLETE:
            return INCOMPLETE
        if count < 0:
            raise ProtocolError("The source answered SCAN with something else.")
        keys_at = position
        for i in range(count):
            position = read_bulk(data, size, position, &length)
            if position == INCOMPLETE:
                return INCOMPLETE
            if length < 0:
                raise ProtocolError("The source answered SCAN with something else.")
            position += length + 2
        page = Page()
        page.room(count, position - keys_at)
        position = keys_at
        for i in range(count):
            position = parse_head(data, size, position, 36, &length)
            if self.passes(data + position, length):
                page.add(data + position, length)
            position += length + 2
        self.scan_pending = False
        self.next_cursor = cursor
        self.add_page(page, cursor)
        return position

    cdef bint passes(self, const char* key, Py_ssize_t size) except -1:
        if size >= 9 and memcmp(key, PyBytes_AS_STRING(RESERVED), 9) == 0:
            return False
        if self.wanted_slots != NULL and not self.wanted_slots[slot_of(key, size)]:
            return False
        if self.key_filter is None:
            return True
        return bool(self.key_filter(PyBytes_FromStringAndSize(key, size)))

    cdef int64_t add_page(self, Page page, bytes cursor) except -1:
        self.source.queued_keys += page.keys
        return self.pages.add(page, cursor)

    cdef Py_ssize_t read_measured(self, Py_ssize_t position) except -2:
        """Reads sizes of the run until it ends or the bytes do; returns where to go on."""
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, after, error_end
        cdef int64_t bytes_used
        cdef Page page
        while self.run_left:
            after = read_number(data, size, position, &bytes_used, &error_end)
            if after == INCOMPLETE:
                return position
            if bytes_used < 0 and data[position] == 58:
                raise ProtocolError("The source answered MEMORY USAGE with something else.")
            page = self.source.answered(self.run_kind)
            self.run_left -= 1
            if error_end:
                self.put_aside(KIND_SOURCE_ERROR, page, data[position + 1:error_end], 0, -1)
            elif bytes_used < 0:
                self.put_aside(KIND_VANISHED, page, b"", 0, -1)
            elif bytes_used > self.look_bytes:
                self.put_aside(KIND_BIG, page, b"%d" % bytes_used, 0, -1)
            else:
                self.source.is_small(bytes_used)
            position = after
        return position

    cdef Py_ssize_t read_fetch(self, Py_ssize_t start) except -2:
        """Reads keys of the run until it ends or the bytes do; returns where to go on."""
        cdef Fetched got
        cdef Py_ssize_t position
        while self.run_left:
            position = self.read_key(start, &got)
            if position == INCOMPLETE:
                return got.start
            if self.skip_left:
                return position
            self.run_left -= 1
            self.decide(self.source.answered(self.run_kind), &got)
            self.oversize = False
            start = position
        return start

    cdef Py_ssize_t read_key(self, Py_ssize_t start, Fetched* got) except -2:
        """What the source says of one key. With ``skip_left`` set, the rest of a payload is to be dropped."""
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, position = start, after, end
        cdef int64_t before_ms
        got.start = start
        got.error_at = got.error_end = got.payload_at = 0
        got.length = 0
        got.expires = -1
        got.doubt = False
        if self.expiry == EXPIRY_REMAINING and not self.run_timed:
            position = read_time(data, size, position, &self.time_ms, &end)
            if position == INCOMPLETE:
                return INCOMPLETE
            got.start = position
            self.run_timed = True
        if not self.oversize:
            self.hint = -1
            if self.hints != HINT_NONE:
                position = read_number(data, size, position, &self.hint, &end)
                if position == INCOMPLETE:
                    return INCOMPLETE
            position = self.read_payload(position, got)
            if position == INCOMPLETE or self.skip_left:
                return position
        if self.expiry != EXPIRY_NONE:
            after = position
            position = read_number(data, size, position, &got.expires, &end)
            if position == INCOMPLETE:
                return INCOMPLETE
            if end and not got.error_at:
                got.error_at = after + 1
                got.error_end = end
        if self.expiry == EXPIRY_REMAINING:
            before_ms = self.time_ms
            after = position
            position = read_time(data, size, position, &self.time_ms, &end)
            if position == INCOMPLETE:
                return INCOMPLETE
            if end and not got.error_at:
                got.error_at = after + 1
                got.error_end = end
            got.doubt = got.expires >= 0 and self.time_ms - before_ms > DOUBT_MS
        return position

    cdef Py_ssize_t read_payload(self, Py_ssize_t position, Fetched* got) except -2:
        """The answer to DUMP or GETRANGE. One that is too large is stepped over, or dropped as it comes."""
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, after
        if position >= size:
            return INCOMPLETE
        if data[position] == 45:
            after = line_end(data, size, position)
            if after == INCOMPLETE:
                return INCOMPLETE
            got.error_at = position + 1
            got.error_end = after
            return after + 2
        position = parse_head(data, size, position, 36, &got.length)
        if position == INCOMPLETE:
            return INCOMPLETE
        got.payload_at = position
        if self.run_kind == RUN_PROBE and not 0 <= got.length <= self.short_bytes:
            raise ProtocolError("The source answered GETRANGE with something else.")
        if got.length < 0:
            return position
        after = position + got.length + 2
        if got.length > self.payload_bytes_max:
            self.oversize = True
            self.fetched_keys += 1
            self.fetched_bytes += got.length
            if after > size:
                self.skip_left = after - size
                return size
            got.start = after
            return after
        if after > size:
            self.source_need = after - got.start
            return INCOMPLETE
        if data[after - 2] != 13 or data[after - 1] != 10:
            raise ProtocolError("The server sent a string without its end.")
        return after

    cdef int decide(self, Page page, Fetched* got) except -1:
        """Sends a key on, or sets it aside, or asks for it once more."""
        cdef const char* data = self.source_in.data
        cdef const char* payload = data + got.payload_at
        cdef bint probed = self.run_kind == RUN_PROBE
        if got.error_at:
            if probed and is_wrong_type(data, got.error_at, got.error_end):
                self.source.is_long()
            else:
                self.put_aside(KIND_SOURCE_ERROR, page, data[got.error_at:got.error_end], 0, -1)
        elif got.length < 0 or got.expires == -2:
            self.put_aside(KIND_VANISHED, page, b"", 0, -1)
        elif self.oversize:
            expires_at = self.requests.expiry_on_target(got.expires, self.time_ms)
            self.put_aside(KIND_OVERSIZE, page, b"", expires_at, self.hint)
        elif not probed:
            self.dispatch(page, payload, got.length, got.expires, got.doubt)
            if self.source.here.counts:
                self.source.look(is_short(payload, got.length, self.short_bytes))
        elif got.length == 0 or got.length == self.short_bytes:
            self.source.is_long()
        else:
            self.dispatch_string(page, payload, got.length, got.expires, got.doubt)
            self.source.look(True)
        return 0

    cdef int put_aside(
        self, object kind, Page page, bytes payload, int64_t expires_at, int64_t hint
    ) except -1:
        cdef int64_t index = self.source.here.index
        self.asides.append(Aside(kind, page.number, index, page.key(index), payload, expires_at, hint))
        return 0

    cdef int dispatch(
        self, Page page, const char* payload, Py_ssize_t size, int64_t expires, bint doubt
    ) except -1:
        """Sends on a key whose payload has come."""
        cdef uint8_t kind, action
        cdef int64_t expires_at = self.requests.expiry_on_target(expires, self.time_ms)
        if size < 11:
            raise ProtocolError("The source answered DUMP with something that is no payload.")
        self.fetched_keys += 1
        self.fetched_bytes += size
        kind = <uint8_t>payload[0]
        action = self.actions[kind]
        if not self.wanted[kind]:
            page.resolve(OUT_UNSELECTED, 0, 0)
        elif doubt:
            self.put_aside(KIND_DOUBT, page, payload[:size], expires_at, self.hint)
        elif (
            action > ACT_RESIGNED
            or (<uint8_t>payload[size - 10] | (<uint8_t>payload[size - 9] << 8)) != self.source_version
        ):
            self.put_aside(KIND_CONVERT, page, payload[:size], expires_at, self.hint)
        else:
            self.restore(
                page, self.source.here.index, expires_at, payload, size, action, self.hint, self.replace,
                action == ACT_RESIGNED,
            )
        return 0

    cdef int dispatch_string(
        self, Page page, const char* text, Py_ssize_t length, int64_t expires, bint doubt
    ) except -1:
        """Sends on a short string whose bytes have come."""
        cdef int64_t expires_at = self.requests.expiry_on_target(expires, self.time_ms)
        cdef int64_t index = self.source.here.index
        cdef Py_ssize_t size = string_payload_size(length)
        cdef bytes payload
        cdef Lane* lane
        self.fetched_keys += 1
        self.fetched_bytes += size
        if not self.wanted[TYPE_STRING]:
            page.resolve(OUT_UNSELECTED, 0, 0)
        elif doubt:
            payload = PyBytes_FromStringAndSize(NULL, size)
            self.requests.string_payload(<uint8_t*>PyBytes_AS_STRING(payload), text, length)
            self.put_aside(KIND_DOUBT, page, payload, expires_at, self.hint)
        else:
            lane = self.target.of(page.name(index), page.length[index])
            self.requests.restore_string(
                &lane.out, page.name(index), page.length[index], expires_at, text, length, self.hint,
                self.replace, self.source_now_ms,
            )
            self.target.restored(lane, page.number, index, self.actions[TYPE_STRING], size)
        return 0

    cdef int restore(
        self, Page page, int64_t index, int64_t expires_at, const char* payload, Py_ssize_t size, int method,
        int64_t hint, bint replace, bint resign,
    ) except -1:
        cdef Lane* lane = self.target.of(page.name(index), page.length[index])
        self.requests.restore(
            &lane.out, page.name(index), page.length[index], expires_at, payload, size, hint, replace, resign,
            self.source_now_ms,
        )
        return self.target.restored(lane, page.number, index, method, size)

    # What the driver is told

    def take_asides(self):
        asides = self.asides
        self.asides = []
        return asides

    def take_raw(self):
        raw = self.raw
        self.raw = []
        return raw

    def take_settled(self):
        settled = self.pages.settle()
        self.source.settled()
        return settled

    @property
    def newest_page(self):
        return self.pages.first + len(self.pages.pages) - 1

    @property
    def idle(self):
        return not (
            self.pages.pages or self.source.runs or self.run_kind != RUN_NONE or self.asides or self.raw
        ) and self.target.idle()
