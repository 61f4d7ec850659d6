"""The other end of XMPP sessions: an external component (XEP-0114), one connection for as many contacts as one likes.

It talks to sessions in turn at a steady rate, and keeps what they say to it; on a thread of its own, so that it goes
on while a case kills what holds the sessions.
"""

from __future__ import annotations

import hashlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from xml.parsers import expat

from benchmarks.load.wire import LoadError

_STREAM = "http://etherx.jabber.org/streams"
_TICK_S = 0.01
_AT_ONCE = 20
MESSAGE = "What contacts say: sixty-four bytes of ordinary text, no more..."


class Component:
    """Connected while its block runs. Raises LoadError when the server does not want it."""

    def __init__(self, port: int, domain: str, secret: str) -> None:
        self.heard: Counter[str] = Counter()
        """Bodies of messages to it."""
        self.arrived = 0
        """How many messages that were."""
        self.said: list[str] = []
        """Bodies of its own."""
        self._domain = domain
        self._secret = secret
        self._names: list[str] = []
        self._body = ""
        self._stream_id = ""
        self._trusted = False
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._begins
        self._parser.EndElementHandler = self._ends
        self._parser.CharacterDataHandler = self._text
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._to: Sequence[str] = ()
        self._per_s, self._left, self._since, self._spoken = 0.0, 0, 0.0, 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._send(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='{_STREAM}' to='{self._domain}'>")
            while not self._stream_id:
                self._read()
            self._send(f"<handshake>{hashlib.sha1((self._stream_id + self._secret).encode()).hexdigest()}</handshake>")
            while not self._trusted:
                self._read()
        except (OSError, expat.ExpatError) as error:
            self._socket.close()
            raise LoadError(f"the XMPP server does not take the component: {error!r}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def talk(self, to: Sequence[str], per_s: float, count: int = 1_000_000_000) -> None:
        """From now on say something to one address after the other, again and again, `count` times at most."""
        with self._lock:
            self._to, self._per_s, self._left, self._since, self._spoken = to, per_s, count, time.monotonic(), 0

    def hush(self) -> None:
        """Say no more: `said` is all there is. Raises LoadError when the connection was lost."""
        with self._lock:
            self._left = 0
        self.check()

    def check(self) -> None:
        """Raises LoadError when the connection was lost."""
        if self._trouble is not None:
            raise LoadError(f"the component's connection: {self._trouble!r}")

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                more = self._say_what_is_due()
                if select.select([self._socket], [], [], 0 if more else _TICK_S)[0]:
                    self._read()
        except Exception as error:  # told to whoever asks
            self._trouble = error

    def _say_what_is_due(self) -> bool:
        """True when there is more: what comes is read in between."""
        with self._lock:
            due = min((time.monotonic() - self._since) * self._per_s - self._spoken, self._left)
            for _ in range(int(min(due, _AT_ONCE))):
                body = f"{len(self.said)} {MESSAGE}"
                to = self._to[len(self.said) % len(self._to)]
                self._send(
                    f"<message from='contact@{self._domain}' to='{to}' type='chat'><body>{body}</body></message>"
                )
                self.said.append(body)
                self._left -= 1
                self._spoken += 1
        return due > _AT_ONCE

    def _send(self, xml: str) -> None:
        self._socket.sendall(xml.encode())

    def _read(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("closed by the server")
        self._parser.Parse(data, False)

    def _begins(self, name: str, attributes: dict[str, str]) -> None:
        self._names.append(name)
        if len(self._names) == 1:
            self._stream_id = attributes.get("id", "")
        elif self._names[1:] == ["handshake"]:
            self._trusted = True
        elif self._names[1:] == ["message", "body"]:
            self._body = ""

    def _ends(self, name: str) -> None:
        if self._names[1:] == ["message", "body"]:
            self.heard[self._body] += 1
            self.arrived += 1
        self._names.pop()

    def _text(self, text: str) -> None:
        if self._names[-1:] == ["body"]:
            self._body += text
