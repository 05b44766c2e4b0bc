# Cuts replies out of bytes: the compiled ``cutting``. All inline: these run several times per key.

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memchr, memcmp

from keyferry.transfer._buffer cimport Buffer

cdef enum:
    INCOMPLETE = -1
    DEPTH_MAX = 64
    CLOCK_DIGITS_MAX = 15
    LINE_BYTES_MAX = 1 << 20


cdef inline int64_t bulk_bytes_max() noexcept:
    """That of ``wire.resp``; the relay compares them when it is imported."""
    return <int64_t>2 << 30


cdef inline object protocol_error(str text):
    from keyferry.wire.resp import ProtocolError

    return ProtocolError(text)


cdef inline Py_ssize_t line_end(const char* data, Py_ssize_t size, Py_ssize_t position) except -2:
    """Index of the CR of the line's end, or INCOMPLETE."""
    cdef const char* found
    cdef Py_ssize_t at = position
    while at < size:
        found = <const char*>memchr(data + at, 13, size - at)
        if found == NULL:
            break
        at = found - data
        if at + 1 >= size:
            break
        if data[at + 1] == 10:
            return at
        at += 1
    if size - position > LINE_BYTES_MAX:
        raise protocol_error("The server sent a line without an end.")
    return INCOMPLETE


