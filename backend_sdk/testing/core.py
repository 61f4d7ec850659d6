"""The test edge itself: sessions with their queues, requests in batches, and what actions bring about."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from backend_sdk.errors import Unavailable
from backend_sdk.events import Position
from backend_sdk.testing.caller import Answer, Caller
from backend_sdk.testing.channels import Channel
from backend_sdk.testing.links import LinkRecord
from backend_sdk.testing.outage import STAYED_AWAY, needs_store
from backend_sdk.testing.records import BackendFailed, ClientRecord, Closed, Rejected, SessionRecord, Waiting

C = TypeVar("C", bound=ClientRecord)
L = TypeVar("L", bound=LinkRecord)

EDGE_ID = "test-edge"

_REFUSALS = 10
"""A real edge would go on asking, once a `store_wait_s`; a test wants to know."""


class Core(Generic[C, L]):
    """What `TestEdge` and `SyncTestEdge` share. `make` builds a client's record from its id and release, `make_link` a
    link's from its id, address and release."""

    def __init__(
        self,
        caller: Caller,
        make: Callable[[str, str], C],
        make_link: Callable[[str, str, str], L],
        release: str,
        history: int,
        attempts: int,
    ) -> None:
        self.release = release
        self.now_ms = 1_790_000_000_000
        self.clients: dict[str, C] = {}
        self.links: dict[str, L] = {}
        self.gone: list[str] = []
        self.lost_answers = 0
        self.holding = False
        self.store_away = False
        self._caller = caller
        self._make = make
        self._make_link = make_link
        self._history = history
        self._attempts = attempts
        self._channels: dict[str, Channel] = {}
        self._used_ids: set[str] = set()
        self._timers_set = 0
        # Session ids never come again, as on a real edge: an app that outlives this test edge remembers event ids.
        self._life = secrets.token_hex(4)

    # What happens to clients ---------------------------------------------------------------------------------------

    async def connect(self, request: Mapping[str, Any], transport: str) -> C:
        """A handshake. Raises `Rejected`."""
        client = self._make(f"s{len(self.clients) + 1}.{self._life}", self.release)
        self.clients[client.id] = client
        client.happened("open", self.now_ms, request=dict(request), transport=transport)
        await self.flush(even_if_holding=True)
        if client.rejected is not None:
            raise client.rejected
        return client

    async def message(self, client: ClientRecord, payload: str | bytes) -> None:
        """The client sends a message."""
        if not client.live:
            raise ConnectionError(f"{client.id} is closed: {client.closed}")
        field = "text" if isinstance(payload, str) else "data"
        client.happened("message", self.now_ms, **{field: payload})
        await self.flush()

    async def end(self, client: ClientRecord, closed: Closed, *, clean: bool, cause: str) -> None:
        """The connection ends from the client's side."""
        client.end(closed, self.now_ms, clean=clean, cause=cause)
        await self.flush()

    async def happen(self, link: LinkRecord, type: str, fields: Mapping[str, Any]) -> None:
        """Something comes from a link's far end."""
        if not link.live:
            raise ConnectionError(f"the link {link.id} has ended")
        link.happened(type, self.now_ms, **fields)
        await self.flush()

    async def advance(self, ms: int) -> None:
        """Let time pass, stopping at each timer that is due on the way."""
        until = self.now_ms + ms
        while True:
            due = [
                (timer.due, timer.order, client, timer)
                for client in self.clients.values()
                for timer in client.timers.values()
                if timer.due <= until
            ]
            if not due:
                break
            _, _, client, timer = min(due, key=lambda each: each[:2])
            self.now_ms = max(self.now_ms, timer.due)
            del client.timers[timer.name]
            client.happened("timer", self.now_ms, name=timer.name, data=timer.data)
            await self.flush()
        self.now_ms = until

    async def promote(self, release: str) -> None:
        """All sessions that are not pinned go over to `release`."""
        self.release = release
        for session in self._sessions():
            if session.live and session.pinned is None and session.release != release:
                self._move(session, release)
        await self.flush()

    def publish(self, channel: str, payload: str | bytes, id: str | None, sender: str | None) -> bool:
        """Publish to subscribers; False for a repeat. Raises `Unavailable` while the store is away."""
        if self.store_away:
            raise Unavailable(503, "store_unavailable", "Redis is away; try again")
        if not self.channel(channel).accept(payload, id):
            return False
        for client in self.clients.values():
            if channel in client.channels and client.id != sender:
                client.received.append(payload)
        return True

    def channel(self, name: str) -> Channel:
        """The channel of that name, made when first named."""
        if name not in self._channels:
            self._channels[name] = Channel(f"epoch-{len(self._channels) + 1}", self._history)
        return self._channels[name]

    def link(self, id: str, jid: str | None) -> L:
        """The link of that id; with `jid` made when there is none. Raises LookupError."""
        if id in self.links:
            return self.links[id]
        if jid is None:
            raise LookupError(f"nobody has connected {id}; give its jid to begin with a link that is there")
        link = self.links[id] = self._make_link(id, jid, self.release)
        return link

    def _sessions(self) -> list[SessionRecord]:
        return [*self.clients.values(), *self.links.values()]

    def _session(self, id: str) -> SessionRecord | None:
        return self.clients.get(id) or self.links.get(id)

    # To the backend and back ---------------------------------------------------------------------------------------

    async def flush(self, *, even_if_holding: bool = False) -> None:
        """Send what is queued, all sessions in one request, (one a release) until nothing is.
        Raises `BackendFailed`."""
        while not self.holding or even_if_holding:
            queued = [session for session in self._sessions() if session.queue]
            if not queued:
                return  # gone sessions ride along with the next events
            release = queued[0].release
            queued = [session for session in queued if session.release == release]
            taken = {session.id: list(session.queue) for session in queued}
            answer = await self._caller.post(self._body(queued), release)
            if self.lost_answers:
                self.lost_answers -= 1
                self._again(taken, answer, final=False)
                continue
            if 400 <= answer.status < 500:
                self._verdict(queued, answer)
                continue
            results = {result["id"]: result for result in answer.results}
            for session in queued:
                while session.queue and session.queue[0]["id"] in results:
                    event = session.queue.popleft()
                    self._apply(session, event, results[event["id"]])
            self._again(taken, answer, final=True)

    def _body(self, queued: Sequence[SessionRecord]) -> dict[str, Any]:
        events = []
        for session in queued:
            shared = {"session": session.id, "release": session.release, "user": session.user}
            events += [{**event, **shared} for event in session.queue]
            events[-len(session.queue)] |= {"state": session.state, "version": session.version}
        body: dict[str, Any] = {"edge": EDGE_ID, "events": events}
        if self.gone:
            body["gone"], self.gone = self.gone, []
        return body

    def _again(self, taken: Mapping[str, Sequence[dict[str, Any]]], answer: Answer, *, final: bool) -> None:
        """Count the attempt of events that have no answer; give up on them past the last."""
        for id, events in taken.items():
            queue = (self.clients[id] if id in self.clients else self.links[id]).queue
            for event in events:
                if event not in queue:
                    continue
                event["attempt"] += 1
                if final and event["attempt"] > self._attempts:
                    queue.clear()
                    reason = answer.text or "left out of the answer"
                    failed = BackendFailed(f"{event['type']} event {event['id']}: status {answer.status}, {reason}")
                    raise failed from (answer.errors[0] if answer.errors else None)

    def _verdict(self, queued: Sequence[SessionRecord], answer: Answer) -> None:
        """Another 4xx is final: an `open` is refused with it; for anything else the test should know."""
        opening = [each for each in queued if isinstance(each, ClientRecord) and each.queue[0]["type"] == "open"]
        for session in queued:
            session.queue.clear()
        if len(opening) < len(queued):
            raise BackendFailed(f"the backend answered {answer.status}: {answer.text}")
        for client in opening:
            client.rejected = Rejected(answer.status, answer.text)

    # What actions bring about --------------------------------------------------------------------------------------

    def _apply(self, session: SessionRecord, event: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        actions: list[dict[str, Any]] = list(result.get("actions", ()))
        session.actions += actions
        session.last_actions = actions
        if self.store_away and needs_store(session, event, result):
            self._refuse(session, event, f"nothing of it was done: {STAYED_AWAY}")
            return
        state = result.get("state", {})
        if state:
            session.state = {**session.state, **state.get("set", {})}
            for key in state.get("unset", ()):
                session.state.pop(key, None)
            session.version += 1
        if isinstance(session, ClientRecord) and not any(action["type"] == "reject" for action in actions):
            session.accepted = True
        failures = [failure for action in actions if (failure := self._act(session, action))]
        if failures:
            self._refuse(session, event, failures[0])

    def _refuse(self, session: SessionRecord, event: Mapping[str, Any], error: str) -> None:
        """The answer to `event` could not be carried out whole: say so, as long as there is somebody to tell."""
        if isinstance(session, ClientRecord) and event["type"] == "open" and not session.accepted:
            session.rejected = Rejected(503, "session store unavailable", (("Retry-After", "5"),))
        elif session.live:
            session.refusals = session.refusals + 1 if event["type"] == "refused" else 0
            if session.refusals >= _REFUSALS:
                raise BackendFailed(f"answers to `refused` events were refused again {_REFUSALS} times: {error}")
            session.happened("refused", self.now_ms, of=event["id"], error=error)

    def _act(self, client: SessionRecord, action: Mapping[str, Any]) -> str:
        """Carry out one action. What could not be done, or nothing."""
        target = self._session(action["session"]) if "session" in action else client
        kind = action["type"]
        if kind == "publish":
            if self.store_away:
                return f"publish to {action['channel']!r}: {STAYED_AWAY}"
            sender = action.get("session", client.id) if action.get("except_self") else None
            self.publish(action["channel"], _payload(action), action.get("id"), sender)
            return ""
        beginning = kind == "xmpp.connect" and (target is None or not target.live)
        if not beginning and (target is None or not target.live):
            if target is not client:
                self.gone.append(action["session"])
            return ""
        if (
            self.store_away
            and target is not client
            and (target is None or needs_store(target, {}, {"actions": [action]}))
        ):
            return ""  # an order for another session; the edge logs it and tells nobody
        if "id" in action:
            if action["id"] in self._used_ids:
                return ""
            self._used_ids.add(action["id"])
        if kind.startswith("xmpp."):
            self._order_link(client, target, action, beginning)
        elif isinstance(target, LinkRecord) and kind != "pin":
            raise BackendFailed(f"{kind} is nothing that the link {target.id} could do")
        else:
            getattr(self, f"_do_{kind}")(target, action)
        return ""

    def _order_link(
        self, actor: SessionRecord, target: SessionRecord | None, action: Mapping[str, Any], beginning: bool
    ) -> None:
        id = action.get("session", actor.id)
        if beginning:
            target = self.links[id] = self._make_link(id, action["jid"], self.release)
        if not isinstance(target, LinkRecord):
            raise BackendFailed(f"{action['type']} is for links, and {id} is none")
        client = actor.id if isinstance(actor, ClientRecord) else None
        target.obey(action, client, self.now_ms, new=beginning)

    def _do_accept(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        client.subprotocol = action.get("subprotocol")
        client.headers = [(name, value) for name, value in action.get("headers", ())]

    def _do_reject(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        headers = tuple((name, value) for name, value in action.get("headers", ()))
        client.rejected = Rejected(action.get("status", 403), action.get("text", ""), headers)

    def _do_send(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        client.received.append(_payload(action))

    def _do_close(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        closed = Closed(action.get("code", 1000), action.get("reason", ""))
        client.end(closed, self.now_ms, clean=True, cause="backend")

    def _do_subscribe(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        name = action["channel"]
        client.channels.add(name)
        if action.get("since") is None:
            return
        channel = self.channel(name)
        missed = None if self.store_away else channel.after(Position(**action["since"]))
        if missed is None:
            place = (Position(0, "") if self.store_away else channel.position)._asdict()
            client.happened("gap", self.now_ms, channel=name, since=dict(action["since"]), position=place)
        else:
            client.received += missed

    def _do_unsubscribe(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        client.channels.discard(action["channel"])

    def _do_identify(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        client.user = action["user"]

    def _do_timer(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        self._timers_set += 1
        due = self.now_ms + action["after_ms"]
        client.timers[action["name"]] = Waiting(due, self._timers_set, action["name"], action.get("data"))

    def _do_cancel_timer(self, client: ClientRecord, action: Mapping[str, Any]) -> None:
        client.timers.pop(action["name"], None)

    def _do_pin(self, session: SessionRecord, action: Mapping[str, Any]) -> None:
        session.pinned = action["release"]
        wanted = self.release if session.pinned is None else session.pinned
        if wanted != session.release:
            self._move(session, wanted)

    def _move(self, session: SessionRecord, release: str) -> None:
        old, session.release = session.release, release
        session.happened("release", self.now_ms, **{"from": old, "to": release})


def _payload(action: Mapping[str, Any]) -> str | bytes:
    payload: str | bytes = action["text"] if "text" in action else action["data"]
    return payload
