"""JSON Schemas of the bodies and answers, as OpenAPI's components. Tests hold the real answers to them."""

from __future__ import annotations

from collections.abc import Mapping

from edge.control.release_schemas import RELEASE_SCHEMAS
from edge.control.schema_parts import BYTES, TEXT, TEXT_OR_NULL, WHOLE, YES_NO, Schema
from edge.control.schema_parts import array as _list
from edge.control.schema_parts import named as _ref
from edge.control.schema_parts import object_of as _map

SCHEMAS: Mapping[str, Schema] = {
    "Error": _map(
        "What went wrong: a word for programs, a sentence for people, and the field it is about.",
        {"error": _map("", {"code": TEXT, "message": TEXT, "field": TEXT}, optional=["field"])},
    ),
    "Bytes": _map("Bytes, in JSON. In msgpack they are binary.", {"b64": TEXT}),
    "NewPublication": _map(
        "Either text or data. `id` de-duplicates per channel for 24 h; `sender` is a session it is not sent to.",
        {"text": TEXT, "data": BYTES, "id": TEXT_OR_NULL, "sender": TEXT_OR_NULL},
        optional=["text", "data", "id", "sender"],
    ),
    "Published": _map(
        "The publication's place in its channel's history; offset 0 when the channel keeps none.",
        {"offset": WHOLE, "epoch": TEXT, "duplicate": YES_NO},
    ),
    "Items": _map(
        "Items as Pushpin takes them: a channel and up to three formats each. All of them, or none, are published.",
        {
            "items": _list(
                {
                    "type": "object",
                    "properties": {"channel": TEXT},
                    "required": ["channel"],
                    "additionalProperties": True,
                }
            )
        },
    ),
    "ItemsPublished": _map(
        "In the order of the items. `receivers`: clients over all edges that take one of its formats; `duplicate`: an "
        "item with this id was published before, and it goes to nobody.",
        {
            "message": TEXT,
            "items": _list(_map("", {"channel": TEXT, "receivers": WHOLE, "duplicate": YES_NO})),
        },
    ),
    "Message": _map("Done.", {"message": TEXT}),
    "Channel": _map(
        "Subscribed sessions over all edges, and the place of the newest publication.",
        {"channel": TEXT, "subscribers": WHOLE, "offset": WHOLE, "epoch": TEXT},
    ),
    "Publication": _map(
        "`at`: ms since the epoch.",
        {"offset": WHOLE, "text": TEXT, "data": BYTES, "at": WHOLE},
        optional=["text", "data"],
    ),
    "History": _map(
        "`whole` is false when some of what followed the asked position is gone; then there are no publications.",
        {"publications": _list(_ref("Publication")), "whole": YES_NO, "offset": WHOLE, "epoch": TEXT},
    ),
    "Session": _map(
        "A session. `opened_at` and timers' `due`: ms since the epoch.",
        {
            "session": TEXT,
            "app": TEXT,
            "route": TEXT,
            "release": TEXT,
            "pinned": TEXT_OR_NULL,
            "user": TEXT_OR_NULL,
            "edge": TEXT,
            "transport": TEXT,
            "client": TEXT,
            "opened_at": WHOLE,
            "state": {"type": "object"},
            "version": WHOLE,
            "channels": _list(TEXT),
            "timers": _list(_map("", {"name": TEXT, "due": WHOLE, "data": {}})),
            "link": _map(
                "Of an XMPP link: events that wait for its backend, and stanzas that its server has not acknowledged.",
                {
                    "jid": TEXT,
                    "phase": TEXT,
                    "resumable": YES_NO,
                    "attached": _list(TEXT),
                    "waiting": WHOLE,
                    "unacked": WHOLE,
                },
            ),
        },
        optional=["link"],
    ),
    "Sessions": _map(
        "Sessions over all edges. Not `complete`: an edge did not answer in time, and there may be more.",
        {"sessions": _list(_ref("Session")), "complete": YES_NO},
    ),
    "Life": _map(
        "What the live edges remember of a session, oldest first. `at`: ms since the epoch; `what`: a word for "
        "programs; `detail`: for people. Not `complete`: an edge did not answer in time.",
        {
            "session": TEXT,
            "complete": YES_NO,
            "life": _list(_map("", {"at": WHOLE, "edge": TEXT, "what": TEXT, "detail": TEXT})),
        },
    ),
    "Parked": _map(
        "The newest 1,000, oldest first, kept for a week, also when the link has ended. `fields` are the event's own; "
        "`why`: for people.",
        {
            "session": TEXT,
            "parked": _list(
                _map("", {"id": TEXT, "type": TEXT, "at": WHOLE, "why": TEXT, "fields": {"type": "object"}})
            ),
        },
    ),
    "Apps": _map(
        "The apps that routes name, with the names of these.",
        {
            "apps": _list(
                _map("", {"app": TEXT, "routes": _list(TEXT), "policy": {"type": "string", "enum": ["follow", "pin"]}})
            )
        },
    ),
    "Order": _map(
        "Actions of callbacks v1 (all but accept and reject), and a change of state: together or not at all. `app`: "
        "whose backend the events of a link go to that an xmpp.connect begins; needed where there are several.",
        {
            "actions": _list(
                {"type": "object", "properties": {"type": TEXT}, "required": ["type"], "additionalProperties": True}
            ),
            "state": _map("", {"set": {"type": "object"}, "unset": _list(TEXT)}, optional=["set", "unset"]),
            "app": TEXT,
        },
        optional=["state", "app"],
    ),
    "Outcome": _map("The session's edge has carried it out.", {"outcome": {"type": "string", "enum": ["delivered"]}}),
    **RELEASE_SCHEMAS,
    "Alive": _map("", {"alive": YES_NO}),
    "Readiness": _map(
        "Why no new connections should come here; empty when ready.", {"ready": YES_NO, "reasons": _list(TEXT)}
    ),
    "Draining": _map("", {"draining": YES_NO}),
    "OpenAPI": {"type": "object", "description": "This document."},
}
