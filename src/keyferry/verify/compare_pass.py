"""Compares every key of one source shard's database with the target's, a page of names at a time.

Each step asks both servers the same about the same keys and leaves fewer of them:

    first bytes   while most keys are short strings: GETRANGE, cheaper than DUMP and bounded
    size          what that does not settle: MEMORY USAGE, so that no giant is dumped
    dump          what is not big; bodies are compared as bytes, and decoded only where they differ

Where INFO says that no key of the database expires, on either server, no expiry is asked for. The race:
  1. Key k is compared without its expiry. 2. The application gives it one, on one side. 3. The page settles.
So a page without expiries settles only after an INFO that was asked behind its answers says the same once more, of
every server; else it is judged again, with expiries.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections import deque
from dataclasses import dataclass

from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.copy.info import keyspace, parse_info
from keyferry.transfer.comparing import pairs_in_doubt, sizes_in_doubt
from keyferry.transfer.comparing_config import Doubt, Names, Pair, PairRules, Times
from keyferry.transfer.comparing_names import framed, parted, picked
from keyferry.transfer.config import LOOK_KEYS, ExpiryMode
from keyferry.verify.compare_asking import Both, Question, size_question, value_question
from keyferry.verify.compare_big import BigLook
from keyferry.verify.compare_line import Line, replies_of
from keyferry.verify.compare_page import Batch, Page
from keyferry.verify.compare_scan import ScanParts, ScanPass
from keyferry.verify.compare_values import ValueRules, values_agree
from keyferry.wire.resp import encode_command

KEYSPACE = encode_command("INFO", "keyspace")


@dataclass(frozen=True, slots=True)
class CompareRules:
    """What is compared, and how.

    Attributes:
        database: Of the source; ``target_database`` the target's.
        source_mode: How an expiry is asked for; ``target_mode`` of the target.
        expiring: Some key may expire already.
        short_bytes: Strings below so many bytes are compared without DUMP; 0: none.
        look_bytes: Above this much memory a key is not dumped unseen; 0: sizes are not asked for.
        limits: Above them a key is handed out instead of dumped.
        pairs: ``ranged`` and ``expiring`` are set for each question.
        types: Names of the types that are wanted; none is all.
        streams: Whether streams are to be named.
    """

    database: int
    target_database: int
    source_mode: ExpiryMode
    target_mode: ExpiryMode
    expiring: bool
    short_bytes: int
    look_bytes: int
    limits: BigKeyLimits
    pairs: PairRules
    values: ValueRules
    types: tuple[str, ...]
    streams: bool


class ComparePass(ScanPass):
    """Use by ``passes.open_compare``."""

    def __init__(self, parts: ScanParts, rules: CompareRules, cursor: str) -> None:
        super().__init__(parts, cursor)
        self._rules = rules
        self._expiring = rules.expiring
        self._new: deque[Batch] = deque()
        self._unmeasured: deque[Batch] = deque()
        self._dumps: deque[Batch] = deque()
        self._probing = rules.short_bytes > 0
        self._short = self._others_seen = 0
        self._big = BigLook(self, rules)
        self._unproven: list[Page] = []
        self._proof: Proof | None = None

    # What is asked

    def _queue(self, page: Page) -> None:
        page.expiring = self._expiring
        self._new.extend(Batch(page, lane, names) for lane, names in page.lanes)

    def _fetch(self, limit: int, now: float) -> int:
        asked = self._ask_dumps(limit, now)
        while asked < limit and self._unmeasured:
            asked += self._ask_sizes(front(self._unmeasured, limit - asked))
        while asked < limit and self._new:
            batch = front(self._new, limit - asked)
            if self._probing:
                asked += self._ask_values(batch, ranged=True)
            elif self._rules.look_bytes:
                asked += self._ask_sizes(batch)
            else:
                asked += self._ask_values(batch, ranged=False)
        return asked

    def _ask_dumps(self, limit: int, now: float) -> int:
        asked, flow, counts = 0, self._parts.flow, self._counts
        while self._dumps and asked < limit:
            budget = flow.dump_bytes(counts, now)
            batch = self._dumps[0]
            if not batch.sizes:
                asked += self._ask_values(front(self._dumps, limit - asked), ranged=False)
                continue
            fitting = bisect.bisect_right(list(itertools.accumulate(batch.sizes)), budget)
            if not fitting and budget > 0 and not counts.dumping_bytes:
                fitting = 1  # A single larger one goes alone.
            if not fitting:
                break
            batch = front(self._dumps, min(limit - asked, fitting))
            size_bytes = sum(batch.sizes)
            counts.dumping_bytes += size_bytes
            flow.dumps(size_bytes)
            asked += self._ask_values(batch, ranged=False)
        return asked

    def _ask_values(self, batch: Batch, *, ranged: bool) -> int:
        rules, expiring = self._rules, batch.page.expiring

        def then(source: bytes, source_ms: Times, target: bytes, target_ms: Times) -> None:
            given = rules.pairs._replace(ranged=ranged, expiring=expiring)
            found, short = pairs_in_doubt(source, target, batch.names.number, given, source_ms, target_ms)
            self._counts.fetched_bytes += len(source)
            self._answered(batch)
            self._judge(batch, found, typed=not ranged)
            if batch.counts:
                self._look(short, batch.names.number - short)

        short_bytes = rules.short_bytes if ranged else 0
        modes = (rules.source_mode, rules.target_mode) if expiring else (ExpiryMode.NONE, ExpiryMode.NONE)
        questions = [value_question(short_bytes, mode) for mode in modes]
        return self._ask_both(batch, questions[0], questions[1], Both(then))

    def _ask_sizes(self, batch: Batch) -> int:
        def then(source: bytes, _: Times, target: bytes, __: Times) -> None:
            sizes, found = sizes_in_doubt(source, target, batch.names.number, self._rules.look_bytes)
            self._answered(batch)
            kept = [number for number, size in enumerate(sizes) if size >= 0]
            if kept:
                rest = batch.names if len(kept) == len(sizes) else framed(picked(batch.names, kept))
                self.dump(batch, rest, [sizes[number] for number in kept])
            self._judge_few(batch, found, typed=False)
            self._resolve(batch.page, len(sizes) - len(kept) - len(found))

        question = size_question()
        return self._ask_both(batch, question, question, Both(then))

    def _ask_both(self, batch: Batch, source: Question, target: Question, both: Both) -> int:
        source.ask(self._scanned, batch.names, both.source)
        target.ask(self._others[batch.lane], batch.names, both.target)
        keys = batch.names.number
        self._counts.queued_keys -= keys
        self._counts.fetching_keys += keys
        return keys

    # What the answers say

    def _answered(self, batch: Batch) -> None:
        self._counts.fetching_keys -= batch.names.number
        self._counts.dumping_bytes -= sum(batch.sizes)

    def _judge(self, batch: Batch, found: list[Pair], *, typed: bool) -> None:
        """Takes the answers about values; keys that are in no doubt are equal."""
        look = [pair.number for pair in found if pair.doubt == Doubt.LOOK]
        if look:
            rest = batch.names if len(look) == batch.names.number else framed(picked(batch.names, look))
            queue = self._unmeasured if self._rules.look_bytes else self._dumps
            queue.append(Batch(batch.page, batch.lane, rest, counts=False))
            self._counts.queued_keys += len(look)
            found = [pair for pair in found if pair.doubt != Doubt.LOOK]
        in_doubt = {pair.number for pair in found if pair.doubt != Doubt.STREAM}
        self._judge_few(batch, found, typed=typed)
        self._resolve(batch.page, batch.names.number - len(look) - len(in_doubt))

    def _judge_few(self, batch: Batch, found: list[Pair], *, typed: bool) -> None:
        """``typed``: of keys that differ it is known that they are of a type that was asked for."""
        if not found:
            return
        page, big, untyped = batch.page, [], []
        typed = typed or not self._rules.types
        numbers = sorted({pair.number for pair in found})
        names = dict(zip(numbers, picked(batch.names, numbers), strict=True))
        for pair in found:
            key = names[pair.number]
            match pair.doubt:
                case Doubt.STREAM:
                    page.streams.append(key)
                case Doubt.BIG:
                    big.append((key, int(pair.source), int(pair.target)))
                case Doubt.UNSELECTED:
                    page.unselected += 1
                    self._resolve(page, 1)
                case Doubt.DECODE if values_agree(pair.source, pair.target, self._rules.values):
                    self._resolve(page, 1)
                case Doubt.DIFFERS if not typed:
                    untyped.append(key)
                case _:
                    if pair.doubt in (Doubt.SOURCE_ERROR, Doubt.TARGET_ERROR):
                        here = pair.doubt == Doubt.SOURCE_ERROR
                        line = self._scanned if here else self._others[batch.lane]
                        self.refused(line, key, pair.source or pair.target)
                    self.suspect(page, key)
        if big:
            self._big.look(batch, big)
        if untyped:
            self._big.suspect(batch, untyped)

    def suspect(self, page: Page, key: bytes) -> None:
        """The key's word: it differs, or cannot be judged."""
        page.suspects.append(key)
        self._resolve(page, 1)

    def hand_out(self, page: Page, key: bytes) -> None:
        """The key is too big for this comparison."""
        page.big.append(key)
        self._resolve(page, 1)

    def leave_out(self, page: Page) -> None:
        """A key of a type that was not asked for."""
        page.unselected += 1
        self._resolve(page, 1)

    def dump(self, batch: Batch, names: Names, sizes: list[int]) -> None:
        """These keys of the batch are small enough."""
        self._dumps.append(Batch(batch.page, batch.lane, names, sizes, batch.counts))
        self._counts.queued_keys += names.number

    def lines(self, lane: int) -> tuple[Line, Line]:
        """The source's, and that of a lane."""
        return self._scanned, self._others[lane]

    def _look(self, short: int, others: int) -> None:
        """Decides from time to time how new keys are asked for: a range that finds no short string is for nothing."""
        if not self._rules.short_bytes:
            return
        self._short += short
        self._others_seen += others
        if self._short + self._others_seen >= LOOK_KEYS:
            self._probing = self._short >= self._others_seen
            self._short = self._others_seen = 0

    # When a page is done

    def _resolve(self, page: Page, keys: int) -> None:
        """So many more keys are judged; what there is to say about them is in the page."""
        page.open -= keys
        self._counts.fetched_keys += keys
        if page.open or not keys:
            return
        if page.expiring:
            page.settled = True
        elif self._expiring:
            self._again(page)
        else:
            self._unproven.append(page)
            self._prove()

    def _again(self, page: Page) -> None:
        page.again()
        self._counts.queued_keys += page.open
        self._queue(page)

    def _prove(self) -> None:
        """Asks every server whether a key expires by now; for all pages that wait for it, one at a time."""
        if self._proof is not None or not self._unproven:
            return
        proof = self._proof = Proof(self._unproven, len(self._lines))
        self._unproven = []
        for line in self._lines:
            database = self._rules.database if line is self._scanned else self._rules.target_database
            line.ask(KEYSPACE, 1, functools.partial(self._proven, proof, database))

    def _proven(self, proof: Proof, database: int, data: bytes) -> None:
        proof.open -= 1
        self._expiring = self._expiring or expires(data, database)
        if proof.open:
            return
        self._proof = None
        for page in proof.pages:
            if self._expiring:
                self._again(page)
            else:
                page.settled = True
        if self._expiring:
            waiting, self._unproven = self._unproven, []
            for page in waiting:
                self._again(page)
        self._prove()


@dataclass(slots=True)
class Proof:
    """Pages that settle when so many servers have said that no key expires."""

    pages: list[Page]
    open: int


def expires(data: bytes, database: int) -> bool:
    """Whether a server's answer to INFO keyspace leaves it open that a key of the database expires."""
    reply = replies_of(data)[0]
    if not isinstance(reply, bytes):
        return True
    space = keyspace(parse_info(reply)).get(database)
    return space is not None and space.expires > 0


def front(queue: deque[Batch], count: int) -> Batch:
    """Takes the first batch, or as much of it as ``count`` keys."""
    batch = queue.popleft()
    if batch.names.number <= count:
        return batch
    first, rest = parted(batch.names, count)
    queue.appendleft(Batch(batch.page, batch.lane, rest, batch.sizes[count:], batch.counts))
    return Batch(batch.page, batch.lane, first, batch.sizes[:count], batch.counts)
