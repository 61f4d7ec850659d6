"""SASLprep (RFC 4013): two ways to type a password are one password."""

from __future__ import annotations

import stringprep
import unicodedata

from edge.errors import WireError

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """`text` prepared as a query: characters newer than Unicode 3.2 pass (RFC 3454 §7). Raises WireError, which says
    nothing of the text."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise WireError("a character is not allowed in names and passwords (RFC 4013 §2.3)")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 §6."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise WireError("right-to-left and left-to-right letters are mixed (RFC 4013 §2.4)")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise WireError("right-to-left text begins or ends with something else (RFC 4013 §2.4)")
