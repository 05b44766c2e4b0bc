cimport cython
from libc.stdint cimport int64_t, uint8_t

from keyferry.transfer._buffer cimport Buffer
from keyferry.transfer._pages cimport Page, Pages, Spot, Spots
from keyferry.transfer._requests cimport Requests

cdef enum:
    # What the source still has to answer.
    RUN_NONE = -1
    RUN_SCAN = 0
    RUN_RAW = 1
    RUN_FETCH = 2      # DUMPs of new keys
    RUN_PROBE = 3      # their first bytes
    RUN_MEASURE = 4    # their sizes
    RUN_AGAIN = 5      # DUMPs of keys that were asked for something before
    RUN_LOOK = 6       # sizes of keys that were probed


cdef inline bint is_short(const char* payload, Py_ssize_t size, int64_t short_bytes) noexcept:
    """Whether a payload is that of a short string; of a compressed one the length is not looked for."""
    return payload[0] == 0 and size < short_bytes + 13 and <uint8_t>payload[1] != 0xC3


@cython.final
cdef class Asking:
    cdef Requests requests
    cdef Pages pages
    cdef Buffer out
    cdef object runs
    cdef int64_t queued_keys, fetching_keys, dumping_bytes
    cdef int64_t request_page, request_index, reply_page, reply_index
    cdef Spots dumps, dumping, probed, measuring
    cdef bint probing
    cdef int64_t short_bytes, short_seen, others_seen, look_bytes
    cdef Spot here

    cdef int own(self, int kind, int64_t token, bytes data, int64_t replies) except -1
    cdef int64_t dump(self, int64_t limit, int64_t dump_bytes) except -1
    cdef int64_t measure(self, int64_t limit) except -1
    cdef int64_t ask_new(self, int64_t limit) except -1
    cdef int64_t begin_run(self, int kind, int64_t keys) except -1
    cdef Page answered(self, int kind)
    cdef int again(self, Spots* queue, int64_t page, int64_t index, int64_t size, bint counts) except -1
    cdef int is_small(self, int64_t size) except -1
    cdef int is_long(self) except -1
    cdef void look(self, bint short) noexcept
    cdef void settled(self) noexcept
