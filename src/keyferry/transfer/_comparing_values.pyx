# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``comparing_values``: elements stay where they lie; only what is packed is written out.

Layouts as in ``payload.cursor``, ``payload.packed``, ``payload.reader`` and ``payload.lzf``, which name their sources.
Every index is checked against the end before use. Readers return 1, or 0 for what they do not understand.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

import os

from keyferry.transfer._buffer cimport Buffer, digits, reserve

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* s, char** endptr, void* overflow_exception) except? -1.0

cdef enum:
    FOOTER_BYTES = 10
    UNKNOWN = 0
    STRING = 1
    LIST = 2
    SET = 3
    ZSET = 4
    HASH = 5
    BODY = 0           # where an element's bytes lie
    UNPACKED = 1
    WRITTEN = 2
    GROWTH_MAX = 88    # payload.lzf
    SCORE_BYTES_MAX = 252
    UNPACKED_BYTES_MAX = 1 << 30

cdef uint32_t TAKEN = <uint32_t>1 << 31   # of an entry in ``same_units``

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


cdef struct Element:
    int where
    int64_t at
    int64_t size


cdef struct Value:
    # One payload, and its elements in order; of hashes and sorted sets two and two.
    const uint8_t* body
    Py_ssize_t end
    Py_ssize_t position
    Buffer unpacked
    Buffer written     # integers in decimal, scores as doubles
    Element* elements
    Py_ssize_t count
    Py_ssize_t capacity


cdef inline const uint8_t* bytes_of(Value* v, Element* e) noexcept:
    if e.where == BODY:
        return v.body + e.at
    return <const uint8_t*>(v.unpacked.data if e.where == UNPACKED else v.written.data) + e.at


cdef int add(Value* v, int where, int64_t at, int64_t size) except -1:
    cdef Py_ssize_t capacity
    cdef Element* elements
    if v.count == v.capacity:
        capacity = v.capacity * 2 if v.capacity else 64
        elements = <Element*>realloc(v.elements, capacity * sizeof(Element))
        if elements == NULL:
            raise MemoryError
        v.elements = elements
        v.capacity = capacity
    v.elements[v.count].where = where
    v.elements[v.count].at = at
    v.elements[v.count].size = size
    v.count += 1
    return 1


cdef int add_integer(Value* v, int64_t number) except -1:
    cdef Py_ssize_t begin = v.written.size
    cdef char* to
    cdef uint64_t magnitude
    reserve(&v.written, 24)
    to = v.written.data + begin
    if number < 0:
        to[0] = 45
        magnitude = <uint64_t>0 - <uint64_t>number
        if magnitude > <uint64_t>0x7FFFFFFFFFFFFFFF:
            memcpy(to, b"-9223372036854775808", 20)
            v.written.size += 20
        else:
            v.written.size += 1 + digits(to + 1, <int64_t>magnitude)
    else:
        v.written.size += digits(to, number)
    return add(v, WRITTEN, begin, v.written.size - begin)


cdef int64_t little(const uint8_t* data, int size) noexcept:
    """A signed integer of 1, 2, 3, 4 or 8 bytes."""
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        number |= <uint64_t>data[i] << (8 * i)
    if size < 8 and data[size - 1] & 0x80:
        number |= ~<uint64_t>0 << (8 * size)
    return <int64_t>number


# Primitives

cdef int read_length(Value* v, int64_t* length) noexcept:
    cdef Py_ssize_t left = v.end - v.position
    cdef const uint8_t* at = v.body + v.position
    cdef uint64_t number = 0
    cdef int size, i
    if left < 1:
        return 0
    if at[0] < 0x40:
        length[0] = at[0]
        v.position += 1
        return 1
    if at[0] < 0x80:
        if left < 2:
            return 0
        length[0] = ((at[0] & 0x3F) << 8) | at[1]
        v.position += 2
        return 1
    if at[0] != 0x80 and at[0] != 0x81:
        return 0
    size = 4 if at[0] == 0x80 else 8
    if left < 1 + size:
        return 0
    for i in range(size):
        number = (number << 8) | at[1 + i]
    if number >> 62:
        return 0
    length[0] = <int64_t>number
    v.position += 1 + size
    return 1


cdef int read_count(Value* v, int64_t* count, int64_t bytes_each) noexcept:
    if not read_length(v, count):
        return 0
    return count[0] <= (v.end - v.position) // bytes_each


