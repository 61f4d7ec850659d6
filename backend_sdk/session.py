"""What a handler gets: one session at one event, and the orders it may give.

Orders are gathered and leave with the answer to the event, in order, together with the state's changes: all of them
take effect or none. After the handler has returned the session takes no more orders; whoever has something to say
later says it through `backend_sdk.publisher`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from backend_sdk import actions
from backend_sdk.actions import Action
from backend_sdk.errors import ActionError, Headers
from backend_sdk.link_orders import ActionIds, OtherLink
from backend_sdk.state import Delta, State
from backend_sdk.values import is_name
from backend_sdk.xmpp_actions import LINK_PREFIX


class Orders:
    """The orders that can be given to any session. All raise `ActionError` for a bad argument, and when the handler
    that got them has returned. `id` is an idempotency key, remembered for 24 h."""

    __slots__ = ("_orders", "_target")

    def __init__(self, orders: list[Action] | None, target: str | None) -> None:
        self._orders = orders
        self._target = target

    def _give(self, action: Action) -> None:
        if self._orders is None:
            raise ActionError(action["type"], "the handler has returned; use AsyncPublisher or Publisher from now on")
        self._orders.append(action)

    def send(self, payload: str | bytes, *, id: str | None = None) -> None:
        """Send one message to the client: str as text, bytes as binary."""
        self._give(actions.send(payload, session=self._target, id=id))

    def send_json(self, value: Any, *, id: str | None = None) -> None:
        """Send `value` as JSON in a text message. Raises TypeError or ValueError when JSON cannot write it."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._give(actions.send(text, session=self._target, id=id))

    def close(self, code: int = 1000, reason: str = "", *, id: str | None = None) -> None:
        """Close the connection behind everything sent before. Codes: 1000, 1008, 1011–1013, 3000–4999."""
        self._give(actions.close(code, reason, session=self._target, id=id))

    def subscribe(self, channel: str, since: tuple[int, str] | None = None, *, id: str | None = None) -> None:
        """Subscribe to `channel`; with `since` (offset, epoch) what was missed comes first."""
        self._give(actions.subscribe(channel, since, session=self._target, id=id))

    def unsubscribe(self, channel: str, *, id: str | None = None) -> None:
        """Leave `channel`."""
        self._give(actions.unsubscribe(channel, session=self._target, id=id))

    def publish(self, channel: str, payload: str | bytes, id: str | None = None, *, except_self: bool = False) -> None:
        """Publish to all subscribers of `channel`, here and on other edges. `id` de-duplicates per channel;
        `except_self`: this session does not get it."""
        self._give(actions.publish(channel, payload, id=id, except_self=except_self, session=self._target))

    def identify(self, user: str | None, *, id: str | None = None) -> None:
        """Say who the user is; None takes it back."""
        self._give(actions.identify(user, session=self._target, id=id))

    def timer(self, name: str, after_ms: int, data: Any = None, *, id: str | None = None) -> None:
        """A durable timer: `on_timer(name)` runs in `after_ms` milliseconds, on whatever backend is there by then."""
        self._give(actions.timer(name, after_ms, data, session=self._target, id=id))

    def cancel_timer(self, name: str, *, id: str | None = None) -> None:
        """Forget the timer of that name."""
        self._give(actions.cancel_timer(name, session=self._target, id=id))

    def pin(self, release: str | None, *, id: str | None = None) -> None:
        """Keep the session on a release (SHA); None: follow the route's policy again."""
        self._give(actions.pin(release, session=self._target, id=id))


class OtherSession(Orders):
    """Another session to give orders to, from `Session.to` or `Link.to`. When it has ended, `on_gone` is told later."""

    __slots__ = ("_pass_on",)

    def __init__(self, give: Callable[[Action], None], target: str) -> None:
        super().__init__(None, target)
        self._pass_on = give

    @property
    def id(self) -> str:
        """Session id."""
        return str(self._target)

    def _give(self, action: Action) -> None:
        self._pass_on(action)


