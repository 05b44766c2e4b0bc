"""From what the command line says to what a copy, a sync, a migration or a comparison is asked to do. No I/O but the password files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keyferry.capture.kinds import FeedKind
from keyferry.copy.settings import CopySettings
from keyferry.cutover.plan import Gate
from keyferry.cutover.settings import MigrationSettings
from keyferry.follow.settings import SyncSettings
from keyferry.model.address import Endpoint, TlsSettings, names_database, parse_endpoint
from keyferry.model.announced import AddressMap
from keyferry.model.errors import Side, UsageError
from keyferry.model.selection import Selection
from keyferry.verify.settings import VerifySettings

_COPY_OPTIONS = {
    "on_conflict": "on_conflict",
    "batch": "batch",
    "max_rate": "max_rate",
    "max_bandwidth": "max_bandwidth",
    "max_latency_ms": "max_latency",
    "keep_eviction_hints": "keep_eviction_hints",
    "drop_field_expiry": "drop_field_expiry",
    "functions": "functions",
    "state_dir": "state_dir",
    "restart": "restart",
    "failures_file": "failures",
    "big_key_bytes": "big_key_bytes",
    "big_key_members": "big_key_members",
    "show_keys": "show_keys",
}
"""Names of settings and of the options that they come from."""
_SYNC_OPTIONS = {
    "name": "name",
    "enable_notifications": "enable_notifications",
    "until_synced": "until_synced",
    "lag_target_s": "lag_target",
    "keep_extra": "keep_extra",
    "accept_shrunk_source": "accept_shrunk_source",
    "dirty_max": "dirty_max",
}
_MIGRATION_OPTIONS = {
    "cutover_when_ready": "cutover_when_ready",
    "verify_every_s": "verify_every",
    "on_cutover": "on_cutover",
    "on_rollback": "on_rollback",
    "timeout_s": "cutover_timeout",
    "prepare_timeout_s": "prepare_timeout",
}
_VERIFY_OPTIONS = {
    "sample": "sample",
    "expiry_tolerance_ms": "expiry_tolerance_ms",
    "rounds": "rounds",
    "repair": "repair",
    "delete_extra": "delete_extra",
    "differences_file": "differences",
}


@dataclass(frozen=True, slots=True)
class SideOptions:
    """What the command line says about one server besides its address."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    password_file: Path | None = None

    @classmethod
    def of(cls, side: Side, options: Mapping[str, Any]) -> SideOptions:
        return cls(
            **{name: options[f"{side}_{name}"] for name in ("ca", "cert", "key", "insecure", "password_file")}
        )

    @property
    def speaks_of_tls(self) -> bool:
        return bool(self.ca or self.cert or self.key or self.insecure)


def endpoint(side: Side, url: str, options: SideOptions, environment: Mapping[str, str]) -> Endpoint:
    """One server's address with its TLS files and its password.

    The password is the address's, else the file's, else that of ``KEYFERRY_SOURCE_PASSWORD`` or
    ``KEYFERRY_TARGET_PASSWORD``.

    Raises:
        UsageError: The parts do not fit together, or the password file cannot be read.
    """
    if options.key and not options.cert:
        raise UsageError(
            f"--{side}-key is given without --{side}-cert.", "Give the certificate that it belongs to."
        )
    tls = TlsSettings(
        ca_file=_text(options.ca),
        cert_file=_text(options.cert),
        key_file=_text(options.key),
        verify=not options.insecure,
    )
    try:
        parsed = parse_endpoint(url, tls)
    except UsageError as error:
        raise UsageError(f"{side.upper()}: {error.message}", error.hint) from None
    if options.speaks_of_tls and parsed.tls is None:
        raise UsageError(
            f"TLS options are given for the {side}, but its address does not ask for TLS.",
            "Write rediss:// instead of redis:// (rediss+cluster:// instead of redis+cluster://), or leave the options out.",
        )
    return parsed.with_password(_password(side, parsed, options.password_file, environment))


