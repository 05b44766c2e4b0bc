"""What an application gets when the phase record does not say where its commands belong.

All are redis-py errors. One that may pass by itself is a ConnectionError, which redis-py's retries know; the others
are not, so that nothing is sent again for them.
"""

from __future__ import annotations

from redis.exceptions import (
    ClusterDownError,
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from keyferry.model.phases import Side, Standing
from keyferry.model.record import NoRecord, RecordError, RecordVanished, RecordWentBack, TwoAuthorities


class MigrationRecordError(RedisError):
    """The record cannot be followed; nothing was sent to either side on the strength of a guess."""


class RecordLostError(MigrationRecordError):
    """There is no record, or the one that was there is gone."""


class RecordWentBackError(MigrationRecordError):
    """The record is older than what this process knew, or both sides claim authority."""


class RecordUnreachableError(RedisConnectionError):
    """The side with authority does not answer, and what was known of it is not sure any more."""


def client_error(error: RecordError, name: str) -> MigrationRecordError:
    """The application's form of a record's error."""
    kind = MigrationRecordError
    if isinstance(error, (NoRecord, RecordVanished)):
        kind = RecordLostError
    elif isinstance(error, (RecordWentBack, TwoAuthorities)):
        kind = RecordWentBackError
    return kind(f"migration {name!r}: {str(error).replace('NAME', name)}")


def unreachable(
    name: str, side: Side, known: Standing | None, error: BaseException
) -> RecordUnreachableError:
    """Of a side that cannot be asked, when nobody else can say either.

    Args:
        known: What was read last.
    """
    place = f"the {side}" if known is None else f"the {known.authority}, which has authority,"
    return RecordUnreachableError(f"migration {name!r}: {place} cannot be asked for the phase: {error}")


def takes_no_writes(reply: object) -> bool:
    """The server serves reads, but takes no write for now: the record can be read, the lease cannot be renewed."""
    return isinstance(reply, OutOfMemoryError) or str(reply).startswith(("OOM", "MISCONF", "NOREPLICAS"))


def is_barred(reply: object) -> bool:
    """Our user may not write there (any more): a switch takes these rights on the side that loses authority."""
    return isinstance(reply, NoPermissionError)


def not_to_be_relied_on(reply: object) -> bool:
    """A replica, or one that does not know what it owns: as if it were away."""
    return isinstance(reply, (ReadOnlyError, ClusterDownError, ExecAbortError)) or str(reply).startswith(
        "BUSY"
    )
