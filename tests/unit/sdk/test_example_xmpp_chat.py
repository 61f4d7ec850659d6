"""The XMPP chat's backend, driven in memory: what it orders for what tabs want, and what it tells them of links."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from backend_sdk import RosterItem
from backend_sdk.examples.xmpp_chat.app import SHOWN, app
from backend_sdk.testing import TestClient, TestEdge, TestLink

ALICE, BOB = "alice@chat.example", "bob@chat.example"
MARKERS = "urn:xmpp:chat-markers:0"


@pytest.fixture
async def edge() -> AsyncIterator[TestEdge]:
    async with TestEdge(app, path="/edge/", history=2 * SHOWN) as edge:
        yield edge


def told(client: TestClient, what: str) -> list[dict[str, Any]]:
    return [message for message in client.received_json if message["is"] == what]


async def sign_in(edge: TestEdge, password: str = "pencil", jid: str = ALICE) -> TestClient:
    client = await edge.connect()
    await client.send_json({"do": "sign-in", "jid": jid, "password": password})
    return client


def link_of(edge: TestEdge, client: TestClient) -> TestLink:
    return edge.link(f"x:{client.user}")


async def signed_in(edge: TestEdge) -> tuple[TestClient, TestLink]:
    client = await sign_in(edge)
    link = link_of(edge, client)
    await link.connected()
    await link.roster(RosterItem(BOB, "both", "Bob", False, ()))
    return client, link


async def come_back(edge: TestEdge, client: TestClient) -> TestClient:
    key = told(client, "key")[0]["key"]
    again = await edge.connect()
    await again.send_json({"do": "return", "jid": ALICE, "key": key})
    return again


async def say(client: TestClient, text: str, id: str = "m1") -> None:
    await client.send_json({"do": "say", "to": BOB, "text": text, "id": id})


def contacts(client: TestClient) -> dict[str, str]:
    """Who is how, by the newest that was told of everybody and of each."""
    known: dict[str, str] = {}
    for message in client.received_json:
        if message["is"] == "link":
            known = {contact["jid"]: contact["show"] for contact in message["contacts"]}
        elif message["is"] == "contact":
            known[message["jid"]] = message["show"]
    return known


# Signing in, and coming back --------------------------------------------------------------------------------------


async def test_the_password_is_in_the_order_to_connect_and_nowhere_else(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    order = link.orders[0]
    assert (order["type"], order["jid"], order["auth"]) == ("xmpp.connect", ALICE, {"password": "pencil"})
    assert link.attached == [client.id]
    elsewhere = [client.received, client.state, client.user, link.id, link.state, edge.history(f"talk:{link.id}")]
    assert "pencil" not in json.dumps(elsewhere)
    assert told(client, "link")[-1]["phase"] == "live"


async def test_a_second_tab_with_the_same_password_gets_the_same_link_and_another_password_another_one(
    edge: TestEdge,
) -> None:
    first, link = await signed_in(edge)
    second, other = await sign_in(edge), await sign_in(edge, "guessed")
    assert second.user == first.user != other.user
    assert link.attached == [first.id, second.id]
    assert told(second, "link")[-1]["contacts"][0]["name"] == "Bob"
    await link_of(edge, other).auth_failed()
    assert "password" in told(other, "over")[0]["why"]
    assert told(first, "over") == []
    assert told(other, "link") == told(other, "said") == []


async def test_a_page_comes_back_with_its_key_and_finds_the_link_as_it_was(edge: TestEdge) -> None:
    first, link = await signed_in(edge)
    await link.presence(f"{BOB}/phone")
    await say(first, "hello")
    await first.vanish("edge-lost")
    await link.message("hi", sender=f"{BOB}/phone")
    again = await come_back(edge, first)
    assert again.id in link.attached
    assert [message["text"] for message in told(again, "said")] == ["hello", "hi"]
    assert contacts(again) == {BOB: "available"}
    assert told(again, "link")[-1]["logins"] == 1


async def test_a_key_opens_no_link_that_is_over(edge: TestEdge) -> None:
    first, link = await signed_in(edge)
    await link.disconnected("expired")
    assert told(first, "over")
    again = await come_back(edge, first)
    asked = link_of(edge, again)
    assert asked.orders[-1]["auth"] == {"callback": True}
    await asked.credentials()
    assert told(again, "over")
    assert asked.orders[-1]["type"] == "xmpp.disconnect"


async def test_signing_out_ends_the_link_for_all_tabs(edge: TestEdge) -> None:
    first, link = await signed_in(edge)
    second = await sign_in(edge)
    await first.send_json({"do": "sign-out"})
    assert link.phase == "ended"
    assert told(first, "over")
    assert told(second, "over")


# What is said -----------------------------------------------------------------------------------------------------


async def test_a_message_goes_out_once_however_often_it_is_sent_and_all_tabs_show_it(edge: TestEdge) -> None:
    first, link = await signed_in(edge)
    second = await sign_in(edge)
    edge.lose_answers()
    await say(first, "hello")
    await first.vanish()
    again = await come_back(edge, first)
    await say(again, "hello")
    assert link.bodies == ["hello"]
    for tab in (second, again):
        assert [(said["text"], said["mine"], said["with"]) for said in told(tab, "said")] == [("hello", True, BOB)]
    order = next(order for order in link.sent if order.get("body"))
    assert (order["to"], order["stanza_id"], order["receipt"]) == (BOB, "m1", "request")


async def test_marks_tell_how_far_a_message_came(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    await say(client, "hello")
    await link.acknowledged("say m1", "read something")
    await link.message(sender=f"{BOB}/phone", receipt="received", receipt_id="m1")
    seen = f"<message from='{BOB}/phone'><displayed xmlns='{MARKERS}' id='m1'/></message>"
    await link.message(sender=f"{BOB}/phone", children=[(MARKERS, "displayed")], xml=seen)
    assert [(mark["mark"], mark["ids"]) for mark in told(client, "mark")] == [
        ("sent", ["m1"]),
        ("delivered", ["m1"]),
        ("seen", ["m1"]),
    ]


async def test_what_did_not_arrive_or_may_not_have_is_told(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    await link.send_failed("invalid", action_id="say m1", text="no such address")
    await link.send_failed("session_lost", action_id="say m2", certain=False, text="the server does not say")
    await link.send_failed("session_lost", action_id="read something")
    await link.message(sender=BOB, id="m3", error="service-unavailable")
    assert [(failed["id"], failed["why"]) for failed in told(client, "failed")] == [
        ("m1", "Not sent: no such address."),
        ("m2", "It is not known whether this arrived: the server does not say."),
        ("m3", "Not delivered: service-unavailable."),
    ]


async def test_a_message_of_a_contact_is_shown_once_and_a_receipt_given_to_those_who_may_know(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    edge.lose_answers()
    await link.message("hi", sender=f"{BOB}/phone", id="b1", receipt="request", stanza_id="a1")
    await link.message("psst", sender="mallory@elsewhere.example/x", id="b2", receipt="request")
    await link.message("hi", sender=f"{BOB}/phone", id="b1", receipt="request", stanza_id="a1", replay=True)
    assert [(said["with"], said["text"]) for said in told(client, "said")] == [
        (BOB, "hi"),
        ("mallory@elsewhere.example", "psst"),
    ]
    receipts = [order for order in link.sent if order.get("receipt") == "received"]
    assert [(receipt["to"], receipt["receipt_id"]) for receipt in receipts] == [(f"{BOB}/phone", "b1")]


async def test_an_old_message_has_the_time_it_was_sent_at(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    await link.message("hi", sender=BOB, delay="2026-01-02T03:04:05Z")
    await link.message("hm", sender=BOB, delay="yesterday")
    assert told(client, "said")[0]["at"] == 1_767_323_045_000
    assert told(client, "said")[1]["at"] == edge.now_ms


async def test_typing_and_reading_are_told_to_the_contact_and_the_other_tabs(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    other = await sign_in(edge)
    await client.send_json({"do": "type", "to": BOB, "on": True})
    await client.send_json({"do": "type", "to": BOB, "on": False})
    await client.send_json({"do": "read", "with": BOB, "id": "it's <b1>"})
    assert [order.get("chat_state") for order in link.sent] == ["composing", "paused", None]
    assert link.sent[-1]["extra"] == f"<displayed xmlns='{MARKERS}' id=\"it's &lt;b1&gt;\"/>"
    assert [(read["with"], read["id"]) for read in told(other, "read")] == [(BOB, "it's <b1>")]
    await link.message(sender=f"{BOB}/phone", chat_state="composing")
    await link.message(sender=f"{BOB}/phone", chat_state="paused")
    assert [typing["on"] for typing in told(client, "typing")] == [True, False]


# Who is there -----------------------------------------------------------------------------------------------------


async def test_of_several_clients_of_a_contact_the_preferred_one_counts(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    await link.presence(f"{BOB}/desk", priority=5, show="away", status="lunch")
    await link.presence(f"{BOB}/phone", priority=1)
    assert contacts(client) == {BOB: "away"}
    await link.presence(f"{BOB}/desk", "unavailable")
    assert contacts(client) == {BOB: "available"}
    await link.presence(f"{BOB}/phone", "unavailable")
    assert contacts(client) == {BOB: "offline"}
    assert [key for key in link.state if key.startswith("there ")] == []


async def test_a_new_session_at_the_server_knows_of_nobody_and_a_resumed_one_forgets_nobody(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    await link.presence(f"{BOB}/phone")
    await link.detached()
    assert told(client, "link")[-1]["phase"] == "lost"
    await link.resumed()
    assert contacts(client) == {BOB: "available"}
    await link.reset()
    assert contacts(client) == {BOB: "offline"}
    assert [(told(client, "link")[-1][count]) for count in ("logins", "resumes")] == [2, 1]


async def test_the_roster_and_its_changes(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    carol = RosterItem("carol@chat.example", "to", None, True, ())
    await link.roster(carol, full=False)
    assert set(contacts(client)) == {BOB, carol.jid}
    await link.roster(RosterItem(BOB, "remove", None, False, ()), full=False)
    assert set(contacts(client)) == {carol.jid}
    await link.roster(RosterItem(BOB, "both", "Bob", False, ()))
    assert set(contacts(client)) == {BOB}


# Nonsense, and trouble --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        "no JSON",
        b"\xff\x00",
        "[]",
        '{"do": "say", "to": "bob@chat.example", "text": "before signing in", "id": "1"}',
        '{"do": "sign-in", "jid": "alice", "password": "x"}',
        '{"do": "sign-in", "jid": "alice@chat.example/desk", "password": "x"}',
        '{"do": "sign-in", "jid": "alice@chat.example", "password": ""}',
        '{"do": "sign-in", "jid": "alice@chat.example", "password": "\\ud800"}',
        '{"do": "sign-in", "jid": "a\\u0007@chat.example", "password": "x"}',
        '{"do": "sign-in", "jid": 7, "password": "x"}',
        '{"do": "return", "jid": "alice@chat.example", "key": ""}',
        '{"do": "sign-out"}',
    ],
)
async def test_nonsense_is_refused_and_the_session_goes_on(edge: TestEdge, payload: str | bytes) -> None:
    client = await edge.connect()
    await client.send(payload)
    assert [message["is"] for message in client.received_json] == ["refused"]
    await client.send_json({"do": "sign-in", "jid": ALICE, "password": "pencil"})
    assert told(client, "key")


@pytest.mark.parametrize(
    "asked",
    [
        {"do": "say", "to": "not an address", "text": "x", "id": "1"},
        {"do": "say", "to": BOB, "text": " ", "id": "1"},
        {"do": "say", "to": BOB, "text": "\ud800", "id": "1"},
        {"do": "say", "to": BOB, "text": "x", "id": ""},
        {"do": "type", "to": BOB, "on": "yes"},
        {"do": "read", "with": BOB, "id": None},
        {"do": "sign-in", "jid": "bob@chat.example", "password": "another one"},
        {"do": "return", "jid": BOB, "key": "0" * 64},
        {"do": "unheard of"},
    ],
)
async def test_a_tab_of_a_user_asks_nonsense(edge: TestEdge, asked: dict[str, Any]) -> None:
    client, link = await signed_in(edge)
    await client.send_json(asked)
    assert told(client, "refused")
    assert link.sent == []
    assert (client.user or "").startswith(ALICE)


async def test_a_tab_asks_again_for_what_redis_did_not_take(edge: TestEdge) -> None:
    client, link = await signed_in(edge)
    edge.store_away = True
    await say(client, "hello")
    edge.store_away = False
    assert told(client, "again")
    await say(client, "hello")
    assert link.bodies == ["hello"]


# The page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chat.example:8000") as client:
        yield client


async def test_the_page_says_where_the_edge_is_and_may_connect_only_there(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAT_EDGE_URL", raising=False)
    assert '<meta name="edge" content="ws://chat.example:7999/">' in (await browser.get("/")).text
    monkeypatch.setenv("CHAT_EDGE_URL", "wss://edge.example/chat")
    monkeypatch.setenv("CHAT_HINT", "<Anybody>")
    page = await browser.get("/")
    assert '<meta name="edge" content="wss://edge.example/chat">' in page.text
    assert "&lt;Anybody&gt;" in page.text
    assert "connect-src wss://edge.example/chat;" in page.headers["content-security-policy"]
    assert "{{" not in page.text


FILES = ["/page/chat.js", "/page/talks.js", "/page/view.js", "/page/chat.css", "/page/icon.svg", "/favicon.ico"]


@pytest.mark.parametrize("path", FILES)
async def test_everything_the_page_needs_is_served(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 200
