cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t

from keyferry.transfer._buffer cimport Buffer

cdef enum:
    EXPIRY_NONE = 0
    EXPIRY_ABSOLUTE = 1
    EXPIRY_REMAINING = 2
    HINT_NONE = 0
    HINT_IDLETIME = 1
    MOVE_MAX_BITS = 60   # config.MOVE_MAX_MS


cdef inline Py_ssize_t string_payload_size(Py_ssize_t size) noexcept:
    """Of a string of so many bytes, uncompressed: type, length (1 or 2 bytes), string, version, checksum."""
    return size + (12 if size < 64 else 13)


@cython.final
cdef class Requests:
    cdef int expiry
    cdef int hints
    cdef bint absolute
    cdef int target_version
    cdef int64_t clock_offset_ms
    cdef bytes probe_tail
    cdef tuple scan_tail
    cdef uint8_t mask[10]

    cdef bytes scan(self, bytes cursor)
    cdef int fetch(self, Buffer* out, const char* key, Py_ssize_t size, bint probe, bint first) except -1
    cdef int measure(self, Buffer* out, const char* key, Py_ssize_t size) except -1
    cdef int restore(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, const char* payload,
        Py_ssize_t size, int64_t hint, bint replace, bint resign, int64_t source_now_ms,
    ) except -1
    cdef int restore_string(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, const char* text,
        Py_ssize_t size, int64_t hint, bint replace, int64_t source_now_ms,
    ) except -1
    cdef int begin_restore(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, Py_ssize_t size,
        int64_t hint, bint replace, int64_t source_now_ms,
    ) except -1
    cdef void end_restore(self, Buffer* out, int64_t expires_at, int64_t hint, bint replace) noexcept
    cdef Py_ssize_t string_payload(self, uint8_t* data, const char* text, Py_ssize_t size) noexcept

    cdef inline int64_t expiry_on_target(self, int64_t expires, int64_t time_ms) noexcept:
        if expires < 0:
            return 0
        if self.expiry == EXPIRY_REMAINING:
            expires += time_ms
        if expires > INT64_MAX - (<int64_t>1 << MOVE_MAX_BITS):
            return expires
        expires += self.clock_offset_ms
        return expires if expires > 1 else 1
