"""The XMPP chat in a real browser, through a real edge and a real Prosody, while backend and edge come and go."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.async_api import Browser
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.browser.browsing import chromium
from tests.browser.xmpp_tab import XmppTab
from tests.support.ports import LOOPBACK
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.support.xmpp import DOMAIN, PASSWORD, Prosody
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.browser, pytest.mark.scenario, pytest.mark.long]

CONFIG = Path(__file__).parents[2] / "backend_sdk/examples/xmpp_chat/holdfast.toml"
ALICE, BOB = 0, 1


CHAT_STATES, RECEIPTS, MARKERS = (
    "http://jabber.org/protocol/chatstates",
    "urn:xmpp:receipts",
    "urn:xmpp:chat-markers:0",
)


@dataclass(frozen=True, slots=True)
class World:
    server: Prosody
    redis: RedisServer
    edge: Edge
    backend: Backend
    browser: Browser

    @property
    def alice(self) -> str:
        return self.server.jid(ALICE)

    @property
    def bob(self) -> str:
        return self.server.jid(BOB)

    def peer(self, number: int = BOB, resource: str = "peer") -> Peer:
        return Peer(self.server, number, resource)

    async def open(self) -> XmppTab:
        return await XmppTab.open(self.browser, f"{self.backend.url}/")

    async def sign_in(self) -> XmppTab:
        """Alice, in a new tab."""
        tab = await self.open()
        await tab.sign_in(self.alice, PASSWORD)
        await tab.until_connected()
        return tab


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Server, edge, app and browser, with the example's own configuration file behind the edge's settings."""
    example = tomllib.loads(CONFIG.read_text())
    redis = RedisServer(folder / "redis", "appendonly yes")
    async with Prosody(folder, accounts=4) as server:
        keys = {"link_keys": ["a passphrase that is only good for tests"]}
        edge = Edge(folder, edge={**example["edge"], **keys}, channels=example["channel"], redis=redis.url)
        environment = {"CHAT_EDGE_URL": edge.url(), "CHAT_SECRET": "a secret of this test"}
        app = Backend(folder, "backend_sdk.examples.xmpp_chat.app:app", environment=environment)
        edge.settings["route"] = [{"backend": f"{app.url}/edge/"}]
        edge.settings["xmpp"] = [
            {"domain": DOMAIN, "host": LOOPBACK, "port": server.port, "ca_file": str(server.certificate)}
        ]
        with redis:
            async with app, edge, chromium(folder) as browser:
                yield World(server, redis, edge, app, browser)


def tell(peer: Peer, to: str, xml: str) -> None:
    """A message without a body, with this element inside."""
    message = peer.client.make_message(mto=to, mtype="chat")
    message.xml.append(ElementTree.fromstring(xml))
    message.send()


def listen(peer: Peer) -> list[ElementTree.Element]:
    """From now on, every element in messages that the peer is sent: its client tells only of those with a body."""
    heard: list[ElementTree.Element] = []
    everything = MatchXPath("{jabber:client}message")
    peer.client.register_handler(Callback("listen", everything, lambda message: heard.extend(message.xml)))
    return heard


def ids(heard: list[ElementTree.Element], tag: str) -> list[str | None]:
    """Of the elements with this tag."""
    return [element.get("id") for element in heard if element.tag == tag]


