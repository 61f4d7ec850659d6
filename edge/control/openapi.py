"""The API described: as an OpenAPI 3.1 document and as a page. Both are made from the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Any

from edge.control.context import Endpoint
from edge.control.schemas import SCHEMAS

_EVERYWHERE = (401, 403, 500)
"""Errors that the guard may answer on any path that needs a token."""


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast control API",
            "version": version,
            "description": "Names in paths are percent-encoded; a slash in a name is sent as %2F.",
        },
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "publisher": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "publisherKey": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    errors = sorted({*endpoint.errors, *(() if endpoint.open else _EVERYWHERE)} - endpoint.answers.keys())
    plain = endpoint.publishing
    operation: dict[str, Any] = {
        "summary": endpoint.about,
        "operationId": endpoint.handler.__name__,
        "parameters": _parameters(endpoint),
        "responses": {
            **{str(status): _response(status, schema, plain) for status, schema in endpoint.answers.items()},
            **{str(status): _response(status, "Error", plain) for status in errors},
        },
    }
    if endpoint.body:
        schema = {"schema": _ref(endpoint.body)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": schema} | ({} if plain else {"application/msgpack": schema}),
        }
    if endpoint.open:
        operation["security"] = []
    elif endpoint.publishing:
        operation["security"] = [{"token": []}, {"publisher": []}, {"publisherKey": []}]
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    in_query = [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.about,
            "schema": {"type": parameter.kind},
        }
        for parameter in endpoint.query
    ]
    return in_path + in_query


def _response(status: int, schema: str, plain: bool) -> dict[str, Any]:
    """`plain`: also in plain text, as Accept says."""
    if "/" in schema:
        content: dict[str, Any] = {schema: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _ref(schema)}}
        if plain:
            content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def page(endpoints: Sequence[Endpoint], version: str) -> str:
    """A page that lists the endpoints, for somebody who opens the control port in a browser."""
    rows = "\n".join(
        f"<tr><td>{endpoint.method}<td><code>{escape(endpoint.path)}</code><td>{escape(endpoint.about)}"
        f"<td>{'open' if endpoint.open else 'token or publisher' if endpoint.publishing else 'token'}"
        for endpoint in endpoints
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Holdfast control API</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }}
td, th {{ text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }}
</style>
<h1>Holdfast {escape(version)}</h1>
<p>The control API. Its description for programs: <a href="/openapi.json">openapi.json</a>.</p>
<table><tr><th>Method<th>Path<th>What it does<th>Needs
{rows}
</table></html>
"""