def copy_settings(
    source_url: str, target_url: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> CopySettings:
    """What ``keyferry copy`` was asked to do.

    Args:
        options: The options by their names in the command's signature; None stands for the default.

    Raises:
        UsageError: The options contradict each other.
    """
    source = endpoint("source", source_url, SideOptions.of("source", options), environment)
    target = endpoint("target", target_url, SideOptions.of("target", options), environment)
    return replace(
        CopySettings(
            source=source,
            target=target,
            selection=selection(source, target, names_database(target_url), options),
            source_map=address_map("source", options),
            target_map=address_map("target", options),
        ),
        **_given(_COPY_OPTIONS, options),
    )


def sync_settings(
    source_url: str, target_url: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> SyncSettings:
    """What ``keyferry sync`` was asked to do. Arguments and errors as of ``copy_settings``."""
    copy = copy_settings(source_url, target_url, options, environment)
    if copy.on_conflict in ("skip", "fail"):
        raise UsageError(
            f"--on-conflict {copy.on_conflict} is not for sync: a key that is left as it is would differ for ever.",
            "Use --on-conflict replace, and --exclude the keys that the target is to have for itself.",
        )
    feed = options["feed"]
    if options["enable_notifications"] and feed not in (None, FeedKind.NOTIFICATIONS):
        raise UsageError(
            f"--enable-notifications and --feed {feed} are given together.", "Leave one of them out."
        )
    settings = SyncSettings(copy=copy, feed=None if feed is None else FeedKind(feed))
    return replace(settings, **_given(_SYNC_OPTIONS, options))


def migration_settings(
    source_url: str, target_url: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> MigrationSettings:
    """What ``keyferry migrate`` was asked to do. Arguments and errors as of ``copy_settings``."""
    sync = sync_settings(source_url, target_url, options, environment)
    if options["no_rollback"] and options["on_rollback"]:
        raise UsageError("--no-rollback and --on-rollback are given together.", "Leave one of them out.")
    gate = options["gate"]
    settings = MigrationSettings(
        sync=sync,
        name=options["name"],
        gate=None if gate is None else Gate(gate),
        rollback=not options["no_rollback"],
    )
    return replace(settings, **_given(_MIGRATION_OPTIONS, options))


def verify_settings(
    source_url: str, target_url: str, options: Mapping[str, Any], environment: Mapping[str, str]
) -> VerifySettings:
    """What ``keyferry verify`` was asked to do. Arguments and errors as of ``copy_settings``."""
    copy = copy_settings(source_url, target_url, options, environment)
    return replace(VerifySettings(copy=copy), **_given(_VERIFY_OPTIONS, options))


def _given(names: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their names, of the options that the command has and that were given."""
    return {name: options[option] for name, option in names.items() if options.get(option) is not None}


def address_map(side: Side, options: Mapping[str, Any]) -> AddressMap:
    """What ``--source-map`` or ``--target-map`` says.

    Raises:
        UsageError: It gives two places to one address.
    """
    try:
        return AddressMap.of(options[f"{side}_map"])
    except UsageError as error:
        raise UsageError(f"--{side}-map: {error.message}", error.hint) from None


def selection(
    source: Endpoint, target: Endpoint, target_named: bool, options: Mapping[str, Any]
) -> Selection:
    """Which keys, and where they go.

    Args:
        target_named: The target's address names a database.
    """
    chosen: tuple[int, ...] = tuple(dict.fromkeys(options["databases"]))
    if chosen and options["all_dbs"]:
        raise UsageError("--db and --all-dbs are given together.", "Use one of them.")
    pairs: dict[int, int] = {}
    for from_database, to_database in options["db_map"]:
        if pairs.setdefault(from_database, to_database) != to_database:
            raise UsageError(
                f"--db-map gives two places to database {from_database}.", "Give each database one."
            )
    databases = None if options["all_dbs"] else chosen or (source.db,)
    if databases is not None:
        _check_map(databases, pairs)
        if target_named and len(databases) == 1:
            pairs.setdefault(databases[0], target.db)
    if target_named and target.db and (databases is None or len(databases) > 1):
        raise UsageError(
            f"The target's address names database {target.db}, but several databases are to be copied.",
            "Leave it out of the address and use --db-map.",
        )
    return Selection(
        match=options["match"],
        exclude=options["exclude"],
        types=options["types"],
        databases=databases,
        database_map={pair[0]: pair[1] for pair in pairs.items() if pair[0] != pair[1]},
    )


def _check_map(databases: tuple[int, ...], pairs: Mapping[int, int]) -> None:
    """Two databases in one would let keys of the same name overwrite each other in silence."""
    for database in pairs:
        if database not in databases:
            raise UsageError(
                f"--db-map speaks of database {database}, which is not copied.",
                f"Add --db {database}, or --all-dbs.",
            )
    places: dict[int, int] = {}
    for database in databases:
        place = pairs.get(database, database)
        if place in places:
            raise UsageError(
                f"Databases {places[place]} and {database} would both go into the target's {place}.",
                "Copy them one after the other, the second with --on-conflict to say what equal names mean.",
            )
        places[place] = database


def _password(side: Side, parsed: Endpoint, file: Path | None, environment: Mapping[str, str]) -> str:
    if file is not None:
        if parsed.password:
            raise UsageError(
                f"The {side}'s password is in its address and in --{side}-password-file.",
                "Leave one of them out.",
            )
        return _read_password(side, file)
    return parsed.password or environment.get(f"KEYFERRY_{side.upper()}_PASSWORD", "")


def _read_password(side: Side, file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--{side}-password-file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"--{side}-password-file {file} is not UTF-8 text.") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise UsageError(f"--{side}-password-file {file} is empty.")
    return password


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
