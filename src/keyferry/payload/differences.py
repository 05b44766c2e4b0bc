"""What differs between two values of one key, as short dicts for a file of JSON lines. Pure.

Names (of fields, members, groups, consumers) are printable text; what a field or element holds is never in it: such
a file may be shown to people who may not see the data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from keyferry.model.keys import escape
from keyferry.model.values import (
    HashValue,
    ListValue,
    ModuleValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)

LISTED_MAX = 20

Finding = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class OneSide:
    """A key on one server.

    Attributes:
        kind: As TYPE says it; ``none`` when it is not there.
        value: None when it is not there, or was not read.
        expires_at_ms: Unix milliseconds on the target's clock; None is for ever.
    """

    kind: str
    value: Value | None = None
    expires_at_ms: int | None = None


def list_differences(
    source: OneSide,
    target: OneSide,
    *,
    expiry_tolerance_ms: int = 0,
    field_expiry: bool = True,
    listed_max: int = LISTED_MAX,
) -> tuple[Finding, ...]:
    """All that differs, at most ``listed_max`` things; then a last ``{"what": "more", "count": n}`` counts the others.

    A key that one side lacks, or holds as another type, differs in that alone. What ``same_value`` does not compare
    (consumers' times, counters that one of two streams does not say) is not looked at here either. Every dict has
    ``what``; those about one part of the value have ``name`` (or ``at``, ``id``) and ``how``: ``missing`` on the target,
    ``extra`` there, or ``differs``.

    Args:
        expiry_tolerance_ms: Expiries, of the key or of fields, that are this far apart are the same.
        field_expiry: False: the target cannot hold expiries of fields, and they are not compared.
    """
    if source.kind != target.kind:
        return ({"what": "type", "source": source.kind, "target": target.kind},)
    looks = _Looks(expiry_tolerance_ms, field_expiry)
    return shortened(looks.all(source, target), listed_max)


def shortened(findings: Iterable[Finding], listed_max: int = LISTED_MAX) -> tuple[Finding, ...]:
    """The first findings, and how many more there are."""
    listed: list[Finding] = []
    count = 0
    for finding in findings:
        count += 1
        if count <= listed_max:
            listed.append(finding)
    if count > listed_max:
        listed.append({"what": "more", "count": count - listed_max})
    return tuple(listed)


@dataclass(frozen=True, slots=True)
class _Looks:
    tolerance_ms: int
    field_expiry: bool

    def all(self, source: OneSide, target: OneSide) -> Iterator[Finding]:
        if self._apart(source.expires_at_ms, target.expires_at_ms):
            yield {
                "what": "expiry",
                "source_ms": source.expires_at_ms,
                "target_ms": target.expires_at_ms,
            }
        if source.value is not None and target.value is not None:
            yield from self._values(source.value, target.value)

    def _apart(self, one: int | None, other: int | None) -> bool:
        if one is None or other is None:
            return one is not other
        return abs(one - other) > self.tolerance_ms

    def _values(self, source: Value, target: Value) -> Iterator[Finding]:
        match source, target:
            case StringValue(), StringValue():
                yield from _strings(source.data, target.data)
            case ListValue(), ListValue():
                yield from _lists(source.items, target.items)
            case SetValue(), SetValue():
                yield from _named(
                    "member", dict.fromkeys(source.members, 0), dict.fromkeys(target.members, 0)
                )
            case ZSetValue(), ZSetValue():
                yield from _named("member", dict(source.members), dict(target.members), differs="score")
            case HashValue(), HashValue():
                yield from _named("field", dict(source.fields), dict(target.fields))
                if self.field_expiry:
                    yield from self._field_expiries(source, target)
            case StreamValue(), StreamValue():
                yield from _streams(source, target)
            case ModuleValue(), ModuleValue():
                yield {"what": "value", "why": f"only the module of {source.module} can read it"}

    def _field_expiries(self, source: HashValue, target: HashValue) -> Iterator[Finding]:
        # A field that one side lacks has been named already.
        both = {name for name, _ in source.fields} & {name for name, _ in target.fields}
        for name in _in_order(source.expiries, target.expiries):
            ours, theirs = source.expiries.get(name), target.expiries.get(name)
            if name in both and self._apart(ours, theirs):
                yield {
                    "what": "field expiry",
                    "name": escape(name),
                    "source_ms": ours,
                    "target_ms": theirs,
                }


def _strings(source: bytes, target: bytes) -> Iterator[Finding]:
    if source != target:
        yield {
            "what": "value",
            "source_bytes": len(source),
            "target_bytes": len(target),
            "first_at": _first_at(source, target),
        }


def _first_at(one: bytes, other: bytes) -> int:
    """The first index at which they differ, by halves: comparing slices is a memcmp."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _lists(source: list[bytes], target: list[bytes]) -> Iterator[Finding]:
    if len(source) != len(target):
        yield {"what": "length", "source": len(source), "target": len(target)}
    for at, (ours, theirs) in enumerate(zip(source, target, strict=False)):
        if ours != theirs:
            yield {"what": "element", "at": at, "how": "differs"}


def _named(
    what: str,
    source: Mapping[bytes, object],
    target: Mapping[bytes, object],
    *,
    differs: str = "",
    more: Mapping[str, object] = {},
) -> Iterator[Finding]:
    """Parts with a name. ``differs``: what it is called where a part is there on both sides and is not the same."""
    for name, how in _compared(source, target):
        yield {
            "what": differs if differs and how == "differs" else what,
            **more,
            "name": escape(name),
            "how": how,
        }


def _compared(source: Mapping[Name, object], target: Mapping[Name, object]) -> Iterator[tuple[Name, str]]:
    for name in _in_order(source, target):
        if name not in target:
            yield name, "missing"
        elif name not in source:
            yield name, "extra"
        elif source[name] != target[name]:
            yield name, "differs"


def _in_order(source: Iterable[Name], target: Iterable[Name]) -> Iterable[Name]:
    """The source's names, then those that only the target has."""
    return dict.fromkeys((*source, *target))


def _streams(source: StreamValue, target: StreamValue) -> Iterator[Finding]:
    for entry_id, how in _compared(dict(source.entries), dict(target.entries)):
        yield {"what": "entry", "id": id_text(entry_id), "how": how}
    if source.last_id != target.last_id:
        yield {"what": "last id", "source": id_text(source.last_id), "target": id_text(target.last_id)}
    counted = source.entries_added is not None and target.entries_added is not None
    if counted and source.entries_added != target.entries_added:
        yield {"what": "entries added", "source": source.entries_added, "target": target.entries_added}
    ours_deleted, theirs_deleted = source.max_deleted_id, target.max_deleted_id
    if ours_deleted is not None and theirs_deleted is not None and ours_deleted != theirs_deleted:
        yield {
            "what": "max deleted id",
            "source": id_text(ours_deleted),
            "target": id_text(theirs_deleted),
        }
    ours, theirs = _by_name(source.groups), _by_name(target.groups)
    for name in _in_order(ours, theirs):
        if name in ours and name in theirs:
            yield from _groups(ours[name], theirs[name], counted)
        else:
            how = "missing" if name in ours else "extra"
            yield {"what": "group", "name": escape(name), "how": how}


def _by_name(groups: list[StreamGroup]) -> dict[bytes, StreamGroup]:
    return {group.name: group for group in groups}


def _groups(source: StreamGroup, target: StreamGroup, counted: bool) -> Iterator[Finding]:
    group = {"group": escape(source.name)}
    if source.last_id != target.last_id:
        yield {
            "what": "group's last id",
            **group,
            "source": id_text(source.last_id),
            "target": id_text(target.last_id),
        }
    if counted and source.entries_read != target.entries_read:
        yield {
            "what": "entries read",
            **group,
            "source": source.entries_read,
            "target": target.entries_read,
        }
    yield from _named(
        "consumer",
        {consumer.name: 0 for consumer in source.consumers},
        {consumer.name: 0 for consumer in target.consumers},
        more=group,
    )
    for entry_id, how in _compared(_pending(source.pending), _pending(target.pending)):
        yield {"what": "pending entry", **group, "id": id_text(entry_id), "how": how}


def _pending(entries: list[PendingEntry]) -> dict[StreamId, tuple[bytes, int, int]]:
    return {entry.entry_id: (entry.consumer, entry.delivered_ms, entry.deliveries) for entry in entries}


def id_text(entry_id: StreamId) -> str:
    return f"{entry_id[0]}-{entry_id[1]}"
