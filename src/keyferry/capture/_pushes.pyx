# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled twins of ``pushes_pure``: one pass over the bytes, one object per name.

Everything but names is rare, and goes the reference's own way. Every index is checked before use.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

from keyferry.transfer._buffer cimport Buffer, drop_front, put, reserve

from keyferry.capture import pushes_pure as _pushes
from keyferry.model.keys import RESERVED_PREFIX as _RESERVED_PREFIX
from keyferry.wire.resp import BULK_BYTES_MAX as _BULK_BYTES_MAX
from keyferry.wire.resp import ProtocolError

cdef bytes INVALIDATE = _pushes.INVALIDATE
cdef bytes MESSAGE = _pushes.MESSAGE
cdef bytes KEYSPACE = _pushes.KEYSPACE
cdef bytes MISS = _pushes.MISS
cdef bytes RESERVED = _RESERVED_PREFIX
cdef Py_ssize_t INVALIDATE_BYTES = len(INVALIDATE)
cdef Py_ssize_t MESSAGE_BYTES = len(MESSAGE)
cdef Py_ssize_t KEYSPACE_BYTES = len(KEYSPACE)
cdef Py_ssize_t MISS_BYTES = len(MISS)
cdef Py_ssize_t RESERVED_BYTES = len(RESERVED)
cdef Py_ssize_t HEAD_BYTES_MAX = _pushes.HEAD_BYTES_MAX
cdef Py_ssize_t REPLY_BYTES_MAX = _pushes.REPLY_BYTES_MAX
cdef int64_t BULK_BYTES_MAX = _BULK_BYTES_MAX
cdef int DIGITS_MAX = 10
cdef int DATABASE_DIGITS_MAX = 9
cdef Py_ssize_t WINDOW_BYTES = 4096


cdef Py_ssize_t line_end(const char* data, Py_ssize_t size, Py_ssize_t position) except -2:
    """Where the short line at ``position`` ends; -1: not complete yet."""
    cdef Py_ssize_t at = position
    cdef Py_ssize_t last = min(size, position + HEAD_BYTES_MAX) - 1
    while at < last:
        if data[at] == 13 and data[at + 1] == 10:
            return at
        at += 1
    if size - position >= HEAD_BYTES_MAX:
        raise ProtocolError("The server sent a line without an end.")
    return -1


cdef int64_t number(const char* data, Py_ssize_t begin, Py_ssize_t end, char kind) except -1:
    """N of the line ``*N`` or ``$N``."""
    cdef Py_ssize_t at
    cdef int64_t found = 0
    cdef bint digits = begin + 1 < end <= begin + 1 + DIGITS_MAX
    if begin == end or data[begin] != kind:
        raise ProtocolError(f"The server sent {data[begin:end]!r} where {bytes((kind,))!r} belongs.")
    if digits:
        for at in range(begin + 1, end):
            if not 48 <= data[at] <= 57:
                digits = False
                break
            found = found * 10 + (data[at] - 48)
    if not digits or found > BULK_BYTES_MAX:
        raise ProtocolError(f"The server announced a length of {data[begin + 1:end]!r}.")
    return found


cdef struct Span:
    Py_ssize_t begin  # -1: not complete yet
    Py_ssize_t end


cdef int find_string(const char* data, Py_ssize_t size, Py_ssize_t position, Span* found) except -1:
    """Where the bytes of the string at ``position`` begin and end."""
    cdef Py_ssize_t end = line_end(data, size, position)
    cdef int64_t length
    found.begin = -1
    if end < 0:
        return 0
    length = number(data, position, end, 36)
    if length > size - end - 4:
        return 0
    found.begin = end + 2
    found.end = found.begin + length
    if data[found.end] != 13 or data[found.end + 1] != 10:
        raise ProtocolError("The server sent a string without its end.")
    return 0


cdef inline bint is_reserved(const char* data, Py_ssize_t begin, Py_ssize_t end) noexcept:
    return end - begin >= RESERVED_BYTES and memcmp(
        data + begin, PyBytes_AS_STRING(RESERVED), RESERVED_BYTES
    ) == 0


