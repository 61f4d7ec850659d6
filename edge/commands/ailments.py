"""What can be wrong with a backend's answer, in sentences that say what to do: no answer, a bad status, an unreadable
body. Nothing is sent here.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urljoin, urlsplit

import httpx

from edge.protocol.callbacks.wire import JSON_TYPE, MSGPACK_TYPE, encoding_of

Grade = Literal["good", "odd", "wrong"]

CONNECT_S = 3.0
SHOWN_CHARS = 200
FIX_URL = "give the doctor, and the route (backend and callback_path), the address that takes the events"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was done, what is `said` of it, and for what is not good what to do."""

    grade: Grade
    what: str
    said: str
    advice: str = ""


def unanswered(what: str, url: str, error: httpx.HTTPError) -> Finding:
    """No answer came."""
    host, over_tls = urlsplit(url).netloc, urlsplit(url).scheme == "https"
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Finding(
            "wrong", what, f"TLS: the certificate of {host} does not hold: {cause.verify_message}",
            "give it a certificate for this name; for a private authority set SSL_CERT_FILE, here and for the edge",
        )  # fmt: skip
    plain = "does it speak TLS there? if not: http://"
    if isinstance(cause, ssl.SSLError):
        return Finding("wrong", what, f"TLS with {host} fails: {cause.reason or cause}", plain)
    match error:
        case httpx.ConnectTimeout():
            said = f"no {'TLS ' if over_tls else ''}connection to {host} within {CONNECT_S:g} s"
            advice = "is a firewall in between? is it the right host?" + (f" {plain}" if over_tls else "")
        case httpx.ConnectError():
            said, advice = f"no connection to {host}: {error}", "is it running, and is it the right host and port?"
        case httpx.TimeoutException():
            said = f"no answer within {_allowed_s(error):g} s"
            advice = "answer within the route's request_s (10 s), and start what takes longer without waiting for it"
        case httpx.RemoteProtocolError():
            said = f"what came back is no HTTP/1.1 answer: {error}"
            advice = "does it speak HTTP (not TLS, not another protocol) there, and does it stay up while it answers?"
        case _:
            said, advice = f"{error or type(error).__name__}", "look at the backend's log"
    return Finding("wrong", what, said, advice)


def _allowed_s(error: httpx.HTTPError) -> float:
    """How long the request was given."""
    timeout = error.request.extensions.get("timeout", {})
    return float(timeout.get("read") or 0.0)


def bad_status(what: str, url: str, answer: httpx.Response, *, signed: bool) -> Finding:
    """An answer that is none to events."""
    status = answer.status_code
    if 300 <= status < 400:
        where = urljoin(url, answer.headers.get("location", ""))[:SHOWN_CHARS]
        return Finding(
            "wrong", what, f"status {status}, a redirect to {where}; edges never follow one",
            f"set backend and callback_path so that requests go to the final address; try: holdfast doctor {where}",
        )  # fmt: skip
    if status in (401, 403):
        return _not_let_in(what, answer, signed=signed)
    match status:
        case 404 | 405:
            advice = f"nothing takes a POST at {url}: {FIX_URL}"
        case 415:
            advice = f"let it read {answer.request.headers.get('content-type', JSON_TYPE)}"
        case 413:
            advice = "let it, and proxies before it, take larger bodies (an edge sends up to batch_bytes at once)"
        case 429 | 503:
            advice = "it is overloaded, or a proxy before it limits requests: edges send a few large ones, in turn"
        case _ if status >= 500:
            advice = "look at the backend's log: an edge repeats the events until its retry window is over"
        case _:
            advice = f"answer events with 200 and results; does {url} take them? if not, {FIX_URL}"
    return Finding("wrong", what, f"status {status}{excerpt(answer)}", advice)


def _not_let_in(what: str, answer: httpx.Response, *, signed: bool) -> Finding:
    if not signed:
        advice = "it wants a signature, it seems: say --secret, and give the route the same secrets"
    else:
        advice = (
            "is the secret the backend's, are both clocks right, is the signature checked over the body as it came? "
            "a web framework's CSRF check must leave this path out, too"
        )
    return Finding("wrong", what, f"status {answer.status_code}: it does not let the edge in{excerpt(answer)}", advice)


def unreadable(what: str, answer: httpx.Response, problem: str) -> Finding:
    """A 200 whose body is no answer to events."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_web_page(answer):
        return web_page(what, answer)
    if encoding_of(kind) is None:
        return Finding(
            "wrong", what, f"the answer's Content-Type is {kind or 'missing'}",
            f"answer with Content-Type: {JSON_TYPE} (or application/json, or {MSGPACK_TYPE}), or with 204 and no body",
        )  # fmt: skip
    return Finding(
        "wrong", what, f"{problem}{excerpt(answer)}",
        'answer {"results": [{"id": …, "actions": […]}]}, or 204 without a body',
    )  # fmt: skip


def is_web_page(answer: httpx.Response) -> bool:
    return "html" in answer.headers.get("content-type", "").lower() or answer.content.lstrip()[:1] == b"<"


def web_page(what: str, answer: httpx.Response) -> Finding:
    return Finding(
        "wrong", what, f"the answer is a web page{excerpt(answer)}",
        f"something else than the callback takes this address (a login page, a single-page app?): {FIX_URL}",
    )  # fmt: skip


def excerpt(answer: httpx.Response) -> str:
    """``: `` and the beginning of what came back, on one line; nothing when there is nothing to read."""
    if b"\0" in answer.content[:SHOWN_CHARS]:
        return ""
    text = ""
    with contextlib.suppress(LookupError, ValueError):
        text = " ".join(answer.text.split())
    return f": {text[:SHOWN_CHARS]}{'…' if len(text) > SHOWN_CHARS else ''}" if text else ""


def _cause(error: BaseException) -> BaseException:
    """The error at the bottom: httpx and httpcore wrap what the socket said."""
    seen: set[int] = set()
    while (inner := error.__cause__ or error.__context__) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return error
