"""Fields of a request, taken out one by one: what is missing or of another type is a `FieldProblem` that names it."""

from __future__ import annotations

from typing import Any


class FieldProblem(Exception):
    """`field`: relative to its event."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(field, problem)


_WORDS = {str: "a string", int: "an integer", bool: "true or false", list: "a list", dict: "a map"}


def take(raw: dict[str, Any], field: str, kind: type, prefix: str = "") -> Any:
    """The field, which must be of that type. `prefix`: the maps that it stands in, with their dots."""
    value = raw.get(field)
    if type(value) is not kind:
        raise FieldProblem(prefix + field, f"must be {_WORDS[kind]}")
    return value


def take_or_none(raw: dict[str, Any], field: str, kind: type, prefix: str = "") -> Any:
    """The same, where null may stand as well."""
    if field in raw and raw[field] is None:
        return None
    return take(raw, field, kind, prefix)


def take_texts(raw: dict[str, Any], field: str, prefix: str = "") -> tuple[str, ...]:
    """A list of strings."""
    texts = take(raw, field, list, prefix)
    if not all(type(text) is str for text in texts):
        raise FieldProblem(prefix + field, "must be a list of strings")
    return tuple(texts)
