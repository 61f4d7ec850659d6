"""Writing TOML, for configuration files made by tests (the standard library only reads it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """`table` as a TOML document. Mappings become tables, lists of mappings arrays of tables; None is left
    out.
    """
    plain: list[str] = []
    nested: list[str] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        match value:
            case None:
                pass
            case Mapping():
                nested.append(f"\n[{name}]\n{to_toml(value, f'{name}.')}")
            case [Mapping(), *_]:
                nested.extend(f"\n[[{name}]]\n{to_toml(item, f'{name}.')}" for item in value)
            case _:
                plain.append(f"{key} = {_inline(value)}\n")
    return "".join(plain + nested)


def _inline(value: Any) -> str:
    match value:
        case bool() | int() | float() | str():
            return json.dumps(value)  # JSON's strings, numbers and booleans are TOML's
        case Sequence():
            return f"[{', '.join(map(_inline, value))}]"
        case _:
            raise TypeError(f"{value!r} has no place in a configuration file")
