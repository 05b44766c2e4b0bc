"""Values of modules: the type's name stands in the payload, packed into 64 bits.

Nine characters of six bits, from the top; the lowest ten bits are the version of the module's own encoding
(Redis src/module.c, moduleTypeEncodeId). Which module brings a type is known to the module alone, so the
pairs that users meet are listed here; a module may also be named like its type.
"""

from __future__ import annotations

from keyferry.model.identity import Family

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_CHARACTERS = 9
_VERSION_BITS = 10

_BRINGERS: dict[Family, dict[str, str]] = {
    Family.REDIS: {
        "ReJSON-RL": "ReJSON",
        "MBbloom--": "bf",
        "MBbloomCF": "bf",
        "CMSk-TYPE": "bf",
        "TopK-TYPE": "bf",
        "TDIS-TYPE": "bf",
        "TSDB-TYPE": "timeseries",
        "graphdata": "graph",
    },
    Family.VALKEY: {
        "ReJSON-RL": "json",
        "bloomfltr": "bf",
        "graphdata": "graph",
    },
}
"""Type name -> name of its module as MODULE LIST gives it. Valkey's bloom filters are not Redis' ones."""


def type_name(module_id: int) -> str:
    """The nine characters of a module type's name (what TYPE answers for such a key)."""
    return "".join(
        _ALPHABET[module_id >> _VERSION_BITS + 6 * place & 0x3F] for place in reversed(range(_CHARACTERS))
    )


def brought_by(name: str, target_modules: frozenset[str], family: Family) -> bool:
    """Whether the type is there on a target with these modules (names as MODULE LIST gives them)."""
    return name in target_modules or _BRINGERS[family].get(name) in target_modules
