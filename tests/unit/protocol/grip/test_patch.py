"""JSON Patch on held bodies."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.patch import apply_patch
from tests.unit.protocol.grip.generated import JSON


def op(name: str, path: str, **fields: Any) -> Mapping[str, Any]:
    return {"op": name, "path": path, **{field.rstrip("_"): fields[field] for field in fields}}


@pytest.mark.parametrize(
    ("body", "patch", "made"),
    [
        (b'{"a": 1}', [op("add", "/b", value="\u00e9")], '{"a":1,"b":"é"}'.encode()),
        (b'{"a": 1}\n', [op("replace", "/a", value=None)], b'{"a":null}\n'),
        (b"[1, 2]\r\n", [op("add", "/2", value=3), op("add", "/-", value=4)], b"[1,2,3,4]\r\n"),
        (b'{"a": {"b": 1}}', [op("test", "/a/b", value=1), op("move", "/c", from_="/a/b")], b'{"a":{},"c":1}'),
        (b'{"a": [1]}', [op("copy", "/b", from_="/a"), op("add", "/b/0", value=0)], b'{"a":[1],"b":[0,1]}'),
        (b'{"a/b": 1, "m~n": 2}', [op("remove", "/a~1b"), op("remove", "/m~0n")], b"{}"),
        (b"{}", [op("replace", "", value=[])], b"[]"),
        (b"{}", [], b"{}"),
    ],
)
def test_patches(body: bytes, patch: Sequence[Mapping[str, Any]], made: bytes) -> None:
    assert apply_patch(body, patch) == made


@pytest.mark.parametrize(
    ("body", "patch", "message"),
    [
        (b"", [], "the held body cannot be patched: it is not JSON"),
        (b"7", [], "it is no JSON object or list"),
        (b"{}", [op("remove", "/a")], r"body-patch\[0\]: cannot be applied"),
        (b"{}", [op("add", "/a", value=1), op("test", "/a", value=2)], r"body-patch\[1\]: cannot be applied"),
        (b"{}", [op("inc", "/a", value=1)], r"body-patch\[0\]: cannot be applied"),
        (b"{}", [{"op": "add"}], r"body-patch\[0\]"),
        (b"{}", [{"path": "/a"}], r"body-patch\[0\]"),
        (b"[]", [op("add", "/5", value=1)], r"body-patch\[0\]"),
        (b"{}", [op("add", "a", value=1)], r"body-patch\[0\]"),
        (b"{}", [op("replace", "", value=7)], "makes something else than an object or a list"),
    ],
)
def test_what_cannot_be_applied(body: bytes, patch: Sequence[Mapping[str, Any]], message: str) -> None:
    with pytest.raises(WireError, match=message):
        apply_patch(body, patch)


def test_copies_of_copies_are_bounded() -> None:
    doubling = [op("copy", f"/{n}", from_="") for n in range(60)]
    with pytest.raises(WireError, match="copies more than 1000000 bytes"):
        apply_patch(b'{"a": "' + b"x" * 100 + b'"}', doubling)


def test_depth_is_bounded() -> None:
    nesting = [op("add", "/a" * depth, value={}) for depth in range(1, 300)]
    with pytest.raises(WireError, match="makes what is no JSON"):
        apply_patch(b"{}", nesting)


PATHS = st.sampled_from(("", "/", "/a", "/a/b", "/0", "/-", "/a/0", "a", "/~2", "/01", None, 5))
OPERATIONS = st.fixed_dictionaries(
    {"op": st.one_of(st.sampled_from(("add", "remove", "replace", "move", "copy", "test")), JSON)},
    optional={"path": st.one_of(PATHS, JSON), "from": st.one_of(PATHS, JSON), "value": JSON},
)


@given(JSON, st.lists(OPERATIONS, max_size=4))
def test_garbage_is_refused_or_applied(document: Any, patch: list[dict[str, Any]]) -> None:
    with contextlib.suppress(WireError):
        apply_patch(orjson.dumps(document), patch)


def test_a_patch_can_be_used_again() -> None:
    """It belongs to an item that goes to many holds."""
    patch = [op("add", "/a", value={}), op("add", "/a/b", value=[]), op("add", "/a/b/-", value=1)]
    for _ in range(2):
        assert apply_patch(b"{}", patch) == b'{"a":{"b":[1]}}'
