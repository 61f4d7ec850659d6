"""Subscription filters: which items a member does not get, and what they say to this member alone.

``skip-self``, ``skip-users`` and ``require-sub`` decide by metadata; ``build-id`` and ``var-subst`` change content. The
names a subscription asked for that nobody knows do nothing, as in Pushpin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from edge.errors import WireError
from edge.facts import fact
from edge.protocol.grip.directives import Template, expand
from edge.protocol.grip.items import CONTROL_BYTES, Item

FormatKind = Literal["socket", "stream", "response"]
Meta = Mapping[str, str]
Channels = Collection[str] | Mapping[str, str | None]
"""All channels of a member (full names), as a mapping with the ids it has up to now where it knows them."""
_CONTENT = ("build-id", "var-subst")


@fact
class Dropped:
    """The member does not get the item. `problem` None: a filter was for that; else why its filters could not be
    carried out, which a route in debug mode tells its client."""

    problem: str | None = None


_DROPPED = Dropped()


def apply_to_response(names: Sequence[str], body: bytes, meta: Meta) -> bytes:
    """The body of a backend's answer with channels through the filters meant for it (`build-id` only). `names`: those
    of all its channels. Raises WireError.

    As in Pushpin such a body has no id of its own: it says which one it means (``%(id)I``).
    """
    return _build_id(body, meta, _NO_ID) if "build-id" in names else body


def apply_to_body(names: Sequence[str], body: bytes, meta: Meta, channels: Channels, prefix: str = "") -> bytes:
    """Content that is made for the member (a patched body) through the content filters among `names`. Raises
    WireError."""
    ids = channels if isinstance(channels, Mapping) else {}
    return _rendered(names, body, meta, _member_id(Template(meta.get("id_format", "").encode()), ids, prefix))


class Sieve:
    """One item on its way through the filters of many members: what several of them get is made once.

    Deviations from Pushpin: filters that drop come first, so that one behind a content filter is not in vain; content
    filters run only on items that have content (there a close without `id_format` is lost), and an id is made only
    when it is asked for; the id of the item itself counts for `build-id`, as in release 1.36 (its successor renders
    the one before).
    """

    __slots__ = ("_form", "_item", "_kind", "_made", "_plans", "_skipped", "_templates")

    def __init__(self, item: Item, kind: FormatKind) -> None:
        self._item = item
        self._kind = kind
        self._form = item.socket if kind == "socket" else item.stream if kind == "stream" else item.response
        self._plans: dict[tuple[str, ...], _Plan | Dropped] = {}
        self._templates: dict[str, Template] = {}
        self._made: dict[object, Item | Dropped] = {}
        users = item.meta.get("skip_users", "")
        self._skipped = frozenset(part.strip() for part in users.split(","))

    def apply(self, names: Sequence[str], meta: Meta, channels: Channels, prefix: str = "") -> Item | Dropped:
        """What a member with `meta` and `channels` gets of the item through the filters `names` of its subscription:
        the item itself when they change nothing. `prefix` of its route: `id_format` knows channels with it and
        without it. An item whose publisher assumed other content filters (`content-filters`) is dropped."""
        key = tuple(names)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(key)
        if isinstance(plan, Dropped):
            return plan
        for drops in plan.drops:
            if drops(self, meta, channels):
                return _DROPPED
        if not plan.content:
            return self._item
        made_id = self._id(meta, channels, prefix) if "build-id" in plan.content else None
        same = (plan.content, made_id, "id_format" in meta, meta.get("id_encoding"))
        result_key = (same, frozenset(meta.items())) if "var-subst" in plan.content else same
        result = self._made.get(result_key)
        if result is None:
            result = self._made[result_key] = self._make(plan.content, meta, _NO_ID if made_id is None else made_id)
        return result

    def _plan(self, names: tuple[str, ...]) -> _Plan | Dropped:
        form = self._form
        if form is None:
            return _DROPPED
        content = tuple(name for name in names if name in _CONTENT)
        if form.filters is not None and tuple(form.filters) != content:
            has, wants = ",".join(content), ",".join(form.filters)
            return Dropped(f"content filter mismatch: subscription={has} message={wants}")
        drops = tuple(_DROPS[name] for name in names if name in _DROPS)
        # A patch has nothing to fill in before it is applied: see `apply_to_body`.
        patch = self._kind == "response" and self._item.response is not None and self._item.response.patch is not None
        return _Plan(drops, () if patch or form.action != "send" else content)

    def _id(self, meta: Meta, channels: Channels, prefix: str) -> bytes | str:
        form = meta.get("id_format", "")
        template = self._templates.get(form)
        if template is None:
            template = self._templates[form] = Template(form.encode())
        ids = channels if isinstance(channels, Mapping) else {}
        item = self._item
        if ids.get(item.channel) is not None:
            ids = {**ids, item.channel: item.id}
        return _member_id(template, ids, prefix)

    def _make(self, names: Sequence[str], meta: Meta, made_id: bytes | str) -> Item | Dropped:
        try:
            return _changed(self._item, self._kind, lambda content: _rendered(names, content, meta, made_id))
        except WireError as error:
            return Dropped(f"filter error: {error}")

    # -- what drops

    def skips_self(self, meta: Meta, channels: Channels) -> bool:
        user = meta.get("user")
        return bool(user) and self._item.meta.get("sender") == user

    def skips_user(self, meta: Meta, channels: Channels) -> bool:
        user = meta.get("user")
        return bool(user) and user in self._skipped

    def lacks_subscription(self, meta: Meta, channels: Channels) -> bool:
        channel = self._item.meta.get("require_sub")
        return bool(channel) and channel not in channels


_Drops = Callable[[Sieve, Meta, Channels], bool]
_DROPS: Mapping[str, _Drops] = {
    "skip-self": Sieve.skips_self,
    "skip-users": Sieve.skips_user,
    "require-sub": Sieve.lacks_subscription,
}


@fact
class _Plan:
    """What the filters of a subscription do with one item: those that drop, and those that change content."""

    drops: Sequence[_Drops]
    content: Sequence[str]


def _changed(item: Item, kind: FormatKind, render: Callable[[bytes], bytes]) -> Item:
    if kind == "socket" and (socket := item.socket) is not None:
        content = socket.content
        if isinstance(content, str):
            try:
                text = render(content.encode()).decode()
            except UnicodeDecodeError:
                raise WireError("what they make is not UTF-8") from None
            return item if text == content else replace(item, socket=replace(socket, content=text))
        packed = render(content)
        if socket.kind != "binary" and len(packed) > CONTROL_BYTES:
            raise WireError(f"what they make is too long for a {socket.kind}")
        return item if packed == content else replace(item, socket=replace(socket, content=packed))
    if kind == "stream" and (stream := item.stream) is not None:
        packed = render(stream.content)
        return item if packed == stream.content else replace(item, stream=replace(stream, content=packed))
    if kind == "response" and (response := item.response) is not None:
        packed = render(response.body)
        return item if packed == response.body else replace(item, response=replace(response, body=packed))
    return item


def _rendered(names: Sequence[str], content: bytes, meta: Meta, made_id: bytes | str) -> bytes:
    for name in names:
        if name == "build-id":
            content = _build_id(content, meta, made_id)
        elif name == "var-subst":
            content = _var_subst(content, meta)
    return content


_NO_ID = "no ID specified and no default ID in context"


def _build_id(content: bytes, meta: Meta, made_id: bytes | str) -> bytes:
    """``%I`` becomes the member's id: `id_format` from its metadata with the ids of its channels in it; text says why
    there is none. ``%(text)I`` becomes the text. With `id_encoding` hex both as hex digits."""
    if "id_format" not in meta:
        raise WireError("build-id: no sub meta 'id_format'")
    encoding = meta.get("id_encoding")
    if encoding not in (None, "hex"):
        raise WireError(f"build-id: unsupported encoding: {encoding}")

    def directive(letter: bytes, argument: bytes | None) -> bytes:
        if letter != b"I":
            raise WireError(f"build-id: unknown directive '{letter.decode('latin-1')}'")
        made = made_id if argument is None else argument
        if isinstance(made, str):
            raise WireError(f"build-id: {made}")
        return made.hex().encode() if encoding == "hex" else made

    return expand(content, directive)


def _member_id(template: Template, ids: Mapping[str, str | None], prefix: str) -> bytes | str:
    """The id, or why there is none."""
    if not ids:
        return _NO_ID
    try:
        return template.fill(lambda name: ids.get(name) or ids.get(prefix + name))
    except WireError as error:
        return f"failed to render ID: {error}"


def _var_subst(content: bytes, meta: Meta) -> bytes:
    """``%(name)s`` becomes that entry of the member's metadata."""
    try:
        return Template(content).fill(meta.get)
    except WireError as error:
        raise WireError(f"var-subst: {error}") from None
