"""Subscription filters: which items a member does not get, and what they say to this member alone.

``skip-self``, ``skip-users`` and ``require-sub`` decide by metadata; ``build-id`` and ``var-subst`` change content. The
names a subscription asked for that nobody knows do nothing, as in Pushpin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from edge.errors import WireError
from edge.facts import fact
from edge.protocol.grip.items import CONTROL_BYTES, Item

FILTERS_MAX = 5
"""More for one channel are refused by Pushpin 2."""
NAMES = ("skip-self", "skip-users", "require-sub", "build-id", "var-subst")
FormatKind = Literal["socket", "stream", "response"]
Channels = Collection[str] | Mapping[str, str | None]
"""All channels of a member (full names), as a mapping with the ids it has up to now where it knows them."""


@fact
class Dropped:
    """The member does not get the item. `problem` None: a filter was for that; else why its filters could not be
    carried out, which a route in debug mode tells its client."""

    problem: str | None = None


_DROPPED = Dropped()


def apply(
    names: Sequence[str], item: Item, kind: FormatKind, meta: Mapping[str, str], channels: Channels, prefix: str = ""
) -> Item | Dropped:
    """What a member with `meta` and `channels`, which takes the `kind` format, gets of `item` through the filters
    `names` of its subscription: the same object when they change nothing. `prefix` of its route: ids and `id_format`
    know channels with it and without it.

    An item whose publisher assumed other content filters than the subscription has (`content-filters`) is dropped.
    Deviations from Pushpin: filters that drop come first, so that one behind a content filter is not in vain; content
    filters run only on items that have content (there a close without `id_format` is lost); the id of the item itself
    counts for `build-id`, as in release 1.36 (its successor renders the one before).
    """
    content_filters = [name for name in names if name in _CONTENT]
    form = item.socket if kind == "socket" else item.stream if kind == "stream" else item.response
    if form is None:
        return _DROPPED
    assumed = form.filters
    if assumed is not None and list(assumed) != content_filters:
        has, wants = ",".join(content_filters), ",".join(assumed)
        return Dropped(f"content filter mismatch: subscription={has} message={wants}")
    for name in names:
        drops = _DROPS.get(name)
        if drops is not None and drops(item, meta, channels):
            return _DROPPED
    if not content_filters or form.action != "send":
        return item
    if isinstance(channels, Mapping) and channels.get(item.channel) is not None:
        channels = {**channels, item.channel: item.id}
    try:
        return _changed(content_filters, item, kind, meta, channels, prefix)
    except WireError as error:
        return Dropped(f"filter error: {error}")


def apply_to_response(names: Sequence[str], body: bytes, meta: Mapping[str, str]) -> bytes:
    """The body of a backend's answer with channels through the filters meant for it (`build-id` only). `names`: those
    of all its channels. Raises WireError.

    As in Pushpin such a body has no id of its own: it says which one it means (``%(id)I``).
    """
    return _rendered(["build-id"], body, meta, (), "") if "build-id" in names else body


def apply_to_body(
    names: Sequence[str], body: bytes, meta: Mapping[str, str], channels: Channels, prefix: str = ""
) -> bytes:
    """Content that is made for the member (a patched body) through the content filters among `names`. Raises
    WireError."""
    return _rendered([name for name in names if name in _CONTENT], body, meta, channels, prefix)


def _changed(
    names: Sequence[str], item: Item, kind: FormatKind, meta: Mapping[str, str], channels: Channels, prefix: str
) -> Item:
    if kind == "socket":
        socket = item.socket
        assert socket is not None
        content = socket.content
        if isinstance(content, str):
            try:
                text = _rendered(names, content.encode(), meta, channels, prefix).decode()
            except UnicodeDecodeError:
                raise WireError("what they make is not UTF-8") from None
            return item if text == content else replace(item, socket=replace(socket, content=text))
        packed = _rendered(names, content, meta, channels, prefix)
        if socket.kind != "binary" and len(packed) > CONTROL_BYTES:
            raise WireError(f"what they make is too long for a {socket.kind}")
        return item if packed == content else replace(item, socket=replace(socket, content=packed))
    if kind == "stream":
        stream = item.stream
        assert stream is not None
        packed = _rendered(names, stream.content, meta, channels, prefix)
        return item if packed == stream.content else replace(item, stream=replace(stream, content=packed))
    response = item.response
    assert response is not None
    if response.patch is not None:  # there is nothing to fill in before it is applied: see `apply_to_body`
        return item
    packed = _rendered(names, response.body, meta, channels, prefix)
    return item if packed == response.body else replace(item, response=replace(response, body=packed))


# -- what drops ----------------------------------------------------------------------------------------------


def _skip_self(item: Item, meta: Mapping[str, str], channels: Channels) -> bool:
    user = meta.get("user")
    return bool(user) and item.meta.get("sender") == user


def _skip_users(item: Item, meta: Mapping[str, str], channels: Channels) -> bool:
    user, users = meta.get("user"), item.meta.get("skip_users")
    return bool(user and users) and user in [part.strip() for part in (users or "").split(",")]


def _require_sub(item: Item, meta: Mapping[str, str], channels: Channels) -> bool:
    channel = item.meta.get("require_sub")
    return bool(channel) and channel not in channels


_DROPS: Mapping[str, Callable[[Item, Mapping[str, str], Channels], bool]] = {
    "skip-self": _skip_self,
    "skip-users": _skip_users,
    "require-sub": _require_sub,
}


# -- what changes content ------------------------------------------------------------------------------------


def _rendered(names: Sequence[str], content: bytes, meta: Mapping[str, str], channels: Channels, prefix: str) -> bytes:
    for name in names:
        content = _CONTENT[name](content, meta, channels, prefix)
    return content


def _build_id(content: bytes, meta: Mapping[str, str], channels: Channels, prefix: str) -> bytes:
    """``%I`` becomes the member's id: `id_format` from its metadata with the ids of its channels in it (made only when
    it is asked for; Pushpin insists). ``%(text)I`` becomes the text. With `id_encoding` hex both as hex digits."""
    if "id_format" not in meta:
        raise WireError("build-id: no sub meta 'id_format'")
    encoding = meta.get("id_encoding")
    if encoding not in (None, "hex"):
        raise WireError(f"build-id: unsupported encoding: {encoding}")

    def directive(letter: bytes, argument: bytes | None) -> bytes:
        if letter != b"I":
            raise WireError(f"build-id: unknown directive '{letter.decode('latin-1')}'")
        made = _member_id(meta["id_format"], channels, prefix) if argument is None else argument
        return made.hex().encode() if encoding == "hex" else made

    return expand(content, directive)


def _member_id(form: str, channels: Channels, prefix: str) -> bytes:
    ids = channels if isinstance(channels, Mapping) else {}
    if not channels:
        raise WireError("build-id: no ID specified and no default ID in context")

    def directive(letter: bytes, argument: bytes | None) -> bytes:
        name = _argument(letter, argument)
        found = ids.get(name)
        if found is None:
            found = ids.get(prefix + name)
        if found is None:
            raise WireError(f"build-id: failed to render ID: no such variable '{name}'")
        return found.encode()

    return expand(form.encode(), directive)


def _var_subst(content: bytes, meta: Mapping[str, str], channels: Channels, prefix: str) -> bytes:
    """``%(name)s`` becomes that entry of the member's metadata."""

    def directive(letter: bytes, argument: bytes | None) -> bytes:
        name = _argument(letter, argument)
        value = meta.get(name)
        if value is None:
            raise WireError(f"var-subst: no such variable '{name}'")
        return value.encode()

    return expand(content, directive)


