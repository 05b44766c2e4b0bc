# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled twin of ``waiting`` and ``probing``: what is asked of the source, and for which keys."""

cimport cython
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from keyferry.transfer._buffer cimport append
from keyferry.transfer._pages cimport Page, Pages, Spot, Spots, pop_spot, push_spot
from keyferry.transfer._requests cimport Requests

from collections import deque

from keyferry.transfer.config import LOOK_KEYS as _LOOK_KEYS

cdef int64_t LOOK_KEYS = _LOOK_KEYS


@cython.final
cdef class Asking:
    """The runs that the source has to answer, and the keys in them.

    New keys are asked for page by page, whatever they are asked for, so two places in the pages (the next to
    ask for, the next to be answered) are all that is kept of them. Keys that are asked once more have queues:
    waiting for DUMP or for their size (``dumps``, ``probed``), and asked for it (``dumping``, ``measuring``).
    """

    def __cinit__(self):
        memset(&self.out, 0, sizeof(self.out))
        memset(&self.dumps, 0, sizeof(Spots))
        memset(&self.dumping, 0, sizeof(Spots))
        memset(&self.probed, 0, sizeof(Spots))
        memset(&self.measuring, 0, sizeof(Spots))

    def __dealloc__(self):
        free(self.out.data)
        free(self.dumps.data)
        free(self.dumping.data)
        free(self.probed.data)
        free(self.measuring.data)

    def __init__(self, config, Pages pages not None):
        self.requests = Requests(config)
        self.pages = pages
        self.runs = deque()
        self.queued_keys = self.fetching_keys = self.dumping_bytes = 0
        self.request_page = self.request_index = self.reply_page = self.reply_index = 0
        self.short_bytes = config.short_bytes
        self.look_bytes = config.look_bytes
        self.probing = config.short_bytes > 0
        self.short_seen = self.others_seen = 0

    cdef int own(self, int kind, int64_t token, bytes data, int64_t replies) except -1:
        """Commands that are about no key."""
        append(&self.out, data)
        self.runs.append((kind, replies, token))
        return 0

    cdef int64_t dump(self, int64_t limit, int64_t dump_bytes) except -1:
        """Asks for DUMPs that wait; see ``Waiting.ask_dumps``."""
        cdef int64_t asked = 0, left = dump_bytes
        cdef Spot spot
        cdef Page page
        while asked < limit and self.dumps.count:
            spot = self.dumps.data[self.dumps.head]
            if spot.size > left and (self.dumping_bytes or left <= 0):
                break
            pop_spot(&self.dumps)
            push_spot(&self.dumping, spot)
            left -= spot.size
            self.dumping_bytes += spot.size
            page = self.pages.at(spot.page)
            self.requests.fetch(&self.out, page.name(spot.index), page.length[spot.index], False, asked == 0)
            asked += 1
        return self.begin_run(RUN_AGAIN, asked)

    cdef int64_t measure(self, int64_t limit) except -1:
        """Asks for sizes of keys that were probed."""
        cdef int64_t asked = 0
        cdef Spot spot
        cdef Page page
        while asked < limit and self.probed.count:
            spot = pop_spot(&self.probed)
            push_spot(&self.measuring, spot)
            page = self.pages.at(spot.page)
            self.requests.measure(&self.out, page.name(spot.index), page.length[spot.index])
            asked += 1
        return self.begin_run(RUN_LOOK, asked)

    cdef int64_t ask_new(self, int64_t limit) except -1:
        """Asks for new keys: their first bytes, their sizes or their DUMPs."""
        cdef int64_t asked = 0, new = self.queued_keys - self.dumps.count - self.probed.count
        cdef bint measures = self.look_bytes > 0 and not self.probing
        cdef Py_ssize_t index
        cdef Page page
        while asked < limit and asked < new:
            page = self.pages.at(self.request_page)
            if self.request_index >= page.keys:
                self.request_page += 1
                self.request_index = 0
                continue
            index = self.request_index
            if measures:
                self.requests.measure(&self.out, page.name(index), page.length[index])
            else:
                self.requests.fetch(&self.out, page.name(index), page.length[index], self.probing, asked == 0)
            self.request_index += 1
            asked += 1
        return self.begin_run(RUN_PROBE if self.probing else RUN_MEASURE if measures else RUN_FETCH, asked)

    cdef int64_t begin_run(self, int kind, int64_t keys) except -1:
        """Returns how many keys it has."""
        if keys:
            self.runs.append((kind, keys, 0))
            self.queued_keys -= keys
            self.fetching_keys += keys
        return keys

    cdef Page answered(self, int kind):
        """The page of the next key of a run of this kind, which is answered now; ``here`` is its place."""
        cdef Page page
        self.fetching_keys -= 1
        if kind == RUN_AGAIN:
            self.here = pop_spot(&self.dumping)
            self.dumping_bytes -= self.here.size
            return self.pages.at(self.here.page)
        if kind == RUN_LOOK:
            self.here = pop_spot(&self.measuring)
            return self.pages.at(self.here.page)
        page = self.pages.at(self.reply_page)
        while self.reply_index >= page.keys:
            self.reply_page += 1
            self.reply_index = 0
            page = self.pages.at(self.reply_page)
        self.here.page = page.number
        self.here.index = <int32_t>self.reply_index
        self.here.size = 0
        self.here.counts = True
        self.reply_index += 1
        return page

    cdef int again(self, Spots* queue, int64_t page, int64_t index, int64_t size, bint counts) except -1:
        """Queues a key that was asked for something before."""
        cdef Spot spot
        spot.page = page
        spot.index = <int32_t>index
        spot.size = size
        spot.counts = counts
        push_spot(queue, spot)
        self.queued_keys += 1
        return 0

    cdef int is_small(self, int64_t size) except -1:
        """The key ``here`` was measured and is not big."""
        return self.again(&self.dumps, self.here.page, self.here.index, size, self.here.counts)

    cdef int is_long(self) except -1:
        """The key ``here`` was probed and is no short string: measured first, where sizes are asked for."""
        self.look(False)
        return self.again(
            &self.probed if self.look_bytes else &self.dumps, self.here.page, self.here.index, 0, False
        )

    cdef void look(self, bint short) noexcept:
        """Counts a key; decides from time to time how the next ones are asked for."""
        if self.short_bytes == 0:
            return
        if short:
            self.short_seen += 1
        else:
            self.others_seen += 1
        if self.short_seen + self.others_seen >= LOOK_KEYS:
            self.probing = self.short_seen >= self.others_seen
            self.short_seen = self.others_seen = 0

    cdef void settled(self) noexcept:
        """Pages were taken off."""
        if self.request_page < self.pages.first:
            self.request_page = self.pages.first
            self.request_index = 0
        if self.reply_page < self.pages.first:
            self.reply_page = self.pages.first
            self.reply_index = 0
