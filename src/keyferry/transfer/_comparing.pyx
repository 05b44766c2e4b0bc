# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``comparing`` and ``comparing_names``: no Python object per key that is not in doubt."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from keyferry.transfer._buffer cimport Buffer, put, put_head, reserve, take
from keyferry.transfer._cutting cimport (
    INCOMPLETE, bulk_bytes_max, is_wrong_type, line_end, parse_head, protocol_error, read_bulk, read_number, replies_end,
)
from keyferry.transfer._lanes cimport SLOTS, slot_of

from keyferry.transfer.comparing_config import FAR_MS as _FAR_MS
from keyferry.transfer.comparing_config import FOOTER_BYTES as _FOOTER_BYTES
from keyferry.transfer.comparing_config import Doubt, Names, Pair

cdef enum:
    FOOTER_BYTES = 10
    NOTHING = 0        # what GETRANGE found, as in ``comparing``
    SHORT = 1
    FULL = 2
    OTHER = 3

cdef enum:
    NO_DOUBT = -1
    DIFFERS = 0
    LOOK = 1
    DECODE = 2
    UNSELECTED = 5

cdef int64_t FAR_MS = _FAR_MS
if _FOOTER_BYTES != FOOTER_BYTES:
    raise ImportError("_comparing is built for another footer")

# By number, so that a doubt costs no look-up of its name.
cdef tuple DOUBTS = tuple(Doubt)
cdef object SOURCE_ERROR = Doubt.SOURCE_ERROR
cdef object TARGET_ERROR = Doubt.TARGET_ERROR
cdef object STREAM = Doubt.STREAM
cdef object BIG = Doubt.BIG
if [int(doubt) for doubt in DOUBTS] != list(range(len(DOUBTS))) or Doubt.UNSELECTED != UNSELECTED:
    raise ImportError("_comparing is built for other doubts")

cdef bytes RESERVED = b"keyferry:"


cdef struct Rules:
    bint ranged
    bint expiring
    int64_t short_bytes
    int64_t offset_ms
    int64_t tolerance_ms
    const uint8_t* wanted
    const uint8_t* streams
    int same_types_max


cdef struct Answers:
    # One server's answers, key by key; see ``comparing._Answers``.
    const char* data
    Py_ssize_t size
    Py_ssize_t position
    int64_t begin_ms
    int64_t end_ms
    Py_ssize_t value_at
    int64_t length         # of the value, -1 for none
    int kind
    bint gone
    Py_ssize_t error_at    # 0 for none
    Py_ssize_t error_end
    int64_t earliest_ms
    int64_t latest_ms


cdef object too_few():
    return protocol_error("A server sent fewer answers than it was asked for.")


cdef int next_key(Answers* a, Rules* rules) except -1:
    cdef const char* data = a.data
    cdef Py_ssize_t position = a.position, end, error_end = 0
    cdef int64_t expires = 0
    a.error_at = 0
    a.length = -1
    if position >= a.size:
        raise too_few()
    if data[position] == 45:
        end = line_end(data, a.size, position)
        if end == INCOMPLETE:
            raise too_few()
        if rules.ranged and is_wrong_type(data, position + 1, end):
            a.kind = OTHER
        else:
            a.error_at, a.error_end = position + 1, end
        position = end + 2
    else:
        a.value_at = read_bulk(data, a.size, position, &a.length)
        if a.value_at == INCOMPLETE:
            raise too_few()
        position = a.value_at + a.length + 2 if a.length >= 0 else a.value_at
        if rules.ranged:
            if not 0 <= a.length <= rules.short_bytes:
                raise protocol_error("A server answered GETRANGE with something else.")
            a.kind = NOTHING if a.length == 0 else FULL if a.length == rules.short_bytes else SHORT
        elif 0 <= a.length <= FOOTER_BYTES:
            raise protocol_error("A server answered DUMP with something that is no payload.")
    a.gone = a.length < 0 and not rules.ranged
    a.earliest_ms = a.latest_ms = -1
    if rules.expiring:
        end = read_number(data, a.size, position, &expires, &error_end)
        if end == INCOMPLETE:
            raise too_few()
        if error_end and not a.error_at:
            a.error_at, a.error_end = position + 1, error_end
        position = end
        if expires == -2:
            a.gone = True
        elif expires >= 0:
            if expires > FAR_MS:
                expires = FAR_MS
            a.earliest_ms = expires + a.begin_ms
            a.latest_ms = expires + a.end_ms
    a.position = position
    return 0


