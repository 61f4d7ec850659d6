"""Payloads of Pushpin's ZeroMQ sockets: ``J`` and JSON, ``T`` and a tnetstring, or a bare tnetstring."""

from __future__ import annotations

from edge.protocol.grip.fields import Fields, parse_json
from edge.protocol.grip.items import Item, parse_item
from edge.protocol.grip.publish import parse_items
from edge.protocol.grip.tnetstring import decode


def parse_payload(payload: bytes, channel: str | None = None) -> list[Item]:
    """The item in one message. `channel`: of a SUB socket, whose topic is the channel; it wins over the item's own.

    Beyond Pushpin ``{"items": [...]}`` is taken too, from where no channel is given. In a tnetstring binary content is
    in `content` or `body` itself. Raises WireError, FieldError.
    """
    binary = not payload.startswith(b"J")
    form = decode(payload.removeprefix(b"T")) if binary else parse_json(payload[1:])
    if channel is None:
        fields = Fields(form, binary=binary)
        if fields.has("items"):
            return parse_items(fields)
    return [parse_item(form, channel, binary=binary)]
