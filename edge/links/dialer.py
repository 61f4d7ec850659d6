"""Opens connections to XMPP servers: where to, TCP, and TLS where it comes first.

The settings say where, else DNS (RFC 6120 §3.2, XEP-0368); a server may ask for its stream to be resumed at another
place of its own (XEP-0198 §5), and only there: see `XmppDialer.dial`. STARTTLS is the caller's, who speaks XMPP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from edge.clock import Clock
from edge.config import XmppSettings
from edge.config.addresses import Address, parse_address
from edge.errors import DialError
from edge.hosts import Addresses
from edge.links.services import Services, in_order
from edge.links.tls import TlsContexts

_log = logging.getLogger("holdfast.links")

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

CONNECT_S = 5.0
"""TCP, to one address."""
HANDSHAKE_S = 10.0
"""TLS. A server that restarts with thousands of users does thousands of handshakes."""
WHOLE_S = 15.0
"""All look-ups and tries together."""
MOST_HOSTS = 256
"""Whose addresses are remembered: servers name hosts, too."""
MOST_PHRASES = 3
"""Of what went wrong with several addresses."""


@dataclass(frozen=True, slots=True)
class _Failure:
    phrase: str
    permanent: bool = False


class XmppDialer:
    """Connects to the servers of the settings. `name_server`: ask this one only, for SRV records."""

    __slots__ = ("_clock", "_contexts", "_hosts", "_refused_locations", "_services")

    def __init__(self, clock: Clock, *, name_server: Address | None = None) -> None:
        self._clock = clock
        self._contexts = TlsContexts()
        self._services = Services(clock, name_server)
        self._hosts: dict[Address, Addresses] = {}
        self._refused_locations: set[str] = set()

    def context(self, server: XmppSettings) -> ssl.SSLContext:
        """For the handshakes with `server`, STARTTLS included; with its domain as the name to verify. Shared by all who
        need the same. Raises DialError when a file of the settings cannot be used."""
        return self._contexts.of(server)

    def forget(self) -> None:
        """Read certificate files again: settings were reloaded."""
        self._contexts.forget()

    async def dial(
        self, server: XmppSettings, factory: Callable[[], ProtocolT], *, location: str = ""
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """A connection to `server`, after the handshake if its TLS is direct. `factory` makes the protocol, anew for
        each address that TCP reaches.

        `location` is where the server wants to be resumed (``host:port``). It is tried first when it is on the
        configured host, or, where none is configured, within the domain or one of its SRV targets. Any other is passed
        over: a server, or whoever got into one, must not send us, and what we log in with, to places of its choice.

        Raises DialError within 15 s, with a phrase for people.
        """
        if server.tls == "direct":
            self.context(server)  # a file that cannot be used is not the network's fault
        failures: list[_Failure] = []
        try:
            async with asyncio.timeout(WHOLE_S):
                for place in await self._places(server, location):
                    connection = await self._try(server, place, factory, failures)
                    if connection is not None:
                        return connection
        except TimeoutError:
            failures.append(_Failure(f"no connection in {WHOLE_S:g} s"))
        phrases = list(dict.fromkeys(failure.phrase for failure in failures))
        raise DialError("; ".join(phrases[-MOST_PHRASES:]), permanent=all(failure.permanent for failure in failures))

    async def _places(self, server: XmppSettings, location: str) -> Sequence[Address]:
        """At least one, best first."""
        usual = await self._usual_places(server)
        if not location:
            return usual
        asked = _parse(location, server.port or server.usual_port)
        if asked is None or not _may_follow(server, asked.host, usual):
            if server.domain not in self._refused_locations:
                self._refused_locations.add(server.domain)
                _log.warning(
                    "%s asks for its streams to be resumed at %.100r, which is not a place of its own; not followed "
                    "(this is said once)", server.domain, location
                )  # fmt: skip
            return usual
        return list(dict.fromkeys([asked, *usual]))

    async def _usual_places(self, server: XmppSettings) -> Sequence[Address]:
        if server.host:
            return [Address(server.host, server.port or server.usual_port)]
        domain = _ascii(server.domain)
        if not (server.port or server.is_component or _is_local(domain)):
            service = "_xmpps-client" if server.tls == "direct" else "_xmpp-client"
            offer = await self._services.of(f"{service}._tcp.{domain}.")
            if offer.refused:
                raise DialError(f"{server.domain} says in DNS that it has no service for clients", permanent=True)
            if offer.services:
                # And nothing else: RFC 6120 §3.2.1 point 6.
                return [Address(service.host, service.port) for service in in_order(offer.services)]
        return [Address(domain, server.port or server.usual_port)]

    async def _try(
        self, server: XmppSettings, place: Address, factory: Callable[[], ProtocolT], failures: list[_Failure]
    ) -> tuple[asyncio.Transport, ProtocolT] | None:
        """A connection to the first address of `place` that gives one; None, with `failures` noted."""
        addresses = self._addresses(place)
        try:
            candidates = await addresses.candidates()
        except (OSError, UnicodeError) as error:
            failures.append(_look_up_failure(server, place.host, error))
            return None
        for host in candidates:
            try:
                return await self._connect(server, Address(host, place.port), factory)
            except (OSError, TimeoutError) as error:
                addresses.refused(host)
                failures.append(_failure(Address(host, place.port), error))
        return None

    async def _connect(
        self, server: XmppSettings, address: Address, factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        loop = asyncio.get_running_loop()
        direct = server.tls == "direct"
        sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(sock, (address.host, address.port))
        except BaseException:
            sock.close()
            raise
        # From here on the socket is the transport's, which closes it when the handshake fails.
        return await loop.create_connection(
            factory,
            sock=sock,
            ssl=self.context(server) if direct else None,
            server_hostname=_ascii(server.domain) if direct else None,
            ssl_handshake_timeout=HANDSHAKE_S if direct else None,
        )

    def _addresses(self, place: Address) -> Addresses:
        known = self._hosts.pop(place, None) or Addresses(place.host, place.port, self._clock)
        self._hosts[place] = known  # the newest last
        if len(self._hosts) > MOST_HOSTS:
            del self._hosts[next(iter(self._hosts))]
        return known


def _may_follow(server: XmppSettings, host: str, usual: Sequence[Address]) -> bool:
    """`usual`: the configured host, or the SRV targets, or the domain."""
    domain = _ascii(server.domain)
    within = not server.host and (host == domain or host.endswith(f".{domain}"))
    return within or host in [place.host for place in usual]


def _parse(location: str, port: int) -> Address | None:
    """``host:port``, or a host alone; None: neither."""
    for text in (location, f"{location}:{port}"):
        try:
            address = parse_address(text)
        except ValueError:
            continue
        return Address(address.host.removesuffix("."), address.port) if address.host and address.port else None
    return None


def _ascii(domain: str) -> str:
    """As DNS and certificates have it."""
    return domain.encode("idna").decode()


def _is_local(domain: str) -> bool:
    """Not for DNS: an IP address, or a name of this machine (RFC 6761 §6.3)."""
    if domain == "localhost" or domain.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        return False
    return True


def _look_up_failure(server: XmppSettings, host: str, error: Exception) -> _Failure:
    if isinstance(error, socket.gaierror) and error.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", 0)):
        return _Failure(f"the look-up of {host} failed: {(error.strerror or '').lower()}")
    noun = "domain" if host == _ascii(server.domain) else "host"
    return _Failure(f"no such {noun}: {host}")


def _failure(address: Address, error: Exception) -> _Failure:
    match error:
        case ssl.SSLCertVerificationError():
            return _Failure(f"certificate: {error.verify_message} ({address})", permanent=True)
        case ssl.SSLError():
            return _Failure(f"TLS with {address}: {(error.reason or 'handshake failed').lower().replace('_', ' ')}")
        case ConnectionRefusedError():
            return _Failure(f"connection refused by {address}")
        case ConnectionAbortedError():  # asyncio's word for a handshake that took too long
            return _Failure(f"no TLS handshake with {address} in {HANDSHAKE_S:g} s")
        case ConnectionResetError() | BrokenPipeError():
            return _Failure(f"{address} ended the connection at once")
        case TimeoutError():
            return _Failure(f"{address} does not answer")
        case OSError():
            return _Failure(f"{(error.strerror or type(error).__name__).lower()}: {address}")
    return _Failure(f"{address}: {type(error).__name__}")