cdef inline bint same_expiry(Answers* a, Answers* b, Rules* rules) noexcept:
    if a.earliest_ms < 0 or b.earliest_ms < 0:
        return a.earliest_ms < 0 and b.earliest_ms < 0
    return (
        b.latest_ms - a.earliest_ms - rules.offset_ms <= rules.tolerance_ms
        and a.latest_ms + rules.offset_ms - b.earliest_ms <= rules.tolerance_ms
    )


cdef inline bint same_value(Answers* a, Answers* b, Py_ssize_t without) noexcept:
    """``without``: so many bytes at the end do not count."""
    if a.length < 0 or b.length < 0:
        return a.length < 0 and b.length < 0
    return a.length == b.length and memcmp(a.data + a.value_at, b.data + b.value_at, a.length - without) == 0


cdef int ranges(Answers* a, Answers* b, Rules* rules) noexcept:
    if a.gone or b.gone:
        return NO_DOUBT if a.gone and b.gone else DIFFERS
    if a.kind == SHORT or b.kind == SHORT:
        if a.kind == b.kind and same_value(a, b, 0) and same_expiry(a, b, rules):
            return NO_DOUBT
        return DIFFERS
    if a.kind == b.kind:
        return LOOK if same_value(a, b, 0) else DIFFERS
    return DIFFERS if a.kind == FULL or b.kind == FULL else LOOK


cdef int dumps(Answers* a, Answers* b, Rules* rules) noexcept:
    cdef uint8_t kind = 0
    if a.length >= 0 or b.length >= 0:
        kind = <uint8_t>(a.data[a.value_at] if a.length >= 0 else b.data[b.value_at])
        if not rules.wanted[kind]:
            return UNSELECTED
    if a.gone or b.gone:
        return NO_DOUBT if a.gone and b.gone else DIFFERS
    if not same_expiry(a, b, rules):
        return DIFFERS
    if same_value(a, b, FOOTER_BYTES) and kind <= rules.same_types_max:
        return NO_DOUBT
    return DECODE


cdef inline bytes value_of(Answers* a):
    return PyBytes_FromStringAndSize(a.data + a.value_at, a.length if a.length > 0 else 0)


cdef int begin_answers(Answers* a, bytes data, tuple times) except -1:
    a.data = PyBytes_AS_STRING(data)
    a.size = PyBytes_GET_SIZE(data)
    a.position = a.value_at = 0
    a.kind = NOTHING
    a.begin_ms, a.end_ms = times
    return 0


def pairs_in_doubt(
    bytes source not None, bytes target not None, Py_ssize_t count, given, tuple source_ms not None,
    tuple target_ms not None,
):
    cdef Answers a, b
    cdef Rules rules
    cdef bytes wanted = given.wanted, streams = given.streams
    cdef list found = []
    cdef Py_ssize_t number, short = 0
    cdef int doubt
    cdef const char* payload
    if len(wanted) != 256 or len(streams) != 256:
        raise ValueError("wanted and streams are 256 bytes")
    rules.ranged, rules.expiring, rules.short_bytes = given.ranged, given.expiring, given.short_bytes
    rules.offset_ms, rules.tolerance_ms = given.clock_offset_ms, given.tolerance_ms
    rules.wanted = <const uint8_t*>PyBytes_AS_STRING(wanted)
    rules.streams = <const uint8_t*>PyBytes_AS_STRING(streams)
    rules.same_types_max = given.same_types_max
    begin_answers(&a, source, source_ms)
    begin_answers(&b, target, target_ms)
    for number in range(count):
        next_key(&a, &rules)
        next_key(&b, &rules)
        if a.error_at:
            found.append(Pair(number, SOURCE_ERROR, a.data[a.error_at:a.error_end], b""))
            continue
        if b.error_at:
            found.append(Pair(number, TARGET_ERROR, b"", b.data[b.error_at:b.error_end]))
            continue
        if rules.ranged:
            short += a.kind == SHORT
            doubt = ranges(&a, &b, &rules)
        else:
            if a.length >= 0:
                payload = a.data + a.value_at
                if payload[0] == 0 and a.length < rules.short_bytes + 13 and <uint8_t>payload[1] != 0xC3:
                    short += 1
                if rules.streams[<uint8_t>payload[0]]:
                    found.append(Pair(number, STREAM, b"", b""))
            doubt = dumps(&a, &b, &rules)
        if doubt == DECODE:
            found.append(Pair(number, DOUBTS[DECODE], value_of(&a), value_of(&b)))
        elif doubt != NO_DOUBT:
            found.append(Pair(number, DOUBTS[doubt], b"", b""))
    if a.position != a.size or b.position != b.size:
        raise protocol_error("A server sent more answers than it was asked for.")
    return found, short


