"""Connections to XMPP servers over real sockets: where to, with which certificate, and what people are told."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from edge.clock import SystemClock
from edge.config import Secret, XmppSettings
from edge.errors import DialError
from edge.links import dialer as dialer_module
from edge.links.dialer import XmppDialer
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.unit.links.certificates import make_certificate
from tests.unit.links.name_server import NameServer, name_server

DOMAIN = "chat.example"
HERE = XmppSettings(DOMAIN, host="127.0.0.1")


class Heard(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True

    def data_received(self, data: bytes) -> None:
        self.data += data


class Peer:
    """A server that says its port to everybody, and keeps what it has seen of their TLS."""

    def __init__(self) -> None:
        self.port = 0
        self.names: list[str] = []
        self.protocols: list[str | None] = []
        self.certificates: list[object] = []
        self.open: set[asyncio.Transport] = set()


class Greeter(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer.open.add(self.transport)
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self.peer.protocols.append(tls.selected_alpn_protocol())
            self.peer.certificates.append(tls.getpeercert())
        self.transport.write(str(self.peer.port).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.peer.open.discard(self.transport)


@asynccontextmanager
async def peer(
    host: str = "127.0.0.1", certificate: tuple[str, str] | None = None, wants: str = ""
) -> AsyncIterator[Peer]:
    """Speaks TLS with `certificate`; asks for one that `wants` has signed."""
    seen = Peer()
    context: ssl.SSLContext | None = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        context.set_alpn_protocols(["http/1.1", "xmpp-client"])
        context.sni_callback = lambda _socket, name, _context: seen.names.append(name)
        if wants:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(wants)
    server = await asyncio.get_running_loop().create_server(lambda: Greeter(seen), host, 0, ssl=context)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for transport in seen.open:
            transport.abort()
        await wait_until(lambda: not seen.open, "every connection is closed")


@pytest.fixture
async def dns() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return make_certificate(tmp_path, "server", [DOMAIN])


async def reached(server: XmppSettings, dialer: XmppDialer | None = None, location: str = "") -> int:
    """The port of whoever answered."""
    transport, heard = await (dialer or XmppDialer(SystemClock())).dial(server, Heard, location=location)
    try:
        async with asyncio.timeout(10):
            while not heard.data:
                await asyncio.sleep(0.001)
    finally:
        transport.close()
        await asyncio.sleep(0)
    assert heard.made
    return int(heard.data)


async def refusal(server: XmppSettings, dialer: XmppDialer | None = None) -> DialError:
    with pytest.raises(DialError) as refused:
        await (dialer or XmppDialer(SystemClock())).dial(server, Heard)
    return refused.value


async def test_the_configured_host() -> None:
    async with peer() as server:
        assert await reached(replace(HERE, port=server.port)) == server.port


async def test_the_configured_host_by_name_and_over_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on loopback here")
    async with peer("::1") as server:
        assert await reached(XmppSettings(DOMAIN, host="::1", port=server.port)) == server.port
    async with peer("127.0.0.1") as server:
        assert await reached(XmppSettings(DOMAIN, host="localhost", port=server.port)) == server.port


async def test_where_nobody_listens() -> None:
    port = free_port()
    error = await refusal(replace(HERE, port=port))
    assert str(error) == f"connection refused by 127.0.0.1:{port}"
    assert not error.permanent


class Route:
    """Stands in for the machine's resolver, so that a test may have domains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **hosts: list[str]) -> None:
        self.hosts = {name.replace("_", "."): addresses for name, addresses in hosts.items()}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.look_up)

    async def look_up(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(2, 1, 6, "", (address, port)) for address in self.hosts[host]]


