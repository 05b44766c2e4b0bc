# Growing buffers, and RESP written into them. All inline: these run several times per key.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

cdef enum:
    FIRST_BYTES = 65536
    KEPT_BYTES_MAX = 8388608   # one giant payload must not keep its memory for the rest of the run


cdef struct Buffer:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline int reserve(Buffer* buffer, Py_ssize_t more) except -1:
    """Makes room for so many bytes more; the ``put`` functions take it for granted."""
    cdef Py_ssize_t capacity
    cdef char* data
    if buffer.size + more <= buffer.capacity:
        return 0
    capacity = buffer.capacity * 2
    if capacity < buffer.size + more:
        capacity = buffer.size + more
    if capacity < FIRST_BYTES:
        capacity = FIRST_BYTES
    data = <char*>realloc(buffer.data, capacity)
    if data == NULL:
        raise MemoryError
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef inline void put(Buffer* buffer, const char* data, Py_ssize_t size) noexcept:
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size


cdef inline int append(Buffer* buffer, bytes data) except -1:
    """Makes room, too."""
    reserve(buffer, PyBytes_GET_SIZE(data))
    put(buffer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return 0


cdef inline Py_ssize_t digits(char* out, int64_t value) noexcept:
    """Writes a number that is not negative; returns its length (at most 20)."""
    cdef char reverse[20]
    cdef Py_ssize_t n = 0, i
    if value < 10:
        out[0] = <char>(48 + value)
        return 1
    if value < 100:
        out[0] = <char>(48 + value // 10)
        out[1] = <char>(48 + value % 10)
        return 2
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


cdef inline bytes take(Buffer* buffer):
    """All of it; the buffer is empty then."""
    cdef bytes data = PyBytes_FromStringAndSize(buffer.data, buffer.size)
    drop_front(buffer, buffer.size)
    return data


cdef inline void drop_front(Buffer* buffer, Py_ssize_t count) noexcept:
    if count == 0:
        return
    buffer.size -= count
    if buffer.size:
        memmove(buffer.data, buffer.data + count, buffer.size)
    elif buffer.capacity > KEPT_BYTES_MAX:
        free(buffer.data)
        buffer.data = NULL
        buffer.capacity = 0