def sizes_in_doubt(bytes source not None, bytes target not None, Py_ssize_t count, int64_t look_bytes):
    cdef const char* here = PyBytes_AS_STRING(source)
    cdef const char* there = PyBytes_AS_STRING(target)
    cdef Py_ssize_t here_at = 0, there_at = 0, here_end, there_end, here_error = 0, there_error = 0, number
    cdef int64_t here_bytes = 0, there_bytes = 0, larger
    cdef list sizes = [], found = []
    for number in range(count):
        here_end = read_number(here, PyBytes_GET_SIZE(source), here_at, &here_bytes, &here_error)
        there_end = read_number(there, PyBytes_GET_SIZE(target), there_at, &there_bytes, &there_error)
        if here_end == INCOMPLETE or there_end == INCOMPLETE:
            raise too_few()
        larger = -1
        if here_error:
            found.append(Pair(number, SOURCE_ERROR, here[here_at + 1:here_error], b""))
        elif there_error:
            found.append(Pair(number, TARGET_ERROR, b"", there[there_at + 1:there_error]))
        elif here_bytes < 0 or there_bytes < 0:
            if here_bytes >= 0 or there_bytes >= 0:
                found.append(Pair(number, DOUBTS[DIFFERS], b"", b""))
        else:
            larger = here_bytes if here_bytes > there_bytes else there_bytes
            if larger > look_bytes:
                found.append(Pair(number, BIG, b"%d" % here_bytes, b"%d" % there_bytes))
                larger = -1
        sizes.append(larger)
        here_at, there_at = here_end, there_end
    if here_at != PyBytes_GET_SIZE(source) or there_at != PyBytes_GET_SIZE(target):
        raise protocol_error("A server sent more answers than it was asked for.")
    return sizes, found


cdef inline Py_ssize_t plain_end(const char* data, Py_ssize_t size, Py_ssize_t position) noexcept:
    """Where a whole string or integer of few digits ends; INCOMPLETE for everything else, to be looked at closely."""
    cdef Py_ssize_t at = position + 1
    cdef int64_t number = 0
    cdef char kind = data[position]
    if kind == 58:
        if at < size and data[at] == 45:
            at += 1
    elif kind != 36:
        return INCOMPLETE
    while at < size and 48 <= data[at] <= 57 and at - position < 17:
        number = number * 10 + (data[at] - 48)
        at += 1
    if at + 1 >= size or not 48 <= data[at - 1] <= 57 or data[at] != 13 or data[at + 1] != 10:
        return INCOMPLETE
    at += 2
    if kind == 58:
        return at
    if number > bulk_bytes_max() or number + 2 > size - at:
        return INCOMPLETE
    return at + number + 2


def walked(const uint8_t[::1] data not None, Py_ssize_t position, int64_t replies):
    cdef Buffer buffer
    cdef Py_ssize_t after, need = 0
    buffer.size = data.shape[0]
    if not buffer.size:
        return position, replies
    buffer.data = <char*>&data[0]
    while replies and position < buffer.size:
        after = plain_end(buffer.data, buffer.size, position)
        if after == INCOMPLETE:
            after = replies_end(&buffer, position, 1, &need)
        if after == INCOMPLETE:
            break
        position = after
        replies -= 1
    return position, replies


# Names

cdef object not_scan():
    return protocol_error("A server answered SCAN with something else.")


cdef object not_names():
    return ValueError("not the names that were announced")


cdef Py_ssize_t name_end(const char* data, Py_ssize_t size, Py_ssize_t position, Py_ssize_t* begin) except -2:
    """Behind the framed name at ``position``; its own bytes begin at ``begin``."""
    cdef int64_t length = 0
    if position >= size or data[position] != 36:
        raise not_names()
    begin[0] = read_bulk(data, size, position, &length)
    if begin[0] == INCOMPLETE or length < 0:
        raise not_names()
    return begin[0] + length + 2


