"""Who may come in: the checks between a request and the sessions' doors.

WebSocket handshakes, in order: process-wide limits, route, size of the head, Origin, the handshake itself, connections
per client address. Other requests: route, size of the head, connections per process and client address; the Origin of
those is for their backend to judge, which may mean to answer any (CORS). The first check that fails gives the answer
and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.model.limits import origin_allowed
from edge.model.proxies import is_trusted, show_address, true_client, true_scheme
from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.protocol.websocket_handshake import Negotiated, Unacceptable, negotiate
from edge.sessions.routes import RouteHandle
from edge.transports.reception import Reception, count_refusal
from edge.wheel import Alarm

EARLY_BYTES = 65_536
"""A client may send frames before the 101 answer came (it should not, RFC 6455 §4.1); this much is kept."""
NO_WEBSOCKET = (
    "This is a WebSocket address: connect to it with a WebSocket client, for example new WebSocket(url) in a browser.\n"
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A parsed request. `target`: path and query. `peer`: address and port of the socket's other end. `began_ms`:
    monotonic."""

    method: str
    target: str
    version: str
    headers: Headers
    peer: tuple[str, int]
    secure: bool
    began_ms: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer for a request that does not come in."""

    status: int
    text: str
    headers: Headers = ()


@dataclass(slots=True)
class Handshake:
    """A request that waits for the sessions' answer; dropped with it."""

    route: RouteHandle
    request: ClientRequest
    negotiated: Negotiated
    address: str
    early: bytearray = field(default_factory=bytearray)
    alarm: Alarm | None = None