async def test_a_name_that_is_not_known_is_told_as_such(dns: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Route(monkeypatch)
    dialer = XmppDialer(SystemClock(), name_server=dns.address)
    assert str(await refusal(XmppSettings(DOMAIN), dialer)) == f"no such domain: {DOMAIN}"
    assert str(await refusal(XmppSettings(DOMAIN, host="a.example"), dialer)) == "no such host: a.example"
    assert dns.asked == {f"_xmpp-client._tcp.{DOMAIN}": 1}


async def test_srv_records_are_tried_in_order(dns: NameServer) -> None:
    async with peer() as first, peer() as second:
        dns.records[f"_xmpp-client._tcp.{DOMAIN}"] = [
            f"20 0 {second.port} localhost.",
            f"10 0 {first.port} localhost.",
            f"5 0 {free_port()} 127.0.0.1.",
        ]
        dialer = XmppDialer(SystemClock(), name_server=dns.address)
        assert await reached(XmppSettings(DOMAIN), dialer) == first.port
    failures = str(await refusal(XmppSettings(DOMAIN), dialer)).split("; ")
    assert all(phrase.startswith("connection refused by") for phrase in failures)


async def test_direct_tls_has_records_of_its_own(dns: NameServer, certificate: tuple[str, str]) -> None:
    async with peer(certificate=certificate) as server:
        dns.records[f"_xmpps-client._tcp.{DOMAIN}"] = [f"0 0 {server.port} localhost."]
        dialer = XmppDialer(SystemClock(), name_server=dns.address)
        assert await reached(XmppSettings(DOMAIN, tls="direct", ca_file=certificate[0]), dialer) == server.port
    assert server.names == [DOMAIN]
    assert server.protocols == ["xmpp-client"]
    assert list(dns.asked) == [f"_xmpps-client._tcp.{DOMAIN}"]


async def test_a_domain_that_offers_no_service(dns: NameServer) -> None:
    dns.records[f"_xmpp-client._tcp.{DOMAIN}"] = ["0 0 0 ."]
    error = await refusal(XmppSettings(DOMAIN), XmppDialer(SystemClock(), name_server=dns.address))
    assert str(error) == f"{DOMAIN} says in DNS that it has no service for clients"
    assert error.permanent


async def test_without_records_it_is_the_domain_itself(dns: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as server:
        Route(monkeypatch, chat_example=["127.0.0.1"])
        monkeypatch.setattr(XmppSettings, "usual_port", server.port)
        dialer = XmppDialer(SystemClock(), name_server=dns.address)
        assert await reached(XmppSettings(DOMAIN), dialer) == server.port
    assert dns.asked == {f"_xmpp-client._tcp.{DOMAIN}": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda port: XmppSettings(DOMAIN, port=port),
        lambda port: XmppSettings("localhost", port=port),
        lambda port: XmppSettings(DOMAIN, port=port, tls="none", component_secret=Secret("s")),
    ],
)
async def test_dns_is_not_asked_where_the_settings_say_all(
    dns: NameServer, monkeypatch: pytest.MonkeyPatch, make: Callable[[int], XmppSettings]
) -> None:
    async with peer() as server:
        Route(monkeypatch, chat_example=["127.0.0.1"], localhost=["127.0.0.1"])
        dialer = XmppDialer(SystemClock(), name_server=dns.address)
        assert await reached(make(server.port), dialer) == server.port
    assert not dns.asked


async def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer("127.0.0.2") as server:
        Route(monkeypatch, xmpp_internal=["127.0.0.1", "127.0.0.2"])
        here = XmppSettings(DOMAIN, host="xmpp.internal", port=server.port)
        assert await reached(here) == server.port


async def test_a_certificate_that_nobody_vouches_for(certificate: tuple[str, str]) -> None:
    async with peer(certificate=certificate) as server:
        error = await refusal(replace(HERE, port=server.port, tls="direct"))
        assert str(error) == f"certificate: self-signed certificate (127.0.0.1:{server.port})"
        assert error.permanent


async def test_a_certificate_for_another_domain(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", ["127.0.0.1", "else.example"])
    async with peer(certificate=other) as server:
        error = await refusal(replace(HERE, port=server.port, tls="direct", ca_file=other[0]))
        assert str(error).startswith("certificate: Hostname mismatch, certificate is not valid for 'chat.example'")
        assert error.permanent


async def test_an_expired_certificate(tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "old", [DOMAIN], expired=True)
    async with peer(certificate=old) as server:
        error = await refusal(replace(HERE, port=server.port, tls="direct", ca_file=old[0]))
        assert str(error).startswith("certificate: certificate has expired")


async def test_a_certificate_of_our_own(tmp_path: Path, certificate: tuple[str, str]) -> None:
    ours = make_certificate(tmp_path, "ours", ["edge.example"])
    async with peer(certificate=certificate, wants=ours[0]) as server:
        here = replace(HERE, port=server.port, tls="direct", ca_file=certificate[0])
        assert await reached(replace(here, client_cert=ours[0], client_key=ours[1])) == server.port
    assert len(server.certificates) == 1
    assert server.certificates[0]


async def test_a_server_that_does_not_speak_tls() -> None:
    async with peer() as server:
        error = await refusal(replace(HERE, port=server.port, tls="direct"))
        assert str(error).startswith(f"TLS with 127.0.0.1:{server.port}: ")
        assert not error.permanent


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_handshake_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "HANDSHAKE_S", 0.05)
    async with silent() as port:
        error = await refusal(replace(HERE, port=port, tls="direct"))
        assert str(error) == f"no TLS handshake with 127.0.0.1:{port} in 0.05 s"


async def test_everything_together_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "WHOLE_S", 0.05)
    async with silent() as port:
        assert str(await refusal(replace(HERE, port=port, tls="direct"))) == "no connection in 0.05 s"


async def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(_socket: socket.socket, address: tuple[str, int]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dialer_module, "CONNECT_S", 0.02)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    assert str(await refusal(replace(HERE, port=5222))) == "127.0.0.1:5222 does not answer"


async def test_a_dial_that_is_cancelled_leaves_nothing_open(certificate: tuple[str, str]) -> None:
    async with silent() as port:
        dialing = asyncio.create_task(
            XmppDialer(SystemClock()).dial(replace(HERE, port=port, tls="direct", ca_file=certificate[0]), Heard)
        )
        await asyncio.sleep(0.02)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing


