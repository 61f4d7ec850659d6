"""Write the vector files from `tests/contract/cases`: ``python -m tests.contract.write_vectors``."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgpack

from tests.contract.cases.answers import answers, bad_answers, bad_requests
from tests.contract.cases.links import link_requests
from tests.contract.cases.requests import requests
from tests.contract.cases.signatures import signatures

FOLDER = Path(__file__).parent / "vectors"


def binary(fields: dict[str, Any]) -> dict[str, Any]:
    """`data` of a message, send or publish: ``{"b64"}`` becomes bytes. Nothing else in a body is binary."""
    data = fields.get("data")
    if fields.get("type") in ("message", "send", "publish") and isinstance(data, dict):
        return fields | {"data": base64.b64decode(data["b64"])}
    return fields


def packed(body: Any) -> str:
    """The msgpack form of a JSON body, as hex."""
    if body is None:
        return ""
    body = dict(body)
    if isinstance(body.get("events"), list):
        body["events"] = [binary(event) for event in body["events"]]
    if isinstance(body.get("results"), list):
        body["results"] = [
            result | {"actions": [binary(a) if isinstance(a, dict) else a for a in result["actions"]]}
            if isinstance(result.get("actions"), list)
            else result
            for result in body["results"]
        ]
    return bytes(msgpack.packb(body)).hex()


def vectors() -> dict[str, Any]:
    """File name → content."""

    def with_msgpack(cases: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "cases": [
                case | {"msgpack_hex": packed(case["body"])} if "body" in case and "msgpack_hex" not in case else case
                for case in cases
            ]
        }

    return {
        "requests.json": with_msgpack(requests() + link_requests()),
        "answers.json": with_msgpack(answers()),
        "bad_answers.json": with_msgpack(bad_answers()),
        "bad_requests.json": {"cases": bad_requests()},
        "signatures.json": signatures(),
    }


def written(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    for name, content in vectors().items():
        (FOLDER / name).write_text(written(content))
