"""Writing XML: text and attributes that cannot be anything else, whoever wrote what is in them."""

from __future__ import annotations

import re

from edge.errors import WireError

_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 §2.2 has no place for, not even escaped."""
_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ATTRIBUTE = {**_TEXT, '"': "&quot;", "'": "&apos;", "\t": "&#9;", "\n": "&#10;"}
_IN_TEXT = str.maketrans(_TEXT)
_IN_ATTRIBUTES = str.maketrans(_ATTRIBUTE)


def text(value: str) -> str:
    """`value` as the text of an element; it is read back as it was. Raises WireError for what XML has no place for."""
    return _checked(value).translate(_IN_TEXT)


def attribute(value: str) -> str:
    """`value` between the quotes of an attribute, single or double; white space, too, is read back as it was."""
    return _checked(value).translate(_IN_ATTRIBUTES)


def _checked(value: str) -> str:
    wrong = _NO_CHARACTER.search(value)
    if wrong is not None:
        raise WireError(f"the character U+{ord(wrong[0]):04X} cannot be in XML")
    return value
