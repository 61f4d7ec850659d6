"""Pushpin's interface for publishers: ``/publish`` and ``/recover``, in plain text unless Accept prefers JSON."""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies
from edge.control.answers import answer, problem, problem_of
from edge.control.context import Context
from edge.errors import FieldError, HoldfastError, StoreUnavailable, WireError
from edge.protocol.grip.publish import parse_publish

Form = Literal["text/plain", "application/json"]


async def publish_items(context: Context, request: Request) -> Response:
    form = _form(request)
    if form is None:
        return _not_acceptable()
    counted = form == "application/json"
    try:
        items = parse_publish(await bodies.read_raw(request, context.publish_bytes()))
        results = await context.operations.publish_items(items, count=counted)
    except HoldfastError as error:
        return _refusal(error, form)
    if not counted:
        return _text("Published")
    views = [
        {"channel": result.channel, "receivers": result.receivers or 0, "duplicate": result.duplicate}
        for result in results
    ]
    return answer({"message": "Published", "items": views})


async def recover(context: Context, request: Request) -> Response:
    form = _form(request)
    if form is None:
        return _not_acceptable()
    try:
        await context.operations.recover()
    except HoldfastError as error:
        return _refusal(error, form)
    return answer({"message": "Updated"}) if form == "application/json" else _text("Updated")


def _form(request: Request) -> Form | None:
    """What Accept prefers; None: neither. Plain text when it does not care (RFC 9110 section 12.5.1)."""
    accept = ",".join(request.headers.getlist("accept"))
    if not accept.strip():
        return "text/plain"
    text, json = _quality(accept, "text", "plain"), _quality(accept, "application", "json")
    if text <= 0 and json <= 0:
        return None
    return "application/json" if json > text else "text/plain"


def _quality(accept: str, kind: str, subtype: str) -> float:
    """How much ``kind/subtype`` is wanted, by the most specific range that takes it."""
    best = (-1, 0.0)
    for part in accept.split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        # A lone * is what some old clients send for */*; Pushpin takes it too.
        specific = {f"{kind}/{subtype}": 2, f"{kind}/*": 1, "*/*": 0, "*": 0}.get(name)
        if specific is None or specific <= best[0]:
            continue
        quality = next((value for value in parameters if value.startswith("q=")), "q=1")[2:]
        try:
            best = (specific, float(quality))
        except ValueError:
            best = (specific, 1.0)
    return best[1]


def _refusal(error: HoldfastError, form: Form) -> Response:
    match error:
        case StoreUnavailable():
            message = f"Redis is away; try again: {error}"
            refused = problem(503, "store_unavailable", message, headers={"Retry-After": "1"})
        case WireError() if not isinstance(error, FieldError):
            message = str(error)
            refused = problem(400, "bad_body", message)
        case _:
            message, refused = str(error), problem_of(error)
    if form == "application/json" or refused.status_code == 500:
        return refused
    return _text(message, refused)


def _text(message: str, refused: Response | None = None) -> Response:
    """`refused`: an answer in JSON whose status and advice this one has too."""
    status = 200 if refused is None else refused.status_code
    advice = refused.headers.get("retry-after") if refused is not None else None
    headers = {"Retry-After": advice} if advice else None
    # Lone surrogates cannot be encoded; what was sent may be quoted in a message.
    return Response(f"{message}\n".encode("utf-8", "replace"), status, headers, "text/plain")


def _not_acceptable() -> Response:
    return Response("this answers in text/plain or application/json; Accept has neither\n", 406, None, "text/plain")
