"""The backend's side of callbacks v1 as an ASGI app: events in, handlers run, actions out.

`App` owns the order of things: signature, body, which events run when, what is left out of the answer. How bytes
become events is `backend_sdk.wire`'s, what a handler may order `backend_sdk.session`'s, what was answered before
`backend_sdk.repeats`'s.

    from backend_sdk import App

    app = App(secrets=["s3cret"])

    @app.on_message
    async def echo(session, event):
        session.send(event.payload)

Run it with any ASGI server (``uvicorn mine:app``), or mount it: ``Starlette(routes=[Mount("/edge", app)])``, or
``FastAPI().mount("/edge", app)``. The route's `callback_path` is then ``/edge/``: without the final slash these
frameworks answer with a redirect, and an edge follows none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from starlette.types import Receive, Scope, Send

from backend_sdk import asgi
from backend_sdk.actions import reject
from backend_sdk.errors import Reject, RequestError
from backend_sdk.events import Event, Parcel, Refused, Timer
from backend_sdk.handlers import Handler, Handlers
from backend_sdk.link import Link
from backend_sdk.registration import On, OnNamed
from backend_sdk.repeats import Answer, Repeats
from backend_sdk.session import Session
from backend_sdk.signature import HEADER, verify
from backend_sdk.spread import spread
from backend_sdk.wire import MSGPACK_TYPE, Encoding, JsonEncoding, MsgpackEncoding, Result, decode_request
from backend_sdk.xmpp_actions import is_link
from backend_sdk.xmpp_events import XmppIqResult

F = TypeVar("F", bound=Callable[..., Any])

ERRORS_EXTENSION = "holdfast.errors"
"""ASGI extension: a list that gets the exceptions of failed handlers (`backend_sdk.testing` shows them)."""

_log = logging.getLogger(__name__)
_HELP = (
    "This is a Holdfast backend. It takes POST requests from a Holdfast edge, not visits: point a browser or a "
    "WebSocket client at the edge instead."
)


class App:
    """An ASGI app that answers an edge's events with the actions its handlers order.

    secrets
        Secrets the edge may sign with (str or bytes), several while rotating. None: every request is believed;
        right only where nobody but the edge can reach the backend.
    replay_window_s
        A signature is good for this many seconds before and after it was made.
    dedupe_size, dedupe_bytes
        How many answers are remembered, and in how many bytes, to be given again when their events are repeated
        (see `backend_sdk.repeats`). 65,536 answers cover a lost answer's retry at a few thousand events a second.
    threads
        Plain (not async) handlers run in worker threads, at most this many: what people write in them is a blocking
        query, and on the event loop that would hold up every other session of this process. A hop costs about 50 µs.
        0 runs them on the event loop; so does ``@app.on_message(inline=True)`` for one short handler.
    max_body_bytes
        Largest request accepted; larger ones get 413. An edge's batches are about 1 MiB, plus states.
    lifespan
        As in Starlette: ``lifespan(app)`` is an async context manager around the app's life, for pools and the like.
        A mounted app is not told about its life (Starlette's rule): use the outer app's then.

    Handlers get ``(session, event)``. Events of one session run one after the other, sessions of a request at the same
    time; what one event changed in the state is there for the next. A handler that raises is logged with its traceback,
    and its event and the session's later ones are left out of the answer: the edge sends them again. When nothing
    succeeded the answer is 500. Events without a handler are answered with no actions (and `refused` is logged).

    Runs on asyncio, in one event loop.
    """

    def __init__(
        self,
        secrets: str | bytes | Iterable[str | bytes] = (),
        *,
        replay_window_s: float = 300.0,
        dedupe_size: int = 65_536,
        dedupe_bytes: int = 33_554_432,
        threads: int = 40,
        max_body_bytes: int = 16_777_216,
        lifespan: Callable[[App], AbstractAsyncContextManager[object]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(secrets, str | bytes):
            secrets = (secrets,)
        self.secrets: tuple[bytes, ...] = tuple(
            secret.encode() if isinstance(secret, str) else bytes(secret) for secret in secrets
        )
        if not all(self.secrets):
            raise ValueError("an empty secret protects nothing; leave `secrets` out to believe every request")
        if replay_window_s <= 0 or max_body_bytes <= 0 or min(dedupe_size, dedupe_bytes, threads) < 0:
            raise ValueError("windows and sizes must be positive; dedupe_size, dedupe_bytes and threads may be 0")
        self.replay_window_s = replay_window_s
        self.max_body_bytes = max_body_bytes
        self.handlers = Handlers(threads)
        self.repeats = Repeats(dedupe_size, dedupe_bytes)
        self.clock = clock
        self._lifespan = lifespan
        self._gone: list[Handler] = []
        self._msgpack = MsgpackEncoding()
        self._json = JsonEncoding()

    # Registration ------------------------------------------------------------------------------------------------

    def on(self, type: str, *, inline: bool | None = None) -> Callable[[F], F]:
        """Handle events of `type`, as it stands on the wire. For types without a decorator of their own
        (``detach``, ``resume``) the event is an `Other`."""

        def register(function: F) -> F:
            self.handlers.register(type, function, inline=inline)
            return function

        return register

    @overload
    def on_open(self, function: F, /) -> F: ...
    @overload
    def on_open(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_open(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """A client asks for a session (`Open`). Accepted unless `session.reject` or `raise Reject`."""
        return self._decorate("open", function, inline)

    @overload
    def on_message(self, function: F, /) -> F: ...
    @overload
    def on_message(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_message(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """The client sent a message (`Message`)."""
        return self._decorate("message", function, inline)

    @overload
    def on_close(self, function: F, /) -> F: ...
    @overload
    def on_close(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_close(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """The session has ended (`Close`)."""
        return self._decorate("close", function, inline)

    @overload
    def on_release(self, function: F, /) -> F: ...
    @overload
    def on_release(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_release(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """The session now belongs to another release (`ReleaseChanged`)."""
        return self._decorate("release", function, inline)

    @overload
    def on_gap(self, function: F, /) -> F: ...
    @overload
    def on_gap(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_gap(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """A `subscribe` with `since` could not be honoured whole (`Gap`)."""
        return self._decorate("gap", function, inline)

    @overload
    def on_refused(self, function: F, /) -> F: ...
    @overload
    def on_refused(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_refused(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """An earlier answer could not be carried out whole (`Refused`). Without a handler it is logged as a warning."""
        return self._decorate("refused", function, inline)

    @overload
    def on_timer(self, name: F, /) -> F: ...
    @overload
    def on_timer(self, name: str | None = None, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def on_timer(self, name: F | str | None = None, /, *, inline: bool | None = None) -> Any:
        """A timer is due (`Timer`): ``@app.on_timer("typing")`` for the one of that name, ``@app.on_timer`` for all
        others."""
        if callable(name):
            return self._decorate("timer", name, inline)

        def register(function: F) -> F:
            self.handlers.register("timer", function, inline=inline, name=name)
            return function

        return register

    # Of XMPP links: handlers get ``(link: Link, event)``. All may be given ``inline`` as those above.

    on_xmpp_connected = On("xmpp.connected", "There is a new session at the server (`XmppConnected`).")
    on_xmpp_resumed = On("xmpp.resumed", "The session goes on after an interruption (`XmppResumed`).")
    on_xmpp_message = On("xmpp.message", "A message came (`XmppMessage`).")
    on_xmpp_presence = On("xmpp.presence", "Presence came (`XmppPresence`).")
    on_xmpp_iq = On("xmpp.iq", "A request came (`XmppIq`): `link.reply` or `link.reply_error`.")
    on_xmpp_roster = On("xmpp.roster", "The roster, or a change of it (`XmppRoster`).")
    on_xmpp_iq_result = OnNamed(
        "xmpp.iq_result",
        'What became of a `link.iq` (`XmppIqResult`): ``@app.on_xmpp_iq_result("vcard")`` for those asked with that '
        "name, ``@app.on_xmpp_iq_result`` for all others.",
    )
    on_xmpp_sent = On("xmpp.sent", "The server has taken what was sent (`XmppSent`).")
    on_xmpp_send_failed = On("xmpp.send_failed", "A stanza was not sent (`XmppSendFailed`).")
    on_xmpp_reset = On("xmpp.reset", "A new session at the server replaces a lost one (`XmppReset`).")
    on_xmpp_caught_up = On("xmpp.caught_up", "The archive has been read, after a reset as a rule (`XmppCaughtUp`).")
    on_xmpp_detached = On("xmpp.detached", "The connection is lost and being made again (`XmppDetached`).")
    on_xmpp_disconnected = On("xmpp.disconnected", "The link is over (`XmppDisconnected`).")
    on_xmpp_auth_failed = On("xmpp.auth_failed", "The server refuses the credentials: it is over (`XmppAuthFailed`).")
    on_xmpp_credentials = On("xmpp.credentials", "Credentials are wanted (`XmppCredentials`): `link.give_credentials`.")
    on_xmpp_state = On("xmpp.state", "How the link is (`XmppState`).")
    on_xmpp_release = On("xmpp.release", "The link now belongs to another release (`ReleaseChanged`).")
    on_xmpp_refused = On(
        "xmpp.refused", "An answer to a link's event could not be carried out whole (`Refused`). Else it is logged."
    )

    def on_gone(self, function: F, /) -> F:
        """Called with a session id: an action named that session, but it had ended. At least once each; what it raises
        is logged and changes nothing."""
        self._gone.append(self.handlers.wrap(function))
        return function

    def _decorate(self, type: str, function: F | None, inline: bool | None) -> Any:
        register = self.on(type, inline=inline)
        return register if function is None else register(function)

    # ASGI --------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry. Every path is taken: mount the app where it should answer. `GET …/healthz` says that this
        process answers: for health checks of releases and of whatever runs the process."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await asgi.lifespan(receive, send, self._life)
        else:  # a client's WebSocket belongs to the edge; closing before accepting answers 403
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "connect to the edge"})

    @asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        try:
            if self._lifespan is None:
                yield
            else:
                async with self._lifespan(self):
                    yield
        finally:
            self.handlers.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD") and scope["path"].endswith("/healthz"):
            await asgi.answer_text(send, 200, "ok")  # a server drops the body of an answer to HEAD
            return
        if scope["method"] != "POST":
            await asgi.answer_text(send, 405, _HELP, [(b"allow", b"POST")])
            return
        try:
            body = await asgi.read_body(scope, receive, self.max_body_bytes)
            if self.secrets:
                sent = asgi.header(scope, HEADER.lower().encode())
                verify(self.secrets, sent, body, self.clock(), self.replay_window_s)
            batch = decode_request(asgi.header(scope, b"content-type") or "", body)
        except asgi.Disconnected:
            return
        except RequestError as error:
            _log.warning("refused a request with %d: %s", error.status, error.text)
            await asgi.answer_text(send, error.status, error.text)
            return
        prefers_msgpack = MSGPACK_TYPE in (asgi.header(scope, b"accept") or "")
        shadow = asgi.header(scope, b"holdfast-shadow") == "1"
        request = _Request(self._msgpack if prefers_msgpack else self._json, _errors(scope), shadow=shadow)
        if batch.gone:
            await self._tell_gone(batch.gone, request)
        await spread(batch.parcels, lambda parcel: self._handle(parcel, request))
        if request.failed and not request.packed:
            await asgi.answer_text(send, 500, "no handler succeeded; the reasons are in the backend's log")
        else:
            body = request.encoding.join(request.packed)
            await asgi.answer(send, 200, request.encoding.content_type, body)

    # Events ------------------------------------------------------------------------------------------------------

    async def _tell_gone(self, sessions: Sequence[str], request: _Request) -> None:
        for session in sessions:
            for handler in self._gone:
                try:
                    await self.handlers.call(handler, session)
                except Exception as error:
                    _log.exception("the on_gone handler failed for session %s", session)
                    request.errors.append(error)

    async def _handle(self, parcel: Parcel, request: _Request) -> None:
        """One session's events in order; what cannot be answered ends the parcel there."""
        # What was done for nobody must not pass for done, nor the other way round.
        repeats, encoding = Repeats(0, 0) if request.shadow else self.repeats, request.encoding
        for event in parcel.events:
            while True:
                known = repeats.find(event.id)
                if known is not None or repeats.claim(event.id):
                    break
                await repeats.released(event.id)
            if known is not None:
                request.packed.append(_repeat(known, encoding, parcel, event is not parcel.events[-1]))
                continue
            try:
                packed = encoding.pack(await self._run(parcel, event, request.shadow))
                repeats.keep(event.id, encoding, packed)
            except Exception as error:
                _log.exception(
                    "the %s handler failed for session %s (event %s, attempt %d); the edge will send it again",
                    event.type,
                    parcel.session,
                    event.id,
                    event.attempt,
                )
                request.errors.append(error)
                request.failed = True
                return
            finally:
                repeats.release(event.id)
            request.packed.append(packed)

    async def _run(self, parcel: Parcel, event: Event, shadow: bool) -> Result:
        """Handle one event; the state and user it leaves are the next one's."""
        type = event.type
        linked = is_link(parcel.session)
        if isinstance(event, Timer | XmppIqResult):
            handler = self.handlers.find_named(type, event.name)
        else:
            # Two types are shared with sessions, whose handlers would not know what to do with a link.
            handler = self.handlers.find(f"xmpp.{type}" if linked and type in ("release", "refused") else type)
        if handler is None:
            if isinstance(event, Refused):
                text = "session %s: the edge could not carry out the answer to event %s: %s"
                _log.warning(text, parcel.session, event.of, event.error)
            return {"id": event.id}
        session: Session | Link
        if linked:
            session = Link(parcel.session, parcel.release, parcel.state, parcel.version, event.id)
        else:
            session = Session(
                parcel.session, parcel.user, parcel.release, parcel.state, parcel.version, type == "open", event.id
            )
        session.shadow = shadow
        try:
            if handler.threaded:
                await self.handlers.call(handler, session, event)
            else:
                waiting = handler.function(session, event)
                if waiting is not None and hasattr(waiting, "__await__"):
                    await waiting
            orders, delta = session.finish()
        except Reject as refusal:
            session.discard()
            if type != "open":
                raise
            return {"id": event.id, "actions": [reject(refusal.status, refusal.text, refusal.headers)]}
        except BaseException:
            session.discard()
            raise
        result: Result = {"id": event.id}
        if orders:
            result["actions"] = orders
        if delta:
            result["state"] = delta
            parcel.version += 1
        if isinstance(session, Session):
            parcel.user = session.user
        return result


class _Request:
    """What one request has come to so far."""

    __slots__ = ("encoding", "errors", "failed", "packed", "shadow")

    def __init__(self, encoding: Encoding, errors: list[Exception], *, shadow: bool) -> None:
        self.encoding = encoding
        self.errors = errors
        self.packed: list[bytes] = []
        self.shadow = shadow
        """Another release has answered already, and our answers are compared with its and thrown away."""
        self.failed = False


def _errors(scope: Scope) -> list[Exception]:
    extensions = scope.get("extensions")
    errors: list[Exception] = extensions.get(ERRORS_EXTENSION, []) if extensions else []
    return errors


def _repeat(known: Answer, encoding: Encoding, parcel: Parcel, more: bool) -> bytes:
    """The answer given before, in this request's encoding. With `more` events to come it also takes its effect on the
    parcel: the edge did not see that answer, so the state it sent is the one from before."""
    made_with, packed = known
    if made_with is encoding and not more:
        return packed
    result = made_with.unpack(packed)
    delta = result.get("state", {})
    if delta:
        parcel.state.update(delta.get("set", {}))
        for key in delta.get("unset", ()):
            parcel.state.pop(key, None)
        parcel.version += 1
    for action in result.get("actions", ()):
        if action["type"] == "identify" and "session" not in action:
            parcel.user = action["user"]
    return packed if made_with is encoding else encoding.pack(result)