class Session(Orders):
    """The session an event happened to. `user` is who `identify` said; `release` the SHA chosen for the session;
    `version` the version of its state when the event was sent; `shadow`: another release has answered this event, and
    what the handler orders is compared and thrown away, so whatever it does elsewhere is to be left out."""

    __slots__ = ("_answer", "_data", "_new_ids", "_state", "event_id", "id", "release", "shadow", "user", "version")

    def __init__(
        self,
        id: str,
        user: str | None,
        release: str,
        data: dict[str, Any],
        version: int,
        opening: bool,
        event_id: str = "",
    ) -> None:
        self._orders = []
        self._target = None
        self.id = id
        self.user = user
        self.release = release
        self.version = version
        self.shadow = False
        self._data = data
        self._state: State | None = None
        self._new_ids: ActionIds | None = None
        self.event_id = event_id
        self._answer = None if opening else "not an open event"

    def __repr__(self) -> str:
        return f"<Session {self.id} user={self.user!r} release={self.release}>"

    @property
    def state(self) -> State:
        """The session's state, a mutable mapping kept by the edge. Changes leave with the answer."""
        if self._state is None:
            self._state = State(self._data)
        return self._state

    def send(self, payload: str | bytes, *, id: str | None = None) -> None:
        """Send one message to the client: str as text, bytes as binary."""
        # The order given most, without the detour the others take.
        if self._orders is None:
            self._give(actions.send(payload, id=id))  # says that it is too late
        else:
            self._orders.append(actions.send(payload, id=id))

    def identify(self, user: str | None, *, id: str | None = None) -> None:
        """Say who the user is; None takes it back. `session.user` says so at once."""
        super().identify(user, id=id)
        self.user = user

    def accept(self, subprotocol: str | None = None, headers: Headers = ()) -> None:
        """Answer of `open`: complete the handshake with this subprotocol and these headers. Without it, an `open`
        that is not rejected is accepted plainly. It goes first, whatever was ordered before."""
        action = actions.accept(subprotocol, headers)
        self._answer_open(action)

    def reject(self, status: int = 403, text: str = "", headers: Headers = ()) -> None:
        """Answer of `open`: refuse the handshake with `status` 400–599. (Raising `Reject` does it too, and stops.)"""
        self._answer_open(actions.reject(status, text, headers))

    def to(self, session: str) -> OtherSession:
        """The same orders, for another session (by id). Raises `ActionError` when that is no id."""
        if not is_name(session):
            raise ActionError("session", f"must be a session id, not {session!r}")
        return OtherSession(self._give, session)

    def link(self, id: str) -> OtherLink:
        """Orders for the XMPP link of that id (``x:…``). Raises `ActionError` when that is no link's."""
        if self._new_ids is None:
            self._new_ids = ActionIds(self.event_id)
        return OtherLink(self._give, self._new_ids, id)

    @property
    def xmpp(self) -> OtherLink:
        """Orders for the user's own link, ``x:`` and `user`. Raises `ActionError` when nobody is identified."""
        if self.user is None:
            raise ActionError("xmpp", "the session has no user yet (see identify); name the link with session.link")
        return self.link(LINK_PREFIX + self.user)

    def _answer_open(self, action: actions.Accept | actions.Reject) -> None:
        if self._answer is not None:
            raise ActionError(action["type"], f"answers an open event once; here: {self._answer}")
        if self._orders is None:
            self._give(action)  # says that it is too late
            return
        self._answer = f"{action['type']} was ordered before"
        self._orders.insert(0, action)

    def finish(self) -> tuple[list[Action], Delta]:
        """What was ordered and changed; from now on every order raises. Called by `App`."""
        orders, self._orders = self._orders, None
        return orders or [], self._state.finish() if self._state is not None else {}

    def discard(self) -> None:
        """Forget what was ordered; from now on every order raises. Called by `App`."""
        self._orders = None
        if self._state is not None:
            self._state.seal()