cdef class Held:
    """Bytes that are not cut yet."""

    cdef Buffer held
    cdef list replies

    def __cinit__(self):
        self.held.data = NULL
        self.held.size = self.held.capacity = 0
        self.replies = []

    def __dealloc__(self):
        free(self.held.data)

    def feed(self, const unsigned char[::1] data not None):
        cdef Py_ssize_t size = data.shape[0], done
        cdef const char* raw
        if size == 0:
            return
        raw = <const char*>&data[0]
        if self.held.size == 0:
            done = self.cut(raw, size)
            if done < size:
                reserve(&self.held, size - done)
                put(&self.held, raw + done, size - done)
        else:
            reserve(&self.held, size)
            put(&self.held, raw, size)
            drop_front(&self.held, self.cut(self.held.data, self.held.size))

    def take_replies(self):
        replies, self.replies = self.replies, []
        return replies

    cdef Py_ssize_t cut(self, const char* data, Py_ssize_t size) except -1:
        """Takes all that is complete; the index after it."""
        cdef Py_ssize_t position = 0, after
        while True:
            after = self.step(data, size, position)
            if after == position:
                return position
            position = after

    cdef Py_ssize_t step(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        raise NotImplementedError

    cdef Py_ssize_t other(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Py_ssize_t window
        for window in (WINDOW_BYTES, REPLY_BYTES_MAX):
            cut = _pushes.cut_reply(data[position:position + min(window, size - position)])
            if cut is not None:
                self.replies.append(cut[0])
                return position + <Py_ssize_t>cut[1]
        return position


cdef class CompiledCutter(Held):
    """See ``pushes.Cutter``."""

    cdef int64_t names_left
    cdef list keys
    cdef bint everything

    def __cinit__(self):
        self.names_left = 0
        self.keys = []
        self.everything = False

    def take_keys(self):
        keys, self.keys = self.keys, []
        return keys

    def take_everything(self):
        everything, self.everything = self.everything, False
        return everything

    cdef Py_ssize_t step(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Py_ssize_t there = min(size - position, INVALIDATE_BYTES), begin, end
        if self.names_left:
            return self.take_names(data, size, position)
        if memcmp(data + position, PyBytes_AS_STRING(INVALIDATE), there):
            return self.other(data, size, position)
        begin = position + INVALIDATE_BYTES
        end = line_end(data, size, begin) if there == INVALIDATE_BYTES else -1
        if end < 0:
            return position
        if (end - begin == 1 and data[begin] == 95) or (
            end - begin == 3 and data[begin] in (36, 42) and memcmp(data + begin + 1, b"-1", 2) == 0
        ):
            self.everything = True
        else:
            self.names_left = number(data, begin, end, 42)
        return end + 2

    cdef Py_ssize_t take_names(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Span name
        while self.names_left:
            find_string(data, size, position, &name)
            if name.begin < 0:
                break
            if not is_reserved(data, name.begin, name.end):
                self.keys.append(PyBytes_FromStringAndSize(data + name.begin, name.end - name.begin))
            self.names_left -= 1
            position = name.end + 2
        return position


cdef class CompiledEventCutter(Held):
    """See ``pushes.EventCutter``."""

    cdef list named
    cdef list keys  # of the last database in ``named``
    cdef int64_t database

    def __cinit__(self):
        self.named = []
        self.database = -1

    def take_keys(self):
        named, self.named, self.database = self.named, [], -1
        return named

    cdef Py_ssize_t step(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Py_ssize_t there = min(size - position, MESSAGE_BYTES), after = position + MESSAGE_BYTES
        cdef Span channel, event
        if memcmp(data + position, PyBytes_AS_STRING(MESSAGE), there):
            return self.other(data, size, position)
        if there < MESSAGE_BYTES:
            return position
        find_string(data, size, after, &event)  # the pattern
        if event.begin < 0:
            return position
        find_string(data, size, event.end + 2, &channel)
        if channel.begin < 0:
            return position
        find_string(data, size, channel.end + 2, &event)
        if event.begin < 0:
            return position
        if event.end - event.begin != MISS_BYTES or memcmp(
            data + event.begin, PyBytes_AS_STRING(MISS), MISS_BYTES
        ):
            self.take_name(data, channel.begin, channel.end)
        return event.end + 2

    cdef int take_name(self, const char* data, Py_ssize_t begin, Py_ssize_t end) except -1:
        cdef Py_ssize_t at = begin + KEYSPACE_BYTES, first = at
        cdef int64_t database = 0
        cdef bint known = at < end and memcmp(data + begin, PyBytes_AS_STRING(KEYSPACE), KEYSPACE_BYTES) == 0
        while known and at < end and 48 <= data[at] <= 57 and at - first < DATABASE_DIGITS_MAX:
            database = database * 10 + (data[at] - 48)
            at += 1
        if not known or at == first or end - at < 3 or memcmp(data + at, b"__:", 3):
            raise ProtocolError("The server notifies of something else than a key.")
        at += 3
        if is_reserved(data, at, end):
            return 0
        if database != self.database:
            self.database = database
            self.keys = []
            self.named.append((database, self.keys))
        self.keys.append(PyBytes_FromStringAndSize(data + at, end - at))
        return 0