def test_one_context_for_all_who_need_the_same(tmp_path: Path, certificate: tuple[str, str]) -> None:
    dialer = XmppDialer(SystemClock())
    plain = dialer.context(HERE)
    assert dialer.context(XmppSettings("other.example", tls="direct")) is plain
    assert plain.verify_mode is ssl.CERT_REQUIRED
    assert plain.check_hostname
    private = dialer.context(replace(HERE, ca_file=certificate[0]))
    assert private is not plain
    assert len(private.get_ca_certs()) == 1
    dialer.forget()
    assert dialer.context(HERE) is not plain


def test_files_that_cannot_be_used(tmp_path: Path, certificate: tuple[str, str]) -> None:
    locked = make_certificate(tmp_path, "locked", password="hush")
    (tmp_path / "empty").touch()
    dialer = XmppDialer(SystemClock())
    for server, words in (
        (replace(HERE, ca_file=str(tmp_path / "empty")), "ca_file .*empty cannot be used: "),
        (replace(HERE, ca_file=str(tmp_path / "none")), "ca_file .*none cannot be used: No such file"),
        (replace(HERE, client_cert=locked[0], client_key=locked[1]), "client_cert .* its key is encrypted"),
        (replace(HERE, client_cert=locked[0], client_key=certificate[1]), "client_cert .* cannot be used: "),
    ):
        with pytest.raises(DialError, match=words) as refused:
            dialer.context(server)
        assert refused.value.permanent


async def test_no_connection_is_tried_with_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    error = await refusal(replace(HERE, port=1, tls="direct", ca_file=str(tmp_path / "empty")))
    assert "cannot be used" in str(error)


class Places:
    """Two servers, and a dialer that knows the names of both."""

    def __init__(self, usual: Peer, asked: Peer, dialer: XmppDialer) -> None:
        self.usual = usual
        self.asked = asked
        self.dialer = dialer

    async def follows(self, server: XmppSettings, location: str) -> bool:
        port = await reached(server, self.dialer, location.replace("PORT", str(self.asked.port)))
        assert port in (self.usual.port, self.asked.port)
        return port == self.asked.port


@pytest.fixture
async def places(dns: NameServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Places]:
    async with AsyncExitStack() as stack:
        usual, asked = [await stack.enter_async_context(peer()) for _ in range(2)]
        everywhere = ["127.0.0.1"]
        Route(
            monkeypatch, chat_example=everywhere, node2_chat_example=everywhere, xmpp_internal=everywhere,
            srv_elsewhere=everywhere, evil_example=everywhere, evilchat_example=everywhere,
        )  # fmt: skip
        yield Places(usual, asked, XmppDialer(SystemClock(), name_server=dns.address))


@pytest.mark.parametrize(
    ("location", "followed"),
    [
        ("xmpp.internal:PORT", True),
        ("XMPP.internal.:PORT", True),
        ("node2.chat.example:PORT", False),
        ("chat.example:PORT", False),
        ("127.0.0.1:PORT", False),
        ("evil.example:PORT", False),
    ],
)
async def test_a_location_on_the_configured_host_is_followed(places: Places, location: str, followed: bool) -> None:
    server = XmppSettings(DOMAIN, host="xmpp.internal", port=places.usual.port)
    assert await places.follows(server, location) is followed


@pytest.mark.parametrize(
    ("location", "followed"),
    [
        ("node2.chat.example:PORT", True),
        ("chat.example:PORT", True),
        ("srv.elsewhere:PORT", True),
        ("evil.example:PORT", False),
        ("evilchat.example:PORT", False),
        ("[::1]:PORT", False),
        ("", False),
        (":PORT", False),
        ("chat.example:0", False),
        ("chat.example:99999", False),
        ("a b", False),
    ],
)
async def test_a_location_of_the_domain_or_its_records_is_followed_where_no_host_is_set(
    places: Places, dns: NameServer, location: str, followed: bool
) -> None:
    dns.records[f"_xmpp-client._tcp.{DOMAIN}"] = [f"0 0 {places.usual.port} srv.elsewhere."]
    assert await places.follows(XmppSettings(DOMAIN), location) is followed


async def test_a_location_without_port_has_that_of_the_settings(places: Places) -> None:
    server = XmppSettings(DOMAIN, port=places.asked.port)
    assert await places.follows(server, "node2.chat.example")


async def test_a_location_that_does_not_answer_is_not_the_end(places: Places) -> None:
    server = XmppSettings(DOMAIN, host="xmpp.internal", port=places.usual.port)
    assert not await places.follows(server, f"xmpp.internal:{free_port()}")


async def test_a_location_that_is_not_followed_is_told_once(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "holdfast.links")
    server = XmppSettings(DOMAIN, host="xmpp.internal", port=places.usual.port)
    for _ in range(3):
        assert not await places.follows(server, "evil.example:PORT")
    (record,) = caplog.records
    assert "chat.example asks for its streams to be resumed at 'evil.example:" in record.getMessage()


async def test_few_hosts_are_remembered(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "MOST_HOSTS", 2)
    for number in range(5):
        await places.follows(XmppSettings(DOMAIN, port=places.usual.port), f"n{number}.chat.example:PORT")
    assert len(places.dialer._hosts) == 2
