r"""Texts with directives: ``%%`` for a percent sign, ``%X`` and ``%(argument)X`` with any letter. A backslash in an
argument stands for the next character. The grammar of Pushpin's filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from edge.errors import WireError

_DIRECTIVE = re.compile(rb"%(?:(%)|\(((?:[^\\)]|\\.)*)\)(.)|([A-Za-z])|)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def expand(form: bytes, directive: Callable[[bytes, bytes | None], bytes]) -> bytes:
    """`form` with what `directive` makes of letters and their arguments (None: without). Raises WireError."""
    if b"%" not in form:
        return form

    def made(match: re.Match[bytes]) -> bytes:
        percent, argument, letter, bare = match.groups()
        if percent:
            return percent
        if bare:
            return directive(bare, None)
        if letter is None:
            raise WireError(f"no directive after '%' at position {match.start()}")
        return directive(letter, _ESCAPED.sub(rb"\1", argument) or None)

    return _DIRECTIVE.sub(made, form)


class Template:
    """A text with ``%(name)s`` in it, read once and filled in often. What is wrong with it is said by `fill`."""

    __slots__ = ("_parts", "_problem")

    def __init__(self, form: bytes) -> None:
        self._problem: str | None = None
        self._parts: list[bytes | str] = []
        """Bytes stand for themselves, text for a name."""
        try:
            end = 0
            for match in _DIRECTIVE.finditer(form):
                self._parts += form[end : match.start()], _name_in(match)
                end = match.end()
            self._parts.append(form[end:])
        except WireError as error:
            self._problem = str(error)

    def fill(self, value: Callable[[str], str | None]) -> bytes:
        """The text with the values of its names. Raises WireError, also for a name that `value` does not know."""
        if self._problem is not None:
            raise WireError(self._problem)
        filled = []
        for part in self._parts:
            if isinstance(part, str):
                found = value(part)
                if found is None:
                    raise WireError(f"no such variable '{part}'")
                filled.append(found.encode())
            else:
                filled.append(part)
        return b"".join(filled)


def _name_in(match: re.Match[bytes]) -> bytes | str:
    percent, argument, letter, bare = match.groups()
    if percent:
        return percent
    if bare is None and letter is None:
        raise WireError(f"no directive after '%' at position {match.start()}")
    if (bare or letter) != b"s":
        raise WireError(f"unknown directive '{(bare or letter).decode('latin-1')}'")
    if not argument:
        raise WireError("directive 's' requires argument")
    return _ESCAPED.sub(rb"\1", argument).decode(errors="replace")
