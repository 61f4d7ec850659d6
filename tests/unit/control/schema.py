"""A checker for the part of JSON Schema that edge.control.schemas uses; an unknown keyword fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KEYWORDS = {"type", "description", "properties", "required", "additionalProperties", "items", "enum", "$ref", "anyOf"}


def check(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], where: str = "$") -> None:
    """Raise AssertionError when `value` is not what `schema`, a part of the OpenAPI `document`, describes."""
    assert schema.keys() <= _KEYWORDS, f"{where}: unknown keywords {schema.keys() - _KEYWORDS}"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        check(value, document["components"]["schemas"][name], document, where)
        return
    if "anyOf" in schema:
        for number, one in enumerate(schema["anyOf"], 1):
            try:
                return check(value, one, document, where)
            except AssertionError:
                if number == len(schema["anyOf"]):
                    raise
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        fits = any(isinstance(value, _TYPES[kind]) and (kind == "boolean" or value is not True) for kind in kinds)
        assert fits, f"{where}: {value!r} is not {kinds}"
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, dict) and "properties" in schema:
        properties = schema["properties"]
        missing = set(schema.get("required", ())) - value.keys()
        assert not missing, f"{where}: {missing} missing"
        extra = value.keys() - properties.keys()
        assert schema.get("additionalProperties", True) or not extra, f"{where}: {extra} unknown"
        for key in value.keys() & properties.keys():
            check(value[key], properties[key], document, f"{where}.{key}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], document, f"{where}[{index}]")
