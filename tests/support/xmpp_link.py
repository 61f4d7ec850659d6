"""Our XMPP engine on a real connection: the least a holder of streams has to do, with a list for durable memory.

`Link.kept` and `Link.stanzas` are that memory: what is in them survives `cut`, which is what a SIGKILL leaves of a
process. Everything else of the stream is gone then, and `again` makes a new link from the memory alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from edge.protocol.xmpp.credentials import Account, Credentials, ScramKeys
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.jid import bare
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.sasl import KeysNeeded, derive_keys
from edge.protocol.xmpp.stanza import Stanza, read_stanza
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import (
    AckAsked,
    AuthFailed,
    Connected,
    Fact,
    Resumed,
    StanzaReceived,
    StreamFailed,
    StreamPlan,
    TlsWanted,
)
from edge.protocol.xmpp.stream_management import SavedStream
from tests.support.ports import LOOPBACK
from tests.support.waiting import wait_until
from tests.support.xmpp import DOMAIN, PASSWORD, XmppServer

T = TypeVar("T")


class Link:
    """Connected, or resumed, while its block runs; closed politely behind it unless it was `cut`.

    `acknowledges`: what comes is durable at once. Else it is lost with the process, and the server must send it again.
    """

    def __init__(
        self,
        server: XmppServer,
        number: int,
        resource: str = "edge",
        *,
        domain: str = DOMAIN,
        tls: Tls = Tls.STARTTLS,
        credentials: Credentials | None = None,
        resume: SavedStream | None = None,
        acknowledges: bool = True,
        active: bool = True,
    ) -> None:
        self.server = server
        self.acknowledges = acknowledges
        self.facts: list[Fact] = []
        """All but stanzas, in order."""
        self.stanzas: list[Stanza] = []
        """Durable, oldest first."""
        self.keys: ScramKeys | None = None
        """What SCRAM made of the password."""
        self.kept: SavedStream | None = resume
        self._number, self._resource, self._domain, self._tls = number, resource, domain, tls
        self._credentials = credentials or Account(f"u{number}", PASSWORD)
        self._active = active
        self._durable = resume.received if resume is not None else 0
        self.jid = f"u{number}@{domain}/{resource}"
        self._reading: asyncio.Task[None] | None = None
        self._trouble: BaseException | None = None
        self.stream: XmppStream
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        direct = self._tls is Tls.DIRECT
        self._reader, self._writer = await asyncio.open_connection(
            LOOPBACK,
            self.server.tls_port if direct else self.server.port,
            ssl=self.server.trust() if direct else None,
            server_hostname=self._domain if direct else None,
        )
        plan = StreamPlan(
            self._domain, self._credentials, self._resource, tls=self._tls, resume=self.kept, active=self._active
        )
        self.stream = XmppStream(plan, lambda: secrets.token_urlsafe(18), self._now())
        self.flush()
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: self.stream.live or self.over, f"{self.jid} is connected")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"facts of {self.jid}: {self.facts}")
        if not self.over:
            self.stream.close()
            self.flush()
        await self.cut()

    @property
    def over(self) -> bool:
        return self.stream.over or self._reading is None or self._reading.done()

    def last(self, kind: type[T]) -> T | None:
        """The newest fact of a kind."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, kind)), None)

    @property
    def failure(self) -> AuthFailed | StreamFailed | None:
        return self.last(AuthFailed) or self.last(StreamFailed)

    def send(self, *stanzas: bytes, dies_before_writing: bool = False) -> None:
        """Durable, then sent; or durable, and then the process dies: call `cut` next."""
        self.stream.send(stanzas)
        self._save()
        if dies_before_writing:
            self.stream.take()
        else:
            self.flush()

    async def all_acknowledged(self) -> None:
        def acknowledged() -> bool:
            self._check()
            management = self.stream.management
            assert management is not None
            return not management.waiting

        await wait_until(acknowledged, f"the server has all that {self.jid} sent")

    async def until(self, condition: Callable[[], object], why: str) -> None:
        def met() -> object:
            self._check()
            return condition()

        await wait_until(met, why)

    async def cut(self) -> None:
        """The process is gone: no farewell, nothing more is read or written."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._writer_done()
        self._check()

    async def _writer_done(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.drain(), 5)
        self._writer.transport.abort()

    def again(self, **changes: object) -> Link:
        """Another process, with this one's memory."""
        settings: dict[str, object] = {
            "domain": self._domain, "tls": self._tls, "credentials": self._credentials, "resume": self.kept,
            "active": self._active, **changes,
        }  # fmt: skip
        link = Link(self.server, self._number, self._resource, **settings)  # type: ignore[arg-type]
        link.stanzas = list(self.stanzas)
        return link

    def _check(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65_536):
                await self._happened(self.stream.receive(data, self._now()))
                self.flush()
                if self.stream.over:
                    return
        except OSError:
            pass
        except Exception as error:
            self._trouble = error

    async def _happened(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            match fact:
                case StanzaReceived(element, h, ours):
                    if self.acknowledges:
                        self._keep(element, h, ours)
                    continue
                case TlsWanted():
                    self.flush()
                    await self._writer.start_tls(self.server.trust(), server_hostname=self._domain)
                    self.stream.tls_up()
                case KeysNeeded():
                    assert isinstance(self._credentials, Account)
                    self.keys = derive_keys(self._credentials.password or "", fact)
                    self.stream.use_keys(self.keys)
                case Connected():
                    self.jid, self._durable = fact.jid, 0
                case Resumed() | AckAsked():
                    pass
            self.facts.append(fact)
        if self.stream.management is not None:
            self._save()  # also when the stream ended behind them
            if self.stream.live and any(isinstance(fact, StanzaReceived | AckAsked) for fact in facts):
                self.stream.ack(self._durable)

    def _keep(self, element: Element, h: int, ours: bool) -> None:
        stanza = read_stanza(element, bare(self.jid))
        assert stanza is not None
        if not ours:
            self.stanzas.append(stanza)
        self._durable = h

    def _save(self) -> None:
        self.kept = self.stream.save(self._durable)

    def flush(self) -> None:
        if out := self.stream.take():
            self._writer.write(out)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
