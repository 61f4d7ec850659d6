"""Tagged netstrings, the encoding of Pushpin's ZeroMQ sockets: ``5:hello,`` ``2:42#`` ``4:true!`` ``0:~``, lists
``…]`` and maps ``…}``.

Text does not exist: strings are bytes, and keys are bytes that must be UTF-8.
"""

from __future__ import annotations

from typing import Any

from edge.errors import WireError

DEPTH = 64
"""Deepest nesting that is read."""
_LENGTH_DIGITS = 9


def decode(text: bytes) -> Any:
    """The one value in `text`: bytes, int, float, bool, None, list, or dict with text keys. Raises WireError.

    As in Pushpin, what stands behind the value is ignored.
    """
    return _value(text, 0, len(text), DEPTH)[0]


def encode(value: object) -> bytes:
    """The reverse; text becomes UTF-8. Raises TypeError for values that have no form."""
    if value is None:
        return b"0:~"
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%b," % (len(value), value)
    if isinstance(value, dict):
        content, tag = b"".join(encode(key) + encode(entry) for key, entry in value.items()), b"}"
    elif isinstance(value, list | tuple):
        content, tag = b"".join(map(encode, value)), b"]"
    elif isinstance(value, bool):
        content, tag = (b"true" if value else b"false"), b"!"
    elif isinstance(value, int):
        content, tag = b"%d" % value, b"#"
    elif isinstance(value, float):
        content, tag = repr(value).encode(), b"^"
    else:
        raise TypeError(f"no tnetstring for {type(value).__name__}")
    return b"%d:%b%b" % (len(content), content, tag)


def _value(text: bytes, start: int, end: int, levels: int) -> tuple[Any, int]:
    """The value at `start`, and where the next one begins; nothing is read at or behind `end`."""
    colon = text.find(b":", start, min(end, start + _LENGTH_DIGITS + 1))
    digits = text[start:colon] if colon >= 0 else b""
    if not digits.isdigit():
        raise WireError(f"byte {start}: no length of a tnetstring")
    begin = colon + 1
    close = begin + int(digits)
    if close >= end:
        raise WireError(f"byte {start}: the tnetstring is longer than what holds it")
    tag = text[close : close + 1]
    if tag in b"]}":
        if not levels:
            raise WireError(f"byte {start}: more than {DEPTH} levels of lists and maps")
        container = _list if tag == b"]" else _map
        return container(text, begin, close, levels - 1), close + 1
    return _scalar(tag, text[begin:close], start), close + 1


def _list(text: bytes, at: int, end: int, levels: int) -> list[Any]:
    values = []
    while at < end:
        value, at = _value(text, at, end, levels)
        values.append(value)
    return values


def _map(text: bytes, at: int, end: int, levels: int) -> dict[str, Any]:
    values = {}
    while at < end:
        start = at
        key, at = _value(text, at, end, 0)
        if type(key) is not bytes:
            raise WireError(f"byte {start}: a key must be a string")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise WireError(f"byte {start}: a key must be UTF-8") from None
        values[name], at = _value(text, at, end, levels)
    return values


def _scalar(tag: bytes, content: bytes, start: int) -> Any:
    try:
        match tag:
            case b",":
                return content
            case b"#" if len(content) <= 20:
                return int(content)
            case b"^" if len(content) <= 40:
                return float(content)
            case b"!":
                return {b"true": True, b"false": False}[content]
            case b"~" if not content:
                return None
    except (ValueError, KeyError):
        pass
    raise WireError(f"byte {start}: not a tnetstring: {tag!r} after {content[:20]!r}")