cdef int unpack(Buffer* out, const uint8_t* data, Py_ssize_t end, Py_ssize_t size) except -1:
    """LZF: ``size`` bytes more in ``out``."""
    cdef Py_ssize_t position = 0, length, back, begin = out.size, at = 0
    cdef uint8_t* to
    if size > end * GROWTH_MAX or begin + size > UNPACKED_BYTES_MAX:
        return 0
    reserve(out, size)
    to = <uint8_t*>out.data + begin
    while position < end:
        length = data[position]
        position += 1
        if length < 32:
            length += 1
            if length > end - position or length > size - at:
                return 0
            memcpy(to + at, data + position, length)
            position += length
            at += length
        else:
            back = (length & 0x1F) << 8
            length >>= 5
            if length == 7:
                if position >= end:
                    return 0
                length += data[position]
                position += 1
            length += 2
            if position >= end:
                return 0
            back = back + data[position] + 1
            position += 1
            if back > at or length > size - at:
                return 0
            # Byte by byte: the reference may overlap what it writes.
            while length:
                to[at] = to[at - back]
                at += 1
                length -= 1
    if at != size:
        return 0
    out.size += size
    return 1


cdef int read_string(Value* v) except -1:
    """Adds it as an element."""
    cdef int64_t size = 0, packed = 0
    cdef Py_ssize_t begin
    cdef uint8_t head = v.body[v.position] if v.position < v.end else 0xFF
    if head < 0xC0:
        if not read_length(v, &size) or size > v.end - v.position:
            return 0
        add(v, BODY, v.position, size)
        v.position += size
        return 1
    v.position += 1
    if head == 0xC3:
        if not read_length(v, &packed) or not read_length(v, &size) or packed > v.end - v.position:
            return 0
        begin = v.unpacked.size
        if not unpack(&v.unpacked, v.body + v.position, packed, size):
            return 0
        add(v, UNPACKED, begin, size)
        v.position += packed
        return 1
    if head > 0xC2:
        return 0
    size = 1 << (head - 0xC0)
    if size > v.end - v.position:
        return 0
    add_integer(v, little(v.body + v.position, size))
    v.position += size
    return 1


# Packed encodings: the last element is the blob, and gives way to what is in it

cdef inline Py_ssize_t backlen_bytes(Py_ssize_t size) noexcept:
    return 1 if size < 128 else 2 if size < 16384 else 3 if size < 2097152 else 4 if size < 268435456 else 5


cdef int open_listpack(Value* v) except -1:
    cdef Element blob
    cdef const uint8_t* data
    cdef Py_ssize_t position = 6, start, size, end
    cdef int width
    cdef int64_t number
    cdef uint8_t head
    v.count -= 1
    blob = v.elements[v.count]
    # Nothing is unpacked meanwhile, so the blob stays where it is.
    data = bytes_of(v, &blob)
    end = blob.size
    while True:
        if position >= end:
            return 0
        head = data[position]
        if head == 0xFF:
            return position + 1 == end
        if head < 0x80:
            if position + 2 > end:
                return 0
            add_integer(v, head)
            position += 2
            continue
        if head < 0xC0:
            start, size = position + 1, head & 0x3F
        elif head < 0xE0:
            if position + 3 > end:
                return 0
            number = ((head & 0x1F) << 8) | data[position + 1]
            add_integer(v, number - 8192 if number >= 4096 else number)
            position += 3
            continue
        elif head < 0xF0:
            if position + 2 > end:
                return 0
            start, size = position + 2, ((head & 0x0F) << 8) | data[position + 1]
        elif head == 0xF0:
            if position + 5 > end:
                return 0
            start = position + 5
            size = <Py_ssize_t>(<uint64_t>little(data + position + 1, 4) & 0xFFFFFFFF)
        else:
            width = 2 if head == 0xF1 else 3 if head == 0xF2 else 4 if head == 0xF3 else 8 if head == 0xF4 else 0
            if not width or position + 1 + width > end:
                return 0
            add_integer(v, little(data + position + 1, width))
            start, size = position + 1, width
            position = start + size + backlen_bytes(1 + width)
            continue
        if size > end - start:
            return 0
        add(v, blob.where, blob.at + start, size)
        position = start + size + backlen_bytes(start + size - position)


