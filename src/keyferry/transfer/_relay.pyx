# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``relay_pure``: no Python object per key on the fast path.

Same methods, same order of events; read the theory of operation there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove

from keyferry.payload._crc64 cimport update as crc64_update

from keyferry.transfer.config import DOUBT_MS as _DOUBT_MS
from keyferry.transfer.config import LOOK_KEYS as _LOOK_KEYS
from keyferry.transfer.config import MOVE_MAX_MS as _MOVE_MAX
from keyferry.transfer.config import Aside, AsideKind, Settled
from keyferry.wire.resp import BULK_BYTES_MAX as _BULK_BYTES_MAX
from keyferry.wire.resp import ProtocolError, encode_command

cdef enum:
    RUN_SCAN = 0
    RUN_FETCH = 1
    RUN_RAW = 2
    RUN_STORE = 3
    RUN_PROBE = 4
    RUN_AGAIN = 5
    DEPTH_MAX = 64
    LINE_BYTES_MAX = 1048576
    OUT_COPIED = 0
    OUT_UNSELECTED = 4
    ACT_RESIGNED = 1
    EXPIRY_NONE = 0
    EXPIRY_ABSOLUTE = 1
    EXPIRY_REMAINING = 2
    HINT_NONE = 0
    HINT_IDLETIME = 1
    INCOMPLETE = -1

cdef int64_t BULK_MAX = _BULK_BYTES_MAX
cdef object KIND_CONVERT = AsideKind.CONVERT
cdef object KIND_OVERSIZE = AsideKind.OVERSIZE
cdef object KIND_VANISHED = AsideKind.VANISHED
cdef object KIND_SOURCE_ERROR = AsideKind.SOURCE_ERROR
cdef object KIND_TARGET_ERROR = AsideKind.TARGET_ERROR
cdef object KIND_DOUBT = AsideKind.DOUBT
cdef int64_t DOUBT_MS = _DOUBT_MS
cdef int64_t LOOK_KEYS = _LOOK_KEYS
cdef int64_t MOVE_MAX = _MOVE_MAX

cdef bytes RESERVED = b"keyferry:"


cdef struct Buffer:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef struct Answer:
    # What the target still has to answer.
    int kind
    int method
    int64_t page
    int64_t index      # of the key in its page; -1: the key waits in _stored_keys; for RUN_RAW the token
    int64_t size       # payload bytes; for RUN_RAW the number of replies


cdef struct Spot:
    int64_t page
    int64_t index


cdef struct Spots:
    # A queue of keys by their place.
    Spot* data
    Py_ssize_t head
    Py_ssize_t count
    Py_ssize_t capacity


cdef int push_spot(Spots* spots, int64_t page, int64_t index) except -1:
    cdef Spot* data
    cdef Py_ssize_t capacity, i
    if spots.count == spots.capacity:
        capacity = spots.capacity * 2 if spots.capacity else 1024
        data = <Spot*>malloc(capacity * sizeof(Spot))
        if data == NULL:
            raise MemoryError
        for i in range(spots.count):
            data[i] = spots.data[(spots.head + i) % spots.capacity]
        free(spots.data)
        spots.data = data
        spots.capacity = capacity
        spots.head = 0
    data = &spots.data[(spots.head + spots.count) % spots.capacity]
    data.page = page
    data.index = index
    spots.count += 1
    return 0


cdef Spot pop_spot(Spots* spots) noexcept:
    cdef Spot spot = spots.data[spots.head]
    spots.head += 1
    if spots.head == spots.capacity:
        spots.head = 0
    spots.count -= 1
    return spot


