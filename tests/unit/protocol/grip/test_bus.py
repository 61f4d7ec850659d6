"""Items between edges."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.bus import pack_item, unpack_item
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from tests.unit.protocol.grip.generated import ITEMS, JSON


@given(ITEMS)
def test_what_was_packed_is_unpacked(item: Item) -> None:
    assert unpack_item(pack_item(item)) == item


def test_a_small_item_is_small() -> None:
    assert len(pack_item(Item("room", socket=SocketFormat(content="hello")))) < 40


def test_a_newer_version_is_refused_with_advice() -> None:
    with pytest.raises(WireError, match="an item of version 2; this edge knows version 1"):
        unpack_item(msgpack.packb([2, "anything"]))


def test_what_newer_edges_append_is_ignored() -> None:
    full = Item("a", socket=SocketFormat(), stream=StreamFormat(), response=ResponseFormat())
    form = msgpack.unpackb(pack_item(full))
    longer = [[*part, "new"] if isinstance(part, list) else part for part in form]
    assert unpack_item(msgpack.packb([*longer, "new"])) == full


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("wrong", [object, 7.5, ["x"], {"x": []}])
def test_no_field_is_believed(part: int, wrong: object) -> None:
    full = Item("a", "i", "p", False, {"a": "b"}, 5, SocketFormat(), StreamFormat(), ResponseFormat())
    form = msgpack.unpackb(pack_item(full))
    form[part] = b"\xff" if wrong is object else wrong
    with pytest.raises(WireError, match="not an item"):
        unpack_item(msgpack.packb(form))


@given(st.one_of(st.binary(max_size=60), st.lists(JSON, max_size=12).map(lambda form: msgpack.packb([1, "a", *form]))))
def test_garbage_is_refused(packed: bytes) -> None:
    with contextlib.suppress(WireError):
        unpack_item(packed)
