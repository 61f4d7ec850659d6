"""The body of ``POST /publish``: ``{"items": [...]}``."""

from __future__ import annotations

from edge.errors import FieldError
from edge.protocol.grip.fields import Fields, parse_json, under
from edge.protocol.grip.items import Item, parse_item


def parse_publish(body: bytes) -> list[Item]:
    """All items, or none: WireError when the body is no such object, FieldError (``items[3].channel``) when one of
    them is wrong."""
    return parse_items(Fields(parse_json(body)))


def parse_items(fields: Fields) -> list[Item]:
    """The list called `items` in `fields`."""
    elements = fields.elements("items")
    if elements is None:
        raise fields.wrong("items", "is missing")
    items = []
    for index, element in enumerate(elements):
        try:
            items.append(parse_item(element, binary=fields.binary))
        except FieldError as error:
            raise under(f"items[{index}]", error) from None
    return items