_CONTENT: Mapping[str, Callable[[bytes, Mapping[str, str], Channels, str], bytes]] = {
    "build-id": _build_id,
    "var-subst": _var_subst,
}


def _argument(letter: bytes, argument: bytes | None) -> str:
    if letter != b"s":
        raise WireError(f"unknown directive '{letter.decode('latin-1')}'")
    if argument is None:
        raise WireError("directive 's' requires argument")
    return argument.decode(errors="replace")


_DIRECTIVE = re.compile(rb"%(?:(%)|\(((?:[^\\)]|\\.)*)\)(.)|([A-Za-z])|)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def expand(form: bytes, directive: Callable[[bytes, bytes | None], bytes]) -> bytes:
    r"""`form` with its directives replaced: ``%%`` by a percent sign, ``%X`` and ``%(argument)X`` by what `directive`
    makes of letter and argument. A backslash in an argument stands for the next character. Raises WireError."""
    if b"%" not in form:
        return form

    def made(match: re.Match[bytes]) -> bytes:
        percent, argument, letter, bare = match.groups()
        if percent:
            return percent
        if bare:
            return directive(bare, None)
        if letter is None:
            raise WireError(f"no directive after '%' at position {match.start()}")
        return directive(letter, _ESCAPED.sub(rb"\1", argument) or None)

    return _DIRECTIVE.sub(made, form)
