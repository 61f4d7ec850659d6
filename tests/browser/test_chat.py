"""The example chat in a real browser, through a real edge, while its backend comes and goes."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser

from backend_sdk.examples.chat.app import SHOWN
from tests.browser.browsing import ChatTab, chromium
from tests.support.processes import Backend, Edge

pytestmark = [pytest.mark.browser, pytest.mark.scenario]

CONFIG = Path(__file__).parents[2] / "backend_sdk/examples/chat/holdfast.toml"
KILLS = 5


@dataclass(frozen=True, slots=True)
class World:
    edge: Edge
    backend: Backend
    browser: Browser

    async def enter(self, name: str) -> ChatTab:
        return await ChatTab.open(self.browser, f"{self.backend.url}/", name)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Edge, chat and browser, with the example's own configuration file behind the edge's settings."""
    example = tomllib.loads(CONFIG.read_text())
    edge = Edge(folder, edge=example["edge"], channels=example["channel"])
    chat = Backend(folder, "backend_sdk.examples.chat.app:app", environment={"CHAT_EDGE_URL": edge.url()})
    edge.settings["route"] = [{"backend": f"{chat.url}/edge/"}]
    async with chat, edge, chromium(folder) as browser:
        yield World(edge, chat, browser)


async def test_two_tabs_chat_through_a_backend_that_is_killed_again_and_again(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        ada, grace = await chat.enter("Ada"), await chat.enter("Grace")
        await ada.until_people("Ada", "Grace")
        expected: list[str] = []
        processes = [chat.backend.server_pid]

        async def both_say(when: str) -> None:
            for tab, name in ((ada, "Ada"), (grace, "Grace")):
                expected.append(f"{name} {when}")
                await tab.say(expected[-1])

        for turn in range(KILLS):
            await both_say(f"before kill {turn}")  # killed with whatever of this is in its hands
            await chat.backend.sigkill()
            await both_say(f"without a backend {turn}")
            await chat.backend.start()
            processes.append(chat.backend.server_pid)
            await both_say(f"after kill {turn}")
            for tab in (ada, grace):
                await tab.until_shown(len(expected), f"everything said until kill {turn} is on the page")
        shown = await ada.shown()

        assert sorted(shown) == sorted(expected), "every message, and none twice"
        assert await grace.shown() == shown, "in both tabs in the same order"
        for name in ("Ada", "Grace"):
            assert [text for text in shown if text.startswith(name)] == [
                text for text in expected if text.startswith(name)
            ], f"{name}'s own messages in the order they were said"
        for tab in (ada, grace):
            assert [message["text"] for message in tab.said()] == shown, "each came over the wire once"
            assert len(tab.websockets) == 1, "the page opened one WebSocket"
            assert not tab.websockets[0].is_closed(), "and still has it"
            assert await tab.page.locator("#opened").text_content() == "1"
            assert tab.errors == []
        answered = {message["process"] for message in ada.said()}
        assert answered <= set(processes)
        assert processes[-1] in answered
        assert len(answered) > KILLS // 2, "the answers came from one process after the other"


async def test_a_message_without_a_backend_waits_and_the_page_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        ada = await chat.enter("Ada")
        await chat.backend.sigkill()
        await ada.say("is anybody there?")
        await ada.until_waiting(1)
        assert await ada.page.locator("#connection").get_attribute("data-state") == "open"
        await chat.backend.start()
        await ada.until_waiting(0)
        assert await ada.until_shown(1, "the message is answered") == ["is anybody there?"]
        assert await ada.page.locator("#process").text_content() == str(chat.backend.server_pid)


async def test_a_newcomer_sees_the_last_messages_and_who_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        ada = await chat.enter("Ada")
        texts = [f"message {number}" for number in range(SHOWN + 10)]
        for text in texts:
            await ada.say(text)
        await ada.until_shown(len(texts), "all of it was said")
        grace = await chat.enter("Grace")
        assert await grace.until_shown(SHOWN, "the newcomer sees the history") == texts[-SHOWN:]
        await grace.until_people("Ada", "Grace")
        await ada.leave()
        await grace.until_people("Grace")
        await grace.say("she is gone")
        await grace.until_shown(SHOWN + 1, "history goes over into what is said now")
        assert grace.errors == []


async def test_the_page_asks_nobody_but_its_backend_and_its_edge(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        ada = await chat.enter("Ada")
        await ada.page.goto(f"{chat.backend.url}/#kitchen")
        await ada.page.reload()
        await ada.page.wait_for_selector("#text:enabled")
        assert {url.split("/")[2] for url in ada.requested} == {f"127.0.0.1:{chat.backend.port}"}
        assert {websocket.url for websocket in ada.websockets} == {chat.edge.url()}
        assert ada.errors == []
