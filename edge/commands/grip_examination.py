"""A backend that was written for Pushpin under examination: WebSocket-over-HTTP with GRIP, as routes with protocol
``grip`` speak it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from edge.commands.ailments import CONNECT_S, Finding, bad_status, is_web_page, unanswered, web_page
from edge.commands.refusals import WrongUsage
from edge.errors import WireError
from edge.ids import new_session_id
from edge.protocol.grip.signature import GripSigner
from edge.protocol.grip.socket_events import EVENTS_TYPE, SocketEvent, close_content, decode_events, encode_events

ISSUER = "holdfast"
GRIP_ADVICE = "open it with WebSocketContext of gripcontrol or the like, which answers OPEN and this header"


@dataclass(eq=False)
class GripPatient:
    """A context manager, which hangs up."""

    url: str
    signer: GripSigner | None
    headers: Sequence[tuple[str, str]]
    http: httpx.Client

    @classmethod
    def of(cls, url: str, *, key: str, headers: Sequence[tuple[str, str]], timeout_s: float) -> GripPatient:
        try:
            signer = GripSigner(key, ISSUER) if key else None
        except WireError as error:
            raise WrongUsage(f"--sig-key: {error}") from None
        http = httpx.Client(timeout=httpx.Timeout(timeout_s, connect=CONNECT_S), trust_env=False)
        return cls(url, signer, headers, http)

    def __enter__(self) -> GripPatient:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def examine(self, message: str) -> Iterator[Finding]:
        """A socket that opens, says something and goes; and one that nobody has signed for."""
        connection = new_session_id()
        opened = self._ask("OPEN", connection, SocketEvent("OPEN"))
        if isinstance(opened, Finding):
            yield opened
            return
        opening = self._opening(opened)
        if opening.grade == "wrong":
            yield opening
            return
        try:
            yield opening
            said = self._ask("TEXT", connection, SocketEvent("TEXT", message.encode()))
            yield said if isinstance(said, Finding) else Finding("good", "TEXT", f"answered with {_kinds(said[1])}")
        finally:
            ended = self._end(connection)
        yield ended
        if not isinstance(said, Finding):
            yield self._unsigned()

    def _opening(self, opened: _Answer) -> Finding:
        answer, events = opened
        if not events or events[0].kind != "OPEN":
            return Finding(
                "wrong", "OPEN", f"the answer begins with {_kinds(events)} instead of OPEN: the socket is refused",
                GRIP_ADVICE,
            )  # fmt: skip
        extensions = answer.headers.get("sec-websocket-extensions", "").lower()
        if "grip" not in extensions:
            return Finding(
                "odd", "OPEN", "accepted, but without Sec-WebSocket-Extensions: grip: it cannot subscribe to channels",
                GRIP_ADVICE,
            )  # fmt: skip
        return Finding("good", "OPEN", f"accepted, with GRIP; {_kinds(events)}")

    def _end(self, connection: str) -> Finding:
        """A polite end; one that does not get through is followed by the other kind."""
        ended = self._ask("CLOSE", connection, SocketEvent("CLOSE", close_content(1000, "")))
        if isinstance(ended, Finding) or not any(event.kind == "CLOSE" for event in ended[1]):
            self._ask("DISCONNECT", connection, SocketEvent("DISCONNECT"))
        return ended if isinstance(ended, Finding) else Finding("good", "CLOSE", "answered")

    def _unsigned(self) -> Finding:
        what = "OPEN without Grip-Sig"
        if self.signer is None:
            return Finding(
                "odd", what, "not looked at: no key was given",
                "say --sig-key to see that the backend knows its edges by their signature",
            )  # fmt: skip
        connection = new_session_id()
        answered = self._ask(what, connection, SocketEvent("OPEN"), signed=False)
        if isinstance(answered, Finding) or not any(event.kind == "OPEN" for event in answered[1]):
            return Finding("good", what, "refused")
        self._end(connection)
        return Finding(
            "wrong", what, "the backend takes it: whoever reaches it can pretend to be an edge",
            "check Grip-Sig against the key (GRIP_VERIFY_KEY, or the key of GRIP_PROXIES)",
        )  # fmt: skip

    def _ask(self, what: str, connection: str, event: SocketEvent, *, signed: bool = True) -> _Answer | Finding:
        headers = [
            *self.headers,
            ("Connection-Id", connection),
            ("Sec-WebSocket-Extensions", "grip"),
            ("Content-Type", EVENTS_TYPE),
            ("Accept", EVENTS_TYPE),
        ]
        if signed and self.signer is not None:
            headers.append(("Grip-Sig", self.signer.token(int(time.time())).decode()))
        try:
            answer = self.http.post(self.url, content=encode_events([event]), headers=headers)
        except httpx.HTTPError as error:
            return unanswered(what, self.url, error)
        if answer.status_code != 200:
            return bad_status(what, self.url, answer, signed=self.signer is not None)
        return _read(what, answer)


_Answer = tuple[httpx.Response, Sequence[SocketEvent]]


def _read(what: str, answer: httpx.Response) -> _Answer | Finding:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != EVENTS_TYPE:
        if is_web_page(answer):
            return web_page(what, answer)
        return Finding(
            "wrong", what, f"the answer's Content-Type is {kind or 'missing'}",
            f"answer with Content-Type: {EVENTS_TYPE}; what takes plain HTTP only cannot take WebSockets",
        )  # fmt: skip
    try:
        return answer, decode_events(answer.content)
    except WireError as error:
        return Finding("wrong", what, f"its events cannot be read: {error}", "lengths are in hex and count bytes")


def _kinds(events: Sequence[SocketEvent]) -> str:
    return ", ".join(event.kind for event in events) or "no events"
