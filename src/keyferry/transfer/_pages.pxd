cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free, malloc

from keyferry.transfer._buffer cimport Buffer

cdef enum:
    OUT_COPIED = 0
    OUT_UNSELECTED = 4


cdef struct Spot:
    # A key that is asked for out of turn.
    int64_t page
    int64_t size       # measured bytes, 0 where it was not
    int32_t index
    int32_t counts     # whether it has yet to tell if most keys are short strings


cdef struct Spots:
    # A ring of them.
    Spot* data
    Py_ssize_t head
    Py_ssize_t count
    Py_ssize_t capacity


cdef inline int push_spot(Spots* spots, Spot spot) except -1:
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
    i = spots.head + spots.count
    spots.data[i if i < spots.capacity else i - spots.capacity] = spot
    spots.count += 1
    return 0


cdef inline Spot pop_spot(Spots* spots) noexcept:
    cdef Spot spot = spots.data[spots.head]
    spots.head += 1
    if spots.head == spots.capacity:
        spots.head = 0
    spots.count -= 1
    return spot


@cython.final
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

    cdef inline const char* name(self, int64_t index) noexcept:
        return self.arena.data + self.begin[index]

    cdef int room(self, int64_t count, Py_ssize_t size) except -1
    cdef void add(self, const char* key, Py_ssize_t size) noexcept
    cdef bytes key(self, int64_t index)
    cdef int resolve(self, int outcome, int64_t payload_bytes, int method) except -1


@cython.final
cdef class Pages:
    cdef list pages
    cdef int64_t first

    cdef inline Page at(self, int64_t number):
        """One that is known to be there."""
        return <Page>self.pages[number - self.first]

    cdef int64_t add(self, Page page, bytes cursor) except -1
    cdef Page of(self, int64_t number)
    cdef Page with_key(self, int64_t number, int64_t index)
    cdef object settle(self)