cdef inline int parse_integer(const char* data, Py_ssize_t begin, Py_ssize_t end, int64_t* value) except -1:
    cdef Py_ssize_t i = begin
    cdef bint negative = False
    cdef uint64_t number = 0
    if i < end and data[i] == 45:
        negative = True
        i += 1
    if i == end or end - i > 19:
        raise protocol_error(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
    while i < end:
        if data[i] < 48 or data[i] > 57:
            raise protocol_error(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
        number = number * 10 + <uint64_t>(data[i] - 48)
        i += 1
    if number > <uint64_t>INT64_MAX:
        raise protocol_error(f"The server sent {data[begin:end][:32]!r} where a number belongs.")
    value[0] = -<int64_t>number if negative else <int64_t>number
    return 0


cdef inline Py_ssize_t parse_head(
    const char* data, Py_ssize_t size, Py_ssize_t position, char kind, int64_t* length
) except -2:
    """Reads ``$n\\r\\n`` or ``*n\\r\\n``; returns the index after it, or INCOMPLETE."""
    cdef Py_ssize_t at = position + 1
    cdef int64_t number = 0
    cdef Py_ssize_t end
    if position >= size:
        return INCOMPLETE
    if data[position] != kind:
        first = data[position:position + 1]
        raise protocol_error(f"The server sent {first!r} where {bytes([kind])!r} belongs.")
    # The common case without a second look: up to nine digits and the line's end.
    while at < size and 48 <= data[at] <= 57 and at - position < 10:
        number = number * 10 + (data[at] - 48)
        at += 1
    if at + 1 < size and at > position + 1 and data[at] == 13 and data[at + 1] == 10:
        if number > bulk_bytes_max():
            raise protocol_error(f"The server announced a length of {number}.")
        length[0] = number
        return at + 2
    end = line_end(data, size, position)
    if end == INCOMPLETE:
        return INCOMPLETE
    parse_integer(data, position + 1, end, &number)
    if number < -1 or number > bulk_bytes_max():
        raise protocol_error(f"The server announced a length of {number}.")
    length[0] = number
    return end + 2


cdef inline Py_ssize_t read_bulk(
    const char* data, Py_ssize_t size, Py_ssize_t position, int64_t* length
) except -2:
    """Where a whole string begins, or INCOMPLETE. A nil has length -1."""
    position = parse_head(data, size, position, 36, length)
    if position == INCOMPLETE or length[0] < 0:
        return position
    if position + length[0] + 2 > size:
        return INCOMPLETE
    if data[position + length[0]] != 13 or data[position + length[0] + 1] != 10:
        raise protocol_error("The server sent a string without its end.")
    return position


cdef inline Py_ssize_t read_number(
    const char* data, Py_ssize_t size, Py_ssize_t position, int64_t* value, Py_ssize_t* error_end
) except -2:
    """An integer reply; an error or a nil counts as -1. ``error_end`` is the error's end, 0 for none."""
    cdef Py_ssize_t end
    error_end[0] = 0
    if position >= size:
        return INCOMPLETE
    end = line_end(data, size, position)
    if end == INCOMPLETE:
        return INCOMPLETE
    if data[position] == 58:
        parse_integer(data, position + 1, end, value)
        return end + 2
    value[0] = -1
    if data[position] == 45:
        error_end[0] = end
        return end + 2
    if end - position == 1 and data[position] == 95:
        return end + 2
    if end - position == 3 and data[position] in (36, 42) and memcmp(data + position + 1, b"-1", 2) == 0:
        return end + 2
    raise protocol_error(f"The server sent {data[position:end][:32]!r} where a number belongs.")


cdef inline Py_ssize_t read_clock(
    const char* data, Py_ssize_t size, Py_ssize_t position, int64_t* value
) except -2:
    """One of TIME's two numbers."""
    cdef int64_t length = 0
    position = read_bulk(data, size, position, &length)
    if position == INCOMPLETE:
        return INCOMPLETE
    if not 1 <= length <= CLOCK_DIGITS_MAX or data[position] == 45:
        raise protocol_error("The source answered TIME with something else.")
    parse_integer(data, position, position + length, value)
    return position + length + 2


cdef inline Py_ssize_t read_time(
    const char* data, Py_ssize_t size, Py_ssize_t position, int64_t* time_ms, Py_ssize_t* error_end
) except -2:
    """TIME's reply in Unix milliseconds; an error leaves them. ``error_end`` is its end, 0 for none."""
    cdef int64_t count = 0, seconds = 0, micros = 0
    cdef Py_ssize_t end
    error_end[0] = 0
    if position < size and data[position] == 45:
        end = line_end(data, size, position)
        if end == INCOMPLETE:
            return INCOMPLETE
        error_end[0] = end
        return end + 2
    position = parse_head(data, size, position, 42, &count)
    if position == INCOMPLETE:
        return INCOMPLETE
    if count != 2:
        raise protocol_error("The source answered TIME with something else.")
    position = read_clock(data, size, position, &seconds)
    if position == INCOMPLETE:
        return INCOMPLETE
    position = read_clock(data, size, position, &micros)
    if position == INCOMPLETE:
        return INCOMPLETE
    time_ms[0] = seconds * 1000 + micros // 1000
    return position


cdef inline Py_ssize_t replies_end(
    Buffer* buffer, Py_ssize_t start, int64_t replies, Py_ssize_t* need
) except -2:
    """Where ``replies`` complete replies that begin at ``start`` end, or INCOMPLETE."""
    cdef int64_t left[DEPTH_MAX + 1]
    cdef int depth = 0
    cdef Py_ssize_t position = start, end, after
    cdef int64_t number = 0
    cdef char kind
    left[0] = replies
    while depth >= 0:
        if left[depth] == 0:
            depth -= 1
            continue
        left[depth] -= 1
        end = line_end(buffer.data, buffer.size, position)
        if end == INCOMPLETE:
            return INCOMPLETE
        kind = buffer.data[position]
        after = end + 2
        if kind == 36 or kind == 61 or kind == 33:
            parse_integer(buffer.data, position + 1, end, &number)
            if number > bulk_bytes_max():
                raise protocol_error(f"The server announced a length of {number}.")
            if number >= 0:
                after += number + 2
            if after > buffer.size:
                need[0] = after - start
                return INCOMPLETE
        elif kind == 42 or kind == 126 or kind == 62 or kind == 37:
            parse_integer(buffer.data, position + 1, end, &number)
            if depth + 1 >= DEPTH_MAX:
                raise protocol_error("The server sent a reply that is nested too deeply.")
            depth += 1
            left[depth] = (number if number > 0 else 0) * (2 if kind == 37 else 1)
        elif kind not in (43, 45, 58, 95, 35, 44, 40):
            first = buffer.data[position:position + 1]
            raise protocol_error(f"The server sent {first!r} where a reply begins.")
        position = after
    return position


cdef inline bint is_wrong_type(const char* data, Py_ssize_t begin, Py_ssize_t end) noexcept:
    return end - begin >= 9 and memcmp(data + begin, b"WRONGTYPE", 9) == 0
