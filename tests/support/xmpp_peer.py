"""Somebody else's XMPP client (slixmpp): what a contact of our users sees and says, by code that is not ours."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import slixmpp

from tests.support.ports import LOOPBACK
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.xmpp import DOMAIN, PASSWORD, XmppServer


class Peer:
    """Logged in while its block runs, over STARTTLS, and available. What it hears is kept in order."""

    def __init__(
        self, server: XmppServer, number: int, resource: str = "peer", *, domain: str = DOMAIN, direct_tls: bool = False
    ) -> None:
        self._server = server
        self._direct_tls = direct_tls
        self.client: Any = slixmpp.ClientXMPP(
            f"u{number}@{domain}/{resource}", PASSWORD, ssl_context=server.trust(), sasl_mech=None
        )
        self.client.register_plugin("xep_0199")
        self.client.enable_starttls, self.client.enable_direct_tls = not direct_tls, direct_tls
        self.messages: list[Any] = []
        self.bounced: list[str] = []
        """Ids of messages that came back."""
        self.presences: list[tuple[str, str]] = []
        """Of others: full JID and type, ``available`` or the value of ``show``."""
        self.failures: list[str] = []
        self.roster: dict[str, str] = {}
        """Subscription by bare JID, as fetched after login."""
        self._ready = asyncio.Event()
        self._gone = asyncio.Event()
        hear = self.client.add_event_handler
        hear("session_start", self._started)
        hear("message", self.messages.append)
        hear("message_error", lambda message: self.bounced.append(str(message["id"])))
        hear("presence", self._saw)
        hear("failed_auth", lambda failure: self.failures.append(str(failure["condition"])))
        hear("connection_failed", lambda error: self.failures.append(str(error)))
        hear("disconnected", lambda _: self._gone.set())

    @property
    def jid(self) -> str:
        """The full JID the server gave."""
        return str(self.client.boundjid.full)

    @property
    def bodies(self) -> list[str]:
        return [str(message["body"]) for message in self.messages if message["body"]]

    def say(self, to: str, body: str, id: str = "") -> None:
        message = self.client.make_message(mto=to, mbody=body, mtype="chat")
        if id:
            message["id"] = id
        message.send()

    async def all_taken(self) -> None:
        """The server has passed on all that was said: it answers in order."""
        await self.client.plugin["xep_0199"].ping(DOMAIN, timeout=DEADLINE_S)

    async def until_it_has(self, bodies: list[str]) -> None:
        """Exactly these, in this order."""
        await wait_until(lambda: self.bodies == bodies, f"{self.jid} has {len(bodies)} messages")

    def presences_of(self, bare: str) -> list[tuple[str, str]]:
        return [(jid, kind) for jid, kind in self.presences if jid.partition("/")[0] == bare]

    def saw(self, jid: str) -> list[str]:
        """Of this full JID, in order. Prosody also says of bare ones that nobody is there."""
        return [kind for each, kind in self.presences if each == jid]

    async def _started(self, _: object) -> None:
        self.client.send_presence()
        answer = await self.client.get_roster()
        self.roster = {str(jid): item["subscription"] for jid, item in answer["roster"]["items"].items()}
        self._ready.set()

    def _saw(self, presence: Any) -> None:
        if presence["from"].full != self.jid:
            self.presences.append((str(presence["from"]), str(presence["type"])))

    async def __aenter__(self) -> Self:
        port = self._server.tls_port if self._direct_tls else self._server.port
        self.client.connect(LOOPBACK, port)

        def ready() -> bool:
            assert not self.failures, f"{self.client.requested_jid} cannot log in: {self.failures}"
            return self._ready.is_set()

        try:
            await wait_until(ready, f"{self.client.requested_jid} is logged in")
        except BaseException:
            self.client.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.disconnect(wait=1.0)
        await asyncio.sleep(0)  # its tasks are cancelled: let them end
