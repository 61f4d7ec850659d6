"""What a test does on the page of the XMPP chat, and what it reads there."""

from __future__ import annotations

import json
from typing import Self
from urllib.parse import quote

from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.browsing import Tab
from tests.support.waiting import DEADLINE_S, wait_until


class XmppTab(Tab):
    """The page of the XMPP chat."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.sent: list[dict[str, object]] = []
        page.on(
            "websocket",
            lambda websocket: websocket.on("framesent", lambda frame: self.sent.append(json.loads(frame))),
        )

    @classmethod
    async def open(cls, browser: Browser, url: str) -> Self:
        """Load the page and see its form."""
        context = await browser.new_context()
        context.set_default_timeout(DEADLINE_S * 1000)
        tab = cls(await context.new_page())
        await tab.page.goto(url)
        await tab.page.wait_for_selector("#jid")
        return tab

    async def sign_in(self, jid: str, password: str) -> None:
        """Fill in the form. Does not wait for the answer."""
        await self.page.fill("#jid", jid)
        await self.page.fill("#password", password)
        await self.page.press("#password", "Enter")

    async def until_connected(self) -> None:
        await self.page.wait_for_selector("[data-view=chat] #connection[data-state=open]")

    async def until_refused(self) -> str:
        """What the form complains of."""
        await self.page.wait_for_selector("#wrong:visible")
        return await self.page.locator("#wrong").inner_text()

    async def choose(self, contact: str) -> None:
        """Open the conversation with this bare JID."""
        await self.page.click(f'#contacts a[href="#{quote(contact, safe="")}"]')
        await self.page.wait_for_selector("#text:visible")

    async def say(self, text: str) -> None:
        """As a person does it: type, press Enter. Does not wait for any answer."""
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def shown(self, *, mine: bool | None = None) -> list[str]:
        """The texts of the open conversation, in order; ours or the contact's only."""
        whose = {None: "#said li", True: "#said li.mine", False: "#said li:not(.mine)"}[mine]
        return await self.page.locator(f"{whose} .bubble p").all_text_contents()

    async def until_shown(self, texts: list[str], *, mine: bool | None = None) -> None:
        """Exactly these, in this order."""

        async def shown() -> bool:
            return await self.shown(mine=mine) == texts

        await wait_until(shown, f"the page shows {texts}")

    async def until_marked(self, mark: str) -> None:
        """Every message of ours in the open conversation has come so far."""

        async def marked() -> bool:
            marks = await self.marks()
            return bool(marks) and set(marks) == {mark}

        await wait_until(marked, f"everything is {mark}")

    async def marks(self) -> list[str]:
        found = await self.page.locator("#said .mark").evaluate_all("marks => marks.map((each) => each.dataset.mark)")
        return [str(mark) for mark in found]

    async def until_contact(self, contact: str, label: str) -> None:
        """What a screen reader says of a contact: name, presence, unread messages."""
        await expect(self._contact(contact)).to_have_attribute("aria-label", label, timeout=DEADLINE_S * 1000)

    async def until_text(self, selector: str, text: str) -> None:
        await expect(self.page.locator(selector)).to_have_text(text, timeout=DEADLINE_S * 1000)

    async def stored(self) -> str:
        """Everything the page keeps beyond its own life."""
        return str(
            await self.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
        )

    async def number(self, id: str) -> int:
        """One of the numbers at the foot of the page."""
        return int(await self.page.locator(f"#{id}").inner_text())

    def _contact(self, contact: str) -> Locator:
        return self.page.locator(f'#contacts a[href="#{quote(contact, safe="")}"]')