def sifted(bytes reply not None, sieve):
    cdef const char* data = PyBytes_AS_STRING(reply)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(reply), position, after, lane
    cdef int64_t count = 0, length = 0, i
    cdef bytes cursor, slots = sieve.slots, wanted = sieve.wanted_slots
    cdef const uint8_t* by_slot = <const uint8_t*>PyBytes_AS_STRING(slots)
    cdef const uint8_t* wanted_slots = <const uint8_t*>PyBytes_AS_STRING(wanted)
    cdef bint spread = len(slots) > 0, choosy = len(wanted) > 0
    cdef Py_ssize_t lanes = sieve.lanes, slot
    cdef object passes = sieve.passes
    cdef Buffer* names
    cdef int64_t* counts
    if lanes < 1 or len(slots) not in (0, 2 * SLOTS) or len(wanted) not in (0, SLOTS):
        raise ValueError("no such lanes or slots")
    position = parse_head(data, size, 0, 42, &count)
    if position == INCOMPLETE or count != 2:
        raise not_scan()
    position = read_bulk(data, size, position, &length)
    if position == INCOMPLETE or length < 0:
        raise not_scan()
    cursor = data[position:position + length]
    if not cursor.isdigit():
        raise not_scan()
    position = parse_head(data, size, position + length + 2, 42, &count)
    if position == INCOMPLETE or count < 0:
        raise not_scan()
    names = <Buffer*>calloc(lanes, sizeof(Buffer))
    counts = <int64_t*>calloc(lanes, sizeof(int64_t))
    try:
        if names == NULL or counts == NULL:
            raise MemoryError
        for i in range(count):
            after = read_bulk(data, size, position, &length)
            if after == INCOMPLETE or length < 0:
                raise not_scan()
            lane = 0
            slot = 0
            if spread or choosy:
                slot = slot_of(data + after, length)
            if spread:
                lane = by_slot[2 * slot] | (by_slot[2 * slot + 1] << 8)
                if lane >= lanes:
                    raise ValueError("no such lanes or slots")
            if not (
                (length >= 9 and memcmp(data + after, PyBytes_AS_STRING(RESERVED), 9) == 0)
                or (choosy and not wanted_slots[slot])
                or (passes is not None and not passes(data[after:after + length]))
            ):
                reserve(&names[lane], after + length + 2 - position)
                put(&names[lane], data + position, after + length + 2 - position)
                counts[lane] += 1
            position = after + length + 2
        if position != size:
            raise not_scan()
        return cursor, [
            (lane, Names(counts[lane], take(&names[lane]))) for lane in range(lanes) if counts[lane]
        ]
    finally:
        if names != NULL:
            for lane in range(lanes):
                free(names[lane].data)
        free(names)
        free(counts)


def woven(names, list pieces not None):
    cdef bytes data = names.data, piece, out
    cdef Py_ssize_t count = names.number, size = PyBytes_GET_SIZE(data), width = len(pieces), total = 0
    cdef Py_ssize_t i, place, position = 0, after, begin = 0
    cdef const char* name = PyBytes_AS_STRING(data)
    cdef char* to
    for piece in pieces:
        total += PyBytes_GET_SIZE(piece)
    if count < 0:
        raise not_names()
    out = PyBytes_FromStringAndSize(NULL, total * count + size * (width - 1))
    to = PyBytes_AS_STRING(out)
    for i in range(count):
        after = name_end(name, size, position, &begin)
        for place in range(width):
            piece = <bytes>pieces[place]
            memcpy(to, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            to += PyBytes_GET_SIZE(piece)
            if place < width - 1:
                memcpy(to, name + position, after - position)
                to += after - position
        position = after
    if position != size:
        raise not_names()
    return out


def exists(names, Py_ssize_t each):
    cdef bytes data = names.data
    cdef Py_ssize_t count = names.number, size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t i, position = 0, first = 0, begin = 0, chunk = 0
    cdef const char* name = PyBytes_AS_STRING(data)
    cdef Buffer out
    if each < 1:
        raise ValueError("each is at least 1")
    out.data = NULL
    out.size = out.capacity = 0
    try:
        for i in range(count):
            position = name_end(name, size, position, &begin)
            chunk += 1
            if chunk == each or i == count - 1:
                reserve(&out, position - first + 40)
                put_head(&out, 42, chunk + 1)
                put(&out, b"$6\r\nEXISTS\r\n", 12)
                put(&out, name + first, position - first)
                first = position
                chunk = 0
        if position != size:
            raise not_names()
        return take(&out)
    finally:
        free(out.data)


def picked(names, list numbers not None):
    cdef bytes data = names.data
    cdef Py_ssize_t count = names.number, size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = 0, after, begin = 0, at = 0, number
    cdef const char* name = PyBytes_AS_STRING(data)
    cdef list found = []
    for number in numbers:
        if not at <= number < count:
            raise IndexError("numbers rise and are below the names' number")
        while at <= number:
            after = name_end(name, size, position, &begin)
            at += 1
            if at <= number:
                position = after
        found.append(name[begin:after - 2])
        position = after
    return found


def parted(names, Py_ssize_t wanted):
    cdef bytes data = names.data
    cdef Py_ssize_t count = names.number, size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t position = 0, begin = 0, i
    if wanted >= count:
        return Names(count, data), Names(0, b"")
    for i in range(wanted):
        position = name_end(PyBytes_AS_STRING(data), size, position, &begin)
    return Names(wanted, data[:position]), Names(count - wanted, data[position:])
