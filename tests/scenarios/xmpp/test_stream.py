"""The stream engine on real servers: logging in, resuming from what was saved, and what follows a lost session."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Self, TypeVar

import pytest

from edge.protocol.xmpp.credentials import Account
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.sasl import KeysNeeded, derive_keys
from edge.protocol.xmpp.stream import (
    AckAsked,
    AuthFailed,
    Connected,
    Fact,
    Resumed,
    ResumeFailed,
    StanzaReceived,
    StreamFailed,
    StreamPlan,
    TlsWanted,
    XmppStream,
)
from tests.support.xmpp import DOMAIN, HASHED_DOMAIN, PASSWORD, SERVERS, XmppServer

pytestmark = [pytest.mark.scenario, pytest.mark.long]

F = TypeVar("F")
WAIT_S = 60.0


@pytest.fixture(params=sorted(SERVERS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[XmppServer]:
    async with SERVERS[request.param](tmp_path) as running:
        yield running


class Line:
    """A stream on a connection; what comes is durable at once, unless `forgets`."""

    def __init__(self, server: XmppServer, plan: StreamPlan, *, forgets: bool = False) -> None:
        self.server = server
        self.plan = plan
        self.forgets = forgets
        self.durable = plan.resume.received if plan.resume is not None else 0
        self.facts: list[Fact] = []
        self.keys: Account | None = None

    async def __aenter__(self) -> Self:
        port = self.server.tls_port if self.plan.tls is Tls.DIRECT else self.server.port
        context = self.server.trust() if self.plan.tls is Tls.DIRECT else None
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=self.plan.domain if context else None
        )
        self.stream = XmppStream(self.plan, lambda: secrets.token_urlsafe(18), 0.0)
        self.write()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """The connection is gone, and nobody said a word."""
        self.writer.transport.abort()

    def write(self) -> None:
        self.writer.write(self.stream.take())

    def send(self, *stanzas: str) -> None:
        self.stream.send([stanza.encode() for stanza in stanzas])
        self.write()

    async def read(self) -> None:
        data = await asyncio.wait_for(self.reader.read(65536), WAIT_S)
        assert data, f"the server closed the connection: {self.facts}"
        for fact in self.stream.receive(data, 0.0):
            self.facts.append(fact)
            await self.react(fact)
        self.write()

    async def react(self, fact: Fact) -> None:
        match fact:
            case TlsWanted():
                await self.writer.start_tls(self.server.trust(), server_hostname=self.plan.domain)
                self.stream.tls_up()
            case KeysNeeded():
                credentials = self.plan.credentials
                assert isinstance(credentials, Account)
                assert credentials.password is not None
                keys = derive_keys(credentials.password, fact)
                self.keys = credentials.with_keys(keys).without_password()
                self.stream.use_keys(keys)
            case StanzaReceived(_, h) if not self.forgets:
                self.durable = h
            case AckAsked() if self.stream.live:  # what came with it may have ended the stream
                self.stream.ack(self.durable)

    async def until(self, kind: type[F]) -> F:
        """The first such fact."""
        while not (found := [fact for fact in self.facts if isinstance(fact, kind)]):
            await self.read()
        return found[0]

    @property
    def bodies(self) -> list[str]:
        stanzas = [fact.element for fact in self.facts if isinstance(fact, StanzaReceived)]
        return [body.text() for stanza in stanzas if (body := stanza.child("body")) is not None]


def plan_of(number: int, *, tls: Tls = Tls.STARTTLS, domain: str = DOMAIN) -> StreamPlan:
    return StreamPlan(domain, Account(f"u{number}", PASSWORD), resource="edge", tls=tls)


def message(to: str, body: str) -> str:
    return f"<message to='{to}' type='chat'><body>{body}</body></message>"


@pytest.mark.parametrize("tls", Tls)
async def test_logins(server: XmppServer, tls: Tls) -> None:
    async with Line(server, plan_of(0, tls=tls)) as line:
        connected = await line.until(Connected)
        assert connected.jid == f"u0@{DOMAIN}/edge"
        assert connected.resumable
        assert connected.max_s == 300
        assert line.stream.mechanism.startswith("SCRAM-")
    async with Line(server, replace(plan_of(0, tls=tls), credentials=Account("u0", "wrong"))) as line:
        assert (await line.until(AuthFailed)).condition == "not-authorized"


async def test_keys_are_enough_where_the_server_keeps_keys(server: XmppServer) -> None:
    plan = plan_of(0, domain=HASHED_DOMAIN)
    async with Line(server, plan) as line:
        await line.until(Connected)
        assert line.keys is not None
        plan = replace(plan, credentials=line.keys, pinned=line.stream.mechanism)
    async with Line(server, plan) as line:
        await line.until(Connected)
        assert line.keys is None


async def test_a_stream_goes_on_from_what_was_saved_however_often(server: XmppServer) -> None:
    async with Line(server, plan_of(1)) as other:
        peer = await other.until(Connected)
        line = Line(server, plan_of(0))
        async with line:
            me = await line.until(Connected)
        told: list[str] = []
        saved = line.stream.save(line.durable)
        for turn in range(5):
            assert saved is not None
            async with Line(server, replace(plan_of(0), resume=saved), forgets=bool(turn % 2)) as line:
                await line.until(Resumed)
                other.send(message(me.jid, f"to {turn}"))
                while f"to {turn}" not in line.bodies:
                    await line.read()
                if not line.forgets:
                    told += line.bodies
                line.send(message(peer.jid, f"from {turn}"))
                while f"from {turn}" not in other.bodies:
                    await other.read()
                # This one is in the queue, and never on the wire.
                line.stream.send([message(peer.jid, f"late {turn}").encode()])
                saved = line.stream.save(line.durable)
        async with Line(server, replace(plan_of(0), resume=saved)) as line:
            await line.until(Resumed)
            while "late 4" not in other.bodies:
                await other.read()
        assert told == [f"to {turn}" for turn in range(5)]
        assert other.bodies == [f"{word} {turn}" for turn in range(5) for word in ("from", "late")]


async def test_a_lost_session_is_followed_by_a_new_one_on_the_same_connection(server: XmppServer) -> None:
    async with Line(server, plan_of(0)) as line:
        await line.until(Connected)
        saved = line.stream.save(0)
        assert saved is not None
        line.stream.close()
        line.write()
        while await asyncio.wait_for(line.reader.read(65536), WAIT_S):
            pass
    unsent = message(f"u1@{DOMAIN}", "unsent").encode()
    async with Line(server, replace(plan_of(0), resume=replace(saved, unacked=(unsent,)))) as line:
        assert (await line.until(ResumeFailed)).unacked == (unsent,)
        assert (await line.until(Connected)).resumable


async def test_what_a_server_says_to_nonsense_is_told(server: XmppServer) -> None:
    async with Line(server, plan_of(0)) as line:
        await line.until(Connected)
        line.writer.write(b"<message></presence>")
        failed = await line.until(StreamFailed)
        assert (failed.condition, failed.by_server) == ("not-well-formed", True)
