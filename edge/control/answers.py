"""What goes out: JSON answers, and errors as ``{"error": {"code", "message", "field"?}}``."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from edge.control.bodies import BadRequest
from edge.errors import (
    Conflict,
    FenceRefused,
    FieldError,
    NotAllowed,
    NotConfirmed,
    NotFound,
    SessionGone,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    Unhealthy,
)
from edge.model.link_backlog import ParkedEvent
from edge.store.base import Publication, SessionRow
from edge.store.links_base import LinkRow

_SOON = {"Retry-After": "1"}


def answer(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer. Bytes in it become ``{"b64": …}``, as everywhere in callbacks v1."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=_to_json).encode("utf-8", "replace")
    return Response(body, status, headers, "application/json")


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return {"b64": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def problem(
    status: int, code: str, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error answer."""
    error = {"code": code, "message": message} | ({} if field is None else {"field": field})
    return answer({"error": error}, status, headers)


def internal_problem() -> Response:
    """Our own fault: nobody outside learns more than where to look."""
    return problem(500, "internal", "an error of the edge; look for this answer's X-Request-Id in its log")


def problem_of(error: Exception) -> Response:
    """The answer for an error. `internal_problem` for those that are ours."""
    match error:
        case FieldError():
            return problem(400, "bad_field", str(error), field=error.field)
        case BadRequest():
            return problem(error.status, error.code, str(error))
        case NotAllowed():
            return problem(403, "not_allowed", str(error))
        case NotFound():
            return problem(404, "not_found", str(error))
        case Conflict():
            return problem(409, "conflict", str(error))
        case Unhealthy():
            return problem(422, "unhealthy", str(error))
        case SessionGone():
            return problem(410, "gone", str(error) or "the session has ended")
        case StoreUnavailable():
            return problem(503, "store_unavailable", "Redis is away; try again", headers=_SOON)
        case FenceRefused():
            return problem(503, "moving", "the session is moving to another edge; try again", headers=_SOON)
        case StoreRefused():
            return internal_problem()
        case StoreError():
            return problem(503, "not_carried_out", str(error), headers=_SOON)
        case NotConfirmed():
            return problem(504, "not_confirmed", str(error) or "nobody confirmed it in time; it may have happened")
        case _:
            return internal_problem()


def publication_view(publication: Publication) -> dict[str, Any]:
    kind = "text" if isinstance(publication.payload, str) else "data"
    return {"offset": publication.position.offset, kind: publication.payload, "at": publication.at}


def session_view(row: SessionRow) -> dict[str, Any]:
    return {
        "session": row.id,
        "app": row.app,
        "route": row.route,
        "release": row.release,
        "pinned": row.pinned,
        "user": row.user,
        "edge": row.owner,
        "transport": row.transport,
        "client": row.client,
        "opened_at": row.opened_at,
        "state": row.state,
        "version": row.version,
        "channels": sorted(row.channels),
        "timers": [{"name": timer.name, "due": timer.due_ms, "data": timer.data} for timer in row.timers],
    }


def link_view(row: LinkRow) -> dict[str, Any]:
    """A link in the form of a session, with what only links have under ``link``."""
    return {
        "session": row.id,
        "app": row.app,
        "route": row.route,
        "release": row.release,
        "pinned": row.pinned or None,
        "user": None,
        "edge": row.owner,
        "transport": "xmpp",
        "client": row.bound_jid or row.jid,
        "opened_at": row.connect.get("begun_at", 0),
        "state": row.state,
        "version": row.state_version,
        "channels": [],
        "timers": [],
        "link": {
            "jid": row.bound_jid or row.jid,
            "phase": row.phase,
            "resumable": bool(row.sm_id),
            "attached": list(row.attached),
            "waiting": row.seq - row.done,
            "unacked": (row.out_n - row.out_base) % 2**32,
        },
    }


def parked_view(event: ParkedEvent) -> dict[str, Any]:
    return {"id": event.id, "type": event.kind, "at": event.at, "why": event.why, "fields": event.fields}
