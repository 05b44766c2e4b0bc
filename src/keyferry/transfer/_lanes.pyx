# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``lane`` and ``lanes``: the target's side, and the slots that choose a key's lane."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memset

from keyferry.transfer._buffer cimport append, drop_front, put, reserve
from keyferry.transfer._cutting cimport INCOMPLETE, line_end, protocol_error, replies_end
from keyferry.transfer._pages cimport OUT_COPIED, Page, Pages

from keyferry.payload.names import SLOTS as _SLOTS
from keyferry.transfer.config import LANES_MAX as _LANES_MAX
from keyferry.transfer.config import Aside, AsideKind, lanes_by_slot

if _SLOTS != SLOTS:
    raise ImportError("_lanes is built for another number of slots")

cdef int64_t LANES_MAX = _LANES_MAX
cdef object KIND_TARGET_ERROR = AsideKind.TARGET_ERROR

# Cluster slots: CRC-16/XMODEM of the hash tag. Row n of the table is the CRC of a byte with n zero bytes
# behind it, so that eight bytes go in one step: with one row, each byte waits for the load of the one before.
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


cdef uint32_t slot_of(const char* name, Py_ssize_t size) noexcept:
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
            CRC16[7][(crc >> 8) ^ data[0]] ^ CRC16[6][(crc & 0xFF) ^ data[1]]
            ^ CRC16[5][data[2]] ^ CRC16[4][data[3]] ^ CRC16[3][data[4]]
            ^ CRC16[2][data[5]] ^ CRC16[1][data[6]] ^ CRC16[0][data[7]]
        )
        data += 8
        size -= 8
    if size >= 4:
        crc = (
            CRC16[3][(crc >> 8) ^ data[0]] ^ CRC16[2][(crc & 0xFF) ^ data[1]]
            ^ CRC16[1][data[2]] ^ CRC16[0][data[3]]
        )
        data += 4
        size -= 4
    while size > 0:
        crc = ((crc << 8) & 0xFF00) ^ CRC16[0][(crc >> 8) ^ data[0]]
        data += 1
        size -= 1
    return crc & (SLOTS - 1)


cdef int grow(Lane* lane) except -1:
    """Makes room for more answers."""
    cdef Py_ssize_t capacity = lane.capacity * 2 if lane.capacity else 1024, i
    cdef Answer* answers = <Answer*>malloc(capacity * sizeof(Answer))
    if answers == NULL:
        raise MemoryError
    for i in range(lane.count):
        answers[i] = lane.answers[(lane.head + i) % lane.capacity]
    free(lane.answers)
    lane.answers = answers
    lane.capacity = capacity
    lane.head = 0
    return 0


cdef inline void pop_answer(Lane* lane) noexcept:
    lane.head += 1
    if lane.head == lane.capacity:
        lane.head = 0
    lane.count -= 1


@cython.final
cdef class Lanes:
    """See ``lanes.Lanes``."""

    def __cinit__(self):
        self.array = NULL
        self.count = self.capacity = 0
        self.storing = 0
        memset(self.by_slot, 0, sizeof(self.by_slot))

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            free(self.array[i].out.data)
            free(self.array[i].received.data)
            free(self.array[i].answers)
        free(self.array)

    def __init__(self, config):
        for _ in range(config.lanes):
            self.add()
        self.spread = bool(config.slots)
        for slot, lane in enumerate(lanes_by_slot(config.slots)):
            self.by_slot[<Py_ssize_t>slot] = lane

    cdef Lane* at(self, Py_ssize_t number) except NULL:
        if not 0 <= number < self.count:
            raise IndexError(f"no lane {number}")
        return &self.array[number]

    cdef int add(self) except -1:
        """Pointers to lanes are not good any more after this."""
        cdef Lane* array
        cdef Py_ssize_t capacity
        if self.count == LANES_MAX:
            raise ValueError(f"lanes are 1 to {LANES_MAX}")
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else 1
            array = <Lane*>realloc(self.array, capacity * sizeof(Lane))
            if array == NULL:
                raise MemoryError
            self.array = array
            self.capacity = capacity
        memset(&self.array[self.count], 0, sizeof(Lane))
        self.count += 1
        return 0

    cdef int assign(self, Py_ssize_t slot, Py_ssize_t lane) except -1:
        if not 0 <= slot < SLOTS or not 0 <= lane < self.count:
            raise IndexError(f"no slot {slot} or no lane {lane}")
        self.spread = True
        self.by_slot[slot] = <uint16_t>lane
        return 0

    cdef Py_ssize_t out_bytes(self) noexcept:
        cdef Py_ssize_t i, size = 0
        for i in range(self.count):
            size += self.array[i].out.size
        return size

    cdef bint idle(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.array[i].count:
                return False
        return True

    cdef tuple marks(self):
        cdef Py_ssize_t i
        return tuple([self.array[i].taken + self.array[i].out.size for i in range(self.count)])

    cdef int own(self, Lane* lane, int64_t token, bytes data, int64_t replies) except -1:
        cdef Answer* answer
        append(&lane.out, data)
        answer = push_answer(lane)
        answer.own = True
        answer.index = token
        answer.size = replies
        return 0

    cdef int feed(
        self, Lane* lane, const char* data, Py_ssize_t size, Pages pages, list asides, list raw
    ) except -1:
        reserve(&lane.received, size)
        put(&lane.received, data, size)
        if lane.received.size < lane.need:
            return 0
        lane.need = 0
        drop_front(&lane.received, self.read(lane, pages, asides, raw))
        return 0

    cdef Py_ssize_t read(self, Lane* lane, Pages pages, list asides, list raw) except -2:
        cdef const char* data = lane.received.data
        cdef Py_ssize_t size = lane.received.size, position = 0, after
        cdef Answer* answer
        cdef Page page = None
        cdef int64_t current = -1
        while position < size:
            if not lane.count:
                raise protocol_error("The target sent a reply that nothing asked for.")
            answer = &lane.answers[lane.head]
            if answer.own:
                after = replies_end(&lane.received, position, answer.size, &lane.need)
                if after == INCOMPLETE:
                    return position
                raw.append((answer.index, PyBytes_FromStringAndSize(data + position, after - position), ()))
                pop_answer(lane)
                position = after
                continue
            if answer.page != current:
                current = answer.page
                page = pages.of(current)
            if size - position >= 5 and memcmp(data + position, b"+OK\r\n", 5) == 0:
                page.outcomes[OUT_COPIED] += 1
                page.methods[answer.method] += 1
                page.payload_bytes += answer.size
                page.unresolved -= 1
                after = position + 5
            else:
                if data[position] != 45 and data[position] != 43:
                    raise protocol_error("The target answered RESTORE with something else.")
                after = line_end(data, size, position)
                if after == INCOMPLETE:
                    return position
                text, key = data[position + 1:after], page.key(answer.index)
                asides.append(Aside(KIND_TARGET_ERROR, current, answer.index, key, text, 0, -1))
                after += 2
            pop_answer(lane)
            lane.storing -= 1
            self.storing -= 1
            position = after
        return position
