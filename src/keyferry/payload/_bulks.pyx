# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled twin of ``bulks``: one pass over the bytes. Every index is checked against the end before use."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef int LENGTH_DIGITS_MAX = 10


cdef struct Span:
    Py_ssize_t begin  # of the string's own bytes; -1: this is no bulk string
    Py_ssize_t end


cdef Py_ssize_t number(const char* data, Py_ssize_t size, Py_ssize_t* position, char kind) noexcept nogil:
    """The number on the line at ``position``, which is moved behind it; -1: there is none."""
    cdef Py_ssize_t at = position[0] + 1
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t first = at
    if position[0] >= size or data[position[0]] != kind:
        return -1
    while at < size and 48 <= data[at] <= 57 and at - first < LENGTH_DIGITS_MAX:
        found = found * 10 + (data[at] - 48)
        at += 1
    if at == first or at + 1 >= size or data[at] != 13 or data[at + 1] != 10:
        return -1
    position[0] = at + 2
    return found


cdef Span span(const char* data, Py_ssize_t size, Py_ssize_t position) noexcept nogil:
    cdef Span found
    cdef Py_ssize_t length = number(data, size, &position, 36)
    found.begin = position
    found.end = position + length
    if length < 0 or length > size - position - 2 or data[found.end] != 13 or data[found.end + 1] != 10:
        found.begin = -1
    return found


cdef Py_ssize_t after(const char* data, Py_ssize_t size, Py_ssize_t position) noexcept nogil:
    """Behind the bulk string at ``position``; -1: there is none."""
    cdef Span found = span(data, size, position)
    return -1 if found.begin < 0 else found.end + 2


cdef int refuse() except -1:
    raise ValueError("not the bulk strings that were announced")


cdef int check(Py_ssize_t start, Py_ssize_t count, Py_ssize_t unit) except -1:
    if start < 0 or count < 0 or unit < 1 or count % unit:
        refuse()
    return 0


def cut(
    bytes data not None, Py_ssize_t start, Py_ssize_t count, Py_ssize_t unit, Py_ssize_t strings_max,
    Py_ssize_t bytes_max
):
    cdef const char* raw = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t first = start, position = start, begin, strings = 0, done, part
    cdef list pieces = []
    check(start, count, unit)
    for done in range(count // unit):
        begin = position
        for part in range(unit):
            position = after(raw, size, position)
            if position < 0:
                refuse()
        if strings and (strings + unit > strings_max or position - first > bytes_max):
            pieces.append((begin, strings))
            first = begin
            strings = 0
        strings += unit
    if position != size:
        refuse()
    if strings:
        pieces.append((position, strings))
    return pieces


def longest(bytes data not None, Py_ssize_t start, Py_ssize_t count):
    cdef const char* raw = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t found = 0, done
    cdef Span string
    check(start, count, 1)
    for done in range(count):
        string = span(raw, size, start)
        if string.begin < 0:
            refuse()
        found = max(found, string.end - string.begin)
        start = string.end + 2
    return found


def swapped(bytes data not None, Py_ssize_t start, Py_ssize_t count):
    cdef const char* raw = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = start, middle, end, done
    cdef bytes made
    cdef char* out
    check(start, count, 2)
    if start > size:
        refuse()
    made = PyBytes_FromStringAndSize(NULL, size - start)
    out = PyBytes_AS_STRING(made)
    for done in range(count // 2):
        middle = after(raw, size, position)
        end = -1 if middle < 0 else after(raw, size, middle)
        if end < 0:
            refuse()
        memcpy(out, raw + middle, end - middle)
        memcpy(out + (end - middle), raw + position, middle - position)
        out += end - position
        position = end
    if position != size:
        refuse()
    return made


def xadds(bytes data not None, Py_ssize_t start, Py_ssize_t count, bytes name not None):
    cdef const char* raw = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = start, id_at, fields, strings, done, part, longest_bytes = 0
    cdef Span entry_id, string
    cdef bytes last = b""
    cdef bytes head = b"\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(name), name)
    cdef list parts = []
    check(start, count, 1)
    for done in range(count):
        if number(raw, size, &position, 42) != 2:
            refuse()
        id_at = position
        entry_id = span(raw, size, position)
        if entry_id.begin < 0:
            refuse()
        position = entry_id.end + 2
        strings = number(raw, size, &position, 42)
        if strings < 0 or strings % 2:
            refuse()
        fields = position
        for part in range(strings):
            string = span(raw, size, position)
            if string.begin < 0:
                refuse()
            longest_bytes = max(longest_bytes, string.end - string.begin)
            position = string.end + 2
        parts.append(b"*%d" % (strings + 3))
        parts.append(head)
        parts.append(PyBytes_FromStringAndSize(raw + id_at, entry_id.end + 2 - id_at))
        parts.append(PyBytes_FromStringAndSize(raw + fields, position - fields))
        if done == count - 1:
            last = PyBytes_FromStringAndSize(raw + entry_id.begin, entry_id.end - entry_id.begin)
    if position != size:
        refuse()
    return b"".join(parts), last, longest_bytes
