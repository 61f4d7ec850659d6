"""TLS towards XMPP servers: one `SSLContext` for each distinct way to use it.

Making one reads the whole CA store, and each takes memory: a context a link would cost more than the link.
"""

from __future__ import annotations

import ssl

from edge.config import XmppSettings
from edge.errors import DialError


class TlsContexts:
    """Contexts by what is set for a server. Files are read once, or again after `forget`."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, str], ssl.SSLContext] = {}

    def of(self, server: XmppSettings) -> ssl.SSLContext:
        """Verifies the server. Raises DialError when a file of the settings cannot be used."""
        key = (server.ca_file, server.client_cert, server.client_key)
        context = self._made.get(key)
        if context is None:
            context = self._made[key] = _make(server)
        return context

    def forget(self) -> None:
        """Read certificates anew for whoever connects from now on."""
        self._made.clear()


def _make(server: XmppSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.ca_file or None)
    except (OSError, ValueError) as error:
        raise DialError(f"ca_file {server.ca_file} cannot be used: {_reason(error)}", permanent=True) from error
    context.set_alpn_protocols(["xmpp-client"])  # XEP-0368 §4: for those who serve several protocols on one port
    if server.client_cert:
        try:
            # Without a password to give, OpenSSL would ask the terminal for one.
            context.load_cert_chain(server.client_cert, server.client_key or None, password=_no_password)
        except (OSError, ValueError) as error:
            problem = f"client_cert {server.client_cert} cannot be used: {_reason(error)}"
            raise DialError(problem, permanent=True) from error
    return context


def _reason(error: Exception) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)


def _no_password() -> str:
    raise ValueError("its key is encrypted; use one that is not")