cdef int reserve(Buffer* buffer, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity
    cdef char* data
    if buffer.size + more <= buffer.capacity:
        return 0
    capacity = buffer.capacity * 2
    if capacity < buffer.size + more:
        capacity = buffer.size + more
    if capacity < 65536:
        capacity = 65536
    data = <char*>realloc(buffer.data, capacity)
    if data == NULL:
        raise MemoryError
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef inline void put(Buffer* buffer, const char* data, Py_ssize_t size) noexcept:
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size


cdef inline Py_ssize_t digits(char* out, int64_t value) noexcept:
    """Writes a number that is not negative; returns its length (at most 20)."""
    cdef char reverse[20]
    cdef Py_ssize_t n = 0, i
    if value == 0:
        out[0] = 48
        return 1
    while value:
        reverse[n] = <char>(48 + value % 10)
        value //= 10
        n += 1
    for i in range(n):
        out[i] = reverse[n - 1 - i]
    return n


cdef inline void put_head(Buffer* buffer, char kind, int64_t value) noexcept:
    """``$12\\r\\n`` or ``*3\\r\\n``."""
    buffer.data[buffer.size] = kind
    buffer.size += 1
    buffer.size += digits(buffer.data + buffer.size, value)
    buffer.data[buffer.size] = 13
    buffer.data[buffer.size + 1] = 10
    buffer.size += 2


cdef inline void put_bulk(Buffer* buffer, const char* data, Py_ssize_t size) noexcept:
    put_head(buffer, 36, size)
    put(buffer, data, size)
    buffer.data[buffer.size] = 13
    buffer.data[buffer.size + 1] = 10
    buffer.size += 2


cdef bytes take(Buffer* buffer):
    cdef bytes data = PyBytes_FromStringAndSize(buffer.data, buffer.size)
    buffer.size = 0
    if buffer.capacity > 8388608:
        # One giant payload must not keep its memory for the rest of the run.
        free(buffer.data)
        buffer.data = NULL
        buffer.capacity = 0
    return data


cdef int drop_front(Buffer* buffer, Py_ssize_t count) except -1:
    if count == 0:
        return 0
    buffer.size -= count
    if buffer.size:
        memmove(buffer.data, buffer.data + count, buffer.size)
    elif buffer.capacity > 8388608:
        free(buffer.data)
        buffer.data = NULL
        buffer.capacity = 0
    return 0


cdef Py_ssize_t line_end(const char* data, Py_ssize_t size, Py_ssize_t position) except -2:
    """Index of the CR of the line's end, or INCOMPLETE."""
    cdef const char* found
    cdef Py_ssize_t at = position
    while at < size:
        found = <const char*>memchr(data + at, 13, size - at)
        if found == NULL:
            break
        at = found - data
        if at + 1 >= size:
            break
        if data[at + 1] == 10:
            return at
        at += 1
    if size - position > LINE_BYTES_MAX:
        raise ProtocolError("The server sent a line without an end.")
    return INCOMPLETE


cdef int parse_integer(const char* data, Py_ssize_t begin, Py_ssize_t end, int64_t* value) except -1:
    cdef Py_ssize_t i = begin
    cdef bint negative = False
    cdef int64_t number = 0
    if i < end and data[i] == 45:
        negative = True
        i += 1
    if i == end or end - i > 19:
        raise ProtocolError(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
    while i < end:
        if data[i] < 48 or data[i] > 57:
            raise ProtocolError(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
        number = number * 10 + (data[i] - 48)
        i += 1
    value[0] = -number if negative else number
    return 0


cdef Py_ssize_t parse_head(const char* data, Py_ssize_t size, Py_ssize_t position, char kind, int64_t* length) except -2:
    """Reads ``$n\\r\\n`` or ``*n\\r\\n``; returns the index after it, or INCOMPLETE."""
    cdef Py_ssize_t at = position + 1
    cdef int64_t number = 0
    cdef Py_ssize_t end
    if position >= size:
        return INCOMPLETE
    if data[position] != kind:
        raise ProtocolError(f"The server sent {data[position:position + 1]!r} where {bytes([kind])!r} belongs.")
    # The common case without a second look: up to nine digits and the line's end.
    while at < size and 48 <= data[at] <= 57 and at - position < 10:
        number = number * 10 + (data[at] - 48)
        at += 1
    if at + 1 < size and at > position + 1 and data[at] == 13 and data[at + 1] == 10:
        if number > BULK_MAX:
            raise ProtocolError(f"The server announced a length of {number}.")
        length[0] = number
        return at + 2
    end = line_end(data, size, position)
    if end == INCOMPLETE:
        return INCOMPLETE
    parse_integer(data, position + 1, end, &number)
    if number < -1 or number > BULK_MAX:
        raise ProtocolError(f"The server announced a length of {number}.")
    length[0] = number
    return end + 2


cdef class Page:
    cdef int64_t number
    cdef bytes cursor
    cdef Buffer arena
    cdef uint32_t* begin
    cdef uint32_t* length
    cdef int64_t keys
    cdef int64_t unresolved
    cdef int64_t outcomes[5]
    cdef int64_t methods[4]
    cdef int64_t payload_bytes

    def __cinit__(self):
        self.arena.data = NULL
        self.arena.size = self.arena.capacity = 0
        self.begin = self.length = NULL
        self.keys = self.unresolved = self.payload_bytes = 0
        for i in range(5):
            self.outcomes[i] = 0
        for i in range(4):
            self.methods[i] = 0

    def __dealloc__(self):
        free(self.arena.data)
        free(self.begin)
        free(self.length)

    cdef int room(self, int64_t count, Py_ssize_t size) except -1:
        if size > 0xFFFFFFF0:
            raise ProtocolError("The source answered SCAN with more than 4 GiB.")
        self.arena.data = <char*>malloc(size + 1)
        self.begin = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
        self.length = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
        if self.arena.data == NULL or self.begin == NULL or self.length == NULL:
            raise MemoryError
        self.arena.capacity = size + 1
        return 0

    cdef void add(self, const char* key, Py_ssize_t size) noexcept:
        self.begin[self.keys] = <uint32_t>self.arena.size
        self.length[self.keys] = <uint32_t>size
        put(&self.arena, key, size)
        self.keys += 1
        self.unresolved += 1

    cdef bytes key(self, int64_t index):
        return PyBytes_FromStringAndSize(self.arena.data + self.begin[index], self.length[index])


cdef class CompiledRelay:
    """See ``relay_pure.PureRelay``."""

    cdef readonly object config
    cdef readonly int64_t queued_keys, fetching_keys, storing_keys, fetched_keys, fetched_bytes
    cdef readonly bint scan_pending
    cdef readonly bytes next_cursor
    cdef Buffer source_in, target_in, source_out, target_out
    cdef Py_ssize_t source_need, target_need
    cdef object source_runs, key_filter
    cdef Answer* answers
    cdef Py_ssize_t answers_head, answers_count, answers_capacity
    cdef list pages
    cdef int64_t first_page
    cdef int64_t request_page, request_index, reply_page, reply_index
    cdef int run_kind
    cdef Spots again, again_asked
    cdef Spot here
    cdef bint probing
    cdef int64_t short_bytes, short_seen, others_seen
    cdef bytes probe_tail
    cdef Buffer made
    cdef int target_version
    cdef int64_t run_left, run_token
    cdef list asides, raw
    cdef object stored_keys
    cdef int64_t skip_left, hint, source_now_ms, time_ms
    cdef bint oversize, run_timed
    cdef tuple scan_tail
    cdef uint8_t actions[256]
    cdef uint8_t wanted[256]
    cdef uint8_t mask[10]
    cdef int source_version, expiry, hints
    cdef int64_t clock_offset_ms, payload_bytes_max, target_taken
    cdef bint absolute, replace

    def __cinit__(self):
        self.source_in.data = self.target_in.data = self.source_out.data = self.target_out.data = NULL
        self.source_in.size = self.target_in.size = self.source_out.size = self.target_out.size = 0
        self.source_in.capacity = self.target_in.capacity = 0
        self.source_out.capacity = self.target_out.capacity = 0
        self.made.data = NULL
        self.made.size = self.made.capacity = 0
        self.again.data = self.again_asked.data = NULL
        self.again.head = self.again.count = self.again.capacity = 0
        self.again_asked.head = self.again_asked.count = self.again_asked.capacity = 0
        self.answers = NULL
        self.answers_head = self.answers_count = self.answers_capacity = 0

    def __dealloc__(self):
        free(self.source_in.data)
        free(self.target_in.data)
        free(self.source_out.data)
        free(self.target_out.data)
        free(self.answers)
        free(self.made.data)
        free(self.again.data)
        free(self.again_asked.data)

    def __init__(self, config):
        from collections import deque

        cdef int i
        self.config = config
        for i in range(256):
            self.actions[i] = config.actions[i]
            self.wanted[i] = config.wanted[i]
        for i in range(10):
            self.mask[i] = config.resign_mask[i]
        self.source_version = config.source_version
        self.target_version = config.target_version
        self.short_bytes = config.short_bytes
        self.probing = config.short_bytes > 0
        self.short_seen = self.others_seen = 0
        last = b"%d" % (config.short_bytes - 1)
        self.probe_tail = b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(last), last)
        self.expiry = int(config.expiry)
        self.hints = int(config.hints)
        self.clock_offset_ms = config.clock_offset_ms
        self.payload_bytes_max = config.payload_bytes_max
        self.absolute = config.absolute
        self.replace = config.replace
        self.key_filter = config.key_filter
        tail = ()
        if config.scan_match:
            tail += (b"MATCH", config.scan_match)
        tail += (b"COUNT", b"%d" % config.scan_count)
        if config.scan_type:
            tail += (b"TYPE", config.scan_type)
        self.scan_tail = tail
        self.source_runs = deque()
        self.stored_keys = deque()
        self.pages = []
        self.first_page = 0
        self.request_page = self.request_index = self.reply_page = self.reply_index = 0
        self.run_kind = -1
        self.run_left = self.run_token = 0
        self.asides = []
        self.raw = []
        self.skip_left = 0
        self.hint = -1
        self.source_now_ms = self.time_ms = 0
        self.oversize = self.run_timed = False
        self.queued_keys = self.fetching_keys = self.storing_keys = 0
        self.fetched_keys = self.fetched_bytes = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.source_need = self.target_need = 0
        self.target_taken = 0

    # What the driver asks for

    def scan(self, bytes cursor not None):
        self.put_source(encode_command(b"SCAN", cursor, *self.scan_tail))
        self.source_runs.append((RUN_SCAN, 1, 0))
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

    def fetch(self, int64_t limit):
        cdef int64_t asked = self.fetch_again(limit)
        return asked + self.fetch_new(limit - asked)

    cdef int64_t fetch_again(self, int64_t limit) except -1:
        cdef int64_t asked = 0
        cdef Spot spot
        cdef Page page
        while asked < limit and self.again.count:
            spot = pop_spot(&self.again)
            push_spot(&self.again_asked, spot.page, spot.index)
            page = <Page>self.pages[spot.page - self.first_page]
            self.ask_key(page, spot.index, False, asked == 0)
            asked += 1
        self.begin_run(RUN_AGAIN, asked)
        return asked

    cdef int64_t fetch_new(self, int64_t limit) except -1:
        cdef int64_t asked = 0, new = self.queued_keys - self.again.count
        cdef Page page
        while asked < limit and asked < new:
            page = <Page>self.pages[self.request_page - self.first_page]
            if self.request_index >= page.keys:
                self.request_page += 1
                self.request_index = 0
                continue
            self.ask_key(page, self.request_index, self.probing, asked == 0)
            self.request_index += 1
            asked += 1
        self.begin_run(RUN_PROBE if self.probing else RUN_FETCH, asked)
        return asked

    cdef int begin_run(self, int kind, int64_t keys) except -1:
        if keys:
            self.source_runs.append((kind, keys, 0))
            self.queued_keys -= keys
            self.fetching_keys += keys
        return 0

    cdef int ask_key(self, Page page, int64_t index, bint probe, bint first) except -1:
        cdef Buffer* out = &self.source_out
        cdef Py_ssize_t size = page.length[index]
        cdef const char* key = page.arena.data + page.begin[index]
        reserve(out, 3 * (size + 80) + 64)
        if first and self.expiry == EXPIRY_REMAINING:
            put(out, b"*1\r\n$4\r\nTIME\r\n", 14)
        if self.hints == HINT_IDLETIME:
            put(out, b"*3\r\n$6\r\nOBJECT\r\n$8\r\nIDLETIME\r\n", 30)
            put_bulk(out, key, size)
        elif self.hints != HINT_NONE:
            put(out, b"*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n", 26)
            put_bulk(out, key, size)
        if probe:
            put(out, b"*4\r\n$8\r\nGETRANGE\r\n", 18)
            put_bulk(out, key, size)
            put(out, PyBytes_AS_STRING(self.probe_tail), PyBytes_GET_SIZE(self.probe_tail))
        else:
            put(out, b"*2\r\n$4\r\nDUMP\r\n", 14)
            put_bulk(out, key, size)
        if self.expiry == EXPIRY_ABSOLUTE:
            put(out, b"*2\r\n$11\r\nPEXPIRETIME\r\n", 22)
            put_bulk(out, key, size)
        elif self.expiry == EXPIRY_REMAINING:
            put(out, b"*2\r\n$4\r\nPTTL\r\n", 14)
            put_bulk(out, key, size)
            put(out, b"*1\r\n$4\r\nTIME\r\n", 14)
        return 0

    def source_command(self, int64_t token, bytes data not None, int64_t replies):
        self.put_source(data)
        self.source_runs.append((RUN_RAW, replies, token))

    def target_command(self, int64_t token, bytes data not None, int64_t replies):
        cdef Answer* answer
        reserve(&self.target_out, PyBytes_GET_SIZE(data))
        put(&self.target_out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        answer = self.push_answer()
        answer.kind = RUN_RAW
        answer.index = token
        answer.size = replies

    def store(self, int64_t page, bytes key not None, int64_t expires_at_ms, bytes payload not None, int method, int64_t hint=-1, int replace=-1):
        self.page_of(page)
        self.stored_keys.append(key)
        self.restore(
            page, -1, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), expires_at_ms,
            PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), method, hint,
            self.replace if replace < 0 else replace != 0, False,
        )

    def resolve(self, int64_t page, int outcome, int64_t payload_bytes=0, int method=0):
        self.resolve_key(self.page_of(page), outcome, payload_bytes, method)

    # Bytes in and out

    @property
    def source_out_bytes(self):
        return self.source_out.size

    @property
    def target_out_bytes(self):
        return self.target_out.size

    def take_source(self):
        return take(&self.source_out)

    def take_target(self):
        self.target_taken += self.target_out.size
        return take(&self.target_out)

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

    def feed_target(self, const uint8_t[::1] data not None):
        cdef Py_ssize_t size = data.shape[0]
        if size:
            reserve(&self.target_in, size)
            put(&self.target_in, <const char*>&data[0], size)
        if self.target_in.size < self.target_need:
            return
        self.target_need = 0
        drop_front(&self.target_in, self.read_target())

    # Replies of the source

    cdef Py_ssize_t read_source(self) except -2:
        cdef Py_ssize_t position = 0, after
        while position < self.source_in.size and not self.skip_left:
            if self.run_kind < 0:
                if not self.source_runs:
                    raise ProtocolError("The source sent a reply that nothing asked for.")
                self.run_kind, self.run_left, self.run_token = self.source_runs.popleft()
                self.run_timed = False
            if self.run_kind == RUN_FETCH or self.run_kind == RUN_PROBE or self.run_kind == RUN_AGAIN:
                after = self.read_fetch(position)
                if self.run_left:
                    return after
                position = after
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
                    self.target_taken + self.target_out.size,
                ))
                position = after
            self.run_kind = -1
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
            self.asides.append(Aside(KIND_SOURCE_ERROR, -1, b"", data[start + 1:end], 0, -1))
            return end + 2
        position = parse_head(data, size, start, 42, &count)
        if position == INCOMPLETE:
            return INCOMPLETE
        if count != 2:
            raise ProtocolError("The source answered SCAN with something else.")
        position = parse_head(data, size, position, 36, &length)
        if position == INCOMPLETE or position + length + 2 > size:
            return INCOMPLETE
        if length < 1 or memcmp(data + position + length, b"\r\n", 2):
            raise ProtocolError("The source answered SCAN with something else.")
        cursor = data[position:position + length]
        if not cursor.isdigit():
            raise ProtocolError("The source answered SCAN with something else.")
        position += length + 2
        position = parse_head(data, size, position, 42, &count)
        if position == INCOMPLETE:
            return INCOMPLETE
        if count < 0:
            raise ProtocolError("The source answered SCAN with something else.")
        keys_at = position
        for i in range(count):
            position = parse_head(data, size, position, 36, &length)
            if position == INCOMPLETE or position + length + 2 > size:
                return INCOMPLETE
            if length < 0:
                raise ProtocolError("The source answered SCAN with something else.")
            if data[position + length] != 13 or data[position + length + 1] != 10:
                raise ProtocolError("The server sent a string without its end.")
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
        if self.key_filter is None:
            return True
        return bool(self.key_filter(PyBytes_FromStringAndSize(key, size)))

    cdef int64_t add_page(self, Page page, bytes cursor) except -1:
        page.number = self.first_page + len(self.pages)
        page.cursor = cursor
        self.pages.append(page)
        self.queued_keys += page.keys
        return page.number

    cdef Page page_of(self, int64_t number):
        if not 0 <= number - self.first_page < len(self.pages):
            raise KeyError(number)
        return <Page>self.pages[number - self.first_page]

    cdef Py_ssize_t read_fetch(self, Py_ssize_t start) except -2:
        """Reads keys of the run until it ends or the bytes do; returns where to go on."""
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, position = start, after, payload_at, error_at, error_end, end
        cdef int64_t length, expires, before_ms
        cdef Page page
        while self.run_left:
            if self.expiry == EXPIRY_REMAINING and not self.run_timed:
                after = self.read_time(start, &end)
                if after == INCOMPLETE:
                    return start
                start = after
                self.run_timed = True
            position = start
            error_at = error_end = payload_at = 0
            expires = -1
            length = 0
            if not self.oversize:
                self.hint = -1
                if self.hints != HINT_NONE:
                    position = read_number(data, size, position, &self.hint, &end)
                    if position == INCOMPLETE:
                        return start
                if position >= size:
                    return start
                if data[position] == 45:
                    error_end = line_end(data, size, position)
                    if error_end == INCOMPLETE:
                        return start
                    error_at = position + 1
                    position = error_end + 2
                else:
                    payload_at = parse_head(data, size, position, 36, &length)
                    if payload_at == INCOMPLETE:
                        return start
                    if self.run_kind == RUN_PROBE and (length < 0 or length > self.short_bytes):
                        raise ProtocolError("The source answered GETRANGE with something else.")
                    if length > self.payload_bytes_max:
                        self.oversize = True
                        self.fetched_keys += 1
                        self.fetched_bytes += length
                        if size - payload_at < length + 2:
                            self.skip_left = length + 2 - (size - payload_at)
                            return size
                        position = start = payload_at + length + 2
                    elif length < 0:
                        position = payload_at
                    else:
                        position = payload_at + length + 2
                        if position > size:
                            self.source_need = position - start
                            return start
                        if data[position - 2] != 13 or data[position - 1] != 10:
                            raise ProtocolError("The server sent a string without its end.")
            if self.expiry != EXPIRY_NONE:
                after = position
                position = read_number(data, size, position, &expires, &end)
                if position == INCOMPLETE:
                    return start
                if end and not error_at:
                    error_at = after + 1
                    error_end = end
            before_ms = self.time_ms
            if self.expiry == EXPIRY_REMAINING:
                after = position
                position = self.read_time(position, &end)
                if position == INCOMPLETE:
                    return start
                if end and not error_at:
                    error_at = after + 1
                    error_end = end
            page = self.next_fetched()
            self.run_left -= 1
            if error_at:
                if self.run_kind == RUN_PROBE and is_wrong_type(data, error_at, error_end):
                    self.ask_again()
                else:
                    self.put_aside(KIND_SOURCE_ERROR, page, data[error_at:error_end], 0, -1)
            elif self.run_kind == RUN_PROBE:
                if expires != -2 and (length == 0 or length == self.short_bytes):
                    self.ask_again()
                else:
                    if expires == -2:
                        self.put_aside(KIND_VANISHED, page, b"", 0, -1)
                    else:
                        self.look(True)
                        self.make_payload(data + payload_at, length)
                        self.dispatch(
                            page, self.made.data, self.made.size, expires,
                            expires >= 0 and self.time_ms - before_ms > DOUBT_MS, True,
                        )
            elif length < 0 or expires == -2:
                self.put_aside(KIND_VANISHED, page, b"", 0, -1)
            elif self.oversize:
                self.put_aside(KIND_OVERSIZE, page, b"", self.expires_at(expires), self.hint)
            else:
                self.dispatch(
                    page, data + payload_at, length, expires,
                    expires >= 0 and self.time_ms - before_ms > DOUBT_MS, False,
                )
                if self.run_kind == RUN_FETCH:
                    self.look(is_short(data + payload_at, length, self.short_bytes))
            self.oversize = False
            start = position
        return position

    cdef Page next_fetched(self):
        """The page of the key whose reply is read; ``here`` is its place."""
        cdef Page page
        self.fetching_keys -= 1
        if self.run_kind == RUN_AGAIN:
            self.here = pop_spot(&self.again_asked)
            return <Page>self.pages[self.here.page - self.first_page]
        page = <Page>self.pages[self.reply_page - self.first_page]
        while self.reply_index >= page.keys:
            self.reply_page += 1
            self.reply_index = 0
            page = <Page>self.pages[self.reply_page - self.first_page]
        self.here.page = page.number
        self.here.index = self.reply_index
        self.reply_index += 1
        return page

    cdef int ask_again(self) except -1:
        """A probed key is no short string."""
        self.look(False)
        push_spot(&self.again, self.here.page, self.here.index)
        self.queued_keys += 1
        return 0

    cdef inline void look(self, bint short) noexcept:
        """Counts a key; decides from time to time how the next ones are asked for."""
        if self.short_bytes == 0:
            return
        if short:
            self.short_seen += 1
        else:
            self.others_seen += 1
        if self.short_seen + self.others_seen >= LOOK_KEYS:
            self.probing = self.short_seen >= self.others_seen
            self.short_seen = self.others_seen = 0

    cdef int make_payload(self, const char* text, Py_ssize_t size) except -1:
        """A short string as DUMP would write it, uncompressed."""
        cdef uint8_t* data
        cdef Py_ssize_t at
        cdef uint64_t crc
        cdef int i
        self.made.size = 0
        reserve(&self.made, size + 16)
        data = <uint8_t*>self.made.data
        data[0] = 0
        if size < 64:
            data[1] = <uint8_t>size
            at = 2
        else:
            data[1] = <uint8_t>(0x40 | (size >> 8))
            data[2] = <uint8_t>(size & 0xFF)
            at = 3
        memcpy(data + at, text, size)
        at += size
        data[at] = <uint8_t>(self.target_version & 0xFF)
        data[at + 1] = <uint8_t>(self.target_version >> 8)
        at += 2
        crc = crc64_update(0, data, at)
        for i in range(8):
            data[at + i] = <uint8_t>(crc & 0xFF)
            crc >>= 8
        self.made.size = at + 8
        return 0

    cdef int put_aside(self, object kind, Page page, bytes payload, int64_t expires_at, int64_t hint) except -1:
        self.asides.append(Aside(kind, page.number, page.key(self.here.index), payload, expires_at, hint))
        return 0

    cdef Py_ssize_t read_time(self, Py_ssize_t position, Py_ssize_t* error_end) except -2:
        """Reads TIME's reply into ``time_ms``; ``error_end`` is an error's end, 0 for none."""
        cdef const char* data = self.source_in.data
        cdef Py_ssize_t size = self.source_in.size, end
        cdef int64_t count = 0, seconds = 0, micros = 0, length = 0
        error_end[0] = 0
        if position < size and data[position] == 45:
            end = line_end(data, size, position)
            if end == INCOMPLETE:
                return INCOMPLETE
            error_end[0] = end
            return end + 2
        position = parse_head(data, size, position, 42, &count)
        if position == INCOMPLETE:
            return INCOMPLETE
        if count != 2:
            raise ProtocolError("The source answered TIME with something else.")
        position = parse_head(data, size, position, 36, &length)
        if position == INCOMPLETE or position + length + 2 > size:
            return INCOMPLETE
        if length < 0:
            raise ProtocolError("The source answered TIME with something else.")
        parse_integer(data, position, position + length, &seconds)
        position = parse_head(data, size, position + length + 2, 36, &length)
        if position == INCOMPLETE or position + length + 2 > size:
            return INCOMPLETE
        if length < 0:
            raise ProtocolError("The source answered TIME with something else.")
        parse_integer(data, position, position + length, &micros)
        self.time_ms = seconds * 1000 + micros // 1000
        return position + length + 2

    cdef inline int64_t expires_at(self, int64_t expires) noexcept:
        if expires < 0:
            return 0
        if self.expiry == EXPIRY_REMAINING:
            expires += self.time_ms
        if expires > INT64_MAX - MOVE_MAX:
            return expires
        expires += self.clock_offset_ms
        return expires if expires > 1 else 1

    cdef int dispatch(self, Page page, const char* payload, Py_ssize_t size, int64_t expires, bint doubt, bint made) except -1:
        cdef uint8_t kind, action
        cdef int64_t expires_at = self.expires_at(expires)
        if size < 11:
            raise ProtocolError("The source answered DUMP with something that is no payload.")
        self.fetched_keys += 1
        self.fetched_bytes += size
        kind = <uint8_t>payload[0]
        if not self.wanted[kind]:
            self.resolve_key(page, OUT_UNSELECTED, 0, 0)
            return 0
        if doubt:
            self.put_aside(KIND_DOUBT, page, payload[:size], expires_at, self.hint)
            return 0
        action = self.actions[kind]
        if not made and (
            action > ACT_RESIGNED
            or (<uint8_t>payload[size - 10] | (<uint8_t>payload[size - 9] << 8)) != self.source_version
        ):
            self.put_aside(KIND_CONVERT, page, payload[:size], expires_at, self.hint)
            return 0
        self.restore(
            page.number, self.here.index, page.arena.data + page.begin[self.here.index],
            page.length[self.here.index], expires_at, payload, size, action, self.hint, self.replace,
            action == ACT_RESIGNED and not made,
        )
        return 0

    # Commands to the target, and its replies

    cdef int restore(
        self, int64_t page, int64_t index, const char* key, Py_ssize_t key_size, int64_t expires_at,
        const char* payload, Py_ssize_t size, int method, int64_t hint, bint replace, bint resign,
    ) except -1:
        cdef Buffer* out = &self.target_out
        cdef Answer* answer
        cdef int64_t ttl = expires_at
        cdef int count = 4 + replace
        cdef char text[24]
        cdef int i
        cdef uint8_t* footer
        if expires_at:
            if self.absolute:
                count += 1
            else:
                ttl = expires_at - self.clock_offset_ms - self.source_now_ms
                if ttl < 1:
                    ttl = 1
        if hint >= 0:
            count += 2
        reserve(out, key_size + size + 200)
        put_head(out, 42, count)
        put(out, b"$7\r\nRESTORE\r\n", 13)
        put_bulk(out, key, key_size)
        put_bulk(out, text, digits(text, ttl))
        put_bulk(out, payload, size)
        if resign:
            footer = <uint8_t*>out.data + out.size - 12
            for i in range(10):
                footer[i] ^= self.mask[i]
        if replace:
            put(out, b"$7\r\nREPLACE\r\n", 13)
        if expires_at and self.absolute:
            put(out, b"$6\r\nABSTTL\r\n", 12)
        if hint >= 0:
            if self.hints == HINT_IDLETIME:
                put(out, b"$8\r\nIDLETIME\r\n", 14)
            else:
                put(out, b"$4\r\nFREQ\r\n", 10)
            put_bulk(out, text, digits(text, hint))
        answer = self.push_answer()
        answer.kind = RUN_STORE
        answer.method = method
        answer.page = page
        answer.index = index
        answer.size = size
        self.storing_keys += 1
        return 0

    cdef Answer* push_answer(self) except NULL:
        cdef Answer* answers
        cdef Py_ssize_t capacity, i
        if self.answers_count == self.answers_capacity:
            capacity = self.answers_capacity * 2 if self.answers_capacity else 4096
            answers = <Answer*>malloc(capacity * sizeof(Answer))
            if answers == NULL:
                raise MemoryError
            for i in range(self.answers_count):
                answers[i] = self.answers[(self.answers_head + i) % self.answers_capacity]
            free(self.answers)
            self.answers = answers
            self.answers_capacity = capacity
            self.answers_head = 0
        self.answers_count += 1
        return &self.answers[(self.answers_head + self.answers_count - 1) % self.answers_capacity]

    cdef inline void pop_answer(self) noexcept:
        self.answers_head += 1
        if self.answers_head == self.answers_capacity:
            self.answers_head = 0
        self.answers_count -= 1

    cdef Py_ssize_t read_target(self) except -2:
        cdef const char* data = self.target_in.data
        cdef Py_ssize_t size = self.target_in.size, position = 0, after
        cdef Answer* answer
        cdef Page page = None
        cdef int64_t current = -1
        cdef bytes key
        while position < size:
            if not self.answers_count:
                raise ProtocolError("The target sent a reply that nothing asked for.")
            answer = &self.answers[self.answers_head]
            if answer.kind == RUN_RAW:
                after = replies_end(&self.target_in, position, answer.size, &self.target_need)
                if after == INCOMPLETE:
                    return position
                self.raw.append((answer.index, PyBytes_FromStringAndSize(data + position, after - position), 0))
                self.pop_answer()
                position = after
                continue
            if size - position >= 5 and memcmp(data + position, b"+OK\r\n", 5) == 0:
                if answer.page != current:
                    current = answer.page
                    page = self.page_of(current)
                page.outcomes[OUT_COPIED] += 1
                page.methods[answer.method] += 1
                page.payload_bytes += answer.size
                page.unresolved -= 1
                if answer.index < 0:
                    self.stored_keys.popleft()
                self.pop_answer()
                self.storing_keys -= 1
                position += 5
                continue
            if data[position] != 45 and data[position] != 43:
                raise ProtocolError("The target answered RESTORE with something else.")
            after = line_end(data, size, position)
            if after == INCOMPLETE:
                return position
            key = self.stored_keys.popleft() if answer.index < 0 else self.page_of(answer.page).key(answer.index)
            self.asides.append(Aside(KIND_TARGET_ERROR, answer.page, key, data[position + 1:after], 0, -1))
            self.pop_answer()
            self.storing_keys -= 1
            position = after + 2
        return position

    cdef int resolve_key(self, Page page, int outcome, int64_t payload_bytes, int method) except -1:
        if not 0 <= outcome < 5 or not 0 <= method < 4:
            raise IndexError("outcome or method out of range")
        page.outcomes[outcome] += 1
        if outcome == OUT_COPIED:
            page.methods[method] += 1
            page.payload_bytes += payload_bytes
        page.unresolved -= 1
        return 0

    cdef int put_source(self, bytes data) except -1:
        reserve(&self.source_out, PyBytes_GET_SIZE(data))
        put(&self.source_out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0

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
        cdef Page page
        cdef int64_t outcomes[5]
        cdef int64_t methods[4]
        cdef int64_t payload_bytes = 0
        cdef Py_ssize_t done = 0
        cdef int i
        cdef bytes cursor = b""
        for i in range(5):
            outcomes[i] = 0
        for i in range(4):
            methods[i] = 0
        while done < len(self.pages):
            page = <Page>self.pages[done]
            if page.unresolved:
                break
            cursor = page.cursor
            payload_bytes += page.payload_bytes
            for i in range(5):
                outcomes[i] += page.outcomes[i]
            for i in range(4):
                methods[i] += page.methods[i]
            done += 1
        if not done:
            return None
        numbers = tuple(range(self.first_page, self.first_page + done))
        del self.pages[:done]
        self.first_page += done
        if self.request_page < self.first_page:
            self.request_page = self.first_page
            self.request_index = 0
        if self.reply_page < self.first_page:
            self.reply_page = self.first_page
            self.reply_index = 0
        return Settled(
            cursor, (outcomes[0], outcomes[1], outcomes[2], outcomes[3], outcomes[4]), payload_bytes,
            (methods[0], methods[1], methods[2], methods[3]), numbers,
        )

    @property
    def newest_page(self):
        return self.first_page + len(self.pages) - 1

    @property
    def idle(self):
        return not (
            self.pages or self.source_runs or self.run_kind >= 0 or self.answers_count or self.asides or self.raw
        )


cdef bint is_short(const char* payload, Py_ssize_t size, int64_t short_bytes) noexcept:
    """Whether a payload is that of a short string; of a compressed one the length is not looked for."""
    return payload[0] == 0 and size < short_bytes + 13 and <uint8_t>payload[1] != 0xC3


cdef bint is_wrong_type(const char* data, Py_ssize_t begin, Py_ssize_t end) noexcept:
    return end - begin >= 9 and memcmp(data + begin, b"WRONGTYPE", 9) == 0


cdef Py_ssize_t read_number(const char* data, Py_ssize_t size, Py_ssize_t position, int64_t* value, Py_ssize_t* error_end) except -2:
    """An integer reply; an error or a nil counts as -1. ``error_end`` is the error's end, 0 for none."""
    cdef Py_ssize_t end
    error_end[0] = 0
    if position >= size:
        return INCOMPLETE
    end = line_end(data, size, position)
    if end == INCOMPLETE:
        return INCOMPLETE
    if data[position] == 58:
        parse_integer(data, position + 1, end, value)
        return end + 2
    value[0] = -1
    if data[position] == 45:
        error_end[0] = end
        return end + 2
    if (end - position == 3 and (memcmp(data + position, b"$-1", 3) == 0 or memcmp(data + position, b"*-1", 3) == 0)) or (
        end - position == 1 and data[position] == 95
    ):
        return end + 2
    raise ProtocolError(f"The server sent {data[position:end][:32]!r} where a number belongs.")


cdef Py_ssize_t replies_end(Buffer* buffer, Py_ssize_t start, int64_t replies, Py_ssize_t* need) except -2:
    """Where ``replies`` complete replies that begin at ``start`` end, or INCOMPLETE."""
    cdef int64_t left[DEPTH_MAX + 1]
    cdef int depth = 0
    cdef Py_ssize_t position = start, end, after
    cdef int64_t number = 0
    cdef char kind
    left[0] = replies
    while depth >= 0:
        if left[depth] == 0:
            depth -= 1
            continue
        left[depth] -= 1
        end = line_end(buffer.data, buffer.size, position)
        if end == INCOMPLETE:
            return INCOMPLETE
        kind = buffer.data[position]
        after = end + 2
        if kind == 36 or kind == 61 or kind == 33:
            parse_integer(buffer.data, position + 1, end, &number)
            if number > BULK_MAX:
                raise ProtocolError(f"The server announced a length of {number}.")
            if number >= 0:
                after += number + 2
            if after > buffer.size:
                need[0] = after - start
                return INCOMPLETE
        elif kind == 42 or kind == 126 or kind == 62 or kind == 37:
            parse_integer(buffer.data, position + 1, end, &number)
            if depth + 1 >= DEPTH_MAX:
                raise ProtocolError("The server sent a reply that is nested too deeply.")
            depth += 1
            left[depth] = (number if number > 0 else 0) * (2 if kind == 37 else 1)
        elif kind not in (43, 45, 58, 95, 35, 44, 40):
            raise ProtocolError(f"The server sent {buffer.data[position:position + 1]!r} where a reply begins.")
        position = after
    return position
