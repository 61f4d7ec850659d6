"""Header fields with parameters: ``value; name=text; name="quoted \\"text\\""``, in comma-separated lists and repeated
fields. Deliberately Pushpin's reading of them, which is laxer than RFC 9110 §5.6.6: any characters but the separators
make up a value, and a value without quotes may contain spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.errors import WireError

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Parametrized:
    """One element. `parameters` in their order, names in lower case; one without ``=`` has an empty value."""

    value: str
    parameters: Sequence[tuple[str, str]] = ()

    def get(self, name: str) -> str | None:
        """The first parameter called so."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None


def field_values(headers: RawHeaders, name: bytes) -> list[str]:
    """Values of all fields called `name` (lower case), in order. Raises WireError for one that is not UTF-8."""
    try:
        return [value.decode() for key, value in headers if key.lower() == name]
    except UnicodeDecodeError:
        raise WireError(f"{shown_name(name)} must be UTF-8") from None


def elements(headers: RawHeaders, name: bytes) -> list[Parametrized]:
    """All list elements of all fields called `name` (lower case); empty ones are skipped (RFC 9110 §5.6.1). Raises
    WireError."""
    return [
        parse_parameters(part, shown_name(name))
        for value in field_values(headers, name)
        for part in split_quoted(value, ",")
        if part
    ]


def parse_parameters(text: str, what: str) -> Parametrized:
    """One element; `what` names the field in errors. Everything before the first semicolon is its value."""
    value, _, rest = text.partition(";")
    parameters = (parse_pair(part, what) for part in split_quoted(rest, ";") if part)
    return Parametrized(value.strip(), tuple((name.lower(), text) for name, text in parameters))


def parse_pair(text: str, what: str) -> tuple[str, str]:
    """``name=text`` or ``name="quoted text"``; what follows the closing quote is ignored, as in Pushpin. Raises
    WireError for a quote without end."""
    name, _, value = text.partition("=")
    value = value.strip()
    if value.startswith('"'):
        value = _unquote(value, what)
    return name.strip(), value


def _unquote(value: str, what: str) -> str:
    content: list[str] = []
    characters = iter(value[1:])
    for character in characters:
        if character == '"':
            return "".join(content)
        content.append(next(characters, "") if character == "\\" else character)
    raise WireError(f"{what}: a quote is not closed: {value[:60]}")


def split_quoted(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators outside quotes, stripped. A quote without end reaches to the end."""
    if '"' not in text:
        return [part.strip() for part in text.split(separator)]
    parts = []
    begin = 0
    quoted = escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == separator:
            parts.append(text[begin:index].strip())
            begin = index + 1
    parts.append(text[begin:].strip())
    return parts


def shown_name(name: bytes) -> str:
    """A header's name as people write it."""
    return name.decode("latin-1").title()


def grip_prefix(headers: RawHeaders) -> str | None:
    """The prefix of normal messages, from ``Sec-WebSocket-Extensions: grip; message-prefix="m:"`` in the answer to
    OPEN: ``m:`` when it names none. None: the backend did not switch GRIP on."""
    for element in elements(headers, b"sec-websocket-extensions"):
        if element.value == "grip":
            prefix = element.get("message-prefix")
            return "m:" if prefix is None else prefix
    return None
