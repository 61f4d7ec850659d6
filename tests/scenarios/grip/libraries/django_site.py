"""The application with django-grip, as a Django project in one file."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    GRIP_URL=os.environ["GRIP_URL"],
    GRIP_PROXY_REQUIRED=True,
    MIDDLEWARE=["django_grip.GripMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a secret of these tests, long enough",
    USE_TZ=True,
)
django.setup()

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django_grip import publish as grip_publish  # noqa: E402
from django_grip import set_hold_longpoll, set_hold_stream, websocket_only  # noqa: E402
from gripcontrol import HttpResponseFormat, HttpStreamFormat, WebSocketMessageFormat  # noqa: E402


def signed(request: Any) -> HttpResponse:
    return HttpResponse("signed" if request.grip.signed else "not signed")


def poll(request: Any) -> HttpResponse:
    timeout = request.GET.get("timeout")
    set_hold_longpoll(request, request.GET["channel"], timeout=timeout and int(timeout))
    return HttpResponse("nothing yet\n", content_type="text/plain", status=int(request.GET.get("status", 200)))


def stream(request: Any) -> HttpResponse:
    period = request.GET.get("keepalive")
    set_hold_stream(request, request.GET["channel"], ":\n\n" if period else None, int(period) if period else None)
    return HttpResponse("opened\n", content_type="text/plain")


@websocket_only  # type: ignore[untyped-decorator]
def socket(request: Any) -> None:
    context = request.wscontext
    if context.is_opening():
        context.accept()
    while context.can_recv():
        try:
            message = context.recv()
        except OSError:  # the client is gone
            return
        if message is None:
            context.close(context.close_code)
            return
        _answer(context, message)


def _answer(context: Any, message: str | bytes) -> None:
    if isinstance(message, bytes):
        context.send_binary(message)
        return
    match message.split():
        case ["subscribe", channel]:
            context.subscribe(channel)
            context.send(message)
        case ["unsubscribe", channel]:
            context.unsubscribe(channel)
            context.send(message)
        case ["detach"]:
            context.send("detached")
            context.detach()
        case ["count"]:
            context.meta["count"] = str(int(context.meta.get("count", 0)) + 1)
            context.send(context.meta["count"])
        case ["close", *codes]:
            context.close(*map(int, codes))
        case _:
            context.send(message)


def publish(request: HttpRequest) -> HttpResponse:
    if request.GET["kind"] == "close":
        formats = [HttpStreamFormat(close=True), WebSocketMessageFormat(action="close", code=4100, reason="gone")]
    else:
        text = request.GET["text"]
        formats = [HttpResponseFormat(body=f"{text}\n"), HttpStreamFormat(f"{text}\n"), WebSocketMessageFormat(text)]
    grip_publish(request.GET["channel"], formats, blocking=True)
    return HttpResponse("published")


urlpatterns = [
    path("signed", signed),
    path("poll", poll),
    path("stream", stream),
    path("socket", socket),
    path("publish", publish),
]
app = ASGIHandler()
