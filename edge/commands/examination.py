"""One backend under examination: the requests of an edge, and what is to be said of the answers.

Requests and answers are written and read by the edge's own `edge.protocol.callbacks`, so what is found wrong here is
what an edge would stumble over. The connection is httpx's: an edge's own client hides exactly what is to be seen here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from edge.commands.ailments import CONNECT_S, Finding, bad_status, unanswered, unreadable
from edge.commands.refusals import WrongUsage
from edge.errors import WireError
from edge.ids import new_session_id
from edge.protocol.callbacks.actions import BadResult, CloseSession, Reject, Result
from edge.protocol.callbacks.events import ClientRequest, Close, Event, Message, Open, Parcel, close_event_id
from edge.protocol.callbacks.signature import sign
from edge.protocol.callbacks.wire import (
    JSON_TYPE,
    MSGPACK_TYPE,
    WireEncoding,
    decode_response,
    encode_request,
    encoding_of,
    nothing_for,
)

SLOW_S = 1.0
OLD_S = 3_600
"""Age of the signature that must not be taken any more."""
EDGE = "doctor"


@dataclass(slots=True)
class _Reply:
    """An answer that came; `result` when it holds for the event that was asked about."""

    status: int
    content_type: str
    took_s: float
    result: Result | None = None


@dataclass(eq=False)
class Patient:
    """A context manager: leaving it ends what it had accepted, and hangs up."""

    url: str
    secrets: Sequence[bytes]
    request: ClientRequest
    release: str
    http: httpx.Client
    hopeless: bool = False
    """Nothing that is asked further would tell more."""
    ports: list[int] = field(default_factory=list)
    """Our port of each answer's connection: another one, another connection."""
    _visits: list[Visit] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        url: str,
        *,
        secrets: Sequence[bytes],
        handshake: str,
        headers: Sequence[tuple[str, str]],
        subprotocols: Sequence[str],
        release: str,
        timeout_s: float,
    ) -> Patient:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise WrongUsage(f"URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUsage(f"URL: http://HOST:PORT/PATH is needed, not {url!r}")
        if not handshake.startswith("/"):
            raise WrongUsage("--path: a path begins with a slash")
        path, _, query = handshake.partition("?")
        known = {name.lower() for name, _ in headers}
        fields = [("Host", parts.netloc)] if "host" not in known else []
        request = ClientRequest("GET", path, query, [*fields, *headers], "127.0.0.1:50000", "ws", list(subprotocols))
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        return cls(url, secrets, request, release, httpx.Client(timeout=timeout, trust_env=False))

    def __enter__(self) -> Patient:
        return self

    def __exit__(self, *_: object) -> None:
        for visit in self._visits:
            visit.close()
        self.http.close()

    def visit(self, encoding: WireEncoding) -> Visit:
        """A new session, in this encoding."""
        visit = Visit(self, encoding)
        self._visits.append(visit)
        return visit

    # What is asked of the backend as a whole.

    def kept_alive(self) -> Finding:
        what = "keep-alive"
        if len(self.ports) < 2 or len(set(self.ports)) == 1:
            return Finding("good", what, "all requests went over one connection")
        return Finding(
            "odd",
            what,
            f"{len(self.ports)} requests needed {len(set(self.ports))} connections: the backend, or a proxy before it, "
            f"hangs up after an answer",
            "let it keep connections open (HTTP/1.1 without Connection: close) for more than a second or two: dialling "
            "for each request costs an edge most of its speed",
        )

    def unsigned(self) -> Finding:
        return Finding(
            "odd",
            "signature",
            "not looked at: no secret was given",
            "say --secret to see that the backend refuses what is not signed with it; without secrets whoever reaches "
            "the backend can send it events",
        )

    def forgeries(self) -> Iterator[Finding]:
        """Handshakes that only somebody else would send."""
        now = int(time.time())
        for what, secrets, at in (
            ("a handshake without a signature", None, now),
            ("a handshake with a wrong signature", [b"not " + self.secrets[0]], now),
            ("a handshake that was signed an hour ago", self.secrets, now - OLD_S),
        ):
            visit = self.visit("json")
            try:
                yield visit.forged(what, secrets, at)
            finally:
                visit.close()


class Visit:
    """One session with the backend, in one encoding."""

    def __init__(self, patient: Patient, encoding: WireEncoding) -> None:
        self._patient = patient
        self._encoding = encoding
        self._session = new_session_id()
        self._count = 0
        self._owes_close = False
        self.accepted = False

    def open(self) -> Finding:
        event = Open(self._next(), _now(), self._patient.request, "websocket")
        what = f"open in {self._encoding}"
        reply = self._ask(what, event)
        if isinstance(reply, Finding):
            return reply
        assert reply.result is not None
        verdict = next((action for action in reply.result.actions if isinstance(action, Reject)), None)
        if verdict is not None:
            self._owes_close = False
            return Finding(
                "odd",
                what,
                f"the backend understands, and rejects this client with {verdict.status} {verdict.text}".rstrip(),
                "say --path and -H as a client would that is welcome (a cookie, a token) to see the rest",
            )
        self.accepted = True
        return self._good(what, "accepted", reply)

    def message(self, text: str) -> Finding:
        what = f"message in {self._encoding}"
        reply = self._ask(what, Message(self._next(), _now(), text))
        if isinstance(reply, Finding):
            return reply
        assert reply.result is not None
        if any(isinstance(action, CloseSession) for action in reply.result.actions):
            return self._good(what, "answered; the backend closes the session on this message", reply)
        return self._good(what, f"answered with {_counted(len(reply.result.actions), 'action')}", reply)

    def close(self) -> Finding | None:
        """End the session, if the backend may think that there is one. None: there was nothing to end."""
        if not self._owes_close:
            return None
        self._owes_close = False
        what = f"close in {self._encoding}"
        event = Close(close_event_id(self._session), _now(), 1000, "", True, "client")
        reply = self._ask(what, event)
        if isinstance(reply, Finding):
            return reply
        return self._good(what, "answered", reply)

    def forged(self, what: str, secrets: Sequence[bytes] | None, at_s: int) -> Finding:
        """`secrets` None: no signature at all."""
        event = Open(self._next(), _now(), self._patient.request, "websocket")
        self._owes_close = True
        answer = self._post(what, event, "json", secrets, at_s)
        if isinstance(answer, Finding):
            return answer
        if 400 <= answer.status_code < 500:
            self._owes_close = False
            return Finding("good", what, f"refused with {answer.status_code}")
        if answer.status_code >= 300:
            return Finding(
                "wrong",
                what,
                f"answered {answer.status_code}",
                "refuse it with 401: edges take a 5xx for a failure and repeat",
            )
        return Finding(
            "wrong",
            what,
            "the backend takes it: whoever reaches it can send it events",
            "check Holdfast-Signature (HMAC-SHA256 of its t, a dot and the body as it came; t at most minutes old) and "
            "answer 401 when it does not fit; backend_sdk does so when it is given secrets",
        )

    # Asking.

    def _next(self) -> str:
        self._count += 1
        return f"{self._session}:{self._count}"

    def _ask(self, what: str, event: Event) -> _Reply | Finding:
        """Send `event`; what is wrong with the answer, or the answer."""
        patient = self._patient
        if isinstance(event, Open):
            self._owes_close = True
        began = time.monotonic()
        answer = self._post(what, event, self._encoding, patient.secrets or None, int(time.time()))
        if isinstance(answer, Finding):
            return answer
        took_s = time.monotonic() - began
        reply = _Reply(answer.status_code, answer.headers.get("content-type", ""), took_s)
        return self._judge(what, event, answer, reply)

    def _post(
        self, what: str, event: Event, encoding: WireEncoding, secrets: Sequence[bytes] | None, at_s: int
    ) -> httpx.Response | Finding:
        patient = self._patient
        body = encode_request(EDGE, [self._parcel(event)], (), encoding)
        headers = {
            "Content-Type": MSGPACK_TYPE if encoding == "msgpack" else JSON_TYPE,
            "Accept": f"{MSGPACK_TYPE}, {JSON_TYPE};q=0.9",
            "User-Agent": "holdfast",
            "Holdfast-Edge": EDGE,
            "Holdfast-Release": patient.release,
        }
        if secrets:
            headers["Holdfast-Signature"] = sign(secrets, body, at_s)
        try:
            with patient.http.stream("POST", patient.url, content=body, headers=headers) as answer:
                stream = answer.extensions.get("network_stream")
                address = stream.get_extra_info("client_addr") if stream is not None else None
                answer.read()
        except httpx.HTTPError as error:
            patient.hopeless = True
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                self._owes_close = False
            return unanswered(what, patient.url, error)
        if address:
            patient.ports.append(address[1])
        return answer

    def _parcel(self, event: Event) -> Parcel:
        return Parcel(self._session, self._patient.release, None, {}, 0, 1, [event])

    def _judge(self, what: str, event: Event, answer: httpx.Response, reply: _Reply) -> _Reply | Finding:
        status = answer.status_code
        if status not in (200, 204):
            return self._bad_status(what, answer)
        parcels = [self._parcel(event)]
        try:
            if status == 204 and not answer.content:
                results = nothing_for(parcels)
            else:
                results = decode_response(answer.content, reply.content_type, parcels)
        except WireError as error:
            return unreadable(what, answer, str(error))
        result = results.get(event.id)
        if result is None:
            return Finding(
                "wrong", what, f"the answer has no result for event {event.id}",
                'answer {"results": [{"id": …, "actions": […]}]} with a result for each event, under its id',
            )  # fmt: skip
        if isinstance(result, BadResult):
            return Finding(
                "wrong", what, f"its result is not right: {result.field} {result.problem}",
                "correct this field (callbacks/SPEC.md, The answer); an edge ends the session because of it",
            )  # fmt: skip
        reply.result = result
        return reply

    def _bad_status(self, what: str, answer: httpx.Response) -> Finding:
        status, patient = answer.status_code, self._patient
        if 400 <= status < 500 and status != 429:
            self._owes_close = False
        if status == 415 and self._encoding == "msgpack":
            return Finding(
                "odd", what, "status 415: it does not read msgpack",
                "nothing needs to be done: with encoding auto (the default) an edge goes on in JSON, which is slower",
            )  # fmt: skip
        patient.hopeless = True
        return bad_status(what, patient.url, answer, signed=bool(patient.secrets))

    def _good(self, what: str, said: str, reply: _Reply) -> Finding:
        took = f"in {reply.took_s * 1_000:.0f} ms"
        if reply.took_s > SLOW_S:
            return Finding(
                "odd", what, f"{said}, but only {took}",
                "answer first and work afterwards: clients wait for this, and other sessions wait for the connection",
            )  # fmt: skip
        answered = encoding_of(reply.content_type)
        other = f", in {answered}" if answered not in (None, self._encoding) else ""
        return Finding("good", what, f"{said} {took}{other}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _now() -> int:
    return time.time_ns() // 1_000_000
