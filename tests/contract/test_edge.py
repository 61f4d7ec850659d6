"""The edge's codec, held to the vectors that the SDK is held to as well (tests/contract/vectors/README.md)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.errors import WireError
from edge.protocol.callbacks import actions as action_classes
from edge.protocol.callbacks import events as event_classes
from edge.protocol.callbacks.actions import BadResult, Result
from edge.protocol.callbacks.events import ClientRequest, Event, Message, Parcel
from edge.protocol.callbacks.signature import sign
from edge.protocol.callbacks.wire import (
    JSON_TYPE,
    MSGPACK_TYPE,
    decode_response,
    encode_request,
    nothing_for,
)
from edge.protocol.xmpp import credentials as credential_classes
from edge.protocol.xmpp import outgoing as stanza_classes

FOLDER = Path(__file__).parent / "vectors"


def cases(file: str, key: str = "cases") -> list[Any]:
    found = json.loads((FOLDER / file).read_text())[key]
    return [pytest.param(case, id=case.get("name", str(index))) for index, case in enumerate(found)]


def payload_of(value: Any) -> Any:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def event_of(fields: dict[str, Any]) -> Event:
    fields = dict(fields)
    made = getattr(event_classes, fields.pop("class"))
    if "payload" in fields:
        fields["payload"] = payload_of(fields["payload"])
    if "request" in fields:
        request = fields["request"]
        pairs = [(name, value) for name, value in request["headers"]]
        fields["request"] = ClientRequest(**request | {"headers": pairs})
    for place in ("since", "position"):
        if place in fields:
            fields[place] = tuple(fields[place])
    event: Event = made(**fields)
    return event


def parcel_of(fields: dict[str, Any]) -> Parcel:
    return Parcel(**fields | {"events": [event_of(event) for event in fields["events"]]})


def asking(ids: list[str]) -> list[Parcel]:
    """Parcels that ask for these event ids."""
    return [Parcel(id.split(":")[0], "r", None, {}, 0, 1, [Message(id, 0, "x")]) for id in ids]


def binary_events(body: dict[str, Any]) -> dict[str, Any]:
    """A JSON body as its msgpack form shows it: the data of messages is binary."""
    return body | {
        "events": [
            event | {"data": base64.b64decode(event["data"]["b64"])}
            if event["type"] == "message" and "data" in event
            else event
            for event in body["events"]
        ]
    }


MADE_OF = {**vars(credential_classes), **vars(stanza_classes), **vars(action_classes)}


def part_of(value: Any) -> Any:
    """A field of an order for a link: what it is made of, and all that in turn."""
    if isinstance(value, list):
        return tuple(part_of(each) for each in value)
    if isinstance(value, dict) and "class" in value:
        parts = {name: part_of(part) for name, part in value.items()}
        return MADE_OF[parts.pop("class")](**parts)
    return payload_of(value)


def result_of(fields: dict[str, Any]) -> Result:
    actions = []
    for action in fields["actions"]:
        action = dict(action)
        if action["class"].startswith("Xmpp"):
            actions.append(part_of(action))
            continue
        made = getattr(action_classes, action.pop("class"))
        if "payload" in action:
            action["payload"] = payload_of(action["payload"])
        if action.get("since"):
            action["since"] = tuple(action["since"])
        if "headers" in action:
            action["headers"] = tuple((name, value) for name, value in action["headers"])
        actions.append(made(**action))
    return Result(tuple(actions), fields["state_set"], tuple(fields["state_unset"]))


@pytest.mark.parametrize("case", cases("requests.json"))
def test_requests(case: dict[str, Any]) -> None:
    parcels = [parcel_of(parcel) for parcel in case["parcels"]]
    written = encode_request(case["edge"], parcels, case["gone"], "json")
    assert json.loads(written) == case["body"]
    packed = msgpack.unpackb(encode_request(case["edge"], parcels, case["gone"], "msgpack"))
    assert packed == binary_events(case["body"])
    assert packed == msgpack.unpackb(bytes.fromhex(case["msgpack_hex"]))


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("case", cases("answers.json"))
def test_good_answers(case: dict[str, Any], encoding: str) -> None:
    parcels = asking(case["asked"])
    if case["status"] == 204:
        decoded = nothing_for(parcels)
    elif encoding == "json":
        decoded = decode_response(json.dumps(case["body"]).encode(), JSON_TYPE, parcels)
    else:
        decoded = decode_response(bytes.fromhex(case["msgpack_hex"]), MSGPACK_TYPE, parcels)
    assert decoded == {result["id"]: result_of(result) for result in case["results"]}
    assert [id for id in case["asked"] if id not in decoded] == case["missing"]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("case", cases("bad_answers.json"))
def test_bad_answers(case: dict[str, Any], encoding: str) -> None:
    parcels = asking(case["asked"])
    if case.get("unparsable"):
        with pytest.raises(WireError):
            decode_response(bytes.fromhex(case["raw_hex"]), case["content_type"], parcels)
        return
    if encoding == "json":
        decoded = decode_response(json.dumps(case["body"]).encode(), JSON_TYPE, parcels)
    elif case["msgpack_hex"] is not None:
        decoded = decode_response(bytes.fromhex(case["msgpack_hex"]), MSGPACK_TYPE, parcels)
    else:
        return
    bad = [{"id": id, "field": r.field} for id, r in decoded.items() if isinstance(r, BadResult)]
    assert bad == case["bad"]
    assert [id for id, result in decoded.items() if isinstance(result, Result)] == case["good"]


@pytest.mark.parametrize("case", cases("signatures.json", "signing"))
def test_signing(case: dict[str, Any]) -> None:
    secrets = [secret.encode() for secret in case["secrets"]]
    assert sign(secrets, bytes.fromhex(case["body_hex"]), case["t"]) == case["header"]
