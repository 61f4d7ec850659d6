"""JSON Patch (RFC 6902) on held bodies, with the library of that name; what may grow is bounded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from edge.errors import WireError
from edge.protocol.grip.fields import parse_json

COPIED_BYTES = 1_000_000
"""What the `copy` operations of one patch may copy in all: thirty of them could make a gigabyte of a byte."""


def apply_patch(body: bytes, patch: Sequence[Mapping[str, Any]]) -> bytes:
    """`body` after `patch`, as compact JSON; a line break at its end stays. Both are an object or a list, as in
    Pushpin. Raises WireError, which says which operation failed.

    Unlike Pushpin 1.36 it takes `add` at the end of a list, and refuses operations that RFC 6902 does not have.
    """
    try:
        document = parse_json(body)
    except WireError as error:
        raise WireError(f"the held body cannot be patched: it {error}") from None
    if not isinstance(document, dict | list):
        raise WireError("the held body cannot be patched: it is no JSON object or list")
    copied = 0
    for index, operation in enumerate(patch):
        try:
            if operation.get("op") == "copy":
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(document, operation["from"])))
            if copied > COPIED_BYTES:
                raise WireError(f"body-patch[{index}]: the patch copies more than {COPIED_BYTES} bytes")
            # A copy: what an operation adds, a later one may change.
            document = jsonpatch.JsonPatch([deepcopy(operation)]).apply(document, in_place=True)
        except _FAILURES as error:
            raise WireError(f"body-patch[{index}]: cannot be applied: {error}") from None
    if not isinstance(document, dict | list):
        raise WireError("body-patch: makes something else than an object or a list")
    try:
        packed = orjson.dumps(document)
    except TypeError as error:
        raise WireError(f"body-patch: makes what is no JSON: {error}") from None
    return packed + _line_end(body)


_FAILURES = (
    jsonpatch.JsonPatchException,
    jsonpointer.JsonPointerException,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
)
"""The last five come out of the library for operations whose values have the wrong type."""


def _line_end(body: bytes) -> bytes:
    if body.endswith(b"\r\n"):
        return b"\r\n"
    return b"\n" if body.endswith(b"\n") else b""
