"""Requests as bytes: a head that is built once per release and encoding, the signature, the body."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_bytes

from edge.backend.base import Release
from edge.backend.dialer import Target
from edge.clock import Clock
from edge.config import RouteSettings
from edge.protocol.callbacks.events import Parcel
from edge.protocol.callbacks.signature import sign
from edge.protocol.callbacks.wire import JSON_TYPE, MSGPACK_TYPE, WireEncoding, encode_request
from edge.protocol.trace import traceparent


class RequestWriter:
    """Writes the requests to one release. `encoding` is what the next one is written in."""

    __slots__ = ("_edge_id", "_head", "_release", "_secrets", "_target", "_tracing", "encoding")

    def __init__(self, edge_id: str, route: RouteSettings, release: Release, target: Target) -> None:
        self._edge_id = edge_id
        self._release = release
        self._target = target
        self.encoding: WireEncoding = "json"
        self.update(route)

    def update(self, route: RouteSettings) -> None:
        """The route's settings have changed: encoding and secrets."""
        self._secrets = [secret.value.encode() for secret in route.secrets]
        self._tracing = route.tracing
        self.use(self.encoding if route.encoding == "auto" else route.encoding)

    def use(self, encoding: WireEncoding) -> None:
        """Write in `encoding` from now on."""
        self.encoding = encoding
        fields = {
            "Host": self._target.authority,
            "Content-Type": MSGPACK_TYPE if encoding == "msgpack" else JSON_TYPE,
            # The SDK answers in the first type it knows: msgpack first, whatever this request is written in.
            "Accept": f"{MSGPACK_TYPE}, {JSON_TYPE};q=0.9",
            "User-Agent": "holdfast",
            "Holdfast-Edge": self._edge_id,
            "Holdfast-Release": self._release.sha,
        }
        lines = [f"POST {self._target.path} HTTP/1.1"]
        lines += [f"{name}: {_one_line(value)}" for name, value in fields.items()]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1", "replace")

    def write(self, parcels: Sequence[Parcel], gone: Sequence[str], clock: Clock) -> bytes:
        """One request, head and body."""
        body = encode_request(self._edge_id, parcels, gone, self.encoding)
        extra = b""
        if self._secrets:
            signature = sign(self._secrets, body, clock.wall_ms() // 1000)
            extra = f"Holdfast-Signature: {signature}\r\n".encode()
        if self._tracing:
            extra += f"traceparent: {traceparent(parcels, token_bytes(24))}\r\n".encode()
        return b"%b%d\r\n%b\r\n%b" % (self._head, len(body), extra, body)


def _one_line(value: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in value)
