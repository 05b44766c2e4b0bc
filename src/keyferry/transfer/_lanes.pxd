cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t

from keyferry.transfer._buffer cimport Buffer
from keyferry.transfer._pages cimport Pages

cdef enum:
    SLOTS = 16384


cdef struct Answer:
    # What a target still has to answer.
    int own            # somebody's own commands, or a RESTORE
    int method
    int64_t page
    int64_t index      # of the key in its page; of own commands the token
    int64_t size       # payload bytes; of own commands the number of replies


cdef struct Lane:
    # One connection to a target: what is to be sent, what was sent, and a ring of the answers that are due.
    Buffer out
    Buffer received
    Py_ssize_t need
    int64_t taken
    int64_t storing
    Answer* answers
    Py_ssize_t head
    Py_ssize_t count
    Py_ssize_t capacity


cdef int grow(Lane* lane) except -1
cdef uint32_t slot_of(const char* name, Py_ssize_t size) noexcept


cdef inline Answer* push_answer(Lane* lane) except NULL:
    cdef Py_ssize_t at
    if lane.count == lane.capacity:
        grow(lane)
    at = lane.head + lane.count
    lane.count += 1
    return &lane.answers[at if at < lane.capacity else at - lane.capacity]


@cython.final
cdef class Lanes:
    cdef Lane* array
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef int64_t storing
    cdef bint spread
    cdef uint16_t by_slot[SLOTS]

    cdef Lane* at(self, Py_ssize_t number) except NULL
    cdef int add(self) except -1
    cdef int assign(self, Py_ssize_t slot, Py_ssize_t lane) except -1
    cdef Py_ssize_t out_bytes(self) noexcept
    cdef bint idle(self) noexcept
    cdef tuple marks(self)
    cdef int own(self, Lane* lane, int64_t token, bytes data, int64_t replies) except -1
    cdef int feed(
        self, Lane* lane, const char* data, Py_ssize_t size, Pages pages, list asides, list raw
    ) except -1
    cdef Py_ssize_t read(self, Lane* lane, Pages pages, list asides, list raw) except -2
    cdef inline Py_ssize_t number_of(self, const char* key, Py_ssize_t size) noexcept:
        return self.by_slot[slot_of(key, size)] if self.spread else 0

    cdef inline Lane* of(self, const char* key, Py_ssize_t size) noexcept:
        return &self.array[self.number_of(key, size)]

    cdef inline int restored(
        self, Lane* lane, int64_t page, int64_t index, int method, Py_ssize_t size
    ) except -1:
        """A RESTORE was put into the lane's buffer."""
        cdef Answer* answer = push_answer(lane)
        answer.own = False
        answer.method = method
        answer.page = page
        answer.index = index
        answer.size = size
        lane.storing += 1
        self.storing += 1
        return 0
