"""The client's side of TLS on one connection, without the connection: bytes in, bytes out.

Owns what OpenSSL keeps for a link, and how little that is. The loop's own TLS has a read buffer of 64 KiB for each
connection, and a `MemoryBIO` stays as large as the largest piece that was ever put into it. Here OpenSSL takes what
comes, and what goes, in pieces of `PIECE_BYTES`, and each is out of its BIO before the next one goes in.

Measured with OpenSSL 3.0 and uvloop, KiB for each link, of which 24 are OpenSSL's own:

| the server has sent | the loop's TLS | this |
|---|---|---|
| 600 bytes | 33 | 26 |
| the same, and two tickets (TLS 1.3) | 48 | 38 |
| 8 KB at once | 45 | 27 |
| 100 KB at once | 234 | 28 |

Pieces of 1,024 bytes save 2 KiB more and read long messages at half the speed; 4,096 take 2 KiB more.

Sockets, deadlines and what is said to people belong to `edge.links.connection`.
"""

from __future__ import annotations

import contextlib
import ssl

PIECE_BYTES = 2_048
"""Most that is in a BIO at a time, but for what a handshake says. A stanza is one piece."""
RECORD_BYTES = 16_384
"""Most that a record says (RFC 8446 §5.1)."""


class TlsLayer:
    """One connection's. First of all, `send` has the handshake's first flight.

    Nothing is raised: what goes wrong is in `failure`, and what was heard before it is returned all the same. Then, as
    after the server's close_notify, it is `over`.
    """

    __slots__ = ("_incoming", "_object", "_out", "_outgoing", "_unsaid", "failure", "over", "up")

    def __init__(self, context: ssl.SSLContext, domain: str) -> None:
        """Raises ValueError for a `domain` that no certificate can be for."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=domain)
        self._out: list[bytes] = []
        self._unsaid = b""
        """To be sent when OpenSSL takes it: after the handshake, or the server's next one (TLS 1.2)."""
        self.up = False
        """The handshake is done, and the server's certificate is right."""
        self.over = False
        """Nothing more is heard or said."""
        self.failure: ssl.SSLError | None = None
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Bytes came; what they say. `send` has what is to be written because of them."""
        heard: list[bytes] = []
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            self._incoming.write(view[at : at + PIECE_BYTES])
            if not self.up:
                self._shake_hands()
            if self.up:
                self._read(heard)
            if self.over:
                break
        return b"".join(heard)

    def send(self, data: bytes = b"") -> bytes:
        """What to write now to say `data`, behind what TLS itself has to say."""
        if not self.over:
            self._unsaid += data
            if self._unsaid and self.up:
                self._write()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def close(self) -> bytes:
        """What to write to end it: a close_notify, if there is anything to end. Also an answer to the server's."""
        out = self.send()
        self.over = True
        if self.up and self.failure is None:
            with contextlib.suppress(ssl.SSLError):  # the server's close_notify is not waited for
                self._object.unwrap()
            out += self._outgoing.read()
        return out

    # -- inside

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
            self.up = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        self._drain()

    def _read(self, heard: list[bytes]) -> None:
        """All that is there. OpenSSL may want to write while it reads: it answers key updates, and a handshake."""
        try:
            while self._incoming.pending or self._object.pending():
                piece = self._object.read(RECORD_BYTES)
                if not piece:  # close_notify
                    self.over = True
                    break
                heard.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        self._drain()

    def _write(self) -> None:
        unsaid, at = memoryview(self._unsaid), 0
        try:
            while at < len(unsaid) and not self.over:
                at += self._object.write(unsaid[at : at + PIECE_BYTES])
                self._drain()
        except ssl.SSLWantReadError:  # the server wants another handshake first
            self._drain()
        except ssl.SSLError as error:
            self._fail(error)
            self._drain()
        self._unsaid = bytes(unsaid[at:])

    def _fail(self, error: ssl.SSLError) -> None:
        self.failure = error
        self.over = True

    def _drain(self) -> None:
        if self._outgoing.pending:
            self._out.append(self._outgoing.read())
