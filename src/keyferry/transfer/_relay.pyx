# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``relay_pure``: no Python object per key on the fast path.

Same methods, same order of events; read the theory of operation there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from keyferry.payload._crc64 cimport update as crc64_update

from keyferry.transfer.config import DOUBT_MS as _DOUBT_MS
from keyferry.transfer.config import LOOK_KEYS as _LOOK_KEYS
from keyferry.transfer.config import MOVE_MAX_MS as _MOVE_MAX
from keyferry.payload.names import SLOTS as _SLOTS
from keyferry.transfer.config import LANES_MAX as _LANES_MAX
from keyferry.transfer.config import SIZE_BYTES_MAX as _SIZE_MAX
from keyferry.transfer.config import Aside, AsideKind, Settled, lanes_by_slot
from keyferry.wire.resp import BULK_BYTES_MAX as _BULK_BYTES_MAX
from keyferry.wire.resp import ProtocolError, encode_command

cdef enum:
    RUN_SCAN = 0
    RUN_FETCH = 1
    RUN_RAW = 2
    RUN_STORE = 3
    RUN_PROBE = 4
    RUN_AGAIN = 5      # DUMPs of keys that were asked for something before
    RUN_MEASURE = 6
    RUN_LOOK = 7       # sizes of keys that were probed
    SLOTS = 16384
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
cdef object KIND_BIG = AsideKind.BIG
cdef int64_t SIZE_MAX = _SIZE_MAX
cdef int64_t LANES_MAX = _LANES_MAX
if _SLOTS != SLOTS:
    raise ImportError("_relay is built for another number of cluster slots")
cdef int64_t DOUBT_MS = _DOUBT_MS
cdef int64_t LOOK_KEYS = _LOOK_KEYS
cdef int64_t MOVE_MAX = _MOVE_MAX

cdef bytes RESERVED = b"keyferry:"


cdef struct Buffer:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef struct Answer:
    # What a target still has to answer.
    int kind
    int method
    int64_t page
    int64_t index      # of the key in its page; for RUN_RAW the token
    int64_t size       # payload bytes; for RUN_RAW the number of replies


cdef struct Lane:
    # One connection to a target: what is to be sent, and a ring of the answers that are due.
    Buffer out
    Buffer received
    Py_ssize_t need
    int64_t taken
    int64_t storing
    Answer* answers
    Py_ssize_t head
    Py_ssize_t count
    Py_ssize_t capacity


cdef Answer* push_answer(Lane* lane) except NULL:
    cdef Answer* answers
    cdef Py_ssize_t capacity, i
    if lane.count == lane.capacity:
        capacity = lane.capacity * 2 if lane.capacity else 1024
        answers = <Answer*>malloc(capacity * sizeof(Answer))
        if answers == NULL:
            raise MemoryError
        for i in range(lane.count):
            answers[i] = lane.answers[(lane.head + i) % lane.capacity]
        free(lane.answers)
        lane.answers = answers
        lane.capacity = capacity
        lane.head = 0
    lane.count += 1
    return &lane.answers[(lane.head + lane.count - 1) % lane.capacity]


cdef inline void pop_answer(Lane* lane) noexcept:
    lane.head += 1
    if lane.head == lane.capacity:
        lane.head = 0
    lane.count -= 1


cdef void free_lane(Lane* lane) noexcept:
    free(lane.out.data)
    free(lane.received.data)
    free(lane.answers)


# Cluster slots: CRC-16/XMODEM of the hash tag. Row n of the table is the CRC of a byte with n zero bytes behind it, so
# that eight bytes go in one step: a table of one row takes as long as its loads one after the other.
cdef uint16_t[8][256] CRC16


cdef void fill_crc16() noexcept:
    cdef int byte, bit, row
    cdef uint32_t crc
    for byte in range(256):
        crc = <uint32_t>byte << 8
        for bit in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
        CRC16[0][byte] = <uint16_t>crc
    for row in range(1, 8):
        for byte in range(256):
            crc = CRC16[row - 1][byte]
            CRC16[row][byte] = <uint16_t>(((crc << 8) & 0xFFFF) ^ CRC16[0][crc >> 8])


fill_crc16()


