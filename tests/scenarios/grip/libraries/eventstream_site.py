"""A Django project whose events go through django-eventstream, kept in a database (SQLite, at DATABASE).

    GET  /events/?channel=C…                        the library's own view
    POST /send?channel=C&type=T&text=X[&skip=U]     the library's `send_event`; U: a user who does not get it
    POST /lose?channel=C&type=T&text=X[&count=N]    kept but not published: what is left of a publication that got lost
    POST /allow?user=U&channel=C, /forbid           who may read channels that do not begin with `open`

Who asks is in the header X-User: there is nobody to log in here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    EVENTSTREAM_CHANNELMANAGER_CLASS=f"{__name__}.Readers",
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    GRIP_URL=os.environ["GRIP_URL"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"],
    MIDDLEWARE=["django_grip.GripMiddleware", f"{__name__}.user_by_header"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a secret of these tests, long enough",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import channel_permission_changed, send_event  # noqa: E402
from django_eventstream.channelmanager import DefaultChannelManager  # noqa: E402
from django_eventstream.utils import get_storage  # noqa: E402


def user_by_header(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        if name := request.headers.get("X-User"):
            request.user = _user(name)
        return get_response(request)

    return middleware


def _user(name: str) -> Any:
    return User.objects.get_or_create(username=name)[0]


class Readers(DefaultChannelManager):  # type: ignore[misc]
    def can_read_channel(self, user: Any, channel: str) -> bool:
        if channel.startswith("open"):
            return True
        return user is not None and user.groups.filter(name=channel).exists()


def send(request: HttpRequest) -> HttpResponse:
    skipped = [str(_user(name).pk) for name in request.GET.getlist("skip")]
    send_event(
        request.GET["channel"], request.GET["type"], {"text": request.GET["text"]},
        skip_user_ids=skipped, async_publish=False,
    )  # fmt: skip
    return HttpResponse("sent")


def lose(request: HttpRequest) -> HttpResponse:
    for number in range(int(request.GET.get("count", 1))):
        # What `send_event` keeps is the data as JSON, encoded once more.
        get_storage().append_event(request.GET["channel"], request.GET["type"], f'{{"text": "lost {number}"}}')
    return HttpResponse("kept")


def allow(request: HttpRequest) -> HttpResponse:
    group = Group.objects.get_or_create(name=request.GET["channel"])[0]
    _user(request.GET["user"]).groups.add(group)
    return HttpResponse("allowed")


def forbid(request: HttpRequest) -> HttpResponse:
    user = _user(request.GET["user"])
    user.groups.remove(Group.objects.get(name=request.GET["channel"]))
    channel_permission_changed(user, request.GET["channel"])
    return HttpResponse("forbidden")


urlpatterns = [
    path("events/", include("django_eventstream.urls")),
    path("send", send),
    path("lose", lose),
    path("allow", allow),
    path("forbid", forbid),
]
call_command("migrate", verbosity=0)
connections.close_all()  # before the process is copied
app = ASGIHandler()
