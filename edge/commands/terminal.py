"""What commands write with: colours where there are any, tables, bars, and the words for durations and percents.

Whether there are colours is decided once (`Palette.of`): `NO_COLOR` (no-color.org) and `TERM=dumb` say no, before that
`FORCE_COLOR` and `CLICOLOR_FORCE` say yes, and without any of them a stream that is no terminal gets none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from edge.commands.refusals import WrongUsage
from edge.commands.sha_colour import nearest_256, readable_colour

Depth = Literal["none", "256", "truecolor"]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_BOLD, _DIM, _RED, _GREEN, _YELLOW = "1", "2", "31", "32", "33"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def colour_depth(environment: Mapping[str, str], *, is_terminal: bool) -> Depth:
    """How many colours to write with."""
    forced = any(environment.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    if not forced and (environment.get("NO_COLOR") or environment.get("TERM") == "dumb" or not is_terminal):
        return "none"
    return "truecolor" if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") else "256"


@dataclass(frozen=True, slots=True)
class Palette:
    """Paints text, or leaves it as it is."""

    depth: Depth = "none"

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str]) -> Palette:
        return cls(colour_depth(environment, is_terminal=stream.isatty()))

    def sha(self, name: str, shown: str | None = None) -> str:
        """`name` (or `shown` in its place) in the colour that its first six hex digits name; else as it is."""
        text = printable(name) if shown is None else shown
        colour = readable_colour(name)
        if colour is None or self.depth == "none":
            return text
        if self.depth == "256":
            return self._paint(f"38;5;{nearest_256(colour)}", text)
        return self._paint("38;2;{};{};{}".format(*colour), text)

    def bold(self, text: str) -> str:
        return self._paint(_BOLD, text)

    def dim(self, text: str) -> str:
        return self._paint(_DIM, text)

    def good(self, text: str) -> str:
        return self._paint(_GREEN, text)

    def bad(self, text: str) -> str:
        return self._paint(_RED, text)

    def odd(self, text: str) -> str:
        return self._paint(_YELLOW, text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.depth != "none" and text else text


def printable(text: str) -> str:
    """`text` from somebody else, without what a terminal would act on (ESC, line ends, direction marks)."""
    return "".join(char if char.isprintable() else "�" for char in text)


def width(text: str) -> int:
    """Columns that `text` takes: escape codes and combining marks none, wide characters two (UAX #11)."""
    plain = _ESCAPES.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in plain
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], palette: Palette, right: str = "") -> str:
    """Rows in columns, two spaces between them. `right`: heads of the columns that are numbers, by commas."""
    ends = frozenset(right.split(",")) - {""}
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(map(width, column)) for column in columns]
    lines = []
    for index, row in enumerate([heads, *rows]):
        cells = []
        for head, cell, columns_wide in zip(heads, row, widths, strict=True):
            blank = " " * (columns_wide - width(cell))
            cells.append(blank + cell if head in ends else cell + blank)
        line = "  ".join(cells).rstrip()
        lines.append(palette.dim(line) if index == 0 else line)
    return "\n".join(lines)


def bar(share: float, columns: int) -> str:
    """`share` (0 to 1) of `columns` as a bar, to the eighth of a column."""
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(columns)


# -- durations and percents


def parse_duration(text: str, what: str) -> int:
    """``30m``, ``1h30m``, ``500ms`` in ms. A number without a unit is refused: nobody should have to guess."""
    if not _DURATION.fullmatch(text):
        raise WrongUsage(f"{what}: a duration is needed, such as 500ms, 90s, 30m, 1h30m or 7d, not {text!r}")
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text)))


def parse_percent(text: str, what: str) -> float:
    """``5%`` or ``5`` as 5.0; ``0.5%`` as 0.5."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise WrongUsage(f"{what}: percent from 0 to 100 are needed, such as 5%, not {text!r}")
    return value


def duration(ms: float) -> str:
    """The two largest units: ``2d 3h``, ``4m 10s``, ``12s``, ``250ms``."""
    ms = round(ms)
    if ms < 1_000:
        return f"{ms}ms"
    parts = []
    left = ms // 1_000 * 1_000
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def percent(value: float) -> str:
    """``5%``, ``0.5%``, ``33.3%``."""
    return f"{value:.1f}".removesuffix(".0") + "%"