cdef inline uint32_t slot_of(const char* name, Py_ssize_t size) noexcept:
    cdef const uint8_t* data = <const uint8_t*>name
    cdef const uint8_t* brace = <const uint8_t*>memchr(data, 123, size)
    cdef const uint8_t* end
    cdef uint32_t crc = 0
    if brace != NULL:
        end = <const uint8_t*>memchr(brace + 1, 125, size - (brace + 1 - data))
        if end != NULL and end > brace + 1:
            size = end - brace - 1
            data = brace + 1
    while size >= 8:
        crc = (
            CRC16[7][(crc >> 8) ^ data[0]] ^ CRC16[6][(crc & 0xFF) ^ data[1]] ^ CRC16[5][data[2]] ^ CRC16[4][data[3]]
            ^ CRC16[3][data[4]] ^ CRC16[2][data[5]] ^ CRC16[1][data[6]] ^ CRC16[0][data[7]]
        )
        data += 8
        size -= 8
    if size >= 4:
        crc = (
            CRC16[3][(crc >> 8) ^ data[0]] ^ CRC16[2][(crc & 0xFF) ^ data[1]] ^ CRC16[1][data[2]] ^ CRC16[0][data[3]]
        )
        data += 4
        size -= 4
    while size > 0:
        crc = ((crc << 8) & 0xFF00) ^ CRC16[0][(crc >> 8) ^ data[0]]
        data += 1
        size -= 1
    return crc & (SLOTS - 1)


cdef struct Spot:
    int64_t page
    int64_t size       # measured bytes, 0 where it was not
    int32_t index
    int32_t counts     # whether it has yet to tell if most keys are short strings


cdef struct Spots:
    # A queue of keys by their place.
    Spot* data
    Py_ssize_t head
    Py_ssize_t count
    Py_ssize_t capacity