cdef int open_ziplist(Value* v) except -1:
    cdef Element blob
    cdef const uint8_t* data
    cdef Py_ssize_t position = 10, start, size, end
    cdef int width
    cdef uint8_t head
    v.count -= 1
    blob = v.elements[v.count]
    data = bytes_of(v, &blob)
    end = blob.size
    while True:
        if position >= end:
            return 0
        if data[position] == 0xFF:
            return position + 1 == end
        position += 5 if data[position] == 0xFE else 1
        if position >= end:
            return 0
        head = data[position]
        if head < 0x40:
            start, size = position + 1, head
        elif head < 0x80:
            if position + 2 > end:
                return 0
            start, size = position + 2, ((head & 0x3F) << 8) | data[position + 1]
        elif head < 0xC0:
            if position + 5 > end:
                return 0
            start = position + 5
            size = (
                (<Py_ssize_t>data[position + 1] << 24) | (<Py_ssize_t>data[position + 2] << 16)
                | (<Py_ssize_t>data[position + 3] << 8) | data[position + 4]
            )
        elif 0xF1 <= head <= 0xFD:
            add_integer(v, head - 0xF1)
            position += 1
            continue
        else:
            width = (
                2 if head == 0xC0 else 4 if head == 0xD0 else 8 if head == 0xE0 else 3 if head == 0xF0
                else 1 if head == 0xFE else 0
            )
            if not width or position + 1 + width > end:
                return 0
            add_integer(v, little(data + position + 1, width))
            position += 1 + width
            continue
        if size > end - start:
            return 0
        add(v, blob.where, blob.at + start, size)
        position = start + size


cdef int open_intset(Value* v) except -1:
    cdef Element blob
    cdef const uint8_t* data
    cdef int64_t width, count, i
    v.count -= 1
    blob = v.elements[v.count]
    data = bytes_of(v, &blob)
    if blob.size < 8:
        return 0
    width, count = little(data, 4), little(data + 4, 4) & 0xFFFFFFFF
    if width not in (2, 4, 8) or 8 + width * count != blob.size:
        return 0
    for i in range(count):
        add_integer(v, little(data + 8 + i * width, <int>width))
    return 1


# Scores

cdef int put_score(Value* v, Element* e, double score) except -1:
    cdef Py_ssize_t begin = v.written.size
    if score != score:
        return 0
    if score == 0:
        score = 0.0  # The packed encodings do not tell 0 and -0 apart.
    reserve(&v.written, 8)
    memcpy(v.written.data + begin, &score, 8)
    v.written.size += 8
    e.where, e.at, e.size = WRITTEN, begin, 8
    return 1


cdef int text_score(Value* v, Element* e) except -1:
    """Puts a double in the place of its text."""
    cdef char text[256]
    cdef char* end
    cdef double score
    if not 0 < e.size <= SCORE_BYTES_MAX:
        return 0
    memcpy(text, bytes_of(v, e), e.size)
    text[e.size] = 0
    try:
        score = PyOS_string_to_double(text, &end, NULL)
    except ValueError:
        return 0
    if end != text + e.size:
        return 0
    return put_score(v, e, score)


cdef int text_scores(Value* v) except -1:
    cdef Py_ssize_t i
    if v.count % 2:
        return 0
    for i in range(1, v.count, 2):
        if not text_score(v, &v.elements[i]):
            return 0
    return 1


cdef int read_zset(Value* v, bint binary) except -1:
    cdef int64_t count = 0, i, size
    cdef double score
    if not read_count(v, &count, 9 if binary else 2):
        return 0
    for i in range(count):
        if not read_string(v):
            return 0
        size = 8 if binary else 1
        if size > v.end - v.position:
            return 0
        if binary:
            memcpy(&score, v.body + v.position, 8)
        v.position += size
        if not binary:
            size = v.body[v.position - 1]
            if size <= SCORE_BYTES_MAX:
                if size > v.end - v.position:
                    return 0
                add(v, BODY, v.position, size)
                v.position += size
                if not text_score(v, &v.elements[v.count - 1]):
                    return 0
                continue
            score = float("inf") if size == 254 else float("-inf") if size == 255 else float("nan")
        add(v, BODY, 0, 0)
        if not put_score(v, &v.elements[v.count - 1], score):
            return 0
    return 1


# Values

cdef int[22] KINDS   # by type byte
for _kind, _types in (
    (STRING, (0,)), (LIST, (1, 10, 14, 18)), (SET, (2, 11, 20)), (ZSET, (3, 5, 12, 17)), (HASH, (4, 13, 16))
):
    for _type in _types:
        KINDS[<int>_type] = _kind


cdef inline int kind_of(uint8_t type_byte) noexcept:
    return KINDS[type_byte] if type_byte < 22 else UNKNOWN


cdef int read_strings(Value* v, int each) except -1:
    cdef int64_t count = 0, i
    if not read_count(v, &count, each):
        return 0
    for i in range(count * each):
        if not read_string(v):
            return 0
    return 1