def admit(reception: Reception, head: RequestHead) -> Handshake | Refusal:
    """Check `head` against everything that needs no backend. An admitted one is counted under its address:
    `route.addresses.leave` when its connection is gone."""
    nowhere = reception.routes.nowhere
    if reception.connections > reception.settings.max_connections:
        count_refusal(nowhere, "max_connections", "max_connections")
        return Refusal(503, "The edge is full.\n", [("Retry-After", "5")])
    if not reception.take_handshake():
        count_refusal(nowhere, "handshakes_per_s", "handshakes_per_s")
        return Refusal(503, "Too many handshakes at once.\n", [("Retry-After", "1")])
    path, _, query = head.target.partition("?")
    hosts = values_of(head.headers, "host")
    protos = values_of(head.headers, "x-forwarded-proto")
    scheme = true_scheme("wss" if head.secure else "ws", head.peer[0], protos, reception.trusted)
    route = reception.routes.find(hosts[0] if hosts else "", path, tls=scheme == "wss")
    if route is None:
        count_refusal(nowhere, "no_route")
        return Refusal(404, "There is nothing here.\n")
    refusal = _check_head(route, head)
    if refusal is not None:
        return refusal
    negotiated = negotiate(head.target, head.headers, compression=route.settings.compression)
    if isinstance(negotiated, Unacceptable):
        count_refusal(route.meters, "bad_handshake")
        return Refusal(negotiated.status, negotiated.body.decode(), negotiated.headers)
    forwarded = values_of(head.headers, "x-forwarded-for")
    address, port = true_client(head.peer, forwarded, reception.trusted)
    if not route.addresses.enter(address, route.settings.limits.connections_per_ip):
        count_refusal(route.meters, "connections_per_ip", "connections_per_ip")
        return Refusal(429, "Too many connections from your address.\n")
    request = ClientRequest(
        method=head.method,
        path=path,
        query=query,
        headers=believable(head.headers, from_proxy=is_trusted(head.peer[0], reception.trusted)),
        client=show_address(address, port),
        scheme=scheme,
        subprotocols=negotiated.subprotocols,
    )
    return Handshake(route, request, negotiated, address)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that came in; counted under its address, like a handshake."""

    route: RouteHandle
    request: ClientRequest
    address: str


def admit_request(reception: Reception, head: RequestHead) -> Admitted | Refusal:
    """Check a request that asks for no WebSocket."""
    path, _, query = head.target.partition("?")
    hosts = values_of(head.headers, "host")
    protos = values_of(head.headers, "x-forwarded-proto")
    scheme = true_scheme("wss" if head.secure else "ws", head.peer[0], protos, reception.trusted)
    route = reception.routes.find(hosts[0] if hosts else "", path, websocket=False, tls=scheme == "wss")
    if route is None:
        count_refusal(reception.routes.nowhere, "no_route")
        return Refusal(404, "There is nothing here.\n")
    if route.settings.protocol != "grip":
        count_refusal(route.meters, "no_websocket")
        return Refusal(426, NO_WEBSOCKET)
    refusal = _check_size(route, head)
    if refusal is not None:
        return refusal
    if reception.connections + reception.exchanges >= reception.settings.max_connections:
        count_refusal(route.meters, "max_connections", "max_connections")
        return Refusal(503, "The edge is full.\n", [("Retry-After", "5")])
    forwarded = values_of(head.headers, "x-forwarded-for")
    address, port = true_client(head.peer, forwarded, reception.trusted)
    if not route.addresses.enter(address, route.settings.limits.connections_per_ip):
        count_refusal(route.meters, "connections_per_ip", "connections_per_ip")
        return Refusal(429, "Too many connections from your address.\n")
    request = ClientRequest(
        method=head.method,
        path=path,
        query=query,
        headers=believable(head.headers, from_proxy=is_trusted(head.peer[0], reception.trusted)),
        client=show_address(address, port),
        scheme="https" if scheme == "wss" else "http",
        subprotocols=(),
    )
    return Admitted(route, request, address)


def _check_size(route: RouteHandle, head: RequestHead) -> Refusal | None:
    limits = route.settings.limits
    if limits.headers and len(head.headers) > limits.headers:
        count_refusal(route.meters, "headers", "headers")
        return Refusal(431, "Too many header fields.\n")
    if limits.header_bytes and sum(len(n) + len(v) for n, v in head.headers) > limits.header_bytes:
        count_refusal(route.meters, "header_bytes", "header_bytes")
        return Refusal(431, "The header fields are too large.\n")
    return None


def _check_head(route: RouteHandle, head: RequestHead) -> Refusal | None:
    refusal = _check_size(route, head)
    if refusal is not None:
        return refusal
    origins = values_of(head.headers, "origin")
    if len(origins) > 1 or not origin_allowed(origins[0] if origins else None, route.settings.origins):
        count_refusal(route.meters, "origin", "origins")
        return Refusal(403, "This origin may not connect.\n")
    if head.method != "GET" or head.version != "1.1":
        count_refusal(route.meters, "bad_handshake")
        return Refusal(400, "A WebSocket handshake is a GET over HTTP/1.1.\n")
    return None


def values_of(headers: Headers, name: str) -> Sequence[str]:
    """The values of all fields with this (lower case) name, in order."""
    return [value for field_name, value in headers if field_name.lower() == name]


def believable(headers: Headers, *, from_proxy: bool) -> Headers:
    """`headers` without those that only the edge, or a proxy it trusts, may say to a backend."""
    return [item for item in headers if not is_edge_header(item[0]) and (from_proxy or not is_proxy_header(item[0]))]


def is_proxy_header(name: str) -> bool:
    """Whether it is a proxy's word about its client: a backend may believe it, so an untrusted peer may not say it."""
    folded = name.lower().replace("_", "-")
    return folded.startswith("x-forwarded-") or folded in ("forwarded", "x-real-ip")


def is_edge_header(name: str) -> bool:
    """Whether a client must not be able to send this one to a backend: ``Holdfast-*``, however it is spelled
    (frameworks after CGI fold ``_`` and ``-`` into one)."""
    return name.lower().replace("_", "-").startswith("holdfast-")
