from libc.stdint cimport uint8_t, uint64_t

cdef uint64_t update(uint64_t crc, const uint8_t* data, Py_ssize_t size) noexcept nogil
