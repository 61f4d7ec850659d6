"""Reads the fields of what backends and publishers wrote, one by one, and says which of them is wrong.

The maps came out of JSON, or, `binary`, out of tnetstrings, which know bytes only. As in Pushpin fields nobody knows
are ignored, and null stands for a field left out.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

from edge.errors import FieldError, WireError
from edge.protocol.callbacks.events import Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS = re.compile(r"\s+")


def as_text(value: object) -> str | None:
    """`value` if it is text that can be encoded; bytes as UTF-8; else None."""
    try:
        if type(value) is str:
            if not value.isascii():
                value.encode()
            return value
        if type(value) is bytes:
            return value.decode()
    except UnicodeError:
        pass
    return None


def from_base64(text: str) -> bytes:
    """Raises ValueError. As Pushpin does it takes missing padding and line breaks; other letters are refused."""
    packed = _BLANKS.sub("", text).rstrip("=")
    try:
        return b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except Base64Error as error:
        raise ValueError("is not base64") from error


def is_token(name: str) -> bool:
    """RFC 9110 §5.6.2."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: str) -> bool:
    """Nothing in it ends a header line (RFC 9110 §5.5)."""
    return _BAD_VALUE.search(value) is None


def parse_json(text: bytes) -> Any:
    """Raises WireError, which says where the text stops being JSON. Depth is bounded by orjson (1,024)."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise WireError(f"is not JSON: {error}") from None


class Fields:
    """One map. Every method raises FieldError, named as its sender would look for it."""

    __slots__ = ("_map", "_where", "binary")

    def __init__(self, value: object, where: str = "", *, binary: bool = False) -> None:
        if not isinstance(value, Mapping):
            raise FieldError(where or "the message", "must be an object")
        self._map: Mapping[Any, Any] = value
        self._where = where
        self.binary = binary

    def named(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def wrong(self, name: str, problem: str) -> FieldError:
        return FieldError(self.named(name), problem)

    def has(self, name: str) -> bool:
        return self._map.get(name) is not None

    def __bool__(self) -> bool:
        return bool(self._map)

    def text(self, name: str) -> str | None:
        value = self._map.get(name)
        if value is None:
            return None
        text = as_text(value)
        if text is None:
            raise self.wrong(name, "must be text (UTF-8)")
        return text

    def needed(self, name: str) -> str:
        """Text that has to be there and says something."""
        text = self.text(name)
        if not text:
            raise self.wrong(name, "is missing" if text is None else "must not be empty")
        return text

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        text = self.text(name)
        if text is not None and text not in allowed:
            raise self.wrong(name, f"must be one of {', '.join(allowed)}")
        return text

    def flag(self, name: str) -> bool:
        value = self._map.get(name)
        if value is not None and type(value) is not bool:
            raise self.wrong(name, "must be true or false")
        return bool(value)

    def number(self, name: str) -> float | None:
        """Not negative; fractions are taken, and numbers as text, as Pushpin does."""
        value = self._map.get(name)
        if value is None:
            return None
        if isinstance(value, str | bytes):
            try:
                value = float(value)
            except ValueError:
                value = -1
        if type(value) not in (int, float) or not 0 <= value <= 1e9:
            raise self.wrong(name, "must be a number, not negative")
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Fractions are cut off, as in Pushpin."""
        number = self.number(name)
        if number is None:
            return None
        if not low <= number <= high:
            raise self.wrong(name, f"must be an integer from {low} to {high}")
        return int(number)

    def inner(self, name: str) -> Fields | None:
        value = self._map.get(name)
        return None if value is None else Fields(value, self.named(name), binary=self.binary)

    def elements(self, name: str) -> list[Any] | None:
        value = self._map.get(name)
        if value is not None and type(value) is not list:
            raise self.wrong(name, "must be a list")
        return value

    def names(self, name: str) -> tuple[str, ...] | None:
        """A list of text."""
        values = self.elements(name)
        if values is None:
            return None
        texts = tuple(as_text(value) for value in values)
        if not _all_text(texts):
            raise self.wrong(f"{name}[{texts.index(None)}]", "must be text (UTF-8)")
        return texts

    def texts(self, name: str) -> dict[str, str]:
        """A map of text to text; empty when it is left out."""
        value = self._map.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "must be an object")
        found = {}
        for key, entry in value.items():
            key_text, entry_text = as_text(key), as_text(entry)
            if key_text is None or entry_text is None:
                raise self.wrong(f"{name}.{key}", "must be text (UTF-8)")
            found[key_text] = entry_text
        return found

    def content(self, name: str) -> str | bytes | None:
        """`name`, or ``<name>-bin``: base64, and plain bytes in tnetstrings. Bytes stay bytes and text stays text,
        except that tnetstrings know no text: bytes there are what the sender says they are."""
        packed_name = f"{name}-bin"
        packed = self._map.get(packed_name)
        if packed is not None:
            if self.binary:
                if type(packed) is not bytes:
                    raise self.wrong(packed_name, "must be bytes")
                return packed
            text = self.text(packed_name)
            assert text is not None
            try:
                return from_base64(text)
            except ValueError as error:
                raise self.wrong(packed_name, str(error)) from None
        value = self._map.get(name)
        if value is None:
            return None
        if self.binary and type(value) is bytes:
            return value
        return self.text(name)

    def headers(self, name: str) -> Headers:
        """Header fields as an object, or as a list of pairs. Values are made latin-1 text whose bytes are the UTF-8 of
        what was written, as header values are everywhere in the edge."""
        value = self._map.get(name)
        if value is None:
            return ()
        if isinstance(value, Mapping):
            pairs = [(f"{name}.{key}", key, entry) for key, entry in value.items()]
        elif type(value) is list:
            pairs = []
            for index, pair in enumerate(value):
                if type(pair) is not list or len(pair) != 2:
                    raise self.wrong(f"{name}[{index}]", "must be a pair of name and value")
                pairs.append((f"{name}[{index}]", *pair))
        else:
            raise self.wrong(name, "must be an object, or a list of pairs")
        return tuple(self._header(*pair) for pair in pairs)

    def _header(self, where: str, name: object, value: object) -> tuple[str, str]:
        name_text, value_text = as_text(name), as_text(value)
        if name_text is None or not is_token(name_text):
            raise self.wrong(where, "must have a header name (RFC 9110 section 5.1)")
        if value_text is None or not is_field_value(value_text):
            raise self.wrong(where, "must be text without line breaks")
        return name_text, value_text.strip(" \t").encode().decode("latin-1")


def _all_text(texts: tuple[str | None, ...]) -> TypeGuard[tuple[str, ...]]:
    return None not in texts


def under(where: str, error: FieldError) -> FieldError:
    """The same error, seen from outside: `where` is what the map it is in is called there."""
    return FieldError(f"{where}.{error.field}", error.problem)
