# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``requests``: the commands are written straight into the buffers that are sent."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from keyferry.payload._crc64 cimport update as crc64_update
from keyferry.transfer._buffer cimport digits, put, put_bulk, put_head, reserve

from keyferry.transfer.config import MOVE_MAX_MS
from keyferry.transfer.requests import scan_tail
from keyferry.wire.resp import encode_command

if MOVE_MAX_MS != <int64_t>1 << MOVE_MAX_BITS:
    raise ImportError("_requests is built for another MOVE_MAX_MS")


@cython.final
cdef class Requests:
    """What a relay sends, by its configuration."""

    def __init__(self, config):
        cdef int i
        self.expiry = int(config.expiry)
        self.hints = int(config.hints)
        self.absolute = config.absolute
        self.target_version = config.target_version
        self.clock_offset_ms = config.clock_offset_ms
        for i in range(10):
            self.mask[i] = config.resign_mask[i]
        last = b"%d" % (config.short_bytes - 1)
        self.probe_tail = b"$1\r\n0\r\n$%d\r\n%b\r\n" % (len(last), last)
        self.scan_tail = scan_tail(config)

    cdef bytes scan(self, bytes cursor):
        return encode_command(b"SCAN", cursor, *self.scan_tail)

    cdef int fetch(self, Buffer* out, const char* key, Py_ssize_t size, bint probe, bint first) except -1:
        """DUMP, or GETRANGE to ``probe``, with expiry and hint; ``first`` of a run."""
        reserve(out, 3 * (size + 80) + 64)
        if first and self.expiry == EXPIRY_REMAINING:
            put(out, b"*1\r\n$4\r\nTIME\r\n", 14)
        if self.hints == HINT_IDLETIME:
            put(out, b"*3\r\n$6\r\nOBJECT\r\n$8\r\nIDLETIME\r\n", 30)
            put_bulk(out, key, size)
        elif self.hints != HINT_NONE:
            put(out, b"*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n", 26)
            put_bulk(out, key, size)
        if probe:
            put(out, b"*4\r\n$8\r\nGETRANGE\r\n", 18)
            put_bulk(out, key, size)
            put(out, PyBytes_AS_STRING(self.probe_tail), PyBytes_GET_SIZE(self.probe_tail))
        else:
            put(out, b"*2\r\n$4\r\nDUMP\r\n", 14)
            put_bulk(out, key, size)
        if self.expiry == EXPIRY_ABSOLUTE:
            put(out, b"*2\r\n$11\r\nPEXPIRETIME\r\n", 22)
            put_bulk(out, key, size)
        elif self.expiry == EXPIRY_REMAINING:
            put(out, b"*2\r\n$4\r\nPTTL\r\n", 14)
            put_bulk(out, key, size)
            put(out, b"*1\r\n$4\r\nTIME\r\n", 14)
        return 0

    cdef int measure(self, Buffer* out, const char* key, Py_ssize_t size) except -1:
        reserve(out, size + 120)
        put(out, b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n", 27)
        put_bulk(out, key, size)
        return 0

    cdef int restore(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, const char* payload,
        Py_ssize_t size, int64_t hint, bint replace, bint resign, int64_t source_now_ms,
    ) except -1:
        """As ``requests.restore``; ``resign``: under the target's version."""
        cdef int i
        cdef uint8_t* footer
        self.begin_restore(out, key, key_size, expires_at, size, hint, replace, source_now_ms)
        put(out, payload, size)
        if resign:
            footer = <uint8_t*>out.data + out.size - 10
            for i in range(10):
                footer[i] ^= self.mask[i]
        self.end_restore(out, expires_at, hint, replace)
        return 0

    cdef int restore_string(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, const char* text,
        Py_ssize_t size, int64_t hint, bint replace, int64_t source_now_ms,
    ) except -1:
        """A RESTORE of a short string, whose payload is made in its place."""
        self.begin_restore(
            out, key, key_size, expires_at, string_payload_size(size), hint, replace, source_now_ms
        )
        out.size += self.string_payload(<uint8_t*>out.data + out.size, text, size)
        self.end_restore(out, expires_at, hint, replace)
        return 0

    cdef int begin_restore(
        self, Buffer* out, const char* key, Py_ssize_t key_size, int64_t expires_at, Py_ssize_t size,
        int64_t hint, bint replace, int64_t source_now_ms,
    ) except -1:
        """Up to the payload, with room for it."""
        cdef int64_t ttl = expires_at
        cdef int count = 4 + replace
        cdef char text[24]
        if expires_at:
            if self.absolute:
                count += 1
            else:
                ttl = expires_at - self.clock_offset_ms - source_now_ms
                if ttl < 1:
                    ttl = 1
        if hint >= 0:
            count += 2
        reserve(out, key_size + size + 200)
        put_head(out, 42, count)
        put(out, b"$7\r\nRESTORE\r\n", 13)
        put_bulk(out, key, key_size)
        if ttl:
            put_bulk(out, text, digits(text, ttl))
        else:
            put(out, b"$1\r\n0\r\n", 7)
        put_head(out, 36, size)
        return 0

    cdef void end_restore(self, Buffer* out, int64_t expires_at, int64_t hint, bint replace) noexcept:
        cdef char text[24]
        if replace:
            put(out, b"\r\n$7\r\nREPLACE\r\n", 15)
        else:
            put(out, b"\r\n", 2)
        if expires_at and self.absolute:
            put(out, b"$6\r\nABSTTL\r\n", 12)
        if hint >= 0:
            if self.hints == HINT_IDLETIME:
                put(out, b"$8\r\nIDLETIME\r\n", 14)
            else:
                put(out, b"$4\r\nFREQ\r\n", 10)
            put_bulk(out, text, digits(text, hint))

    cdef Py_ssize_t string_payload(self, uint8_t* data, const char* text, Py_ssize_t size) noexcept:
        """Writes a short string as DUMP would, uncompressed, into ``string_payload_size`` bytes."""
        cdef Py_ssize_t at = 2
        cdef uint64_t crc
        cdef int i
        data[0] = 0
        if size < 64:
            data[1] = <uint8_t>size
        else:
            data[1] = <uint8_t>(0x40 | (size >> 8))
            data[2] = <uint8_t>(size & 0xFF)
            at = 3
        memcpy(data + at, text, size)
        at += size
        data[at] = <uint8_t>(self.target_version & 0xFF)
        data[at + 1] = <uint8_t>(self.target_version >> 8)
        at += 2
        crc = crc64_update(0, data, at)
        for i in range(8):
            data[at + i] = <uint8_t>(crc & 0xFF)
            crc >>= 8
        return at + 8
