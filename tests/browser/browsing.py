"""A real headless Chromium, and what a test wants to know about a page in one of its tabs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser, Page, Request, WebSocket, async_playwright

from tests.support.needs import needs_program
from tests.support.waiting import DEADLINE_S, wait_until

_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Chromium as it comes out of the box, without the errands it runs on the side (and without the sandbox, which root
may not use)."""


class Tab:
    """A page in a tab with a browser profile of its own: what it asked for, complained of, and heard by WebSocket."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.websockets: list[WebSocket] = []
        self.received: list[dict[str, Any]] = []
        self.requested: list[str] = []
        self.errors: list[str] = []
        page.on("websocket", self._opened)
        page.on("request", self._requested)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    async def leave(self) -> None:
        await self.page.context.close()

    def _opened(self, websocket: WebSocket) -> None:
        self.websockets.append(websocket)
        websocket.on("framereceived", lambda frame: self.received.append(json.loads(frame)))

    def _requested(self, request: Request) -> None:
        self.requested.append(request.url)


class ChatTab(Tab):
    """The page of the example chat."""

    @classmethod
    async def open(cls, browser: Browser, url: str, name: str) -> Self:
        """Load the page, enter as `name`, and wait until the backend has let us in."""
        context = await browser.new_context()
        context.set_default_timeout(DEADLINE_S * 1000)
        tab = cls(await context.new_page())
        await tab.page.goto(url)
        await tab.page.fill("#name", name)
        await tab.page.click("#welcome button")
        await tab.page.wait_for_selector("#text:enabled")
        return tab

    async def say(self, text: str) -> None:
        """As a person does it: type, press Enter. Does not wait for any answer."""
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def shown(self) -> list[str]:
        """The texts of all messages on the page, in the order they stand there."""
        return await self.page.locator("#said .what p").all_text_contents()

    async def until_shown(self, count: int, why: str) -> list[str]:
        """Wait until there are `count` messages on the page, and return their texts."""

        async def enough() -> list[str]:
            texts = await self.shown()
            return texts if len(texts) >= count else []

        return await wait_until(enough, why)

    async def until_waiting(self, count: int) -> None:
        """Wait until so many of our messages have been sent and not answered."""
        waiting = self.page.locator("#waiting > li")

        async def that_many() -> bool:
            return await waiting.count() == count

        await wait_until(that_many, f"{count} messages wait for a backend")

    async def until_people(self, *names: str) -> None:
        """Wait until exactly these people are shown as present."""

        async def here() -> bool:
            return sorted(await self.page.locator("#people li > :last-child").all_text_contents()) == sorted(names)

        await wait_until(here, f"the page shows {', '.join(names)}")

    def said(self) -> list[dict[str, Any]]:
        """Messages as they came over the wire: the page itself hides repeats."""
        return [message for message in self.received if message["is"] == "said"]


@asynccontextmanager
async def chromium(screenshots: Path) -> AsyncIterator[Browser]:
    """Debian's Chromium, driven by Playwright. A failing test leaves a picture of every tab in `screenshots`."""
    path = needs_program("chromium", "the chat page is tested in a real browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_QUIET)
        try:
            yield browser
        except BaseException as error:
            for number, context in enumerate(browser.contexts):
                for page in context.pages:
                    picture = screenshots / f"tab-{number}.png"
                    await page.screenshot(path=picture)
                    error.add_note(f"tab {number}: {picture}")
            raise
        finally:
            await browser.close()
