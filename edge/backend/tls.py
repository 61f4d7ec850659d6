"""TLS towards backends: one `SSLContext` for each distinct way to use it (making one reads the whole CA store)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from edge.config import RouteSettings, TargetSettings
from edge.errors import BackendError


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS to one backend. `server_name` is sent as SNI, and verified unless the context does not."""

    context: ssl.SSLContext
    server_name: str


def verified() -> ssl.SSLContext:
    """Verification on; a private CA through OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_name(route: RouteSettings, target: TargetSettings, connect_host: str) -> str:
    """The name a target's certificate must carry: the Host that is configured to be sent to it; else, and with
    `trust_connect_host`, that of its URL. (Not a client's Host: connections are shared by all clients.)"""
    sent = target.host or route.grip.host
    if target.trust_connect_host or not sent:
        return connect_host
    if sent.startswith("["):
        return sent[1:].partition("]")[0]
    return sent.partition(":")[0]


class TlsContexts:
    """Contexts by what is set for a target. Certificate files are read once."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple[bool, str, str], ssl.SSLContext] = {}

    def of(self, target: TargetSettings) -> ssl.SSLContext:
        """Raises BackendError, with a phrase for people, when the target's certificate cannot be used."""
        key = (target.insecure, target.client_cert, target.client_key)
        context = self._made.get(key)
        if context is None:
            context = verified()
            if target.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if target.client_cert:
                try:
                    # Without a password to give, OpenSSL would ask the terminal for one.
                    context.load_cert_chain(target.client_cert, target.client_key or None, password=_no_password)
                except (OSError, ValueError) as error:
                    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                    raise BackendError(f"client_cert {target.client_cert} cannot be used: {reason}") from error
            self._made[key] = context
        return context


def _no_password() -> str:
    raise ValueError("its key is encrypted; use one that is not")