cdef int read_nodes(Value* v, bint listpacks) except -1:
    cdef int64_t count = 0, container = 0, i
    if not read_count(v, &count, 2 if listpacks else 1):
        return 0
    for i in range(count):
        if listpacks and not read_length(v, &container):
            return 0
        if not read_string(v):
            return 0
        if not listpacks:
            if not open_ziplist(v):
                return 0
        elif container == 2:
            if not open_listpack(v):
                return 0
        elif container != 1:
            return 0
    return 1


cdef int read_value(Value* v, uint8_t kind) except -1:
    cdef int found
    if kind == 0:
        found = read_string(v)
    elif kind in (1, 2):
        found = read_strings(v, 1)
    elif kind == 4:
        found = read_strings(v, 2)
    elif kind in (3, 5):
        found = read_zset(v, kind == 5)
    elif kind in (14, 18):
        found = read_nodes(v, kind == 18)
    else:
        found = read_string(v)
        if found and kind in (10, 12, 13):
            found = open_ziplist(v)
        elif found and kind == 11:
            found = open_intset(v)
        elif found:
            found = open_listpack(v)
        if found and kind in (12, 17):
            found = text_scores(v)
        elif found and kind in (13, 16):
            found = v.count % 2 == 0
    return found and v.position == v.end


cdef inline bint same(Value* a, Element* e, Value* b, Element* f) noexcept:
    return e.size == f.size and memcmp(bytes_of(a, e), bytes_of(b, f), e.size) == 0


cdef inline uint64_t hashed(Value* v, Element* e) noexcept:
    cdef const uint8_t* data = bytes_of(v, e)
    cdef Py_ssize_t left = e.size
    cdef uint64_t word, result = SEED ^ <uint64_t>left
    while left >= 8:
        memcpy(&word, data, 8)
        result = (result ^ word) * <uint64_t>0x9E3779B97F4A7C15
        result ^= result >> 29
        data += 8
        left -= 8
    word = 0
    memcpy(&word, data, left)
    result = (result ^ word) * <uint64_t>0xBF58476D1CE4E5B9
    return result ^ (result >> 32)


cdef int same_units(Value* a, Value* b, int unit) except -1:
    """Whether both have the same units (an element, or two) in any order; each stands for one."""
    cdef Py_ssize_t units = a.count // unit, size = 8, mask, place, i
    cdef uint32_t* table
    cdef Element* e
    cdef Element* f
    while size < 2 * units:
        size *= 2
    mask = size - 1
    table = <uint32_t*>calloc(size, sizeof(uint32_t))
    if table == NULL:
        raise MemoryError
    try:
        for i in range(units):
            place = hashed(a, &a.elements[i * unit]) & mask
            while table[place]:
                place = (place + 1) & mask
            table[place] = <uint32_t>(i + 1)
        for i in range(units):
            e = &b.elements[i * unit]
            place = hashed(b, e) & mask
            while True:
                if not table[place]:
                    return 0
                f = &a.elements[((table[place] & ~TAKEN) - 1) * unit]
                if not table[place] & TAKEN and same(a, f, b, e):
                    break
                place = (place + 1) & mask
            table[place] |= TAKEN
            if unit == 2 and not same(a, f + 1, b, e + 1):
                return 0
        return 1
    finally:
        free(table)


cdef int compare(Value* a, Value* b, int kind) except -1:
    cdef Py_ssize_t i
    if a.count != b.count:
        return 0
    if kind == STRING or kind == LIST:
        for i in range(a.count):
            if not same(a, &a.elements[i], b, &b.elements[i]):
                return 0
        return 1
    return same_units(a, b, 1 if kind == SET else 2)


cdef void begin_value(Value* v, bytes payload) noexcept:
    memset(v, 0, sizeof(Value))
    v.body = <const uint8_t*>PyBytes_AS_STRING(payload)
    v.end = PyBytes_GET_SIZE(payload) - FOOTER_BYTES
    v.position = 1


cdef void end_value(Value* v) noexcept:
    free(v.unpacked.data)
    free(v.written.data)
    free(v.elements)


def same_elements(bytes source not None, bytes target not None):
    cdef Value a, b
    cdef int kind
    if PyBytes_GET_SIZE(source) <= FOOTER_BYTES or PyBytes_GET_SIZE(target) <= FOOTER_BYTES:
        return None
    begin_value(&a, source)
    begin_value(&b, target)
    kind = kind_of(a.body[0])
    if kind == UNKNOWN or kind_of(b.body[0]) == UNKNOWN:
        return None
    try:
        if not read_value(&a, a.body[0]) or not read_value(&b, b.body[0]):
            return None
        return kind == kind_of(b.body[0]) and bool(compare(&a, &b, kind))
    finally:
        end_value(&a)
        end_value(&b)
