"""The OpenAPI document and the index page say what the routes are, no more and no less."""

from __future__ import annotations

import re
from typing import Any

from edge.control.endpoints import ENDPOINTS
from tests.unit.control.memory import MemoryEdge, api

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")


async def _document() -> dict[str, Any]:
    async with api(MemoryEdge()) as client:
        response = await client.get("/openapi.json")
        assert response.headers["content-type"] == "application/json"
        document: dict[str, Any] = response.json()
        return document


async def test_each_documented_operation_is_routed_and_each_other_method_is_refused() -> None:
    document = await _document()
    assert document["openapi"] == "3.1.0"
    edge = MemoryEdge()
    async with api(edge) as client:
        for path, operations in document["paths"].items():
            real = re.sub(r"{\w+}", "x", path)
            for method in METHODS:
                status = (await client.request(method, real)).status_code
                assert (status != 405) == (method.lower() in operations), f"{method} {path}: {status}"
                assert status != 500


async def test_each_endpoint_is_documented() -> None:
    document = await _document()
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert documented == {(e.method, e.path) for e in ENDPOINTS} | {("GET", "/"), ("GET", "/openapi.json")}


async def test_operation_ids_are_unique_and_every_reference_resolves() -> None:
    document = await _document()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert references == set(document["components"]["schemas"])


async def test_path_parameters_are_declared_where_they_stand() -> None:
    for path, operations in (await _document())["paths"].items():
        for operation in operations.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


async def test_what_needs_no_token_is_marked_so() -> None:
    document = await _document()
    opened = {path for path, ops in document["paths"].items() for op in ops.values() if op.get("security") == []}
    assert opened == {"/", "/livez", "/readyz", "/openapi.json"}
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}


async def test_the_index_lists_every_endpoint() -> None:
    async with api(MemoryEdge()) as client:
        response = await client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    for endpoint in ENDPOINTS:
        assert f"<td>{endpoint.method}<td><code>{endpoint.path}</code>" in response.text
