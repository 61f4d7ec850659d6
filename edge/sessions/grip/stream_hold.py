"""A response whose body goes on (HTTP streaming, SSE): publications are appended, and answers of its next link."""

from __future__ import annotations

import logging

from edge.model.grip_hold import Plan, Verdict, flaw_of, keep_alive_ms, plan_of
from edge.model.grip_links import idle_due_ms, link_key, resolve
from edge.protocol.grip.instruct import Instruct, KeepAlive, Link
from edge.protocol.grip.items import Item
from edge.sessions.grip.hold import Guest, Hold
from edge.sessions.grip.links import Fetch, LinkReader
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.grip")


class StreamHold(Hold, LinkReader):
    """Begins behind the first body. Between holds it may follow several links in a row."""

    kind = "stream"

    __slots__ = (
        "_congested",
        "_fetch",
        "_keep_alive",
        "_keep_alive_ms",
        "_link",
        "_link_alarm",
        "_link_due_ms",
        "_now_ms",
        "_quiet_alarm",
        "_uri",
        "_wants_link",
        "_written_ms",
    )

    def __init__(self, guest: Guest, instruct: Instruct) -> None:
        super().__init__(guest, instruct)
        self._uri = guest.uri
        self._link: Link | None = None
        self._fetch: Fetch | None = None
        self._keep_alive: KeepAlive | None = None
        self._quiet_alarm: Alarm | None = None
        self._keep_alive_ms = 0
        self._written_ms = 0
        self._now_ms = guest.services.clock.monotonic_ms
        self._link_alarm: Alarm | None = None
        self._link_due_ms = 0
        self._congested = False
        self._wants_link = False
        self._follow(instruct)

    # The exchange's side.

    def congested(self, yes: bool) -> None:
        """The client is behind with taking its body; or, False, has taken it."""
        self._congested = yes
        if self._fetch is not None:
            self._fetch.congested(self, yes)
        elif self._wants_link and not yes:
            self._request_link(spread=False)

    def client_gone(self) -> None:
        self._finish()

    def leave(self) -> None:
        """End the body, so that the client comes again."""
        self._end()

    # LinkReader.

    def link_body(self, data: bytes) -> None:
        self._write(data)

    def link_ended(self, instruct: Instruct) -> None:
        self._fetch = None
        if self._link is not None:
            self._uri = self._resolved(self._link) or self._uri
        self._follow(instruct)

    def link_failed(self, phrase: str) -> None:
        self._fetch = None
        self._fail(phrase)

    def link_cut(self) -> None:
        _log.info("route %s: %s is too slow for an answer it shares with others", self.route,
                  self._guest.request.client)  # fmt: skip
        self._guest.client.abort()
        self._finish()

    # Hold.

    def _act(self, item: Item) -> None:
        stream = item.stream
        if stream is None:
            return
        action = stream.action
        if action == "send":
            self._write(stream.content)
            if self._link is not None and self._places.all_active(item.channel):
                self._expect_activity(self._link)
        elif action == "hint":
            self._queue.clear()
            self._ask(spread=False)
        else:
            self._end()

    def _ask(self, *, spread: bool) -> None:
        if self._link is not None:
            self._asking = True
            self._request_link(spread=spread)

    @property
    def _sent(self) -> bool:
        return self._fetch is not None and self._fetch.sent

    def _fail(self, phrase: str) -> None:
        if self._guest.route.settings.grip.debug:
            self._guest.client.write(f"\n\n{phrase}\n".encode())
        self._end()

    # Inside: instructions.

    def _follow(self, instruct: Instruct) -> None:
        """An answer has been written whole: do what it asks for next."""
        self._link = instruct.next
        match plan_of(instruct):
            case Plan.STREAM:
                self._hold(instruct)
            case Plan.CHAIN:
                self._asking = True
                # A chain ends when its backend says so; one that writes nothing must not turn at full speed.
                self._request_link(spread=True)
            case _:
                self._end()

    def _hold(self, instruct: Instruct) -> None:
        flaw = flaw_of(instruct)
        if flaw is not None:
            self._guest.blame("a stream ends after its first body", flaw)
            self._fail(flaw)
            return
        self._keep_alive = instruct.keep_alive
        self._set_keep_alive()
        self._adopt(instruct)
        self._drop_unfitting()
        if self._link is not None:
            self._expect_activity(self._link)
        self._answered()

    def _drop_unfitting(self) -> None:
        """What waited may be in the answer already: begin with what follows it."""
        queue = self._queue
        while queue and not (queue[0][0].channel in self._places and self._places.judge(queue[0][0]) is Verdict.TAKE):
            queue.popleft()

    # Inside: links.

    def _resolved(self, link: Link) -> str | None:
        return resolve(self._uri, link.uri)

    def _request_link(self, *, spread: bool) -> None:
        assert self._link is not None
        if self._congested:
            # The answer would wait in our memory: fetch it when there is room for it.
            self._wants_link = True
            return
        self._wants_link = False
        self._cancel_link_alarm()
        uri = self._resolved(self._link)
        if uri is None:
            self._fail(f"a next link leads nowhere: {self._link.uri}")
            return
        guest = self._guest
        self._fetch = guest.services.links.fetch(
            self, guest.route, guest.uri, uri, self._places.last_ids(), spread=spread
        )

    def _expect_activity(self, link: Link) -> None:
        """From now on: when not all channels are active for the link's timeout, it is followed."""
        services = self._guest.services
        key = link_key(self.route, self._resolved(link) or "", ())
        self._link_due_ms = idle_due_ms(services.clock.monotonic_ms(), link.timeout_s, key)
        if self._link_alarm is None or not self._link_alarm.pending:
            self._link_alarm = services.wheel.at(self._link_due_ms, self._link_rang)

    def _link_rang(self) -> None:
        services = self._guest.services
        if services.clock.monotonic_ms() < self._link_due_ms:
            self._link_alarm = services.wheel.at(self._link_due_ms, self._link_rang)
        elif not self._asking:
            self._ask(spread=True)

    # Inside: the body.

    def _write(self, data: bytes) -> None:
        if data:
            self._guest.client.write(data)
            if self._keep_alive is not None:
                self._written_ms = self._now_ms()

    def _set_keep_alive(self) -> None:
        """The alarm does not move with what is written: when it rings, it sees whether there was silence."""
        keep_alive = self._keep_alive
        if keep_alive is None:
            self._cancel_quiet_alarm()
        elif self._quiet_alarm is None or keep_alive.idle:
            self._cancel_quiet_alarm()
            self._await_quiet(keep_alive, self._now_ms())

    def _await_quiet(self, keep_alive: KeepAlive, since_ms: int) -> None:
        services = self._guest.services
        self._keep_alive_ms = keep_alive_ms(keep_alive.timeout_s, services.random())
        self._quiet_alarm = services.wheel.at(since_ms + self._keep_alive_ms, self._quiet)

    def _quiet(self) -> None:
        keep_alive = self._keep_alive
        assert keep_alive is not None
        now_ms = self._now_ms()
        due_ms = self._written_ms + self._keep_alive_ms
        if keep_alive.idle and now_ms < due_ms:
            self._quiet_alarm = self._guest.services.wheel.at(due_ms, self._quiet)
            return
        if not self._congested:
            self._guest.client.write(keep_alive.content)
        self._await_quiet(keep_alive, now_ms)

    def _end(self) -> None:
        self._guest.client.end()
        self._finish()

    def _cancel_link_alarm(self) -> None:
        if self._link_alarm is not None:
            self._link_alarm.cancel()
            self._link_alarm = None

    def _cancel_quiet_alarm(self) -> None:
        if self._quiet_alarm is not None:
            self._quiet_alarm.cancel()
            self._quiet_alarm = None

    def _release(self) -> None:
        self._cancel_link_alarm()
        self._cancel_quiet_alarm()
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.leave(self)
        super()._release()
