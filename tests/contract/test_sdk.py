"""The SDK against the contract vectors: it reads every request, writes every answer, refuses every bad request."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest

from backend_sdk import App, Link, LinkEvent, Session, actions
from backend_sdk.errors import ActionError, BadSignature
from backend_sdk.events import Event, Gap, Message, Open, Parcel
from backend_sdk.signature import HEADER, sign, verify
from backend_sdk.wire import (
    JSON_TYPE,
    MSGPACK_TYPE,
    Encoding,
    JsonEncoding,
    MsgpackEncoding,
    Result,
    decode_request,
)
from backend_sdk.xmpp_wire import LINK_EVENTS
from tests.contract.link_cases import link_event_as_case, make_link_action, order_of_link
from tests.contract.write_vectors import FOLDER, vectors, written


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def shown(payload: str | bytes) -> Any:
    """A payload as the vectors show it."""
    return payload if isinstance(payload, str) else {"b64": base64.b64encode(payload).decode()}


@pytest.mark.parametrize("name", sorted(vectors()))
def test_vector_files_are_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == written(vectors()[name]), "run python -m tests.contract.write_vectors"


def test_every_vector_file_is_written_from_cases() -> None:
    assert {path.name for path in Path(FOLDER).glob("*.json")} == set(vectors())


EDGE_NAMES = {"Refused": "ResultRefused"}
"""Events that the edge, which the vectors are named after, calls otherwise."""


def event_as_case(event: Event) -> dict[str, Any]:
    """An SDK event as requests.json shows it."""
    if isinstance(event, LinkEvent):
        return link_event_as_case(event)
    name = type(event).__name__
    fields: dict[str, Any] = {"class": EDGE_NAMES.get(name, name)}
    for name in type(event).__dataclass_fields__:
        if name not in ("type", "attempt"):
            fields[name] = getattr(event, name)
    if isinstance(event, Message):
        fields["payload"] = shown(event.payload)
    if isinstance(event, Gap):
        fields |= {"since": list(event.since), "position": list(event.position)}
    if isinstance(event, Open):
        request = event.request
        fields["request"] = {name: getattr(request, name) for name in type(request).__dataclass_fields__}
        fields["request"]["headers"] = [list(pair) for pair in request.headers]
        fields["request"]["subprotocols"] = list(request.subprotocols)
    return fields


def parcel_as_case(parcel: Parcel) -> dict[str, Any]:
    return {
        "session": parcel.session,
        "release": parcel.release,
        "user": parcel.user,
        "state": parcel.state,
        "version": parcel.version,
        "attempt": parcel.events[0].attempt,
        "events": [event_as_case(event) for event in parcel.events],
    }


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@named(load("requests.json")["cases"])
def test_reads_request(case: dict[str, Any], encoding: str) -> None:
    if encoding == "json":
        batch = decode_request(JSON_TYPE, json.dumps(case["body"]).encode())
    else:
        batch = decode_request(MSGPACK_TYPE, bytes.fromhex(case["msgpack_hex"]))
    assert batch.edge == case["edge"]
    assert list(batch.gone) == case["gone"]
    assert [parcel_as_case(parcel) for parcel in batch.parcels] == case["parcels"]


def test_every_event_of_links_has_a_vector() -> None:
    events = [event for case in load("requests.json")["cases"] for event in case["body"]["events"]]
    assert set(LINK_EVENTS) == {event["type"] for event in events if event["type"].startswith("xmpp.")}


def order(session: Session | Link, action: dict[str, Any]) -> None:
    """Give the order an action of answers.json stands for, through the same methods a handler uses."""
    fields = dict(action)
    kind, target = fields.pop("class"), fields.pop("session", None)
    if isinstance(session, Link):
        order_of_link(session if target is None else session.link(target), kind, fields)
        return
    payload = fields.pop("payload", None)
    if isinstance(payload, dict):
        payload = base64.b64decode(payload["b64"])
    orders = session if target is None else session.to(target)
    match kind:
        case "Accept":
            session.accept(**fields)
        case "Reject":
            session.reject(**fields)
        case "Send":
            orders.send(payload, **fields)
        case "CloseSession":
            orders.close(**fields)
        case "Subscribe":
            orders.subscribe(fields["channel"], tuple(fields["since"]) if "since" in fields else None)
        case "Unsubscribe":
            orders.unsubscribe(**fields)
        case "Publish":
            orders.publish(fields.pop("channel"), payload, **fields)
        case "Identify":
            orders.identify(**fields)
        case "SetTimer":
            orders.timer(**fields)
        case "CancelTimer":
            orders.cancel_timer(**fields)
        case "Pin":
            orders.pin(**fields)
        case _:
            raise AssertionError(f"unknown class {kind}")


DEFAULTS: dict[str, dict[str, Any]] = {"reject": {"status": 403}, "close": {"code": 1000}}


def spelled_out(body: Any) -> Any:
    """The answer with defaults written out and empty parts left out: two answers that mean the same are equal."""
    results = []
    for result in body["results"]:
        whole = [{**DEFAULTS.get(action["type"], {}), **action} for action in result.get("actions", [])]
        change = {name: part for name, part in result.get("state", {}).items() if part}
        kept = {"id": result["id"], "actions": whole, "state": change}
        results.append({name: part for name, part in kept.items() if part})
    return results


@pytest.mark.parametrize("encoding", [JsonEncoding(), MsgpackEncoding()], ids=["json", "msgpack"])
@named([case for case in load("answers.json")["cases"] if case.get("sdk", True)])
def test_writes_answer(case: dict[str, Any], encoding: Encoding) -> None:
    packed = []
    for wanted in case["results"]:
        id, _, _ = wanted["id"].rpartition(":")
        session: Session | Link
        if id.startswith("x:"):
            session = Link(id, "r", {}, 1)
        else:
            session = Session(id, None, "r", dict.fromkeys(wanted["state_unset"]), 1, True)
        for action in wanted["actions"]:
            order(session, action)
        session.state.update(wanted["state_set"])
        for key in wanted["state_unset"]:
            del session.state[key]
        orders, delta = session.finish()
        result: Result = {"id": wanted["id"], "actions": orders, "state": delta}
        packed.append(encoding.pack({name: part for name, part in result.items() if part}))
        assert encoding.unpack(packed[-1]).get("actions", []) == orders
    body = encoding.join(packed)
    if isinstance(encoding, JsonEncoding):
        assert spelled_out(json.loads(body)) == spelled_out(case["body"])
    else:
        assert spelled_out(msgpack.unpackb(body)) == spelled_out(msgpack.unpackb(bytes.fromhex(case["msgpack_hex"])))


MAKERS: dict[str, Any] = {
    "accept": actions.accept,
    "reject": actions.reject,
    "send": actions.send,
    "close": actions.close,
    "subscribe": actions.subscribe,
    "unsubscribe": actions.unsubscribe,
    "publish": actions.publish,
    "identify": actions.identify,
    "timer": actions.timer,
    "cancel_timer": actions.cancel_timer,
    "pin": actions.pin,
}


def unmakeable(case: dict[str, Any]) -> bool:
    """Answers whose fault lies in one action's arguments, which Python can express (a mapping of headers is
    welcome there)."""
    if case.get("unparsable") or not case["bad"][0]["field"].startswith("actions["):
        return False
    bad = bad_action(case)
    if not isinstance(bad, dict) or isinstance(bad.get("headers"), dict) or is_bad_auth(bad):
        return False
    return bad.get("type") in MAKERS or is_link_action(bad)


def is_link_action(action: dict[str, Any]) -> bool:
    return str(action.get("type")).startswith("xmpp.")


def is_bad_auth(action: dict[str, Any]) -> bool:
    """What Python says by leaving everything out: a component."""
    return action.get("auth") in ({}, {"external": False})


def bad_action(case: dict[str, Any]) -> Any:
    found = case["body"]["results"][0]["actions"]
    index = int(case["bad"][0]["field"].removeprefix("actions[").partition("]")[0])
    return found[index]


@named([case for case in load("bad_answers.json")["cases"] if unmakeable(case)])
def test_refuses_bad_order_at_the_call(case: dict[str, Any]) -> None:
    arguments = dict(bad_action(case))
    if is_link_action(arguments):
        with pytest.raises((ActionError, TypeError)):
            make_link_action(arguments)
        return
    make = MAKERS[arguments.pop("type")]
    if "text" in arguments and make is not actions.reject:
        arguments["payload"] = arguments.pop("text")
    if isinstance(arguments.get("since"), dict):
        arguments["since"] = tuple(arguments["since"].values())
    with pytest.raises((ActionError, TypeError)):
        make(**arguments)


@named(load("bad_requests.json")["cases"])
async def test_answers_bad_request(case: dict[str, Any]) -> None:
    headers = {} if case["content_type"] is None else {"content-type": case["content_type"]}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(App()), base_url="http://backend") as client:
        answer = await client.request(case["method"], "/", content=bytes.fromhex(case["raw_hex"]), headers=headers)
    assert answer.status_code == case["status"]
    assert case["names"] in answer.text


@pytest.mark.parametrize("case", load("signatures.json")["signing"], ids=lambda case: case["header"][:40])
def test_signs(case: dict[str, Any]) -> None:
    secrets = [secret.encode() for secret in case["secrets"]]
    assert sign(secrets, case["t"], bytes.fromhex(case["body_hex"])) == case["header"]


@named(load("signatures.json")["checking"])
def test_checks_signature(case: dict[str, Any]) -> None:
    secrets = [secret.encode() for secret in case["secrets"]]
    body = bytes.fromhex(case["body_hex"])
    if case["ok"]:
        verify(secrets, case["header"], body, case["now"], case["window_s"])
        return
    with pytest.raises(BadSignature, match=case["names"]) as refusal:
        verify(secrets, case["header"], body, case["now"], case["window_s"])
    assert refusal.value.status == 401
    for secret in case["secrets"]:
        assert secret not in refusal.value.text


@named([case for case in load("signatures.json")["checking"] if case["body_hex"]])
async def test_app_checks_signature(case: dict[str, Any]) -> None:
    app = App(case["secrets"], replay_window_s=case["window_s"], clock=lambda: float(case["now"]))
    headers = {b"content-type": JSON_TYPE.encode()}
    if case["header"] is not None:
        headers[HEADER.encode()] = case["header"].encode()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://backend") as client:
        answer = await client.post("/", content=bytes.fromhex(case["body_hex"]), headers=headers)
    assert answer.status_code == (200 if case["ok"] else 401)
    assert case["names"] in answer.text
