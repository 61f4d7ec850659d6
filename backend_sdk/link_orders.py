"""The orders that can be given to an XMPP link, by whoever handles an event: of the link, or of a client's session."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from backend_sdk import xmpp_actions
from backend_sdk.actions import Action
from backend_sdk.errors import ActionError
from backend_sdk.xmpp_actions import (
    ALL_COALESCED,
    ALL_STANZAS,
    ChatState,
    Coalesced,
    ErrorType,
    IqType,
    MessageType,
    PresenceType,
    Receipt,
    Show,
    StanzaName,
    check_link,
)
from backend_sdk.xmpp_auth import ScramKeys
from backend_sdk.xmpp_events import NAME_MARK, XmppIq

_NAME_CHARS = 200  # an action id has 255, and there must be room for the rest of it
_SPACE = uuid.UUID("6f1cbb6c-5d0e-4f0c-9d8e-2f6f1c5a4b1e")


class ActionIds:
    """New ids for actions of one event. An event that is handled again gives the same ids in the same order, so that
    what it asks is not asked twice. Without an `event_id` they are random."""

    __slots__ = ("_count", "_event_id")

    def __init__(self, event_id: str) -> None:
        self._event_id = event_id
        self._count = 0

    def new(self) -> str:
        """The next one."""
        self._count += 1
        return str(uuid.uuid5(_SPACE, f"{self._event_id} {self._count}") if self._event_id else uuid.uuid4())


class LinkOrders:
    """The orders that can be given to any link.

    All raise `ActionError` for a bad argument, and when the handler that got them has returned. `id` is an idempotency
    key, remembered for 24 h. XML and addresses are judged by the edge: an `XmppSendFailed` tells of bad ones.
    """

    __slots__ = ("_ids", "_target", "id")

    def __init__(self, ids: ActionIds, id: str, target: str | None) -> None:
        self._ids = ids
        self._target = target
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def _give(self, action: Action) -> None:
        raise NotImplementedError

    def connect(
        self,
        jid: str,
        *,
        password: str | None = None,
        scram: ScramKeys | None = None,
        token: str | None = None,
        external: bool = False,
        callback: bool = False,
        username: str | None = None,
        resource: str = "",
        roster: bool = False,
        presence: str | None = None,
        carbons: bool = True,
        stanzas: Sequence[StanzaName] = ALL_STANZAS,
        coalesce: Sequence[Coalesced] = ALL_COALESCED,
        attach: Sequence[str] | None = None,
        keep_after_detach_s: float = 300,
        sent: bool = False,
        detached: bool = False,
        id: str | None = None,
    ) -> None:
        """Begin the link, unless it is there already (then an `XmppState` says how it is).

        See `backend_sdk.xmpp_actions.xmpp_connect` for the arguments.
        """
        self._give(
            xmpp_actions.xmpp_connect(
                jid,
                password=password,
                scram=scram,
                token=token,
                external=external,
                callback=callback,
                username=username,
                resource=resource,
                roster=roster,
                presence=presence,
                carbons=carbons,
                stanzas=stanzas,
                coalesce=coalesce,
                attach=attach,
                keep_after_detach_s=keep_after_detach_s,
                sent=sent,
                detached=detached,
                session=self._target,
                id=id,
            )
        )

    def send(
        self,
        to: str,
        body: str | None = None,
        *,
        type: MessageType = "chat",
        stanza_id: str | None = None,
        subject: str | None = None,
        thread: str | None = None,
        chat_state: ChatState | None = None,
        receipt: Receipt | None = None,
        receipt_id: str | None = None,
        extra: str = "",
        sender: str | None = None,
        id: str | None = None,
    ) -> None:
        """Send a message. `receipt`: ask for one (``request``), or be the one for message `receipt_id` (``received``).
        `extra`: XML of more elements, to stand inside. `sender`: of a component's link, who at its domain says this;
        None: the link's own address."""
        self._give(
            xmpp_actions.xmpp_send(
                to,
                body,
                type=type,
                stanza_id=stanza_id,
                subject=subject,
                thread=thread,
                chat_state=chat_state,
                receipt=receipt,
                receipt_id=receipt_id,
                extra=extra,
                sender=sender,
                session=self._target,
                id=id,
            )
        )

    def send_xml(self, xml: str, *, id: str | None = None) -> None:
        """Send one whole stanza of any kind."""
        self._give(xmpp_actions.xmpp_send_xml(xml, session=self._target, id=id))

    def presence(
        self,
        to: str | None = None,
        *,
        type: PresenceType = "available",
        show: Show | None = None,
        status: str | None = None,
        priority: int = 0,
        stanza_id: str | None = None,
        extra: str = "",
        sender: str | None = None,
        xml: str | None = None,
        id: str | None = None,
    ) -> None:
        """Send presence, from fields or whole as `xml`. What has no `to` is sent again by each new session. A
        component's link has to say `to` whom; `sender` is as in `send`."""
        self._give(
            xmpp_actions.xmpp_presence(
                to,
                type=type,
                show=show,
                status=status,
                priority=priority,
                stanza_id=stanza_id,
                extra=extra,
                sender=sender,
                xml=xml,
                session=self._target,
                id=id,
            )
        )

    def iq(
        self,
        to: str | None,
        xml: str,
        *,
        type: IqType = "get",
        timeout_s: float = 30,
        sender: str | None = None,
        name: str | None = None,
        id: str | None = None,
    ) -> str:
        """Ask something; returns the action's id, which the one `XmppIqResult` that follows has as `action_id`.

        `xml`: the one element inside; `to` None: the account itself (a component has none). `sender`: as in `send`.
        With a `name` the result goes to ``@app.on_xmpp_iq_result(name)``, in whatever process it arrives.
        """
        if name is not None and (not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARS or NAME_MARK in name):
            raise ActionError("name", f"must be a string of 1 to {_NAME_CHARS} characters, without {NAME_MARK}")
        whole = self._ids.new() if id is None else id
        if name is not None:
            whole = f"{name}{NAME_MARK}{whole}"
        self._give(
            xmpp_actions.xmpp_iq(to, xml, type=type, timeout_s=timeout_s, sender=sender, session=self._target, id=whole)
        )
        return whole

    def reply(self, event: XmppIq | int, xml: str = "", *, id: str | None = None) -> None:
        """Answer a request (the event or its `seq`). `xml`: nothing, or the one element inside."""
        self._give(xmpp_actions.xmpp_iq_reply(_seq(event), xml, session=self._target, id=id))

    def reply_error(
        self,
        event: XmppIq | int,
        condition: str,
        *,
        error_type: ErrorType = "cancel",
        text: str | None = None,
        id: str | None = None,
    ) -> None:
        """Refuse a request with a `condition` of RFC 6120 §8.3.3, such as ``item-not-found``."""
        self._give(
            xmpp_actions.xmpp_iq_reply(
                _seq(event), condition=condition, error_type=error_type, text=text, session=self._target, id=id
            )
        )

    def give_credentials(
        self,
        *,
        password: str | None = None,
        scram: ScramKeys | None = None,
        token: str | None = None,
        external: bool = False,
        username: str | None = None,
        id: str | None = None,
    ) -> None:
        """The answer to `XmppCredentials`: one of these, used once and not stored by the edge."""
        self._give(
            xmpp_actions.xmpp_credentials(
                password=password,
                scram=scram,
                token=token,
                external=external,
                username=username,
                session=self._target,
                id=id,
            )
        )

    def attach(self, client: str | None = None, *, id: str | None = None) -> None:
        """A client's session uses the link; None: the one whose event is handled."""
        self._give(xmpp_actions.xmpp_attach(client, session=self._target, id=id))

    def detach(self, client: str | None = None, *, id: str | None = None) -> None:
        """A client's session does not use the link any more; None: the one whose event is handled."""
        self._give(xmpp_actions.xmpp_detach(client, session=self._target, id=id))

    def suspend(self, *, id: str | None = None) -> None:
        """Close the connection and leave the session at the server, until something is to be sent or a client
        attaches."""
        self._give(xmpp_actions.xmpp_suspend(session=self._target, id=id))

    def disconnect(self, *, id: str | None = None) -> None:
        """Log out: the link ends with an `XmppDisconnected`."""
        self._give(xmpp_actions.xmpp_disconnect(session=self._target, id=id))

    def get(self, *, id: str | None = None) -> None:
        """Ask how the link is: an `XmppState`."""
        self._give(xmpp_actions.xmpp_get(session=self._target, id=id))


class OtherLink(LinkOrders):
    """A link to give orders to, from `Session.link`, `Session.xmpp` or `Link.link`. When there is no such link,
    `on_gone` is told later; `connect` makes one."""

    __slots__ = ("_pass_on",)

    def __init__(self, give: Callable[[Action], None], ids: ActionIds, id: str) -> None:
        check_link("link", id)
        super().__init__(ids, id, id)
        self._pass_on = give

    def _give(self, action: Action) -> None:
        self._pass_on(action)


def _seq(event: XmppIq | int) -> int:
    return event.seq if isinstance(event, XmppIq) else event
