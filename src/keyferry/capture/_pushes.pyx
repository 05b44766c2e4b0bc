# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled twin of ``pushes_pure.PureCutter``: one pass over the bytes, one object per name.

Everything but invalidations is rare, and goes the reference's own way. Every index is checked before use.
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
cdef bytes RESERVED = _RESERVED_PREFIX
cdef Py_ssize_t INVALIDATE_BYTES = len(INVALIDATE)
cdef Py_ssize_t RESERVED_BYTES = len(RESERVED)
cdef Py_ssize_t HEAD_BYTES_MAX = _pushes.HEAD_BYTES_MAX
cdef Py_ssize_t REPLY_BYTES_MAX = _pushes.REPLY_BYTES_MAX
cdef int64_t BULK_BYTES_MAX = _BULK_BYTES_MAX
cdef int DIGITS_MAX = 10
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


cdef class CompiledCutter:
    """See ``pushes.Cutter``."""

    cdef Buffer held
    cdef int64_t names_left
    cdef list keys
    cdef list replies
    cdef bint everything

    def __cinit__(self):
        self.held.data = NULL
        self.held.size = self.held.capacity = 0
        self.names_left = 0
        self.keys = []
        self.replies = []
        self.everything = False

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

    def take_keys(self):
        keys, self.keys = self.keys, []
        return keys

    def take_everything(self):
        everything, self.everything = self.everything, False
        return everything

    def take_replies(self):
        replies, self.replies = self.replies, []
        return replies

    cdef Py_ssize_t cut(self, const char* data, Py_ssize_t size) except -1:
        """Takes all that is complete; the index after it."""
        cdef Py_ssize_t position = 0, after
        while True:
            if self.names_left:
                after = self.names(data, size, position)
            else:
                after = self.message(data, size, position)
            if after == position:
                return position
            position = after

    cdef Py_ssize_t names(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Py_ssize_t begin, end
        cdef int64_t length
        while self.names_left:
            end = line_end(data, size, position)
            if end < 0:
                break
            length = number(data, position, end, 36)
            begin = end + 2
            if length > size - begin - 2:
                break
            end = begin + length
            if data[end] != 13 or data[end + 1] != 10:
                raise ProtocolError("The server sent a string without its end.")
            if length < RESERVED_BYTES or memcmp(data + begin, PyBytes_AS_STRING(RESERVED), RESERVED_BYTES):
                self.keys.append(PyBytes_FromStringAndSize(data + begin, length))
            self.names_left -= 1
            position = end + 2
        return position

    cdef Py_ssize_t message(self, const char* data, Py_ssize_t size, Py_ssize_t position) except -1:
        cdef Py_ssize_t there = min(size - position, INVALIDATE_BYTES), begin, end, window
        if memcmp(data + position, PyBytes_AS_STRING(INVALIDATE), there) == 0:
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
        for window in (WINDOW_BYTES, REPLY_BYTES_MAX):
            cut = _pushes.cut_reply(data[position:position + min(window, size - position)])
            if cut is not None:
                self.replies.append(cut[0])
                return position + <Py_ssize_t>cut[1]
        return position
