"""Checks for one kind of field each, whatever action the field belongs to. All raise `FieldError`, and none of them
shows a value: what an action holds may be a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge.errors import FieldError

NAME_CHARS = 255
"""Longest channel, timer, user, release, session and key name, in characters."""
VALUE_DEPTH = 64
"""Deepest nesting of a state value or timer data."""

Obj = Mapping[str, Any]
"""A map as it came out of msgpack or JSON."""

COMMON = frozenset({"type", "session", "id"})
"""What every action may have."""


def common(obj: Obj, known: frozenset[str]) -> tuple[str | None, str | None]:
    """Refuse unknown fields; `session` and `id`, None where absent or null."""
    if not obj.keys() <= known:
        raise unknown_field(obj, known)
    session, key = obj.get("session"), obj.get("id")
    if session is not None:
        checked_name("session", session)
    if key is not None:
        checked_name("id", key)
    return session, key


def optional(obj: Obj, field: str, default: Any) -> Any:
    value = obj.get(field)
    return default if value is None else value


def name_of(obj: Obj, field: str) -> str:
    value = obj.get(field)
    checked_name(field, value)
    return str(value)


def name_or_null(obj: Obj, field: str) -> str | None:
    if field not in obj:
        raise FieldError(field, "is missing (null takes it back)")
    return None if obj[field] is None else name_of(obj, field)


def checked_name(field: str, value: object) -> None:
    if type(value) is not str or not value or len(value) > NAME_CHARS:
        missing = "is missing" if value is None else f"must be text of 1 to {NAME_CHARS} characters"
        raise FieldError(field, missing)
    if not value.isascii() or "\0" in value:
        checked_text(field, value)
        if "\0" in value:
            raise FieldError(field, "must not hold NUL")


def checked_text(field: str, value: object) -> str:
    if type(value) is not str:
        raise FieldError(field, "must be text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError(field, "is not valid UTF-8") from None
    return value


def check_json(field: str, value: object, depth: int = 0) -> None:
    """null, bool, 64-bit int, finite float, text, list, map with text keys: what both encodings carry alike."""
    if value is None or type(value) is bool:
        return
    if type(value) is str:
        checked_text(field, value)
    elif type(value) is int:
        if not -(2**63) <= value < 2**64:
            raise FieldError(field, "holds an integer that does not fit into 64 bits")
    elif type(value) is float:
        if not math.isfinite(value):
            raise FieldError(field, "holds a number that is not finite")
    elif depth == VALUE_DEPTH:
        raise FieldError(field, f"is nested deeper than {VALUE_DEPTH}")
    elif type(value) is list:
        for item in value:
            check_json(field, item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FieldError(field, "holds a map whose keys are not text")
            checked_text(field, key)
            check_json(field, item, depth + 1)
    else:
        raise FieldError(field, f"holds {type(value).__name__}, which is no JSON value")


def unknown_field(obj: Obj, known: frozenset[str]) -> FieldError:
    first = next(key for key in obj if key not in known)
    return FieldError(shown(first), "unknown field")


def shown(name: object) -> str:
    """A name from outside, short and printable: it ends up in close reasons and logs."""
    text = name if type(name) is str else repr(name)
    if len(text) > 40:
        text = text[:40] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def only_known(obj: Obj, known: frozenset[str], place: str) -> None:
    """Refuse unknown fields of the map in field `place`."""
    if not obj.keys() <= known:
        error = unknown_field(obj, known)
        raise FieldError(f"{place}.{error.field}", error.problem)
