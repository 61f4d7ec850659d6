"""What session state and timer data may hold: JSON values, the same in both encodings.

None, booleans, integers that fit 64 bits (msgpack's limit), finite floats, strings of real characters, lists, and
dicts with string keys. Nothing is converted silently: a tuple, a set or a datetime would come back as something else.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from backend_sdk.errors import StateError

NAME_CHARS = 255
"""Longest channel, timer, user, release, session, key and state-key name, in characters."""
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_DEEPEST = 64


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: no lone surrogates. Free for ASCII."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_name(name: object) -> bool:
    """Whether `name` is text of 1 to `NAME_CHARS` characters without NUL: what the edge takes as a name."""
    return isinstance(name, str) and 0 < len(name) <= NAME_CHARS and "\0" not in name and is_text(name)


def check_key(key: object) -> None:
    """Raises `StateError` when `key` can be no key of a session's state."""
    if not is_name(key):
        raise StateError(f"state[{key!r}]", f"keys must be strings of 1 to {NAME_CHARS} characters, without NUL")


def check_value(value: Any, path: str, depth: int = 0) -> None:
    """Raises `StateError` naming the place when `value` is no JSON value."""
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str:
        if not is_text(value):
            raise StateError(path, "holds a lone surrogate, which UTF-8 cannot write")
    elif kind is int:
        if not _SMALLEST <= value <= _LARGEST:
            raise StateError(path, "is an integer beyond 64 bits")
    elif kind is float:
        if not isfinite(value):
            raise StateError(path, f"is {value}, which JSON cannot write")
    elif kind is list or kind is dict:
        _check_inside(value, path, depth)
    else:
        raise StateError(path, f"is a {kind.__name__}; only None, bool, int, float, str, list and dict are kept")


def _check_inside(value: Any, path: str, depth: int) -> None:
    if depth == _DEEPEST:
        raise StateError(path, f"is nested deeper than {_DEEPEST} levels")
    if type(value) is list:
        for index, item in enumerate(value):
            check_value(item, f"{path}[{index}]", depth + 1)
        return
    for key, item in value.items():
        if type(key) is not str or not is_text(key):
            raise StateError(f"{path}[{key!r}]", "keys must be strings")
        check_value(item, f"{path}.{key}", depth + 1)
