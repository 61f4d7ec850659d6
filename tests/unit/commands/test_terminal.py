"""What commands write with."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edge.commands.refusals import WrongUsage
from edge.commands.terminal import (
    Palette,
    bar,
    colour_depth,
    duration,
    parse_duration,
    parse_percent,
    percent,
    printable,
    table,
    width,
)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "depth"),
    [
        ({}, True, "256"),
        ({"COLORTERM": "truecolor"}, True, "truecolor"),
        ({"COLORTERM": "24bit"}, True, "truecolor"),
        ({"COLORTERM": "truecolor"}, False, "none"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, True, "none"),
        ({"NO_COLOR": ""}, True, "256"),
        ({"TERM": "dumb"}, True, "none"),
        ({"FORCE_COLOR": "1"}, False, "256"),
        ({"FORCE_COLOR": "0"}, False, "none"),
        ({"CLICOLOR_FORCE": "1", "COLORTERM": "truecolor"}, False, "truecolor"),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False, "256"),
    ],
)
def test_when_there_are_colours(environment: Mapping[str, str], is_terminal: bool, depth: str) -> None:
    assert colour_depth(environment, is_terminal=is_terminal) == depth


def test_a_sha_is_painted_and_a_name_is_not() -> None:
    palette = Palette("truecolor")
    assert palette.sha("c0392b7") == "\x1b[38;2;192;57;43mc0392b7\x1b[0m"
    assert palette.sha("green") == "green"
    assert Palette("256").sha("c0392b7").startswith("\x1b[38;5;")
    assert Palette().sha("c0392b7") == "c0392b7"
    assert Palette().bad("no") == "no"


def test_what_others_say_cannot_move_the_cursor() -> None:
    assert "\x1b" not in printable("a\x1b[2Jb\n\u202ec")
    assert Palette("256").sha("\x1b[2J") == printable("\x1b[2J")


def test_columns_are_as_wide_as_what_is_seen() -> None:
    assert width("\x1b[31mabc\x1b[0m") == 3
    assert width("日本") == 4
    assert width("e\u0301") == 1
    shown = table(["name", "n"], [["a", "1"], ["日本", "100"]], Palette(), right="n")
    assert shown.splitlines() == ["name    n", "a       1", "日本  100"]
    assert table(["", "x"], [["▶", "1"], ["", "2"]], Palette()).splitlines() == ["   x", "▶  1", "   2"]


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("90s", 90_000), ("30m", 1_800_000), ("1h30m", 5_400_000), ("1.5s", 1_500)]
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration(text, "--over") == ms


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "5 m", "5w", "1e3s"])
def test_a_duration_without_a_unit_is_refused_with_examples(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"--over: a duration is needed, such as .*30m"):
        parse_duration(text, "--over")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (250, "250ms"), (12_000, "12s"), (250_000, "4m 10s"), (3_600_000, "1h"), (183_600_000, "2d 3h")],
)
def test_durations_are_written_in_two_units(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_percents() -> None:
    assert [parse_percent(text, "--share") for text in ("5%", "5", "0.5%")] == [5.0, 5.0, 0.5]
    assert [percent(value) for value in (5.0, 0.5, 100 / 3, 100)] == ["5%", "0.5%", "33.3%", "100%"]
    for wrong in ("", "x%", "101%", "-1", "nan"):
        with pytest.raises(WrongUsage, match="percent from 0 to 100"):
            parse_percent(wrong, "--share")


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [bar(share, 4) for share in (0, 0.5, 1, 7)] == ["    ", "██  ", "████", "████"]
    assert bar(0.03125, 4) == "▏   "
