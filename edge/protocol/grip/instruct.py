"""Instructions: what a backend's answer tells the edge to do with it, from ``Grip-*`` headers or an
``application/grip-instruct`` body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from edge.errors import FieldError, WireError
from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.fields import Fields, from_base64, is_field_value, parse_json
from edge.protocol.grip.parameters import (
    Parametrized,
    RawHeaders,
    elements,
    field_values,
    parse_pair,
    parse_parameters,
    split_quoted,
)

INSTRUCT_TYPE = "application/grip-instruct"
HoldMode = Literal["response", "stream"]
HOLD_TIMEOUT_S = 55.0
HOLD_TIMEOUT_MIN_S = 5.0
KEEP_ALIVE_S = 55.0
KEEP_ALIVE_MIN_S = 1.0
LINK_TIMEOUT_S = 120.0
SECONDS_MAX = 1e9
"""Thirty years: far past any use, near enough for arithmetic."""


@dataclass(frozen=True, slots=True)
class HeldChannel:
    """A subscription of a hold: the name without the route's prefix, the id it continues from, its filters."""

    name: str
    prev_id: str | None = None
    filters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """``Grip-Keep-Alive``. `idle`: after this long without anything sent; else at fixed intervals."""

    content: bytes
    timeout_s: float = 55.0
    idle: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    """``Grip-Link``. `uri` as given, perhaps relative. `timeout_s` of a ``next`` link only."""

    uri: str
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Shown:
    """The answer the client is to see, where it differs from the backend's own. `headers` and `body` replace those of
    the backend when they are not None (a ``grip-instruct`` body has them)."""

    status: int | None = None
    reason: str | None = None
    headers: Headers | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Instruct:
    """One answer's instructions. `hold` None: no hold, though there may be links and a status to show."""

    hold: HoldMode | None = None
    channels: Sequence[HeldChannel] = ()
    timeout_s: float = 55.0
    keep_alive: KeepAlive | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)
    exposed: Sequence[str] | None = None
    """``Grip-Expose-Headers``, lower case: only these are shown to the client; None: all."""
    next: Link | None = None
    gone: Link | None = None


def is_instructed(headers: RawHeaders) -> bool:
    """Whether an answer has to be inspected: it has a ``Grip-*`` header, or is an instruct."""
    for name, value in headers:
        if len(name) > 5 and name[:5].lower() == b"grip-":
            return True
        if len(name) == 12 and name.lower() == b"content-type" and value.split(b";", 1)[0].strip() == _TYPE:
            return True
    return False


_TYPE = INSTRUCT_TYPE.encode()


def parse_instruct(status: int, headers: RawHeaders, body: bytes) -> Instruct | None:
    """What the answer asks for; None: it has nothing to do with GRIP. `body` may be left empty unless the answer
    `is_instruct_body`.

    Raises WireError, which names the header, or the field of an instruct, and says what is allowed. Deviations from
    Pushpin: malformed elements of Grip-Channel, Grip-Set-Meta and Grip-Link are errors (Pushpin skips some), seconds
    may be fractions, and only statuses from 200 to 999 can be shown.
    """
    if not is_instructed(headers):
        return None
    instruct = _from_headers(headers)
    if is_instruct_body(headers):
        if status != 200:
            raise WireError(f"an answer of type {INSTRUCT_TYPE} must have status 200, not {status}")
        try:
            instruct = _from_json(instruct, Fields(parse_json(body), "instruct"))
        except FieldError:
            raise
        except WireError as error:
            raise WireError(f"the body of type {INSTRUCT_TYPE} {error}") from None
    return instruct


