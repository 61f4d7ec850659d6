"""A ``gone`` link on its way: the backend is told that a client which was held is gone, in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.backend.origin_base import AnswerHead, AnswerListener, RawHeaders, Unanswered
from edge.model.grip_links import RETRIES, retry_ms
from edge.sessions.grip.calls import NO_BODY, Call, Question
from edge.sessions.routes import RouteHandle
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_log = logging.getLogger("holdfast.grip")


class Gone(AnswerListener):
    """One gone link on its way. Counts as held, so that a drain waits for it."""

    __slots__ = ("_alarm", "_attempts", "_call", "_done", "_over", "_question", "_route", "_services")

    closable = False

    def __init__(
        self, services: GripServices, route: RouteHandle, question: Question, done: Callable[[], None]
    ) -> None:
        self._services = services
        self._done = done
        self._route = route
        self._question = question
        self._attempts = 0
        self._over = False
        self._call: Call | None = None
        self._alarm: Alarm | None = None

    def begin(self, due_ms: int) -> None:
        self._services.held.add(self)
        self._alarm = self._services.wheel.at(due_ms, self._send)

    # Held.

    def leave(self, code: int, reason: str, cause: str) -> None:
        """It has nothing to do but to be told."""

    def leave_now(self) -> None:
        self._end()

    # AnswerListener.

    def began(self, head: AnswerHead) -> None:
        if head.status >= 500:
            self._fail(f"status {head.status}")
        else:
            self._end()

    def body(self, data: bytes) -> None:
        """Of no interest."""

    def ended(self, trailers: RawHeaders) -> None:
        self._end()

    def failed(self, failure: Unanswered) -> None:
        self._fail(failure.phrase)

    def sending_paused(self, yes: bool) -> None:
        """There is no body to send."""

    # Inside.

    def _send(self) -> None:
        self._alarm = None
        self._call = Call(self._services, self._route, self._question, NO_BODY, self)
        self._call.begin()

    def _fail(self, phrase: str) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._attempts >= RETRIES:
            path = self._question.request.path
            _log.warning("route %s: the gone link %s could not be told: %s", self._route.name, path, phrase)
            self._end()
            return
        self._alarm = self._services.wheel.after(retry_ms(self._attempts, self._services.random()), self._send)
        self._attempts += 1

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._call is not None:
            self._call.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        self._services.held.remove(self)
        self._done()