async def test_neither_side_notices_that_the_backend_the_edge_and_then_both_are_killed(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, chat.peer() as bob:
        alice = await chat.sign_in()
        await alice.until_contact(chat.bob, "u1, available")
        await alice.choose(chat.bob)
        await wait_until(lambda: bob.presences_of(chat.alice), "the contact sees that she is there")
        seen = list(bob.presences_of(chat.alice))
        hers: list[str] = []
        his: list[str] = []

        async def both_say(when: str) -> None:
            hers.append(f"hers, {when}")
            await alice.say(hers[-1])
            his.append(f"his, {when}")
            bob.say(chat.alice, his[-1])

        rounds: list[list[Backend | Edge]] = [[chat.backend], [chat.edge], [chat.edge, chat.backend]]
        for killed in rounds:
            names = " and ".join(process.name for process in killed)
            await both_say(f"before {names}")  # killed with whatever of this is in their hands
            for process in killed:
                await process.sigkill()
            await both_say(f"without {names}")
            for process in killed:
                await process.start()
            await both_say(f"with new {names}")
            await bob.until_it_has(hers)
            await alice.until_shown(his, mine=False)
            await alice.until_shown(hers, mine=True)
            if chat.edge not in killed:
                assert await alice.number("opened") == 1, "the WebSocket did not notice"
        await alice.until_connected()
        await bob.all_taken()

        assert bob.bodies == hers, "every message once, in order"
        assert bob.presences_of(chat.alice) == seen, "for her contact she was there all the time"
        assert await alice.number("logins") == 1, "the session at the XMPP server is the one it was"
        assert await alice.number("resumes") >= 2
        assert [asked["do"] for asked in alice.sent].count("sign-in") == 1
        assert await alice.page.locator("#sign-in").is_hidden()
        assert await alice.page.locator(".failed").count() == 0
        # The browser itself notes each attempt to connect that fails.
        assert [error for error in alice.errors if "WebSocket connection to" not in error] == []


async def test_what_is_said_while_the_tab_is_away_is_there_when_it_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, chat.peer() as bob:
        alice = await chat.sign_in()
        await alice.choose(chat.bob)
        await alice.say("I shall be back")
        await bob.until_it_has(["I shall be back"])
        seen = list(bob.presences_of(chat.alice))
        here = alice.page.url
        await alice.page.goto("about:blank")
        for number in range(3):
            bob.say(chat.alice, f"while you are away {number}")
        await bob.all_taken()
        await alice.page.goto(here)
        await alice.until_connected()
        await alice.until_shown(["I shall be back", *(f"while you are away {number}" for number in range(3))])
        assert await alice.number("logins") == 1
        assert bob.presences_of(chat.alice) == seen


async def test_all_tabs_of_a_user_and_her_other_clients_show_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, chat.peer() as bob, chat.peer(ALICE, "phone") as phone:
        first, second = await chat.sign_in(), await chat.sign_in()
        await first.choose(chat.bob)
        await second.choose(chat.bob)
        await first.say("from the first tab")
        await bob.until_it_has(["from the first tab"])
        await second.say("from the second tab")
        await bob.until_it_has(["from the first tab", "from the second tab"])
        phone.say(chat.bob, "from the phone")
        await wait_until(lambda: len(bob.bodies) == 3, "the contact has all three")
        bob.say(chat.alice, "I hear you")
        everything = ["from the first tab", "from the second tab", "from the phone", "I hear you"]
        for tab in (first, second):
            await tab.until_shown(everything)
            assert await tab.shown(mine=True) == everything[:3]
            assert await tab.number("logins") == 1, "both tabs share one session"


async def test_who_is_there_what_is_unread_and_how_far_a_message_came(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        alice = await chat.sign_in()
        await alice.until_contact(chat.bob, "u1, offline")
        async with chat.peer() as bob:
            heard = listen(bob)
            await alice.until_contact(chat.bob, "u1, available")
            bob.client.send_presence(pshow="away", pstatus="at lunch")
            await alice.until_contact(chat.bob, "u1, away")
            bob.say(chat.alice, "one")
            bob.say(chat.alice, "two", id="two")
            await alice.until_contact(chat.bob, "u1, away, 2 unread")
            await alice.choose(chat.bob)
            await alice.until_contact(chat.bob, "u1, away")
            await alice.until_text("#presence", f"Away: at lunch · {chat.bob}")
            await wait_until(
                lambda: ids(heard, f"{{{MARKERS}}}displayed") == ["two"], "the contact is told that it was read"
            )

            tell(bob, chat.alice, f"<composing xmlns='{CHAT_STATES}'/>")
            await alice.until_text("#typing", "u1 is writing …")
            bob.say(chat.alice, "three")
            await alice.until_text("#typing", "")

            await alice.page.type("#text", "four", delay=10)
            await wait_until(lambda: ids(heard, f"{{{CHAT_STATES}}}composing"), "the contact sees her write")
            await alice.page.press("#text", "Enter")
            await wait_until(lambda: bob.bodies == ["four"], "the contact has her message")
            await alice.until_marked("sent")
            hers = next(str(message["id"]) for message in bob.messages if message["body"])
            tell(bob, chat.alice, f"<received xmlns='{RECEIPTS}' id='{hers}'/>")
            await alice.until_marked("delivered")
            tell(bob, chat.alice, f"<displayed xmlns='{MARKERS}' id='{hers}'/>")
            await alice.until_marked("seen")
        await alice.until_contact(chat.bob, "u1, offline")


async def test_a_wrong_password_is_refused_and_the_right_one_is_kept_nowhere(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, chat.peer() as bob:
        alice = await chat.open()
        await alice.sign_in(chat.alice, "wrong")
        assert "password" in await alice.until_refused()
        assert "available" not in [kind for _, kind in bob.presences_of(chat.alice)]
        await alice.sign_in(chat.alice, PASSWORD)
        await alice.until_connected()
        assert PASSWORD not in await alice.stored()
        assert await alice.page.input_value("#password") == ""
        written = b"".join(path.read_bytes() for path in chat.redis.folder.rglob("*.aof"))
        assert chat.alice.encode() in written, "this is where the edge keeps what it knows"
        assert PASSWORD.encode() not in written
        assert PASSWORD not in chat.edge.log() + chat.backend.log()

        await alice.page.click("#sign-out")
        await alice.page.wait_for_selector("#sign-in:visible")
        await wait_until(
            lambda: [kind for _, kind in bob.presences_of(chat.alice)][-1:] == ["unavailable"], "she is gone for others"
        )
        assert "key" not in await alice.stored()


async def test_a_link_that_is_over_asks_for_the_password_again(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        alice = await chat.sign_in()
        await alice.page.evaluate("""
            const saved = JSON.parse(sessionStorage.getItem("signed-in"));
            sessionStorage.setItem("signed-in", JSON.stringify({...saved, key: "0".repeat(64)}));
        """)
        await alice.page.reload()
        assert await alice.until_refused() == "Your session has ended. Please sign in again."
        await alice.sign_in(chat.alice, PASSWORD)
        await alice.until_connected()


async def test_what_cannot_be_delivered_is_marked_and_can_be_sent_again(tmp_path: Path) -> None:
    async with world(tmp_path) as chat:
        alice = await chat.sign_in()
        await alice.page.fill("#other", f"nobody@{DOMAIN}")
        await alice.page.press("#other", "Enter")
        await alice.say("is anybody there?")
        await alice.until_marked("failed")
        await alice.until_text("#presence", f"Not among your contacts · nobody@{DOMAIN}")
        await alice.page.get_by_role("button", name="Send again").click()
        await alice.until_shown(["is anybody there?"] * 2)
        await alice.until_marked("failed")
        assert alice.errors == []
