"""One connection to an XMPP server, over real sockets: TLS by upgrade, SCRAM, silence, pauses, and all ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest

from edge.config import XmppSettings
from edge.links.tls import TlsContexts
from edge.protocol.xmpp.credentials import Account
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.stream_facts import Connected, StanzaReceived, StreamFailed
from tests.support.waiting import wait_until
from tests.unit.links.certificates import make_certificate
from tests.unit.links.scripted import Listening, Peer, ScriptedServer, connect
from tests.unit.protocol.xmpp import streams as say
from tests.unit.protocol.xmpp.streams import KEYS, PLAIN, PLAN

STARTTLS = replace(PLAN, tls=Tls.STARTTLS)
HEAD = "http://etherx.jabber.org/streams'>"
"""How an opening tag ends."""
ENABLE = "<enable xmlns='urn:xmpp:sm:3' resume='true' max='600'/>"
CLOSED = "the server closed the connection"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return make_certificate(tmp_path, "chat.example")


def server_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def trusting(certificate: tuple[str, str] | None) -> ssl.SSLContext:
    return TlsContexts().of(XmppSettings("chat.example", ca_file=certificate[0] if certificate else ""))


async def offer_tls(peer: Peer) -> None:
    await peer.hears(HEAD)
    await peer.says(say.HEADER, say.OFFER_TLS)
    await peer.hears("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    await peer.says(say.PROCEED)


async def log_in(peer: Peer) -> None:
    """By token: one step. To the end."""
    await peer.hears(HEAD)
    await peer.says(say.HEADER, say.OFFER_TOKEN)
    await peer.hears("</auth>")
    await peer.says(say.SUCCESS)
    await peer.hears(HEAD)
    await peer.says(say.HEADER, say.OFFER_ALL)
    await peer.hears("</iq>")
    await peer.says(say.BOUND)
    await peer.hears(ENABLE)
    await peer.says(say.ENABLED)


# ---------------------------------------------------------------------- the way in


async def test_a_login_by_starttls_and_scram(certificate: tuple[str, str]) -> None:
    async def script(peer: Peer) -> None:
        await offer_tls(peer)
        await peer.starts_tls(server_context(certificate))
        await peer.hears(HEAD)
        await peer.says(say.HEADER, say.OFFER_LOGIN)
        first = await peer.hears("</auth>")
        assert b"mechanism='SCRAM-SHA-1'" in first
        await peer.says(say.SCRAM_FIRST)
        final = await peer.hears("</response>")
        proof = b64decode(final.partition(b">")[2].partition(b"<")[0])
        assert proof.endswith(b",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")  # RFC 5802 §5
        await peer.says(say.SCRAM_SUCCESS)
        await peer.hears(HEAD)
        await peer.says(say.HEADER, say.OFFER_ALL)
        await peer.hears("</iq>")
        await peer.says(say.BOUND)
        await peer.hears(ENABLE)
        await peer.says(say.ENABLED, say.MESSAGE)
        assert await peer.hears("<r xmlns='urn:xmpp:sm:3'/>") == b"<message id='1'/><r xmlns='urn:xmpp:sm:3'/>"
        assert await peer.hears_the_end() == b""

    listener = Listening()
    async with ScriptedServer(script) as server:
        connection = await connect(server, STARTTLS, listener, trusting(certificate))
        await wait_until(lambda: listener.last(StanzaReceived) or listener.cuts, "a message has come")
        connected = listener.last(Connected)
        assert connected is not None
        assert (connected.jid, connected.sm_id) == ("user@chat.example/edge", "sm-1")
        assert listener.keys == [KEYS]
        assert connection._password is None
        connection.stream.send([b"<message id='1'/>"])
        connection.write_soon()
        connection.write_soon()
        await asyncio.sleep(0)
        connection.leave()
    assert listener.cuts == []


@pytest.mark.parametrize(
    ("names", "trusted", "said"),
    [(["other.example"], True, "Hostname mismatch"), (["chat.example"], False, "self-signed certificate")],
)
async def test_a_wrong_certificate(tmp_path: Path, names: list[str], trusted: bool, said: str) -> None:
    certificate = make_certificate(tmp_path, "server", names)

    async def script(peer: Peer) -> None:
        await offer_tls(peer)
        heard = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await peer.starts_tls(server_context(certificate))
            heard = await peer.hears_the_end()
        assert heard == b""

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, STARTTLS, listener, trusting(certificate if trusted else None))
        reason = await listener.until_cut()
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert failed.condition == "certificate-invalid"
    assert "chat.example" in failed.text
    assert said.lower().replace("-", " ") in reason.lower().replace("-", " ")


@pytest.mark.parametrize("how", ["noise", "an end"])
async def test_a_handshake_that_fails(certificate: tuple[str, str], how: str) -> None:
    async def script(peer: Peer) -> None:
        await offer_tls(peer)
        if how == "noise":
            await peer.hears_something()
            await peer.says(b"no TLS in here at all, whatever you may have thought")
            await peer.hears_the_end()
        else:
            peer.breaks()

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, STARTTLS, listener, trusting(certificate))
        await listener.until_cut()
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert failed.condition == "tls-failed"


async def test_a_password_that_no_server_could_know(certificate: tuple[str, str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.hears(HEAD)
        await peer.says(say.HEADER, say.OFFER_LOGIN)
        await peer.hears("</auth>")
        await peer.says(say.SCRAM_FIRST)
        assert b"<response" not in await peer.hears_the_end()

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, replace(PLAN, credentials=Account("user", "\u0007")), listener, password="\u0007")
        assert await listener.until_cut() == "the password cannot be used"
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert failed.condition == "malformed-request"


# ---------------------------------------------------------------------- silence


async def test_a_server_that_does_not_say_a_word() -> None:
    async def script(peer: Peer) -> None:
        heard = await peer.hears_the_end()
        assert b"</stream:stream>" not in heard

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, replace(PLAIN, negotiation_s=0.1), listener)
        await listener.until_cut()
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert failed.condition == "connection-timeout"


async def test_a_server_that_falls_silent_is_asked_and_then_given_up() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        await log_in(peer)
        heard.append(await peer.hears("<r xmlns='urn:xmpp:sm:3'/>"))
        await peer.says(say.acked(0))
        heard.append(await peer.hears("<r xmlns='urn:xmpp:sm:3'/>"))
        heard.append(await peer.hears_the_end())

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, replace(PLAIN, silence_s=0.1, answer_s=0.1), listener)
        await listener.until_cut()
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert failed.condition == "connection-timeout"
    assert heard[-1] == b""  # no end of the stream: the session can be resumed


async def test_while_it_is_not_read_a_server_is_not_asked() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await log_in(peer)
        await go_on.wait()
        await peer.says(say.MESSAGE)
        await peer.hears_the_end()

    listener = Listening()
    async with ScriptedServer(script) as server:
        connection = await connect(server, replace(PLAIN, silence_s=0.05, answer_s=0.05), listener)
        await wait_until(lambda: listener.last(Connected), "the stream is live")
        connection.pause()
        connection.pause()
        assert connection.paused
        go_on.set()
        due = connection.stream.wake_at()
        assert due is not None
        loop = asyncio.get_running_loop()
        await wait_until(lambda: loop.time() > due + 0.2, "it would have been given up")
        assert listener.last(StanzaReceived) is None
        assert listener.cuts == []
        connection.go_on()
        await wait_until(lambda: listener.last(StanzaReceived), "it is read again")
        connection.leave()


# ---------------------------------------------------------------------- ends


async def test_a_server_that_goes_away() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, PLAIN, listener)
        assert await listener.until_cut() == CLOSED


async def test_a_server_that_ends_the_stream_is_heard_to_the_end() -> None:
    async def script(peer: Peer) -> None:
        await log_in(peer)
        await peer.says(say.MESSAGE, say.ERROR, say.END)
        await peer.hears_the_end()

    listener = Listening()
    async with ScriptedServer(script) as server:
        await connect(server, PLAIN, listener)
        assert await listener.until_cut() == "the stream is over"
    assert listener.last(StanzaReceived) is not None
    failed = listener.last(StreamFailed)
    assert failed is not None
    assert (failed.condition, failed.by_server) == ("conflict", True)


@pytest.mark.parametrize("how", ["leave", "leave after logging out", "abort"])
async def test_whoever_leaves_is_told_nothing_more(how: str) -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        await log_in(peer)
        heard.append(await peer.hears_the_end())

    listener = Listening()
    async with ScriptedServer(script) as server:
        connection = await connect(server, PLAIN, listener)
        await wait_until(lambda: listener.last(Connected), "the stream is live")
        told = len(listener.facts)
        connection.stream.send([b"<message id='1'/>"])
        if how == "leave after logging out":
            connection.stream.close()
        if how == "abort":
            connection.abort()
            connection.abort()
        else:
            connection.leave()
            connection.leave()
        connection.data_received(say.MESSAGE)
        connection.write_soon()
        await asyncio.sleep(0)
    assert len(listener.facts) == told
    assert listener.cuts == []
    (said,) = heard
    assert (b"<message id='1'/>" in said) == (how != "abort")
    assert (b"</stream:stream>" in said) == (how == "leave after logging out")


async def test_a_connection_that_breaks_before_its_stream_begins() -> None:
    async def script(peer: Peer) -> None:
        peer.breaks()

    listener = Listening()
    async with ScriptedServer(script) as server:
        connection = await connect(server, PLAIN, Listening())
        connection.connection_lost(None)
        connection.begin(
            lambda now: connection.stream, listener, domain="chat.example", context=None, password="pencil"
        )
        assert listener.cuts == ["the connection broke at once"]