def is_instruct_body(headers: RawHeaders) -> bool:
    """Whether the body is an instruct, which has to be read whole."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    return bool(types) and types[0].split(b";", 1)[0].strip() == _TYPE


# -- headers -------------------------------------------------------------------------------------------------


def _from_headers(headers: RawHeaders) -> Instruct:
    hold = _first(headers, b"grip-hold")
    if hold is not None and hold not in ("response", "stream"):
        raise WireError(f"Grip-Hold must be response or stream, not {hold[:60]!r}")
    timeout = _first(headers, b"grip-timeout")
    next_link, gone_link = _links(headers)
    exposed = [name.lower() for name in _list(headers, b"grip-expose-headers")]
    return Instruct(
        hold,  # type: ignore[arg-type]
        tuple(_channel(element) for element in elements(headers, b"grip-channel")),
        HOLD_TIMEOUT_S if timeout is None else max(_seconds(timeout, "Grip-Timeout"), HOLD_TIMEOUT_MIN_S),
        _keep_alive(headers),
        dict(_meta_pair(text) for text in _list(headers, b"grip-set-meta")),
        _status(headers),
        tuple(exposed) or None,
        next_link,
        gone_link,
    )


def _first(headers: RawHeaders, name: bytes) -> str | None:
    values = field_values(headers, name)
    return values[0].strip() if values else None


def _list(headers: RawHeaders, name: bytes) -> list[str]:
    return [part for value in field_values(headers, name) for part in split_quoted(value, ",") if part]


def _seconds(text: str, what: str) -> float:
    """Pushpin takes integers; fractions are no harm."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= SECONDS_MAX:
        raise WireError(f"{what} must be a number of seconds, not negative, not {text[:60]!r}")
    return seconds


def _channel(element: Parametrized) -> HeldChannel:
    if not element.value:
        raise WireError("Grip-Channel must begin with the name of a channel")
    filters = tuple(value for name, value in element.parameters if name == "filter")
    return HeldChannel(element.value, element.get("prev-id"), filters)


def _keep_alive(headers: RawHeaders) -> KeepAlive | None:
    text = _first(headers, b"grip-keep-alive")
    if not text:
        return None
    element = parse_parameters(text, "Grip-Keep-Alive")
    if not element.value:
        raise WireError("Grip-Keep-Alive must begin with what to send")
    mode, timeout = element.get("mode") or "idle", element.get("timeout")
    if mode not in ("idle", "interval"):
        raise WireError(f"mode of Grip-Keep-Alive must be idle or interval, not {mode[:60]!r}")
    seconds = KEEP_ALIVE_S if timeout is None else _seconds(timeout, "timeout of Grip-Keep-Alive")
    content = _keep_alive_content(element.value, element.get("format") or "raw")
    return KeepAlive(content, max(seconds, KEEP_ALIVE_MIN_S), mode == "idle")


def _keep_alive_content(text: str, form: str) -> bytes:
    match form:
        case "raw":
            return text.encode()
        case "cstring":
            return _from_cstring(text)
        case "base64":
            try:
                return from_base64(text)
            except ValueError:
                raise WireError(f"Grip-Keep-Alive is not base64: {text[:60]!r}") from None
    raise WireError(f"format of Grip-Keep-Alive must be raw, cstring or base64, not {form[:60]!r}")


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.)|$)", re.DOTALL)
_ESCAPES = {b"\\": b"\\", b"r": b"\r", b"n": b"\n", b"t": b"\t"}


def _from_cstring(text: str) -> bytes:
    def unescaped(match: re.Match[bytes]) -> bytes:
        digits, letter = match.groups()
        if digits:
            return bytes.fromhex(digits.decode())
        try:
            return _ESCAPES[letter]
        except KeyError:
            wrong = match[0].decode("latin-1")
            raise WireError(rf"Grip-Keep-Alive: the escapes are \\, \r, \n, \t and \xHH, not {wrong}") from None

    return _ESCAPE.sub(unescaped, text.encode())


def _meta_pair(text: str) -> tuple[str, str]:
    name, value = parse_pair(split_quoted(text, ";")[0], "Grip-Set-Meta")
    if not name:
        raise WireError(f'Grip-Set-Meta must be name="value", not {text[:60]!r}')
    return name, value


def _status(headers: RawHeaders) -> Shown:
    text = _first(headers, b"grip-status")
    if not text:
        return Shown()
    code, _, reason = text.partition(" ")
    if not (code.isascii() and code.isdigit() and 200 <= int(code[:4]) <= 999):
        raise WireError(f"Grip-Status must begin with a status from 200 to 999, not {text[:60]!r}")
    return Shown(int(code), reason.strip().encode().decode("latin-1"))


