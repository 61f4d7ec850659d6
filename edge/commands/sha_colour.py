"""The colour of a release: the one that the first six hex digits of its SHA name, made readable on black and on white.

Pure. Hue and saturation stay as the digits say; only the lightness is moved, until the relative luminance (WCAG 2.2)
lies where the contrast with both black and white is at least 3:1. That is between 0.10 and 0.30: (L + 0.05) / 0.05 ≥ 3
and 1.05 / (L + 0.05) ≥ 3.
"""

from __future__ import annotations

import colorsys
import re

RGB = tuple[int, int, int]

CONTRAST = 3.0
LOWEST, HIGHEST = 0.05 * CONTRAST - 0.05, 1.05 / CONTRAST - 0.05
_MARGIN = 0.006
"""Rounding to whole channel values must not lead out of the range again."""
_HALVINGS = 24
_STARTS_HEX = re.compile(r"[0-9a-fA-F]{6}")
_IS_HEX = re.compile(r"[0-9a-fA-F]{6,}")
_CUBE = (0, 95, 135, 175, 215, 255)


def colour_named(name: str) -> RGB | None:
    """What the digits say, as it is; None when `name` is no SHA (``green`` and ``v2`` are none)."""
    if not _IS_HEX.fullmatch(name):
        return None
    found = _STARTS_HEX.match(name)
    assert found is not None
    digits = found[0]
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def readable_colour(name: str) -> RGB | None:
    """`colour_named`, moved in lightness as far as needed and no further."""
    colour = colour_named(name)
    return None if colour is None else readable(colour)


def readable(colour: RGB) -> RGB:
    """`colour`, or the nearest of its hue and saturation that has the contrast."""
    light = luminance(colour)
    if LOWEST <= light <= HIGHEST:
        return colour
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    # Luminance rises with lightness, so there is one place where it enters the range.
    target = LOWEST + _MARGIN if light < LOWEST else HIGHEST - _MARGIN
    low, high = (lightness, 1.0) if light < LOWEST else (0.0, lightness)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if luminance(_rgb(hue, middle, saturation)) < target:
            low = middle
        else:
            high = middle
    return _rgb(hue, high if light < LOWEST else low, saturation)


def luminance(colour: RGB) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance")."""
    red, green, blue = (_linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def nearest_256(colour: RGB) -> int:
    """The nearest of xterm's 256 colours (16 to 255: cube and greys) that has the contrast too, if one is near."""
    return min(range(16, 256), key=lambda index: _distance(colour, of_256(index)))


def of_256(index: int) -> RGB:
    """The colour that xterm shows for `index`, 16 to 255."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return grey, grey, grey
    red, rest = divmod(index - 16, 36)
    green, blue = divmod(rest, 6)
    return _CUBE[red], _CUBE[green], _CUBE[blue]


def _distance(wanted: RGB, offered: RGB) -> float:
    far = sum((one - other) ** 2 for one, other in zip(wanted, offered, strict=True))
    return far if LOWEST <= luminance(offered) <= HIGHEST else far + 3 * 255**2


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _rgb(hue: float, lightness: float, saturation: float) -> RGB:
    red, green, blue = (round(channel * 255) for channel in colorsys.hls_to_rgb(hue, lightness, saturation))
    return red, green, blue
