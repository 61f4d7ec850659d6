"""Our external component on a real connection, with a list for durable memory; `xmpp_link` for components.

`Component.stanzas` and what `again` takes over of the stream's counts are that memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from edge.protocol.xmpp.component import ComponentStream
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.senders import ComponentSender
from edge.protocol.xmpp.stanza import Message, Stanza, read_stanza
from edge.protocol.xmpp.stream_facts import ComponentPlan, Fact, StanzaReceived
from tests.support.ports import LOOPBACK
from tests.support.waiting import wait_until
from tests.support.xmpp import COMPONENT_DOMAIN, SECRET, XmppServer

T = TypeVar("T")


class Component:
    """Connected while its block runs, if the server lets it in; closed politely behind it unless it was `cut`."""

    def __init__(
        self,
        server: XmppServer,
        *,
        domain: str = COMPONENT_DOMAIN,
        secret: str = SECRET,
        unacked: Sequence[bytes] = (),
        ack_from: str = "",
        answer_s: float = 30.0,
    ) -> None:
        self.server = server
        self.plan = ComponentPlan(domain, secret, unacked, ack_from=ack_from, answer_s=answer_s)
        self.sender = ComponentSender(domain)
        self.facts: list[Fact] = []
        """All but stanzas, in order."""
        self.elements: list[Element] = []
        """Those, in order."""
        self.stream: ComponentStream
        self._running: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self.server.component_port)
        self.stream = ComponentStream(self.plan, self._now())
        self._flush()
        self._running = asyncio.create_task(self._run())
        await self.until(lambda: self.stream.live or self.over, "the component is connected")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"facts of the component: {self.facts}")
        if not self.over:
            self.stream.close()
            self._flush()
        await self.cut()

    @property
    def over(self) -> bool:
        """The stream has ended, or the connection."""
        return self.stream.over or self._running is None or self._running.done()

    @property
    def stanzas(self) -> list[Stanza]:
        read = (read_stanza(element, self.plan.domain) for element in self.elements)
        return [stanza for stanza in read if stanza is not None]

    @property
    def bodies(self) -> list[str]:
        return [each.body for each in self.stanzas if isinstance(each, Message) and each.body is not None]

    @property
    def unacked(self) -> tuple[bytes, ...]:
        """What no server is known to have handled."""
        management = self.stream.management if self._running is not None else None
        return tuple(self.plan.unacked) if management is None else management.unacked

    def last(self, kind: type[T]) -> T | None:
        """The newest fact of a kind."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, kind)), None)

    def send(self, *stanzas: bytes, dies_before_writing: bool = False) -> None:
        """Durable, then sent; or durable, and then the process dies: call `cut` next."""
        self.stream.send(stanzas)
        if dies_before_writing:
            self.stream.take()
        else:
            self._flush()
        self._changed.set()

    async def all_acknowledged(self) -> None:
        await self.until(lambda: not self.unacked, "the server has handled all that was sent")

    async def until(self, condition: Callable[[], object], why: str) -> None:
        def met() -> object:
            if self._running is not None and self._running.done() and not self._running.cancelled():
                self._running.result()
            return condition()

        await wait_until(met, why)

    async def cut(self) -> None:
        """The process is gone: no farewell, nothing more is read or written."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.drain(), 5)
        self._writer.transport.abort()

    def again(self) -> Component:
        """Another process, with this one's memory."""
        return Component(self.server, unacked=self.unacked, ack_from=self.plan.ack_from, answer_s=self.plan.answer_s)

    async def _run(self) -> None:
        """Read, and wake the stream when it wants it."""
        reading = asyncio.create_task(self._reader.read(65_536))
        try:
            while not self.stream.over:
                self._changed.clear()
                wakes = self.stream.wake_at()
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait(
                    [reading, changed],
                    timeout=None if wakes is None else max(wakes - self._now(), 0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                changed.cancel()
                if reading.done():
                    data = reading.result()
                    if not data:
                        return
                    self._happened(self.stream.receive(data, self._now()))
                    reading = asyncio.create_task(self._reader.read(65_536))
                self._happened(self.stream.wake(self._now()))
                self._flush()
        except OSError:
            pass
        finally:
            reading.cancel()

    def _happened(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, StanzaReceived):
                self.elements.append(fact.element)
                if self.stream.live:
                    self.stream.ack(fact.h)
            else:
                self.facts.append(fact)

    def _flush(self) -> None:
        if out := self.stream.take():
            self._writer.write(out)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
