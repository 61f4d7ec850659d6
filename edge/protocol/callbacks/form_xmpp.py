"""Orders for XMPP links as a backend would have written them in msgpack: the reverse of
`edge.protocol.callbacks.check_xmpp`, for orders that one edge passes on to another.

What is written has the passwords in it. It is for the letters between edges, and for nothing that is kept or shown.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, assert_never

from edge.protocol.callbacks.actions import (
    AskBackend,
    LinkAction,
    XmppAttach,
    XmppConnect,
    XmppCredentials,
    XmppDetach,
    XmppDisconnect,
    XmppGet,
    XmppIq,
    XmppIqReply,
    XmppPresence,
    XmppSend,
    XmppSuspend,
)
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, Token
from edge.protocol.xmpp.outgoing import MessageFields, PresenceFields


def xmpp_form(action: LinkAction) -> dict[str, Any]:
    """`action` with its type and its fields; None stands for one that is left out."""
    form = {**_form(action), "session": action.session, "id": action.id}
    return {name: value for name, value in form.items() if value is not None}


def _form(action: LinkAction) -> dict[str, Any]:
    match action:
        case XmppConnect():
            return _connect(action)
        case XmppSend(stanza):
            return {"type": "xmpp.send", **({"xml": stanza} if isinstance(stanza, str) else _message(stanza))}
        case XmppPresence(stanza):
            return {"type": "xmpp.presence", **({"xml": stanza} if isinstance(stanza, str) else _presence(stanza))}
        case XmppIq(xml, to, kind, timeout_s, sender):
            asked = {"xml": xml, "to": to, "from": sender, "stanza_type": kind, "timeout_s": timeout_s}
            return {"type": "xmpp.iq", **asked}
        case XmppIqReply(seq, xml, condition, error_type, text):
            if condition:
                refusal = {"condition": condition, "error_type": error_type, "text": text}
                return {"type": "xmpp.iq_reply", "seq": seq, **refusal}
            return {"type": "xmpp.iq_reply", "seq": seq, "xml": xml}
        case XmppCredentials(auth):
            return {"type": "xmpp.credentials", "auth": auth_form(auth)}
        case XmppAttach(client):
            return {"type": "xmpp.attach", "client": client}
        case XmppDetach(client):
            return {"type": "xmpp.detach", "client": client}
        case XmppSuspend():
            return {"type": "xmpp.suspend"}
        case XmppDisconnect():
            return {"type": "xmpp.disconnect"}
        case XmppGet():
            return {"type": "xmpp.get"}
    assert_never(action)


def auth_form(auth: Credentials | AskBackend) -> dict[str, Any]:
    """The secrets themselves. Of an account with a password, the keys made of it are left out."""
    match auth:
        case AskBackend():
            return {"callback": True}
        case Certificate():
            return {"external": True}
        case Token(username, token):
            form: dict[str, Any] = {"token": token}
        case Account(username, password, keys):
            if password is not None:
                form = {"password": password}
            else:
                key = keys[0]
                form = {
                    "scram": {
                        "algorithm": key.algorithm,
                        "salt": _text(key.salt),
                        "iterations": key.iterations,
                        "client_key": _text(key.client_key),
                        "server_key": _text(key.server_key),
                    }
                }
    return {**form, "username": username} if username else form


def _connect(action: XmppConnect) -> dict[str, Any]:
    does, routing = action.on_connect, action.routing
    return {
        "type": "xmpp.connect",
        "jid": action.jid,
        "auth": None if action.auth is None else auth_form(action.auth),
        "resource": action.resource,
        "on_connect": {"roster": does.roster, "presence": does.presence, "carbons": does.carbons},
        "route": {"stanzas": list(routing.stanzas), "coalesce": list(routing.coalesce)},
        "attach": None if action.attach is None else list(action.attach),
        "keep_after_detach_s": action.keep_after_detach_s,
        "sent": action.sent,
        "detached": action.detached,
    }


def _message(stanza: MessageFields) -> dict[str, Any]:
    return {
        "to": stanza.to,
        "from": stanza.sender,
        "stanza_type": stanza.type,
        "stanza_id": stanza.id,
        "body": stanza.body,
        "subject": stanza.subject,
        "thread": stanza.thread,
        "chat_state": stanza.chat_state,
        "receipt": stanza.receipt,
        "receipt_id": stanza.receipt_id,
        "extra": stanza.xml,
    }


def _presence(stanza: PresenceFields) -> dict[str, Any]:
    return {
        "to": stanza.to,
        "from": stanza.sender,
        "stanza_type": stanza.type,
        "stanza_id": stanza.id,
        "show": stanza.show,
        "status": stanza.status,
        "priority": stanza.priority,
        "extra": stanza.xml,
    }


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
