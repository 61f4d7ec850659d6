"""Checks of orders' arguments: what all of them may carry, names, texts and numbers. All raise `ActionError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, get_args

from backend_sdk.errors import ActionError
from backend_sdk.values import NAME_CHARS, is_name, is_text


class Common(TypedDict, total=False):
    """What every action may carry."""

    session: str
    id: str


OWN_IDS = "~^!"
"""First characters of the ids that edges give to actions."""


def set_common(action: Common, session: str | None, id: str | None) -> None:
    if session is not None:
        action["session"] = checked_name("session", session)
    if id is not None:
        action["id"] = checked_name("id", id)
        if id[0] in OWN_IDS:
            raise ActionError("id", f"must not begin with {', '.join(OWN_IDS)}, as the edge's own do: {id!r}")


def checked_name(field: str, value: str) -> str:
    if not is_name(value):
        raise ActionError(field, f"must be a string of 1 to {NAME_CHARS} characters, without NUL, not {value!r}")
    return value


def checked_text(field: str, value: str) -> str:
    if not isinstance(value, str):
        raise ActionError(field, f"must be a string, not {type(value).__name__}")
    if not is_text(value):
        raise ActionError(field, "holds a lone surrogate, which UTF-8 cannot write")
    return value


def one_of(field: str, value: str, allowed: object) -> str:
    """`allowed`: a Literal."""
    if value not in get_args(allowed):
        raise ActionError(field, f"must be one of {', '.join(get_args(allowed))}, not {value!r}")
    return value


def words_of(field: str, words: Sequence[str], allowed: Sequence[str]) -> list[str]:
    if isinstance(words, str):
        raise ActionError(field, "must be a list, not a string")
    for index, word in enumerate(words):
        if word not in allowed:
            raise ActionError(f"{field}[{index}]", f"must be one of {', '.join(allowed)}, not {word!r}")
    return list(words)


def flag(field: str, value: bool) -> bool:
    if type(value) is not bool:
        raise ActionError(field, f"must be True or False, not {type(value).__name__}")
    return value


def number(field: str, value: float, least: int, most: int) -> float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ActionError(field, f"must be a number from {least} to {most}, not {value!r}")
    return value


def is_int(value: object) -> bool:
    return type(value) is int
