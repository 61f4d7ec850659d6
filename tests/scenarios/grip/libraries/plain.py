"""The application by hand: gripcontrol and pubcontrol alone, in a Starlette app."""

from __future__ import annotations

import os

from gripcontrol import (
    Channel,
    GripPubControl,
    HttpResponseFormat,
    HttpStreamFormat,
    WebSocketEvent,
    WebSocketMessageFormat,
    create_grip_channel_header,
    create_hold_response,
    decode_websocket_events,
    encode_websocket_events,
    parse_grip_uri,
    validate_sig,
    websocket_control_message,
)
from pubcontrol import Item
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_PROXY = parse_grip_uri(os.environ["GRIP_URL"])
_publisher = GripPubControl(_PROXY)


async def signed(request: Request) -> Response:
    valid = validate_sig(request.headers.get("grip-sig", ""), _PROXY["key"], iss=_PROXY["control_iss"])
    return PlainTextResponse("signed" if valid else "not signed")


async def poll(request: Request) -> Response:
    """With the instructions in the body, which the other applications give in headers."""
    query = request.query_params
    timeout = int(query["timeout"]) if "timeout" in query else None
    body = create_hold_response(Channel(query["channel"]), "nothing yet\n", timeout)
    headers = {"Grip-Status": query["status"]} if "status" in query else {}
    return Response(body, media_type="application/grip-instruct", headers=headers)


async def stream(request: Request) -> Response:
    query = request.query_params
    headers = {"Grip-Hold": "stream", "Grip-Channel": create_grip_channel_header(query["channel"])}
    if "keepalive" in query:
        headers["Grip-Keep-Alive"] = f":\\n\\n; format=cstring; timeout={query['keepalive']}"
    return PlainTextResponse("opened\n", headers=headers)


async def socket(request: Request) -> Response:
    out: list[WebSocketEvent] = []
    headers: dict[str, str] = {}
    for event in decode_websocket_events(await request.body()):
        text = (event.content or b"").decode() if event.type == "TEXT" else ""
        match event.type, text.split():
            case "OPEN", _:
                out.append(WebSocketEvent("OPEN"))
                headers["Sec-WebSocket-Extensions"] = 'grip; message-prefix=""'
            case "PING", _:
                out.append(WebSocketEvent("PONG", event.content))
            case "CLOSE", _:
                out.append(WebSocketEvent("CLOSE", event.content))
            case "TEXT", ["subscribe" | "unsubscribe" as order, channel]:
                out += [_control(order, channel=channel), WebSocketEvent("TEXT", text)]
            case "TEXT", ["detach"]:
                out += [WebSocketEvent("TEXT", "detached"), _control("detach")]
            case "TEXT", ["count"]:
                count = int(request.headers.get("meta-count", 0)) + 1
                headers["Set-Meta-Count"] = str(count)
                out.append(WebSocketEvent("TEXT", str(count)))
            case "TEXT", ["close", *codes]:
                out.append(WebSocketEvent("CLOSE", *(int(code).to_bytes(2, "big") for code in codes)))
            case "TEXT" | "BINARY", _:
                out.append(WebSocketEvent(event.type, event.content))
    return Response(encode_websocket_events(out), media_type="application/websocket-events", headers=headers)


def _control(order: str, **arguments: str) -> WebSocketEvent:
    return WebSocketEvent("TEXT", "c:" + websocket_control_message(order, arguments))


async def publish(request: Request) -> Response:
    query = request.query_params
    if query["kind"] == "close":
        formats = [HttpStreamFormat(close=True), WebSocketMessageFormat(action="close", code=4100, reason="gone")]
    else:
        text = query["text"]
        formats = [HttpResponseFormat(body=f"{text}\n"), HttpStreamFormat(f"{text}\n"), WebSocketMessageFormat(text)]
    await run_in_threadpool(_publisher.publish, query["channel"], Item(formats), blocking=True)
    return PlainTextResponse("published")


app = Starlette(
    routes=[
        Route("/signed", signed),
        Route("/poll", poll),
        Route("/stream", stream),
        Route("/socket", socket, methods=["POST"]),
        Route("/publish", publish, methods=["POST"]),
    ]
)
