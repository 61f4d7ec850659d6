"""What a handler of an XMPP link's event gets: the link, its state, and the orders it may give.

Orders and changes of state leave with the answer to the event, as a `Session`'s do.
"""

from __future__ import annotations

from typing import Any

from backend_sdk import actions
from backend_sdk.actions import Action
from backend_sdk.errors import ActionError
from backend_sdk.link_orders import ActionIds, LinkOrders, OtherLink
from backend_sdk.session import OtherSession
from backend_sdk.state import Delta, State
from backend_sdk.values import is_name


class Link(LinkOrders):
    """The link an event happened to: orders for itself, and for others by `to` and `link`. `release` is the SHA chosen
    for it, `version` the version of its state when the event was sent; `shadow` as a `Session`'s."""

    __slots__ = ("_data", "_orders", "_state", "release", "shadow", "version")

    def __init__(self, id: str, release: str, data: dict[str, Any], version: int, event_id: str = "") -> None:
        super().__init__(ActionIds(event_id), id, None)
        self._orders: list[Action] | None = []
        self._data = data
        self._state: State | None = None
        self.release = release
        self.version = version
        self.shadow = False

    @property
    def state(self) -> State:
        """The link's state, a mutable mapping kept by the edge. Changes leave with the answer."""
        if self._state is None:
            self._state = State(self._data)
        return self._state

    def publish(self, channel: str, payload: str | bytes, id: str | None = None) -> None:
        """Publish to all subscribers of `channel`, on every edge. `id` de-duplicates per channel."""
        self._give(actions.publish(channel, payload, id=id))

    def pin(self, release: str | None, *, id: str | None = None) -> None:
        """Keep the link on a release (SHA); None: follow its route's policy again."""
        self._give(actions.pin(release, id=id))

    def attach(self, client: str | None = None, *, id: str | None = None) -> None:
        """This client's session uses the link; it has to be named, as the event is not a client's."""
        super().attach(_named(client), id=id)

    def detach(self, client: str | None = None, *, id: str | None = None) -> None:
        """This client's session does not use the link any more; it has to be named, as the event is not a client's."""
        super().detach(_named(client), id=id)

    def to(self, session: str) -> OtherSession:
        """Orders for a client's session, by id. Raises `ActionError` when that is no id."""
        if not is_name(session):
            raise ActionError("session", f"must be a session id, not {session!r}")
        return OtherSession(self._give, session)

    def link(self, id: str) -> OtherLink:
        """Orders for another link. Raises `ActionError` when that is no link's id."""
        return OtherLink(self._give, self._ids, id)

    def _give(self, action: Action) -> None:
        if self._orders is None:
            raise ActionError(action["type"], "the handler has returned; use AsyncPublisher or Publisher from now on")
        self._orders.append(action)

    def finish(self) -> tuple[list[Action], Delta]:
        """What was ordered and changed; from now on every order raises. Called by `App`."""
        orders, self._orders = self._orders, None
        return orders or [], self._state.finish() if self._state is not None else {}

    def discard(self) -> None:
        """Forget what was ordered; from now on every order raises. Called by `App`."""
        self._orders = None
        if self._state is not None:
            self._state.seal()


def _named(client: str | None) -> str:
    if client is None:
        raise ActionError("client", "must name a client's session: the event is the link's own")
    return client
