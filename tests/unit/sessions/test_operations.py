"""Whose backend a link is for that somebody begins by the control API."""

from __future__ import annotations

import asyncio
from asyncio import Future
from types import SimpleNamespace
from typing import Any

import pytest

from edge.clock import ManualClock
from edge.config import RouteSettings
from edge.errors import FieldError, HoldfastError, NotFound, SessionGone
from edge.protocol.callbacks.actions import Result, Send, XmppConnect, XmppGet
from edge.sessions.operations import LocalOperations
from edge.sessions.routes import Routes
from edge.telemetry.metrics import Metrics

CONNECT = Result((XmppConnect("u42@chat.example"),))


class Post:
    """Takes orders, and answers all of them the same."""

    def __init__(self) -> None:
        self.error: HoldfastError | None = None
        self.begun_for: list[str | None] = []

    def act(self, target: str, order: Result, handle: Any = None) -> Future[None]:
        self.begun_for.append(handle.settings.path if handle is not None else None)
        done: Future[None] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            done.set_exception(self.error)
        else:
            done.set_result(None)
        return done


def operations(post: Post, *routes: RouteSettings) -> LocalOperations:
    services: Any = SimpleNamespace(post=post, store=None, clock=ManualClock())
    known = Routes(routes, Metrics())
    unused: Any = None
    return LocalOperations(
        services, lambda: known, items=unused, check=unused, drain=unused, readiness=unused
    )  # fmt: skip


def route(app: str, path: str, protocol: Any = "callbacks") -> RouteSettings:
    return RouteSettings(app=app, path=path, backend="http://here", protocol=protocol)


TWO_APPS = route("old", "/grip", "grip"), route("chat", "/chat"), route("chat", "/more"), route("game", "/game")


async def test_a_link_is_begun_for_the_first_route_of_its_app_that_takes_callbacks() -> None:
    post = Post()
    edge = operations(post, *TWO_APPS)
    await edge.act("x:u42", CONNECT, "game")
    await edge.act("x:u42", CONNECT, "chat")
    assert post.begun_for == ["/game", "/chat"]


async def test_one_app_need_not_be_named() -> None:
    post = Post()
    await operations(post, TWO_APPS[0], TWO_APPS[1]).act("x:u42", CONNECT)
    assert post.begun_for == ["/chat"]


@pytest.mark.parametrize(
    ("routes", "app", "problem"),
    [
        (TWO_APPS, None, "is missing: the link's backend may be that of chat, game"),
        (TWO_APPS, "old", "has no route here with callbacks, in which a link's events are told: chat, game"),
        (TWO_APPS[:1], "old", "no route here has the protocol callbacks, in which a link's events are told"),
    ],
)
async def test_whose_it_is_has_to_be_plain(routes: Any, app: str | None, problem: str) -> None:
    post = Post()
    with pytest.raises(FieldError, match=problem) as refused:
        await operations(post, *routes).act("x:u42", CONNECT, app)
    assert refused.value.field == "app"
    assert post.begun_for == []


async def test_other_orders_are_nobodys() -> None:
    post = Post()
    edge = operations(post, *TWO_APPS)
    await edge.act("x:u42", Result((XmppGet(),)))
    await edge.act("s1", Result((Send("hi"),)))
    assert post.begun_for == [None, None]


async def test_a_repeated_order_to_begin_says_that_the_link_is_over() -> None:
    post = Post()
    post.error = SessionGone("link x:u42 has ended since this order was carried out first")
    edge = operations(post, TWO_APPS[1])
    with pytest.raises(SessionGone, match="has ended since"):
        await edge.act("x:u42", CONNECT)
    with pytest.raises(NotFound, match="there is no link 'x:u42'"):
        await edge.act("x:u42", Result((XmppGet(),)))