cdef int push_spot(Spots* spots, Spot spot) except -1:
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
    spots.data[(spots.head + spots.count) % spots.capacity] = spot
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
    cdef uint64_t number = 0
    if i < end and data[i] == 45:
        negative = True
        i += 1
    if i == end or end - i > 19:
        raise ProtocolError(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
    while i < end:
        if data[i] < 48 or data[i] > 57:
            raise ProtocolError(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
        number = number * 10 + <uint64_t>(data[i] - 48)
        i += 1
    if number > <uint64_t>INT64_MAX:
        raise ProtocolError(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
    value[0] = -<int64_t>number if negative else <int64_t>number
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
        if size > 0xFFFFFFF0 or count > 0x7FFFFFF0:
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
    cdef readonly int64_t queued_keys, fetching_keys, dumping_bytes, storing_keys, fetched_keys, fetched_bytes
    cdef readonly bint scan_pending
    cdef readonly bytes next_cursor
    cdef Buffer source_in, source_out
    cdef Py_ssize_t source_need
    cdef object source_runs, key_filter
    cdef Lane* lane_array
    cdef Py_ssize_t lane_count, lane_capacity
    cdef bint spread, sieved
    cdef uint16_t lane_by_slot[SLOTS]
    cdef uint8_t wanted_slots[SLOTS]
    cdef list pages
    cdef int64_t first_page
    cdef int64_t request_page, request_index, reply_page, reply_index
    cdef int run_kind
    cdef Spots dumps, dumping, probed, measuring
    cdef Spot here
    cdef bint probing
    cdef int64_t short_bytes, short_seen, others_seen
    cdef int64_t look_bytes
    cdef bytes probe_tail, measure_tail
    cdef Buffer made
    cdef int target_version
    cdef int64_t run_left, run_token
    cdef list asides, raw
    cdef int64_t skip_left, hint, source_now_ms, time_ms
    cdef bint oversize, run_timed
    cdef tuple scan_tail
    cdef uint8_t actions[256]
    cdef uint8_t wanted[256]
    cdef uint8_t mask[10]
    cdef int source_version, expiry, hints
    cdef int64_t clock_offset_ms, payload_bytes_max
    cdef bint absolute, replace

    def __cinit__(self):
        memset(&self.source_in, 0, sizeof(Buffer))
        memset(&self.source_out, 0, sizeof(Buffer))
        memset(&self.made, 0, sizeof(Buffer))
        memset(&self.dumps, 0, sizeof(Spots))
        memset(&self.dumping, 0, sizeof(Spots))
        memset(&self.probed, 0, sizeof(Spots))
        memset(&self.measuring, 0, sizeof(Spots))
        self.lane_array = NULL
        self.lane_count = self.lane_capacity = 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.lane_count):
            free_lane(&self.lane_array[i])
        free(self.lane_array)
        free(self.source_in.data)
        free(self.source_out.data)
        free(self.made.data)
        free(self.dumps.data)
        free(self.dumping.data)
        free(self.probed.data)
        free(self.measuring.data)

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
        self.look_bytes = config.look_bytes
        samples = b"%d" % config.measure_samples
        self.measure_tail = b"$7\r\nSAMPLES\r\n$%d\r\n%b\r\n" % (len(samples), samples)
        for i in range(config.lanes):
            self.add_lane()
        self.spread = bool(config.slots)
        for i in range(SLOTS):
            self.lane_by_slot[i] = 0
        for i, lane in enumerate(lanes_by_slot(config.slots)):
            self.lane_by_slot[i] = lane
        self.sieved = bool(config.wanted_slots)
        if self.sieved:
            for i in range(SLOTS):
                self.wanted_slots[i] = config.wanted_slots[i]
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
        self.queued_keys = self.fetching_keys = self.storing_keys = self.dumping_bytes = 0
        self.fetched_keys = self.fetched_bytes = 0
        self.scan_pending = False
        self.next_cursor = b""
        self.source_need = 0

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

    def fetch(self, int64_t limit, int64_t dump_bytes=<int64_t>1 << 62):
        cdef int64_t asked = self.fetch_dumps(limit, dump_bytes)
        asked += self.fetch_probed(limit - asked)
        return asked + self.fetch_new(limit - asked)

    def again(self, int64_t page, int64_t index, object size_bytes=0):
        cdef Spot spot
        if not 0 <= size_bytes <= SIZE_MAX:
            raise ValueError(f"size_bytes is 0 to {SIZE_MAX}")
        self.page_with(page, index)
        spot.page = page
        spot.index = <int32_t>index
        spot.size = size_bytes
        spot.counts = False
        push_spot(&self.dumps, spot)
        self.queued_keys += 1

    cdef int64_t fetch_dumps(self, int64_t limit, int64_t dump_bytes) except -1:
        cdef int64_t asked = 0, spent = 0
        cdef Spot spot
        while asked < limit and self.dumps.count:
            spot = self.dumps.data[self.dumps.head]
            if spot.size > dump_bytes - spent and (self.dumping_bytes or dump_bytes <= 0):
                break
            pop_spot(&self.dumps)
            push_spot(&self.dumping, spot)
            spent += spot.size
            self.dumping_bytes += spot.size
            self.ask_key(<Page>self.pages[spot.page - self.first_page], spot.index, False, asked == 0)
            asked += 1
        self.begin_run(RUN_AGAIN, asked)
        return asked

    cdef int64_t fetch_probed(self, int64_t limit) except -1:
        cdef int64_t asked = 0
        cdef Spot spot
        while asked < limit and self.probed.count:
            spot = pop_spot(&self.probed)
            push_spot(&self.measuring, spot)
            self.ask_size(<Page>self.pages[spot.page - self.first_page], spot.index)
            asked += 1
        self.begin_run(RUN_LOOK, asked)
        return asked

    cdef int64_t fetch_new(self, int64_t limit) except -1:
        cdef int64_t asked = 0, new = self.queued_keys - self.dumps.count - self.probed.count
        cdef bint measures = self.look_bytes > 0 and not self.probing
        cdef Page page
        while asked < limit and asked < new:
            page = <Page>self.pages[self.request_page - self.first_page]
            if self.request_index >= page.keys:
                self.request_page += 1
                self.request_index = 0
                continue
            if measures:
                self.ask_size(page, self.request_index)
            else:
                self.ask_key(page, self.request_index, self.probing, asked == 0)
            self.request_index += 1
            asked += 1
        self.begin_run(RUN_PROBE if self.probing else RUN_MEASURE if measures else RUN_FETCH, asked)
        return asked

    cdef int begin_run(self, int kind, int64_t keys) except -1:
        if keys:
            self.source_runs.append((kind, keys, 0))
            self.queued_keys -= keys
            self.fetching_keys += keys
        return 0

    cdef int ask_size(self, Page page, int64_t index) except -1:
        cdef Buffer* out = &self.source_out
        reserve(out, page.length[index] + 120)
        put(out, b"*5\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n", 27)
        put_bulk(out, page.arena.data + page.begin[index], page.length[index])
        put(out, PyBytes_AS_STRING(self.measure_tail), PyBytes_GET_SIZE(self.measure_tail))
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

    def target_command(self, int64_t token, bytes data not None, int64_t replies, Py_ssize_t lane=0):
        cdef Lane* here = self.lane_at(lane)
        cdef Answer* answer
        reserve(&here.out, PyBytes_GET_SIZE(data))
        put(&here.out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        answer = push_answer(here)
        answer.kind = RUN_RAW
        answer.index = token
        answer.size = replies

    def store(self, int64_t page, int64_t index, int64_t expires_at_ms, bytes payload not None, int method, int64_t hint=-1, int replace=-1):
        self.restore(
            self.page_with(page, index), index, expires_at_ms, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload),
            method, hint, self.replace if replace < 0 else replace != 0, False,
        )

    def resolve(self, int64_t page, int outcome, int64_t payload_bytes=0, int method=0):
        self.resolve_key(self.page_of(page), outcome, payload_bytes, method)

    # Lanes

    @property
    def lanes(self):
        return self.lane_count

    def add_lane(self):
        cdef Lane* lanes
        cdef Py_ssize_t capacity
        if self.lane_count == LANES_MAX:
            raise ValueError(f"lanes are 1 to {LANES_MAX}")
        if self.lane_count == self.lane_capacity:
            capacity = self.lane_capacity * 2 if self.lane_capacity else 1
            lanes = <Lane*>realloc(self.lane_array, capacity * sizeof(Lane))
            if lanes == NULL:
                raise MemoryError
            self.lane_array = lanes
            self.lane_capacity = capacity
        memset(&self.lane_array[self.lane_count], 0, sizeof(Lane))
        self.lane_count += 1
        return self.lane_count - 1

    def assign(self, Py_ssize_t slot, Py_ssize_t lane):
        if not 0 <= slot < SLOTS or not 0 <= lane < self.lane_count:
            raise IndexError(f"no slot {slot} or no lane {lane}")
        self.spread = True
        self.lane_by_slot[slot] = <uint16_t>lane

    def lane_of(self, bytes key not None):
        return self.lane_for(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def lane_out_bytes(self, Py_ssize_t lane):
        return self.lane_at(lane).out.size

    def lane_storing(self, Py_ssize_t lane):
        return self.lane_at(lane).storing

    cdef Lane* lane_at(self, Py_ssize_t number) except NULL:
        if not 0 <= number < self.lane_count:
            raise IndexError(f"no lane {number}")
        return &self.lane_array[number]

    cdef inline Py_ssize_t lane_for(self, const char* key, Py_ssize_t size) noexcept:
        return self.lane_by_slot[slot_of(key, size)] if self.spread else 0

    # Bytes in and out

    @property
    def source_out_bytes(self):
        return self.source_out.size

    @property
    def target_out_bytes(self):
        cdef Py_ssize_t i, size = 0
        for i in range(self.lane_count):
            size += self.lane_array[i].out.size
        return size

    def take_source(self):
        return take(&self.source_out)

    def take_target(self, Py_ssize_t lane=0):
        cdef Lane* here = self.lane_at(lane)
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
        cdef Lane* here = self.lane_at(lane)
        cdef Py_ssize_t size = data.shape[0]
        if size:
            reserve(&here.received, size)
            put(&here.received, <const char*>&data[0], size)
        if here.received.size < here.need:
            return
        here.need = 0
        drop_front(&here.received, self.read_target(here))

    # Replies of the source

    cdef Py_ssize_t read_source(self) except -2:
        cdef Py_ssize_t position = 0, after, i
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
                    tuple([self.lane_array[i].taken + self.lane_array[i].out.size for i in range(self.lane_count)]),
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
            self.asides.append(Aside(KIND_SOURCE_ERROR, -1, -1, b"", data[start + 1:end], 0, -1))
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
        if self.sieved and not self.wanted_slots[slot_of(key, size)]:
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

    cdef Page page_with(self, int64_t number, int64_t index):
        cdef Page page = self.page_of(number)
        if not 0 <= index < page.keys:
            raise IndexError(f"page {number} has no key {index}")
        return page

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
            page = self.next_fetched()
            self.run_left -= 1
            if error_end:
                self.put_aside(KIND_SOURCE_ERROR, page, data[position + 1:error_end], 0, -1)
            elif bytes_used < 0:
                self.put_aside(KIND_VANISHED, page, b"", 0, -1)
            elif bytes_used > self.look_bytes:
                self.put_aside(KIND_BIG, page, b"%d" % bytes_used, 0, -1)
            else:
                self.here.size = bytes_used
                push_spot(&self.dumps, self.here)
                self.queued_keys += 1
            position = after
        return position

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
                if self.here.counts:
                    self.look(is_short(data + payload_at, length, self.short_bytes))
            self.oversize = False
            start = position
        return position

    cdef Page next_fetched(self):
        """The page of the key whose reply is read; ``here`` is its place."""
        cdef Page page
        self.fetching_keys -= 1
        if self.run_kind == RUN_AGAIN or self.run_kind == RUN_LOOK:
            if self.run_kind == RUN_AGAIN:
                self.here = pop_spot(&self.dumping)
                self.dumping_bytes -= self.here.size
            else:
                self.here = pop_spot(&self.measuring)
            return <Page>self.pages[self.here.page - self.first_page]
        page = <Page>self.pages[self.reply_page - self.first_page]
        while self.reply_index >= page.keys:
            self.reply_page += 1
            self.reply_index = 0
            page = <Page>self.pages[self.reply_page - self.first_page]
        self.here.page = page.number
        self.here.index = <int32_t>self.reply_index
        self.here.size = 0
        self.here.counts = True
        self.reply_index += 1
        return page

    cdef int ask_again(self) except -1:
        """A probed key is no short string: it is measured first, where big keys are looked for."""
        self.look(False)
        self.here.counts = False
        push_spot(&self.probed if self.look_bytes else &self.dumps, self.here)
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
        self.asides.append(
            Aside(kind, page.number, self.here.index, page.key(self.here.index), payload, expires_at, hint)
        )
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
            page, self.here.index, expires_at, payload, size, action, self.hint, self.replace,
            action == ACT_RESIGNED and not made,
        )
        return 0

    # Commands to the target, and its replies

    cdef int restore(
        self, Page page, int64_t index, int64_t expires_at, const char* payload, Py_ssize_t size, int method,
        int64_t hint, bint replace, bint resign,
    ) except -1:
        cdef const char* key = page.arena.data + page.begin[index]
        cdef Py_ssize_t key_size = page.length[index]
        cdef Lane* lane = &self.lane_array[self.lane_for(key, key_size)]
        cdef Buffer* out = &lane.out
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
        answer = push_answer(lane)
        answer.kind = RUN_STORE
        answer.method = method
        answer.page = page.number
        answer.index = index
        answer.size = size
        lane.storing += 1
        self.storing_keys += 1
        return 0

    cdef Py_ssize_t read_target(self, Lane* lane) except -2:
        cdef const char* data = lane.received.data
        cdef Py_ssize_t size = lane.received.size, position = 0, after
        cdef Answer* answer
        cdef Page page = None
        cdef int64_t current = -1
        while position < size:
            if not lane.count:
                raise ProtocolError("The target sent a reply that nothing asked for.")
            answer = &lane.answers[lane.head]
            if answer.kind == RUN_RAW:
                after = replies_end(&lane.received, position, answer.size, &lane.need)
                if after == INCOMPLETE:
                    return position
                self.raw.append((answer.index, PyBytes_FromStringAndSize(data + position, after - position), ()))
                pop_answer(lane)
                position = after
                continue
            if answer.page != current:
                current = answer.page
                page = self.page_of(current)
            if size - position >= 5 and memcmp(data + position, b"+OK\r\n", 5) == 0:
                page.outcomes[OUT_COPIED] += 1
                page.methods[answer.method] += 1
                page.payload_bytes += answer.size
                page.unresolved -= 1
                after = position + 5
            else:
                if data[position] != 45 and data[position] != 43:
                    raise ProtocolError("The target answered RESTORE with something else.")
                after = line_end(data, size, position)
                if after == INCOMPLETE:
                    return position
                self.asides.append(Aside(
                    KIND_TARGET_ERROR, current, answer.index, page.key(answer.index), data[position + 1:after], 0, -1,
                ))
                after += 2
            pop_answer(lane)
            lane.storing -= 1
            self.storing_keys -= 1
            position = after
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
        cdef Py_ssize_t i
        for i in range(self.lane_count):
            if self.lane_array[i].count:
                return False
        return not (self.pages or self.source_runs or self.run_kind >= 0 or self.asides or self.raw)


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