def _links(headers: RawHeaders) -> tuple[Link | None, Link | None]:
    """The last ``next`` and the last ``gone``; other relations are somebody else's."""
    next_link = gone_link = None
    for text in field_values(headers, b"grip-link"):
        # Commas and semicolons are common in URIs (RFC 8288 has no trouble with them; Pushpin has).
        before, *rest = _LINK.split(text)
        if not rest or before.strip(" \t,"):
            raise WireError(f"Grip-Link must begin with <uri>, not {text[:60]!r}")
        for uri, parameters in zip(rest[::2], rest[1::2], strict=True):
            if not _is_uri(uri):
                raise WireError(f"Grip-Link has no valid URI: {uri[:60]!r}")
            element = parse_parameters(parameters.strip(" \t,"), "Grip-Link")
            rel, timeout = element.get("rel"), element.get("timeout")
            if rel == "next":
                seconds = LINK_TIMEOUT_S if timeout is None else _seconds(timeout, "timeout of Grip-Link")
                next_link = Link(uri, seconds)
            elif rel == "gone":
                gone_link = Link(uri)
    return next_link, gone_link


_LINK = re.compile("<([^>]*)>")


def _is_uri(uri: str) -> bool:
    """An address, perhaps relative, that can lead to http or https; who asks for it escapes what needs to be."""
    if not uri or _NOT_IN_URI.search(uri):
        return False
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("", "http", "https") and (not parts.scheme or bool(parts.hostname))


_NOT_IN_URI = re.compile(r"[\x00-\x1f\x7f<>]")


# -- the body ------------------------------------------------------------------------------------------------


def _from_json(instruct: Instruct, fields: Fields) -> Instruct:
    """Holds and the answer to show come from the body; status, links and what else its headers say stay."""
    hold, response = fields.inner("hold"), fields.inner("response")
    shown = replace(instruct.shown, headers=(), body=b"")
    if response is not None:
        shown = _shown(shown, response)
    if hold is None:
        return replace(instruct, shown=shown)
    timeout = hold.number("timeout")
    channels = hold.elements("channels")
    if channels is None:
        raise hold.wrong("channels", "is missing")
    mode: HoldMode = hold.one_of("mode", ("response", "stream")) or "response"  # type: ignore[assignment]
    return replace(
        instruct,
        hold=mode,
        channels=(*instruct.channels, *(_json_channel(hold, index, entry) for index, entry in enumerate(channels))),
        timeout_s=instruct.timeout_s if timeout is None else max(timeout, HOLD_TIMEOUT_MIN_S),
        keep_alive=_json_keep_alive(hold.inner("keep-alive")) or instruct.keep_alive,
        meta={**instruct.meta, **hold.texts("meta")},
        shown=shown,
    )


def _json_channel(hold: Fields, index: int, entry: object) -> HeldChannel:
    channel = Fields(entry, hold.named(f"channels[{index}]"))
    return HeldChannel(channel.needed("name"), channel.text("prev-id"), channel.names("filters") or ())


def _json_keep_alive(fields: Fields | None) -> KeepAlive | None:
    if fields is None:
        return None
    content, seconds = fields.content("content"), fields.number("timeout")
    mode = fields.one_of("mode", ("idle", "interval"))
    if content is None:  # there is nothing to send
        return None
    packed = content.encode() if isinstance(content, str) else content
    return KeepAlive(packed, max(KEEP_ALIVE_S if seconds is None else seconds, KEEP_ALIVE_MIN_S), mode != "interval")


def _shown(shown: Shown, fields: Fields) -> Shown:
    code, reason, body = fields.integer("code", 200, 999), fields.text("reason"), fields.content("body")
    if reason is not None and not is_field_value(reason):
        raise fields.wrong("reason", "must be text without line breaks")
    if code is not None:
        shown = replace(shown, status=code, reason=None)
    if reason:
        shown = replace(shown, reason=reason.encode().decode("latin-1"))
    packed = body.encode() if isinstance(body, str) else body or b""
    return replace(shown, headers=fields.headers("headers"), body=packed)
