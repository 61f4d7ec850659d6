"""The SDK's events and orders of links, as the vectors show them and the other way round."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from backend_sdk import LinkEvent, ScramKeys
from backend_sdk import xmpp_actions as made
from backend_sdk.link_orders import LinkOrders

WIRE_NAMES = {"sender": "from", "subscription": "sub"}
STANZAS = {"MessageStanza": "message", "PresenceStanza": "presence", "IqStanza": "iq"}


def link_event_as_case(event: LinkEvent) -> dict[str, Any]:
    """An event of a link as requests.json shows it."""
    fields = _fields(event)
    head = {"class": "LinkEvent", "id": fields.pop("id"), "at": fields.pop("at"), "kind": event.type}
    fields.pop("attempt")
    return {**head, "fields": fields}


def _fields(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_fields(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    named = {
        WIRE_NAMES.get(each.name, each.name): _fields(getattr(value, each.name)) for each in dataclasses.fields(value)
    }
    stanza = STANZAS.get(type(value).__name__)
    return {"name": stanza, **named} if stanza else named


def order_of_link(link: LinkOrders, kind: str, fields: dict[str, Any]) -> None:
    """Give the order an action of answers.json stands for, through the methods that a handler uses."""
    match kind:
        case "XmppConnect":
            link.connect(**_connect(fields))
        case "XmppSend" if isinstance(fields["stanza"], str):
            link.send_xml(fields.pop("stanza"), **fields)
        case "XmppSend":
            link.send(**_stanza(fields.pop("stanza")), **fields)
        case "XmppPresence" if isinstance(fields["stanza"], str):
            link.presence(xml=fields.pop("stanza"), **fields)
        case "XmppPresence":
            link.presence(**_stanza(fields.pop("stanza")), **fields)
        case "XmppIq":
            name, mark, id = fields.pop("id").rpartition("#")
            if "stanza_type" in fields:
                fields["type"] = fields.pop("stanza_type")
            said = link.iq(fields.pop("to", None), name=name if mark else None, id=id, **fields)
            assert said == f"{name}{mark}{id}"
        case "XmppIqReply" if "condition" in fields:
            link.reply_error(fields.pop("seq"), **fields)
        case "XmppIqReply":
            link.reply(fields.pop("seq"), **fields)
        case "XmppCredentials":
            link.give_credentials(**_auth(fields["auth"], ""))
        case "XmppAttach":
            link.attach(**fields)
        case "XmppDetach":
            link.detach(**fields)
        case "XmppSuspend":
            link.suspend(**fields)
        case "XmppDisconnect":
            link.disconnect(**fields)
        case "XmppGet":
            link.get(**fields)
        case _:
            raise AssertionError(f"unknown class {kind}")


def _stanza(fields: dict[str, Any]) -> dict[str, Any]:
    names = {"id": "stanza_id", "xml": "extra"}
    return {names.get(name, name): value for name, value in fields.items() if name != "class"}


def _connect(fields: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(fields)
    for group in ("on_connect", "routing"):
        arguments |= {name: value for name, value in arguments.pop(group, {}).items() if name != "class"}
    if "auth" in arguments:
        arguments |= _auth(arguments.pop("auth"), arguments["jid"].partition("@")[0])
    return arguments


def _auth(auth: dict[str, Any], local: str) -> dict[str, Any]:
    auth = dict(auth)
    match auth.pop("class"):
        case "AskBackend":
            return {"callback": True}
        case "Certificate":
            return {"external": True}
    if auth["username"] == local:
        del auth["username"]
    if "keys" in auth:
        auth["scram"] = _keys(auth.pop("keys")[0])
    return auth


def _keys(keys: dict[str, Any]) -> ScramKeys:
    octets = {name: base64.b64decode(value["b64"]) for name, value in keys.items() if isinstance(value, dict)}
    return ScramKeys(keys["algorithm"], iterations=keys["iterations"], **octets)


def make_link_action(action: dict[str, Any]) -> None:
    """Make an action of bad_answers.json with the functions that users have. Raises what they raise."""
    arguments = dict(action)
    kind = arguments.pop("type").removeprefix("xmpp.")
    for name, wire in (("type", "stanza_type"), ("sender", "from")):
        if wire in arguments:
            arguments[name] = arguments.pop(wire)
    for group in ("on_connect", "route", "auth"):
        arguments |= arguments.pop(group, {})
    if isinstance(arguments.get("scram"), dict):
        octets = {
            name: base64.b64decode(value)
            for name, value in arguments["scram"].items()
            if name not in ("algorithm", "iterations")
        }
        arguments["scram"] = ScramKeys(**arguments["scram"] | octets)
    getattr(made, f"xmpp_{kind}")(**arguments)
