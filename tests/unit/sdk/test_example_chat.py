"""The example chat's backend, driven in memory: what it orders for what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from backend_sdk.examples.chat.app import SHOWN, app, talk
from backend_sdk.testing import TestClient, TestEdge

HISTORY = 200


@pytest.fixture
async def edge() -> AsyncIterator[TestEdge]:
    async with TestEdge(app, path="/edge/", history=HISTORY) as edge:
        yield edge


async def enter(edge: TestEdge, name: str, room: str = "lobby") -> TestClient:
    client = await edge.connect()
    await client.send_json({"do": "enter", "room": room, "name": name})
    return client


def told(client: TestClient, what: str) -> list[dict[str, Any]]:
    return [message for message in client.received_json if message["is"] == what]


def texts(client: TestClient) -> list[str]:
    return [message["text"] for message in told(client, "said")]


async def say(client: TestClient, text: str, id: str = "") -> None:
    await client.send_json({"do": "say", "text": text, "id": id or f"{client.id} {text}"[:64]})


async def test_what_is_said_reaches_everybody_in_the_room_and_nobody_else(edge: TestEdge) -> None:
    ada, grace, other = await enter(edge, "Ada"), await enter(edge, "Grace"), await enter(edge, "Eve", "kitchen")
    await say(ada, "hello")
    assert texts(ada) == texts(grace) == ["hello"]
    assert texts(other) == []
    assert told(grace, "said")[0]["name"] == "Ada"


async def test_a_message_sent_again_after_a_lost_answer_or_a_reconnect_is_said_once(edge: TestEdge) -> None:
    ada, grace = await enter(edge, "Ada"), await enter(edge, "Grace")
    edge.lose_answers()
    await say(ada, "hello", id="m1")
    await ada.vanish()
    again = await enter(edge, "Ada")
    await say(again, "hello", id="m1")
    assert texts(grace) == ["hello"]


async def test_a_newcomer_gets_the_last_messages_once_each_and_then_what_follows(edge: TestEdge) -> None:
    ada = await enter(edge, "Ada")
    for number in range(HISTORY + 20):
        await say(ada, f"{number}")
    grace = await enter(edge, "Grace")
    await say(ada, "now")
    last = [f"{number}" for number in range(HISTORY + 20 - SHOWN, HISTORY + 20)]
    assert texts(grace) == [*last, "now"]


async def test_a_room_without_history_is_simply_empty(edge: TestEdge) -> None:
    ada = await enter(edge, "Ada")
    assert [message["is"] for message in ada.received_json] == ["entered", "new"]


async def test_history_that_has_shrunk_is_asked_for_in_smaller_parts_until_it_fits() -> None:
    async with TestEdge(app, path="/edge/", history=10) as edge:
        ada = await enter(edge, "Ada")
        for number in range(100):
            await say(ada, f"{number}")
        grace = await enter(edge, "Grace")
        assert texts(grace) == [f"{number}" for number in range(94, 100)]  # 50, 25, 12, then 6 fit into 10
        assert edge.position(talk("lobby")).offset == 100


async def test_people_see_each_other_come_be_there_and_go(edge: TestEdge) -> None:
    ada = await enter(edge, "Ada")
    grace = await enter(edge, "Grace")
    newcomer = told(ada, "new")[-1]
    assert newcomer["name"] == "Grace"
    await ada.send_json({"do": "here", "to": newcomer["session"]})
    assert [person["name"] for person in told(grace, "here")] == ["Ada"]
    await ada.vanish("edge-lost")
    assert [person["session"] for person in told(grace, "left")] == [ada.id]


async def test_changing_rooms_leaves_the_old_one(edge: TestEdge) -> None:
    ada, grace = await enter(edge, "Ada"), await enter(edge, "Grace")
    await ada.send_json({"do": "enter", "room": "kitchen", "name": "Ada"})
    await say(grace, "anybody?")
    assert texts(ada) == []
    assert ada.channels == {"people:kitchen", "talk:kitchen"}
    assert len(told(grace, "left")) == 1


async def test_a_new_name_is_told_and_used(edge: TestEdge) -> None:
    ada, grace = await enter(edge, "Ada"), await enter(edge, "Grace")
    await ada.send_json({"do": "rename", "name": "Ada L."})
    await say(ada, "hello")
    assert told(grace, "here")[-1]["name"] == told(grace, "said")[-1]["name"] == "Ada L."


@pytest.mark.parametrize(
    "payload",
    [
        "no JSON",
        b"\xff\x00",
        "[]",
        '{"do": "say", "text": "before entering", "id": "1"}',
        '{"do": "enter", "room": "../etc", "name": "Ada"}',
        '{"do": "enter", "room": "lobby", "name": "   "}',
        '{"do": "enter", "room": "lobby", "name": 7}',
        '{"do": "here", "to": "s1"}',
        '{"do": "unheard of"}',
    ],
)
async def test_nonsense_is_refused_and_the_session_goes_on(edge: TestEdge, payload: str | bytes) -> None:
    client = await edge.connect()
    await client.send(payload)
    assert [message["is"] for message in client.received_json] == ["refused"]
    await client.send_json({"do": "enter", "room": "lobby", "name": "Ada"})
    assert told(client, "entered")


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
    page = await browser.get("/")
    assert '<meta name="edge" content="wss://edge.example/chat">' in page.text
    assert "connect-src wss://edge.example/chat;" in page.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/page/chat.js", "/page/chat.css", "/page/icon.svg", "/favicon.ico"])
async def test_everything_the_page_needs_is_served(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 200
