"""A response that is held (long polling): the first publication answers it, or its deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.errors import WireError
from edge.model.grip_hold import hold_ms, published_headers
from edge.model.grip_links import RETRIES, last_id_field, retry_ms
from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.filters import apply_to_body
from edge.protocol.grip.instruct import Instruct
from edge.protocol.grip.items import Item, ResponseFormat
from edge.protocol.grip.patch import apply_patch
from edge.sessions.grip.hold import Guest, Hold
from edge.sessions.grip.refusals import BAD_GATEWAY, refuse
from edge.wheel import Alarm

Repeat = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that is given when the time is out, and whose headers published ones inherit."""

    status: int
    reason: str
    headers: Headers
    body: bytes


class ResponseHold(Hold):
    """Asks its backend by repeating the client's request, and tells it where the client is (Grip-Last)."""

    kind = "response"

    __slots__ = ("_attempts", "_deadline", "_filters", "_kept", "_repeat", "_soon")

    def __init__(self, guest: Guest, repeat: Repeat, instruct: Instruct, kept: KeptAnswer) -> None:
        """`repeat` sends the client's request again, with these values of Grip-Last. What comes of it is told with
        `renew`, `unanswered` or `replaced`."""
        super().__init__(guest, instruct)
        self._repeat = repeat
        self._kept = kept
        self._filters: dict[str, Sequence[str]] = {}
        self._attempts = 0
        self._soon: Alarm | None = None
        self._deadline: Alarm | None = None
        self.renew(instruct, kept)

    # The exchange's side.

    def renew(self, instruct: Instruct, kept: KeptAnswer) -> None:
        """The backend holds the response (again)."""
        guest = self._guest
        self._kept = kept
        self._gone = instruct.gone
        self._attempts = 0
        self._cancel_alarms()
        self._deadline = guest.services.wheel.after(hold_ms(instruct.timeout_s), self.time_out)
        prefix = guest.route.settings.grip.prefix
        self._filters = {prefix + channel.name: channel.filters for channel in instruct.channels if channel.filters}
        self._adopt(instruct)
        self._answered()

    def unanswered(self, phrase: str) -> None:
        """The repeated request was not answered by the backend itself. The client keeps waiting meanwhile."""
        if self._attempts >= RETRIES:
            self._guest.complain("a held request could not be repeated", phrase)
            self._attempts = 0
            self._answered()
            return
        pause_ms = retry_ms(self._attempts, self._guest.services.random())
        self._attempts += 1
        self._soon = self._guest.services.wheel.after(pause_ms, self._send)

    def replaced(self) -> None:
        """The backend had something else to say, and the exchange says it."""
        if not self.over:
            self._release()

    def time_out(self) -> None:
        """Give the kept answer."""
        kept = self._kept
        self._answer(kept.status, kept.reason, kept.headers, kept.body)

    def client_gone(self) -> None:
        self._finish()

    # Hold.

    def _act(self, item: Item) -> None:
        response = item.response
        if response is None:
            return
        if response.action == "hint":
            self._queue.clear()
            self._ask(spread=False)
            return
        try:
            body = self._body_of(item, response)
        except WireError as error:
            self._guest.blame("a publication to a held response of it cannot be shown", f"{item.channel}: {error}")
            self._fail(f"filter error: {error}")
            return
        headers = published_headers(self._kept.headers, response)
        self._answer(response.code, response.reason, headers, body)

    def _body_of(self, item: Item, response: ResponseFormat) -> bytes:
        if response.patch is None:
            return response.body
        body = apply_patch(self._kept.body, response.patch)
        filters = self._filters.get(item.channel, ())
        return apply_to_body(filters, body, self._meta, self.channels, self._guest.route.settings.grip.prefix)

    def _ask(self, *, spread: bool) -> None:
        self._asking = True
        if spread:
            self._soon = self._guest.services.links.pace(self._send)
        else:
            self._send()

    @property
    def _sent(self) -> bool:
        return self._soon is None

    def _fail(self, phrase: str) -> None:
        guest = self._guest
        refuse(guest.client, BAD_GATEWAY, phrase if guest.route.settings.grip.debug else "")
        self._finish()

    # Inside.

    def _send(self) -> None:
        self._soon = None
        self._repeat([last_id_field(*each) for each in self._places.last_ids()])

    def _answer(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        self._guest.client.answer(status, reason, headers, body)
        self._finish()

    def _cancel_alarms(self) -> None:
        for alarm in (self._soon, self._deadline):
            if alarm is not None:
                alarm.cancel()
        self._soon = self._deadline = None

    def _release(self) -> None:
        self._cancel_alarms()
        super()._release()
