# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``pages``: a page's keys lie in one piece of memory, without an object per key."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from keyferry.transfer._buffer cimport put
from keyferry.transfer._cutting cimport protocol_error

from keyferry.transfer.config import Settled


@cython.final
cdef class Page:
    """See ``pages.Page``. ``begin`` and ``length`` are each key's place in ``arena``."""

    def __cinit__(self):
        memset(&self.arena, 0, sizeof(self.arena))
        memset(self.outcomes, 0, sizeof(self.outcomes))
        memset(self.methods, 0, sizeof(self.methods))
        self.begin = self.length = NULL
        self.number = self.keys = self.unresolved = self.payload_bytes = 0
        self.cursor = b""

    def __dealloc__(self):
        free(self.arena.data)
        free(self.begin)
        free(self.length)

    cdef int room(self, int64_t count, Py_ssize_t size) except -1:
        """Once, before the first key. ``size``: bytes of all names, or more."""
        if size > 0xFFFFFFF0 or count > 0x7FFFFFF0:
            raise protocol_error("The source answered SCAN with more than 4 GiB.")
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
        return PyBytes_FromStringAndSize(self.name(index), self.length[index])

    cdef int resolve(self, int outcome, int64_t payload_bytes, int method) except -1:
        if not 0 <= outcome < 5 or not 0 <= method < 4:
            raise IndexError("outcome or method out of range")
        self.outcomes[outcome] += 1
        if outcome == OUT_COPIED:
            self.methods[method] += 1
            self.payload_bytes += payload_bytes
        self.unresolved -= 1
        return 0


@cython.final
cdef class Pages:
    """Those that are not settled, in order; ``first`` is the number of the oldest."""

    def __cinit__(self):
        self.pages = []
        self.first = 0

    cdef int64_t add(self, Page page, bytes cursor) except -1:
        page.number = self.first + len(self.pages)
        page.cursor = cursor
        self.pages.append(page)
        return page.number

    cdef Page of(self, int64_t number):
        if not 0 <= number - self.first < len(self.pages):
            raise KeyError(number)
        return <Page>self.pages[number - self.first]

    cdef Page with_key(self, int64_t number, int64_t index):
        cdef Page page = self.of(number)
        if not 0 <= index < page.keys:
            raise IndexError(f"page {number} has no key {index}")
        return page

    cdef object settle(self):
        """Takes off the pages that are done, up to the first that is not; ``Settled``, or None."""
        cdef Page page
        cdef int64_t outcomes[5]
        cdef int64_t methods[4]
        cdef int64_t payload_bytes = 0
        cdef Py_ssize_t done = 0
        cdef int i
        cdef bytes cursor = b""
        memset(outcomes, 0, sizeof(outcomes))
        memset(methods, 0, sizeof(methods))
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
        numbers = tuple(range(self.first, self.first + done))
        del self.pages[:done]
        self.first += done
        return Settled(
            cursor, (outcomes[0], outcomes[1], outcomes[2], outcomes[3], outcomes[4]), payload_bytes,
            (methods[0], methods[1], methods[2], methods[3]), numbers,
        )
