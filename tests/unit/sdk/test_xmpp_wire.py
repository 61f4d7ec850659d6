"""Events of links, field by field: whatever is missing or of another type is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from backend_sdk.errors import BadField
from backend_sdk.wire import JSON_TYPE, decode_request
from backend_sdk.xmpp_events import Child, Delay, IqStanza, MessageStanza, StanzaError, XmppIqResult, XmppMessage
from tests.contract.cases.links import link_requests

BODIES = {case["name"]: case["body"] for case in link_requests()}
COMMON = {"id", "session", "type", "attempt", "at", "release", "user", "state", "version"}


def read(body: dict[str, Any]) -> Any:
    return decode_request(JSON_TYPE, json.dumps(body).encode()).parcels[0].events[0]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a map, and of the maps in it."""
    for name, part in value.items():
        if path or name not in COMMON:
            yield (*path, name)
            if isinstance(part, dict):
                yield from places(part, (*path, name))


@pytest.mark.parametrize("name", BODIES)
def test_every_field_is_checked(name: str) -> None:
    for path in places(BODIES[name]["events"][0]):
        if path[-1] == "name" and path[-2:-1] == ("stanza",):
            continue  # the event's type says it as well
        body = deepcopy(BODIES[name])
        inner = body["events"][0]
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = 1.5
        with pytest.raises(BadField) as problem:
            read(body)
        assert problem.value.field == f"events[0].{'.'.join(path)}"
        del inner[path[-1]]
        with pytest.raises(BadField):
            read(body)


@pytest.mark.parametrize(
    ("name", "field", "value", "place"),
    [
        ("link: roster", "items", [1], "items[0]"),
        ("link: roster", "items", [{"jid": "bob@x"}], "items[0].sub"),
        ("link: sent", "action_ids", ["a", 1], "action_ids"),
        ("link: state", "attached", [None], "attached"),
    ],
)
def test_what_is_in_a_list_is_checked(name: str, field: str, value: Any, place: str) -> None:
    body = deepcopy(BODIES[name])
    body["events"][0][field] = value
    with pytest.raises(BadField) as problem:
        read(body)
    assert problem.value.field == f"events[0].{place}"


@pytest.mark.parametrize("pair", [["urn:x"], "urn:x", ["urn:x", 1], ["urn:x", "a", "b"]])
def test_elements_are_pairs(pair: Any) -> None:
    body = deepcopy(BODIES["link: iq"])
    body["events"][0]["stanza"]["query"] = pair
    with pytest.raises(BadField, match=r"events\[0\]\.stanza\.query"):
        read(body)


def test_fields_that_are_not_known_are_passed_over() -> None:
    body = deepcopy(BODIES["link: resumed"])
    body["events"][0]["moon"] = "full"
    assert read(body).gap_ms == 840


def test_a_message_is_read_whole() -> None:
    event = read(BODIES["link: message"])
    assert isinstance(event, XmppMessage)
    assert event.type == "xmpp.message"
    assert (event.sender, event.body, event.seq, event.replay) == ("bob@x/p", "größer \U0001f600", 58, False)
    assert event.stanza == MessageStanza(
        "bob@x/p", "u42@chat.example/edge-7", "chat", "m9", "größer \U0001f600", None, "t1", "K4AJ8d9", None, "active",
        "request", None, Delay("2026-01-01T00:00:00Z", "chat.example"), None,
        (Child("http://jabber.org/protocol/chatstates", "active"), Child("urn:xmpp:receipts", "request")),
    )  # fmt: skip


def test_an_answer_says_what_was_asked() -> None:
    answered, refused = read(BODIES["link: iq answered"]), read(BODIES["link: iq refused"])
    assert isinstance(answered, XmppIqResult)
    assert (answered.name, answered.ok) == ("vcard", True)
    assert isinstance(refused, XmppIqResult)
    assert (refused.name, refused.reason) == (None, "error")
    assert isinstance(refused.stanza, IqStanza)
    assert refused.stanza.error == StanzaError("wait", "internal-server-error", "x")
