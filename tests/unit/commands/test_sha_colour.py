"""The colours of SHAs: readable everywhere, and still the colours that the digits name."""

from __future__ import annotations

import colorsys
from hashlib import sha1

import pytest

from edge.commands.sha_colour import (
    colour_named,
    contrast,
    nearest_256,
    of_256,
    readable,
    readable_colour,
)

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SHAS = [sha1(str(number).encode(), usedforsecurity=False).hexdigest() for number in range(3_000)]
EXTREMES = ["000000", "ffffff", "0000ff", "ffff00", "00ff00", "ff0000", "00ffff", "ff00ff", "000001", "fffffe"]


@pytest.mark.parametrize("background", [BLACK, WHITE])
def test_every_sha_can_be_read_on_dark_and_on_light(background: tuple[int, int, int]) -> None:
    for sha in (*SHAS, *EXTREMES):
        colour = readable_colour(sha)
        assert colour is not None
        assert contrast(colour, background) >= 3.0, (sha, colour)


def test_a_colour_that_can_be_read_already_stays_what_it_is() -> None:
    assert readable_colour("c0392b") == (0xC0, 0x39, 0x2B)
    assert colour_named("c0392b7") == (0xC0, 0x39, 0x2B)


def test_the_hue_stays() -> None:
    for sha in SHAS:
        named = colour_named(sha)
        assert named is not None
        before, after = (colorsys.rgb_to_hls(*(part / 255 for part in rgb)) for rgb in (named, readable(named)))
        if min(before[2], after[2]) > 0.2:  # greys have no hue to keep
            apart = abs(before[0] - after[0])
            assert min(apart, 1 - apart) < 0.02, sha


@pytest.mark.parametrize("name", ["green", "v2", "abc12", "2024-06-01", "c0ffee!", "", "main-c0ffee1"])
def test_what_is_no_sha_has_no_colour(name: str) -> None:
    assert readable_colour(name) is None


def test_terminals_with_256_colours_get_a_near_one_that_can_be_read() -> None:
    for sha in SHAS[:300]:
        colour = readable_colour(sha)
        assert colour is not None
        index = nearest_256(colour)
        assert 16 <= index <= 255
        assert contrast(of_256(index), BLACK) >= 3.0
        assert contrast(of_256(index), WHITE) >= 3.0


def test_the_cube_and_the_greys_are_xterms() -> None:
    assert (of_256(16), of_256(231), of_256(232), of_256(255)) == (BLACK, WHITE, (8, 8, 8), (238, 238, 238))
    assert nearest_256((0xD7, 0x00, 0x00)) == 160
