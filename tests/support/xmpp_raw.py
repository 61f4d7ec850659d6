"""An XMPP client that says exactly what a test tells it to, and keeps what the server says, stanza by stanza.

It logs in by PLAIN without TLS and takes short cuts that no client should: for asking servers what they take, and
what they say to it. Reading is left to our framer, as that is what the tests are about.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from types import TracebackType
from typing import Self

from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Framer, StreamLimits
from tests.support.ports import LOOPBACK
from tests.support.xmpp import DOMAIN, PASSWORD, XmppServer

_DEADLINE_S = 30.0
_OPEN = (
    f"<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()


class StreamOver(Exception):
    """The server ended the stream, or closed the connection; says how."""


class RawClient:
    """Logged in, bound to `resource`, with stream management on, while its block runs."""

    def __init__(self, server: XmppServer, number: int, resource: str = "raw") -> None:
        self._server = server
        self._user = f"u{number}"
        self.jid = f"{self._user}@{DOMAIN}/{resource}"
        self.came: list[Element] = []
        """Stanzas that nobody has asked for yet, oldest first."""
        self._framer = Framer(StreamLimits())
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._server.port)
        try:
            await self._log_in()
        except BaseException:
            self._writer.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def _log_in(self) -> None:
        await self._ask(_OPEN, "features")
        secret = b64encode(f"\0{self._user}\0{PASSWORD}".encode()).decode()
        auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        await self._ask(auth.encode(), "success")
        self._framer.restart()
        await self._ask(_OPEN, "features")
        resource = f"<resource>{self.jid.partition('/')[2]}</resource>"
        bind = f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind></iq>"
        await self._ask(bind.encode(), "iq")
        await self._ask(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "enabled")

    def say(self, xml: bytes) -> None:
        self._writer.write(xml)

    async def _ask(self, xml: bytes, answer: str) -> Element:
        """Say `xml`, and wait for an element of that name; others wait in `came`."""
        self.say(xml)
        return await self.next(lambda element: element.name == answer)

    async def handled(self) -> int:
        """How many stanzas of ours the server has counted. All it had to say about them before is in `came`."""
        return int((await self._ask(b"<r xmlns='urn:xmpp:sm:3'/>", "a")).attributes["h"])

    async def iq(self, xml: bytes) -> Element:
        """Send an iq, and wait for its answer."""
        self.say(xml)
        wanted = self._id(xml)
        return await self.next(lambda element: element.name == "iq" and element.attributes.get("id") == wanted)

    def _id(self, xml: bytes) -> str:
        framer = Framer(StreamLimits())
        framer.feed(_OPEN)
        (sent,) = framer.feed(xml)
        assert isinstance(sent, Element)
        return sent.attributes["id"]

    async def next(self, wanted: Callable[[Element], bool]) -> Element:
        """The next element that `wanted` likes; others wait in `came`. Raises StreamOver."""
        while True:
            for place, element in enumerate(self.came):
                if wanted(element):
                    return self.came.pop(place)
            data = await asyncio.wait_for(self._reader.read(65_536), _DEADLINE_S)
            if not data:
                raise StreamOver("the connection was closed")
            for heard in self._framer.feed(data):
                if isinstance(heard, Element) and heard.name != "r":
                    self.came.append(heard)
                    if heard.namespace == "http://etherx.jabber.org/streams" and heard.name == "error":
                        raise StreamOver(heard.raw.decode())
